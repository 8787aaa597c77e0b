"""Archives in, one dataset version out: read, decode, de-identify, label, write, commit.

Streams: a bounded number of films is in memory, however large the archive. Every input ends as a row or as a refusal
with a reason, and the counts are asserted. What an earlier ingest made of an unchanged object is taken over
(``ingest_inputs``); which of equal films counts and which split a patient is in is decided at the end
(``ingest_run``). Knows no orchestrator.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import crrg
from crrg.config.base import Settings, StorageSettings
from crrg.config.data import IngestConfig
from crrg.config.references import DatasetRef, IngestSummary
from crrg.data.deidentify import Pseudonyms
from crrg.data.images import PREPROCESSING_VERSION
from crrg.data.pair_grounding import GROUNDING_VERSION
from crrg.data.pair_schema import SCHEMA_VERSION
from crrg.data.pairs import check_dataset_name, point_to, resolve_dataset, write_dataset
from crrg.data.quarantine import quarantine_key
from crrg.data.source_kinds import open_source
from crrg.data.sources import Source
from crrg.errors import ConfigError, StorageError
from crrg.operations.ingest_inputs import (
    KnownInputs,
    read_known_inputs,
    read_summary,
    row_code_digest,
    write_inputs,
)
from crrg.operations.ingest_run import IngestRun
from crrg.operations.ingest_tracking import track_ingest
from crrg.storage import Storage, hash_json

logger = logging.getLogger(__name__)

ROW_SETTINGS = ("schema_version", "preprocessing_version", "image_size", "grounding")
"""Of what shapes a dataset, the part that decides what a single row holds."""


def ingest(
    config: IngestConfig,
    storage: Storage,
    pseudonyms: Pseudonyms,
    settings: StorageSettings | None = None,
    *,
    tracked_by: Settings | None = None,
) -> IngestSummary:
    """Turn archives into one version of a dataset.

    Only objects that are new or changed since an earlier ingest into the same dataset are read; where nothing changed
    at all, the earlier version is returned.

    Args:
        config: The form.
        storage: Root to write to.
        pseudonyms: Turns identifiers into pseudonyms.
        settings: How to reach archives on S3.
        tracked_by: Names the tracking server that is told of a new version; not tracked where not given.

    Raises:
        ConfigError: A source is not there, the dataset's name cannot be used, or nothing at all was accepted.
        StorageError: A store cannot be reached.
        DataError: A table as a whole cannot be read.
    """
    check_dataset_name(config.dataset)
    sources = [open_source(text, config.source_kind, settings) for text in config.source]
    plan = _survey(config, sources, pseudonyms)
    done = read_summary(storage, config.dataset, plan.row_key, plan.inputs_digest)
    if done is not None and (earlier := _find_version(storage, config.dataset, done["version"])):
        logger.info("dataset %s: version %s holds these inputs already, reused", config.dataset, earlier.version)
        point_to(storage, earlier)
        return _summary(config, earlier, done, reused=True)
    known = read_known_inputs(storage, config.dataset, plan.row_key)
    known.keep_present(plan.versions)
    try:
        summary = _ingest(config, storage, pseudonyms, sources, plan, known)
    except StorageError as error:
        if error.retryable or not len(known):
            raise
        logger.warning("dataset %s: an earlier version cannot be used (%s), reading all", config.dataset, error.reason)
        summary = _ingest(config, storage, pseudonyms, sources, plan, KnownInputs(storage, None, ()))
    if tracked_by is not None:
        track_ingest(summary, storage, tracked_by)
    return summary


@dataclass(frozen=True)
class _Plan:
    """What is to be read, and how.

    Attributes:
        shaping: What shapes the rows and their splits; a part of the fingerprint.
        row_key: Digest of what shapes a single row.
        inputs_digest: Digest of all inputs and settings.
        versions: ETag by ``object_id``.
        num_inputs: About how many inputs there are.
    """

    shaping: dict[str, Any]
    row_key: str
    inputs_digest: str
    versions: dict[str, str]
    num_inputs: int


def _survey(config: IngestConfig, sources: list[Source], pseudonyms: Pseudonyms) -> _Plan:
    shaping = _shaping_settings(config, sources, pseudonyms)
    row_settings = {name: shaping[name] for name in ROW_SETTINGS}
    row_key = hash_json({**row_settings, "key": pseudonyms.key_id, "code": row_code_digest()})
    listed: list[list[list[Any]]] = []
    versions: dict[str, str] = {}
    for source in sources:
        names = [(pseudonyms.object_key(stored.key, source.site), stored) for stored in source.inventory()]
        listed.append([[name, stored.etag, stored.size] for name, stored in names])
        versions |= {name: stored.etag for name, stored in names}
    return _Plan(
        shaping=shaping,
        row_key=row_key,
        inputs_digest=hash_json({"settings": shaping, "rows": row_key, "inputs": listed}),
        versions=versions,
        num_inputs=sum(min(len(inputs), config.limit or len(inputs)) for inputs in listed),
    )


def _ingest(
    config: IngestConfig,
    storage: Storage,
    pseudonyms: Pseudonyms,
    sources: list[Source],
    plan: _Plan,
    known: KnownInputs,
) -> IngestSummary:
    key = quarantine_key(config.dataset, plan.inputs_digest)
    with tempfile.TemporaryDirectory(prefix="crrg-ingest-") as folder:
        run = IngestRun(config, storage, pseudonyms, sources, known, Path(folder), plan.shaping, key, plan.num_inputs)
        try:
            dataset = write_dataset(storage, config.dataset, run.pairs(), plan.shaping, run)
        except ConfigError:
            # nothing was accepted: why stands in the quarantine, which would otherwise be lost
            run.write_quarantine()
            raise
        finally:
            run.close()
        # another archive may hold the same rows, so that the version was there; what was refused is of this one
        run.write_quarantine()
    counts = {**run.counts(), "version": dataset.version}
    write_inputs(storage, config.dataset, plan.row_key, plan.inputs_digest, run.records(), counts)
    summary = _summary(config, dataset, counts, reused=False)
    logger.info(
        "dataset %s version %s: %d inputs, %d accepted, %d quarantined; %d objects read, %d taken over",
        dataset.name,
        dataset.version,
        summary.num_inputs,
        summary.num_accepted,
        summary.num_quarantined,
        run.num_read,
        run.num_taken_over,
    )
    if summary.is_over_limit:
        logger.warning("%.1f %% of the inputs were refused, more than the form allows", 100 * summary.failure_rate)
    return summary


def _shaping_settings(config: IngestConfig, sources: list[Source], pseudonyms: Pseudonyms) -> dict[str, Any]:
    """Return what shapes the rows, as it stands in the manifest and in the fingerprint."""
    return {
        "schema_version": SCHEMA_VERSION,
        "preprocessing_version": PREPROCESSING_VERSION,
        "crrg_version": crrg.__version__,
        "image_size": config.image_size,
        "split": {
            "seed": config.seed,
            "train_share": config.train_share,
            "validation_share": config.validation_share,
            "use_published_split": config.use_published_split,
        },
        "sources": [source.kind.value for source in sources],
        "limit": config.limit,
        "grounding": "off" if config.grounding == "off" else f"{config.grounding}:{GROUNDING_VERSION}",
        "pseudonym_key_id": pseudonyms.key_id,
    }


def _find_version(storage: Storage, name: str, version: str) -> DatasetRef | None:
    try:
        return resolve_dataset(storage, name, version)
    except ConfigError:
        return None


def _summary(config: IngestConfig, dataset: DatasetRef, counts: Mapping[str, Any], *, reused: bool) -> IngestSummary:
    failure_rate = counts["num_failures"] / max(1, counts["num_inputs"])
    return IngestSummary(
        dataset=dataset,
        num_inputs=counts["num_inputs"],
        num_accepted=counts["num_accepted"],
        num_quarantined=counts["num_quarantined"],
        reasons=counts["reasons"],
        reused=reused,
        failure_rate=failure_rate,
        is_over_limit=failure_rate > config.max_failure_rate,
        quarantine_key=counts["quarantine_key"],
        card_key=f"{dataset.manifest_key.rpartition('/')[0]}/card.json",
    )
