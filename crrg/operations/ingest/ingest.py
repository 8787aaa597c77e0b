"""Archives in, one dataset version out: read, decode, de-identify, label, write, commit.

Streams: a bounded number of films is in memory, however large the archive. Every input ends as a row or as a refusal
with a reason, and the counts are asserted. What an earlier ingest made of an unchanged object is taken over
(``ingest.inputs``); which of equal films counts and which split a patient is in is decided at the end
(``ingest.run``). What shards decoded beforehand is taken from where they staged it (``ingest.shards``). Knows no
orchestrator.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from types import MappingProxyType
from typing import Any

from crrg.config.base import Settings, StorageSettings
from crrg.config.data import IngestConfig
from crrg.config.references import DatasetRef, IngestSummary
from crrg.data.archives.givers import denial
from crrg.data.archives.source_kinds import open_sources, source_class
from crrg.data.archives.sources import Source
from crrg.data.dataset.pairs import check_dataset_name, point_to, resolve_dataset, write_dataset
from crrg.data.privacy.deidentify import Pseudonyms, pseudonyms_of
from crrg.data.refusals import UNREADABLE, failure_share
from crrg.errors import ConfigError, CrrgError, StorageError
from crrg.ledger.audit import write_audit
from crrg.local_files import check_disk, full_disk_named
from crrg.operations.ingest.earlier_secret import check_all_told
from crrg.operations.ingest.inputs import (
    KnownInputs,
    read_known_inputs,
    read_summary,
    records_of,
    write_inputs,
)
from crrg.operations.ingest.plan import IngestPlan, survey
from crrg.operations.ingest.run import IngestRun
from crrg.operations.ingest.staged import StagedInputs, clear_staged, staging_prefix
from crrg.operations.ingest.tracking import track_ingest
from crrg.operations.privacy.retire_secret import retire_older_secrets
from crrg.operations.privacy.secret import check_dataset_secret
from crrg.operations.root import check_outside
from crrg.operations.stop import check_not_stopped
from crrg.storage import Storage
from crrg.termination import EXIT_TOO_MANY_QUARANTINED

logger = logging.getLogger(__name__)


def ingest(
    config: IngestConfig,
    storage: Storage,
    pseudonyms: Pseudonyms,
    settings: StorageSettings | None = None,
    *,
    tracked_by: Settings | None = None,
    tags: Mapping[str, str] = MappingProxyType({}),
) -> IngestSummary:
    """Turn archives into one version of a dataset.

    Only objects that are new or changed since an earlier ingest into the same dataset are read; where nothing changed
    at all, the earlier version is returned.

    Args:
        config: The form.
        storage: Root to write to.
        pseudonyms: Turns identifiers into pseudonyms; knows the secret before where patients are to be told by it.
        settings: How to reach archives on S3.
        tracked_by: Names the tracking server that is told of a new version; not tracked where not given.
        tags: Ids that tie the tracked run to the orchestrator.

    Raises:
        ConfigError: A source is not there or holds the root, the dataset's name cannot be used, it was made with
            another secret, patients were forgotten under one that is not given, or nothing at all was accepted.
        CrrgError: An operator wants work to stop.
        StorageError: A store cannot be reached, or there is no room (``DISK.FULL``).
        DataError: A table as a whole cannot be read.
    """
    check_dataset_name(config.dataset)
    check_not_stopped(storage, "nothing was read")
    _check_secrets(config, storage, pseudonyms)
    sources = open_sources(config, settings)
    for source in sources:
        check_outside(storage, source.storage, "source")
    plan = survey(config, sources, pseudonyms)
    done = read_summary(storage, config.dataset, plan.row_key, plan.inputs_digest)
    if (
        done is not None
        and (earlier := _find_version(storage, config.dataset, done["version"]))
        and not _is_given_more(config, storage, pseudonyms, sources, plan, done)
    ):
        logger.info("dataset %s: version %s holds these inputs already, reused", config.dataset, earlier.version)
        _reuse(config, earlier, storage, pseudonyms, plan)
        return _summary(config, earlier, done, reused=True)
    known = read_known_inputs(storage, config.dataset, plan.row_key)
    known.keep_present(plan.versions)
    try:
        summary = _ingest(config, storage, pseudonyms, sources, plan, known)
    except StorageError as error:
        if error.retryable or not len(known):
            raise
        logger.warning("dataset %s: earlier version unusable (%s), reading everything", config.dataset, error.reason)
        summary = _ingest(config, storage, pseudonyms, sources, plan, KnownInputs(storage, None, ()))
    _audit(summary, plan, storage)
    _retire_older(config, summary.dataset, storage, pseudonyms)
    if tracked_by is not None:
        track_ingest(summary, storage, tracked_by, tags)
    return summary


def ingest_as_set(
    config: IngestConfig, storage: Storage, settings: Settings, tags: Mapping[str, str] = MappingProxyType({})
) -> IngestSummary:
    """Turn archives into one version of a dataset, with the secret, the store and the tracking server of settings.

    Raises:
        ConfigError: As ``ingest``, or there is no secret.
        CrrgError: As ``ingest``.
        StorageError: As ``ingest``.
        DataError: As ``ingest``.
    """
    return ingest(config, storage, pseudonyms_of(settings), settings.storage, tracked_by=settings, tags=tags)


def _check_secrets(config: IngestConfig, storage: Storage, pseudonyms: Pseudonyms) -> None:
    if not config.new_secret:
        check_dataset_secret(storage, config.dataset, pseudonyms)
    check_all_told(config, storage, pseudonyms)


def _ingest(
    config: IngestConfig,
    storage: Storage,
    pseudonyms: Pseudonyms,
    sources: list[Source],
    plan: IngestPlan,
    known: KnownInputs,
) -> IngestSummary:
    _check_room(config, storage, plan.num_inputs)
    staged = StagedInputs(storage, staging_prefix(config.dataset, plan.row_key), known)
    with full_disk_named(f"dataset {config.dataset}"):
        run = IngestRun(config, storage, pseudonyms, sources, staged, plan.shaping, plan.num_inputs)
        try:
            with closing(run.pairs()) as pairs:
                dataset = write_dataset(storage, config.dataset, pairs, plan.shaping, run)
        except ConfigError:
            # nothing was accepted: why stands in the quarantine, which would otherwise be lost
            run.write_quarantine()
            if run.counts()["num_accepted"]:
                raise
            raise _nothing_accepted(config, sources, run.counts()) from None
        finally:
            run.close()
            staged.close()
        # another archive may hold the same rows, so that the version was there; what was refused is of this one
        run.write_quarantine()
    counts = {**run.counts(), "details": run.details(), "version": dataset.version}
    write_inputs(storage, config.dataset, plan.row_key, plan.inputs_digest, run.records(), counts)
    clear_staged(storage, config.dataset, plan.row_key)
    summary = _summary(config, dataset, counts, reused=False)
    logger.info(
        "dataset %s version %s: %d inputs, %d accepted, %d quarantined; %d objects read, %d by shards, %d taken over",
        dataset.name,
        dataset.version,
        summary.num_inputs,
        summary.num_accepted,
        summary.num_quarantined,
        run.num_read,
        staged.num_found,
        run.num_taken_over - staged.num_found,
    )
    if summary.is_over_limit:
        logger.warning(
            "%.1f %% of the inputs in scope were refused, more than max_failure_rate (%.1f %%): exit code %d",
            100 * summary.failure_rate, 100 * config.max_failure_rate, EXIT_TOO_MANY_QUARANTINED,
        )  # fmt: skip
    return summary


def _check_room(config: IngestConfig, storage: Storage, num_inputs: int) -> None:
    """Check that rows of so many films find room among temporary files, where they lie first, and under the root."""
    needed = num_inputs * config.image_size**2
    for place in (tempfile.gettempdir(), *([storage.root] if storage.is_local else [])):
        check_disk(place, f"dataset {config.dataset}", needed)


def _nothing_accepted(config: IngestConfig, sources: Sequence[Source], counts: Mapping[str, Any]) -> CrrgError:
    subject = f"dataset {config.dataset}"
    if not counts["num_inputs"]:
        kinds = dict.fromkeys(source.kind for source in sources)
        wanted = "; ".join(f"{kind}: {source_class(kind).looked_for}" for kind in kinds)
        reason = f"this kind of archive finds neither films nor reports here ({wanted}; links are not followed)"
        return ConfigError(f"{reason}; check the address and --source", subject)
    reasons = ", ".join(f"{reason} {number}" for reason, number in counts["reasons"].items())
    return CrrgError(f"none of {counts['num_inputs']} inputs was accepted: {reasons}", subject)


def _is_given_more(
    config: IngestConfig,
    storage: Storage,
    pseudonyms: Pseudonyms,
    sources: list[Source],
    plan: IngestPlan,
    done: Mapping[str, Any],
) -> bool:
    """Return whether an object that an earlier ingest of these inputs was not given out may be given out now."""
    num_denied = done["reasons"].get(UNREADABLE, 0)
    if not num_denied:
        return False
    records = records_of(storage, config.dataset, plan.row_key, plan.inputs_digest)
    denied = {record.object_id for record in records if record.reason == UNREADABLE}
    if len(denied) < num_denied:  # a file beside a film, of which there is no record
        return True
    films = ((source, stored) for source in sources for stored in source.inventory())
    asked = (each for each in films if pseudonyms.object_key(each[1].key, each[0].site) in denied)
    return any(denial(source.storage, stored) is None for source, stored in asked)


def _audit(summary: IngestSummary, plan: IngestPlan, storage: Storage) -> None:
    dataset = summary.dataset
    write_audit(
        storage,
        "ingest",
        subject=f"{dataset.name}/{dataset.version}",
        inputs=(plan.inputs_digest,),
        writes={key: storage.sha256(key) for key in (dataset.manifest_key, summary.quarantine_key)},
        counts={
            "inputs": summary.num_inputs,
            "accepted": summary.num_accepted,
            "quarantined": summary.num_quarantined,
        },
    )


def _reuse(
    config: IngestConfig, earlier: DatasetRef, storage: Storage, pseudonyms: Pseudonyms, plan: IngestPlan
) -> None:
    point_to(storage, earlier)
    _retire_older(config, earlier, storage, pseudonyms)
    clear_staged(storage, config.dataset, plan.row_key)


def _retire_older(config: IngestConfig, dataset: DatasetRef, storage: Storage, pseudonyms: Pseudonyms) -> None:
    """Retire what an earlier secret named, where the form says that the secret was changed."""
    if config.new_secret:
        retire_older_secrets(storage, dataset, pseudonyms)


def _find_version(storage: Storage, name: str, version: str) -> DatasetRef | None:
    try:
        return resolve_dataset(storage, name, version)
    except ConfigError:
        return None


def _summary(config: IngestConfig, dataset: DatasetRef, counts: Mapping[str, Any], *, reused: bool) -> IngestSummary:
    failure_rate = failure_share(counts["reasons"], counts["num_accepted"])
    return IngestSummary(
        dataset=dataset,
        num_inputs=counts["num_inputs"],
        num_accepted=counts["num_accepted"],
        num_quarantined=counts["num_quarantined"],
        reasons=counts["reasons"],
        details=counts["details"],
        reused=reused,
        failure_rate=failure_rate,
        is_over_limit=failure_rate > config.max_failure_rate,
        quarantine_key=counts["quarantine_key"],
        card_key=f"{dataset.manifest_key.rpartition('/')[0]}/card.json",
    )
