"""Draw and bring in data, and name its versions."""

from __future__ import annotations

from prefect import task

from crrg.config.data import IngestConfig
from crrg.config.references import DatasetRef, IngestShard, IngestSummary, StagedShard
from crrg.config.running import DemoConfig, GroundConfig, RetrainConfig
from crrg.data.privacy.deidentify import pseudonyms_of
from crrg.operations.demo import draw_fresh_studies, draw_training_cohort, fresh_ingest, training_ingest
from crrg.operations.ingest import ground
from crrg.operations.ingest import shards as ingest_shards
from crrg.operations.ingest.ingest import ingest_as_set
from crrg.operations.root import open_root
from crrg.operations.training.retrain import pin_dataset
from tasks.policy import TASK, gpu_slot, run_tags
from tasks.runners import place


@task(task_run_name="ingest-archives[{config.dataset}]", **TASK)
def ingest_archives(config: IngestConfig) -> IngestSummary:
    """Turn archives into one version of a dataset."""
    return ingest_as_set(config, *open_root(), tags=run_tags())


@task(task_run_name="plan-shards[{config.dataset}]", **TASK)
def plan_shards(config: IngestConfig) -> tuple[IngestShard, ...]:
    """Cut what an ingest must read into shards."""
    storage, settings = open_root()
    return ingest_shards.plan_shards(config, storage, pseudonyms_of(settings), settings.storage)


@task(task_run_name="decode-films[{config.dataset}-{shard.index}]", **TASK)
def decode_films(config: IngestConfig, shard: IngestShard) -> StagedShard:
    """Decode the films of one shard and stage what became of them."""
    storage, settings = open_root()
    staged = ingest_shards.decode_shard(config, shard, storage, pseudonyms_of(settings), settings.storage)
    return staged.model_copy(update={"ran_on": place()})


@task(task_run_name="ground-films[{config.dataset}]", **TASK)
def ground_films(config: GroundConfig) -> DatasetRef:
    """Write a version of a dataset whose films have a detector's boxes."""
    storage, settings = open_root()
    with gpu_slot(config.device):
        return ground.ground(config, storage, settings)


@task(task_run_name="pin-version[{config.dataset}]", **TASK)
def pin_version(config: RetrainConfig) -> RetrainConfig:
    """Write into the form which dataset version it means, so that every stage sees the same rows."""
    storage, _ = open_root()
    return pin_dataset(config, storage)


@task(task_run_name="draw-cohort[{config.num_studies}]", **TASK)
def draw_cohort(config: DemoConfig) -> str:
    """Draw the training cohort of the demo; return its URL."""
    storage, _ = open_root()
    return draw_training_cohort(config, storage)


@task(task_run_name="draw-fresh[{config.num_fresh_studies}]", **TASK)
def draw_fresh(config: DemoConfig) -> str:
    """Draw studies of other patients; return the URL of the inbox they lie in."""
    storage, _ = open_root()
    return draw_fresh_studies(config, storage)


@task(task_run_name="describe-cohorts[{config.num_studies}]", **TASK)
def describe_cohorts(config: DemoConfig) -> tuple[IngestConfig, IngestConfig]:
    """Return the ingest forms of the demo's training cohort and of its fresh studies."""
    storage, _ = open_root()
    return training_ingest(config, storage), fresh_ingest(config, storage)
