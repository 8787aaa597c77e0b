"""Data in, models trained, a night run: all through the Prefect API, on a real S3 store and a real MLflow server."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from crrg.config.references import IngestSummary, NightSummary, RetrainResult
from crrg.data.phantom.cohort import write_cohort
from crrg.domain.labels import LABELS
from crrg.ledger.manifest import Manifest, read_manifests
from crrg.registry.aliases import recorded_alias, resolve_bundle
from crrg.registry.bundle import read_bundle
from crrg.storage import Storage
from crrg.tracking.models import ModelRegistry
from tests.support.platform import Platform

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

NUM_STUDIES, NUM_FRESH, FILM_SIZE, NUM_STEPS = 28, 5, 160, 4


def finished(run: Any, result: Any) -> Any:
    assert run.state is not None, "the run did not end in time"
    assert run.state.is_completed(), f"{run.name}: {run.state.name} {run.state.message}"
    return result.model_validate(run.state.result())


@pytest.fixture(scope="module")
def dataset(platform: Platform) -> IngestSummary:
    source = f"{platform.root}-source"
    write_cohort(Storage(source), NUM_STUDIES, 11, FILM_SIZE)
    config = {
        "source": [source],
        "dataset": "e2e",
        "image_size": FILM_SIZE,
        "validation_share": 0.2,
        "train_share": 0.6,
    }
    return finished(platform.run("ingest/local", config), IngestSummary)


@pytest.fixture(scope="module")
def retrain_run(platform: Platform, dataset: IngestSummary) -> Any:
    floors = dict.fromkeys(("min_region_iou", "min_label_auc", "min_clinical_f1", "min_zero_shot_auc"), 0)
    gate = {**floors, "max_drop": 1, "max_zero_shot_drop": 1}
    config = {"dataset": "e2e", "num_steps": NUM_STEPS, "seed": 7, "evaluation_limit": 3, "gate": gate}
    return platform.run("retrain/local", config)


@pytest.fixture(scope="module")
def retrained(retrain_run: Any) -> RetrainResult:
    return finished(retrain_run, RetrainResult)


@pytest.fixture(scope="module")
def night_run(platform: Platform, retrained: RetrainResult) -> Any:
    fresh = Storage(f"{platform.root}-fresh")
    write_cohort(fresh, NUM_FRESH, 12, FILM_SIZE)
    inbox = Storage(platform.inbox)
    for stored in fresh.list_objects("dicom"):
        inbox.put(stored.key, fresh.get(stored.key))
    config = {"inbox": platform.inbox, "date": "2026-03-01", "settle_s": 0, "shard_size": 3, "image_size": FILM_SIZE}
    return platform.run("nightly/local", config)


@pytest.fixture(scope="module")
def night(night_run: Any) -> NightSummary:
    return finished(night_run, NightSummary)


def test_the_ingest_read_the_whole_cohort_from_the_bucket(dataset: IngestSummary) -> None:
    assert dataset.num_inputs == NUM_STUDIES
    assert dataset.num_accepted == NUM_STUDIES
    assert sum(dataset.dataset.num_rows.values()) == NUM_STUDIES


def test_the_form_refuses_a_bad_value_before_a_run_exists(platform: Platform, dataset: IngestSummary) -> None:
    from prefect.exceptions import PrefectHTTPStatusError

    with pytest.raises(PrefectHTTPStatusError, match=r"409|422") as refused:
        platform.run("retrain/local", {"dataset": "e2e", "num_steps": -3})
    assert "num_steps" in refused.value.response.text


def test_changed_form_values_reach_the_stages(platform: Platform, retrained: RetrainResult) -> None:
    assert [stage.stage for stage in retrained.stages] == ["detector", "selector", "generator", "clip"]
    client = ModelRegistry(platform.settings, platform.storage)._client
    for stage in retrained.stages:
        params = client.get_run(stage.run_id).data.params
        assert params["form.num_steps"] == str(NUM_STEPS)
        assert params["form.seed"] == "7"
        assert client.get_metric_history(stage.run_id, "train/loss")


def test_task_runs_and_registered_versions_agree_by_id(
    platform: Platform, retrain_run: Any, retrained: RetrainResult
) -> None:
    from prefect.client.orchestration import get_client

    client = ModelRegistry(platform.settings, platform.storage)._client
    for stage in retrained.stages:
        version = client.get_model_version(f"crrg-{stage.stage}", stage.model_version)
        assert version.run_id == stage.run_id
        assert version.tags["sha256"] == stage.sha256
        tags = client.get_run(stage.run_id).data.tags
        assert tags["prefect.root_flow_run_id"] == str(retrain_run.id)
        with get_client(sync_client=True) as prefect:
            task_run = prefect.read_task_run(tags["prefect.task_run_id"])
        assert task_run.name == f"fit-{stage.stage}[7]"
        assert str(task_run.flow_run_id) == tags["prefect.flow_run_id"]
        assert task_run.state.is_completed()


def test_the_bundle_is_champion_in_the_registry_in_the_record_and_in_the_store(
    platform: Platform, retrained: RetrainResult
) -> None:
    bundle = retrained.evaluation.bundle
    assert retrained.promotion.promoted
    registry = ModelRegistry(platform.settings, platform.storage)
    assert registry.aliases() == {"candidate": bundle.model_version, "champion": bundle.model_version}
    assert registry.version_tags(bundle.model_version)["bundle_id"] == bundle.bundle_id
    assert recorded_alias(platform.storage, "champion") == bundle
    files = read_bundle(platform.storage, bundle)
    assert files.bundle_id == bundle.bundle_id
    assert files.spec["versions"] == {stage.stage: stage.model_version for stage in retrained.stages}


def test_the_night_drafts_every_film_and_publishes_with_one_manifest(
    platform: Platform, night: NightSummary, retrained: RetrainResult
) -> None:
    assert night.status == "committed"
    assert (night.num_inputs, night.num_accepted, night.num_quarantined) == (NUM_FRESH, NUM_FRESH, 0)
    (manifest,) = read_manifests(platform.storage, "2026-03-01")
    assert manifest.bundle == retrained.evaluation.bundle
    assert manifest.registry_available
    assert manifest.digest == night.digest
    for file in manifest.files:
        platform.storage.get_verified(file.key, file.sha256)
    documents = [item for item in platform.storage.list_objects("results") if item.key.endswith("report.txt")]
    assert len(documents) == NUM_FRESH
    assert b"DRAFT" in platform.storage.get(documents[0].key).splitlines()[0]


def test_the_nights_task_runs_agree_with_its_manifest(platform: Platform, night_run: Any, night: NightSummary) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey, FlowRunFilter, FlowRunFilterId

    manifest: Manifest = read_manifests(platform.storage, night.date)[0]
    with get_client(sync_client=True) as prefect:
        mine = FlowRunFilter(id=FlowRunFilterId(any_=[night_run.id]))
        names = sorted(run.name for run in prefect.read_task_runs(flow_run_filter=mine))
        artifacts = prefect.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["nightly"])), flow_run_filter=mine
        )
    assert names == [
        "draft-films[2026-03-01-0]", "draft-films[2026-03-01-1]", "plan-night[2026-03-01]", "publish-night[2026-03-01]",
        "tell-of-earlier-nights[2026-03-01]", "tell-of-night[2026-03-01]",
    ]  # fmt: skip
    (artifact,) = artifacts
    assert f"| drafted | {manifest.num_accepted} |" in str(artifact.data)
    assert night.manifest_key in str(artifact.data)


def test_the_librarys_log_lines_stand_at_the_run(platform: Platform, night_run: Any, night: NightSummary) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId

    with get_client(sync_client=True) as prefect:
        lines = prefect.read_logs(log_filter=LogFilter(flow_run_id=LogFilterFlowRunId(any_=[night_run.id])))
    said = [line.message for line in lines if line.name == "crrg.operations.night.steps"]
    assert any(message.startswith(f"night {night.date}: {NUM_FRESH} new") for message in said), said


def test_a_second_night_finds_nothing_new(platform: Platform, night: NightSummary) -> None:
    config = {"inbox": platform.inbox, "date": "2026-03-02", "settle_s": 0, "image_size": FILM_SIZE}
    again = finished(platform.run("nightly/local", config), NightSummary)
    assert again.status == "nothing_new"
    assert not read_manifests(platform.storage, "2026-03-02")


def test_without_the_registry_the_last_record_of_the_champion_is_used(
    platform: Platform, retrained: RetrainResult
) -> None:
    away = platform.settings.model_copy(update={"mlflow_tracking_uri": "http://127.0.0.1:9"})
    resolved = resolve_bundle("models:/crrg-pipeline@champion", platform.storage, away)
    assert not resolved.registry_available
    assert resolved.ref == retrained.evaluation.bundle


def test_other_programs_load_the_champion_from_mlflow(
    platform: Platform, night: NightSummary, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    # not by mlflow's own functions, which would lead the clients of later tests to this server, too
    monkeypatch.setenv("MLFLOW_TRACKING_URI", platform.mlflow_url)
    model = mlflow.pyfunc.load_model("models:/crrg-pipeline@champion")
    inbox = Storage(platform.inbox)
    film = base64.b64encode(inbox.get(inbox.list_objects()[0].key)).decode()
    (draft,) = model.predict([{"image": film}])
    assert draft["status"] == "DRAFT"
    assert list(json.loads(draft["probabilities"])) == list(LABELS)


@pytest.mark.usefixtures("retrained")
def test_a_rollback_without_a_previous_champion_is_refused(platform: Platform) -> None:
    run = platform.run("promote/local", {"rollback": True})
    assert run.state.is_failed()
    assert "no previous champion to go back to; name a version" in run.state.message
