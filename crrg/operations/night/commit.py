"""The end of a night: what its shards came to (``settled_night.py``) is written, and published with one manifest.

The manifest comes last: before it nothing is published, after it nothing is changed. Nothing is written over on the way
either (``ledger/beside.py``): a holder that was frozen here and wakes up after another committed the run spoils nothing
that the other names, before its own commit is refused.
"""

from __future__ import annotations

import logging
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pyarrow as pa

import crrg
from crrg.config.references import NightPlan, NightSummary, ShardResult
from crrg.config.watch import NightWatch
from crrg.data.dataset.quarantine import INBOX, QUARANTINE_SCHEMA
from crrg.errors import Conflict
from crrg.exports.documents import DraftingBundle
from crrg.exports.page_pictures import Pictures
from crrg.exports.parquet import REGIONS_SCHEMA, REPORTS_SCHEMA
from crrg.exports.review import NightFacts, review_files
from crrg.exports.superseded import SUPERSEDED_FILE
from crrg.exports.work_list import RefusedObject
from crrg.ledger.digest import files_digest
from crrg.ledger.ledger import LedgerRow, Outcome, compact_if_many, write_ledger
from crrg.ledger.manifest import (
    Manifest,
    commit_manifest,
    committed_manifests,
    current_manifests,
    find_own_commit,
    next_sequence,
    run_prefix,
)
from crrg.ledger.object_index import ObjectIndex
from crrg.ledger.tables import TableFile, write_table
from crrg.operations.night.documents import night_documents, put_page, writing
from crrg.operations.night.records import InputOutcome, num_failed_studies
from crrg.operations.night.settled_night import SettledNight, check_counts, finished_records, settle_night
from crrg.operations.night.summary import note_untold, summarize_published
from crrg.operations.night.watch import put_watch, remarks, watch_night
from crrg.operations.upkeep.audit import audit_night
from crrg.storage import Storage

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PublishedNight:
    """A night as its end left it.

    Attributes:
        summary: What happened.
        committed: All committed manifests of all nights right after its own; ``None`` where they were not read.
    """

    summary: NightSummary
    committed: Sequence[Manifest] | None = None


def publish_night(
    plan: NightPlan,
    results: Sequence[ShardResult],
    storage: Storage,
    before_commit: Callable[[], None] = lambda: None,
) -> PublishedNight:
    """Settle, count and publish a night whose shards are all finished, unless an earlier try of this run did.

    Nobody else commits while a night is held, so what is committed is read once, for all that depend on it. With the
    night's own commit that ends.

    Args:
        plan: The night.
        results: What became of its shards, in any order.
        storage: The root.
        before_commit: Called right before entry and manifest are sent: from then on they may land, whatever is heard.

    Raises:
        CrrgError: The counts do not add up; nothing was published.
        Conflict: Another holder took the night over; nothing was published.
    """
    own = find_own_commit(storage, plan.date, plan.run_id, plan.fencing)
    if own is not None:
        logger.info("night %s had been committed already; the store's answer was lost", plan.date)
        return PublishedNight(summarize_published(own, plan.config.max_failure_rate, storage))
    with ThreadPoolExecutor(thread_name_prefix="publish") as pool:
        listed = pool.submit(committed_manifests, storage)
        records = finished_records(plan, results, storage)
        committed = listed.result()
        earlier = current_manifests(committed)
        night = settle_night(plan, records, earlier, storage)
        watched = pool.submit(watch_night, plan, night.outcomes, night.tables, storage)
        check_counts(night, storage)
        watch = watched.result()
        manifest = _written(plan, night, watch, earlier, storage, pool)
    # before the entry: a number of which it speaks is used, or sealed
    before_commit()
    read = [(each.key_hmac, each.etag) for each in night.outcomes]
    manifest = manifest.model_copy(update={"audit": audit_night(plan, manifest, read, earlier, storage)})
    commit_manifest(storage, manifest)
    counts = (manifest.num_accepted, manifest.num_quarantined, manifest.num_pending)
    logger.info("night %s committed: %d accepted, %d quarantined, %d pending", plan.date, *counts)
    summary = summarize_published(manifest, plan.config.max_failure_rate, storage, watch, [*earlier, manifest])
    return PublishedNight(summary, [*committed, manifest])


def _written(
    plan: NightPlan,
    night: SettledNight,
    watch: NightWatch,
    earlier: Sequence[Manifest],
    storage: Storage,
    pool: ThreadPoolExecutor,
) -> Manifest:
    """Write what a night publishes, several things at a time; return the manifest that names it, but for its entry."""
    refused = [each for each in night.outcomes if each.outcome is Outcome.QUARANTINED]
    by_key = sorted(night.outcomes, key=lambda each: each.key_hmac)
    quarantine = pool.submit(_write_quarantine, plan, refused, storage)
    ledger = pool.submit(write_ledger, storage, plan.date, plan.run_id, _ledger_rows(plan, by_key))
    put = pool.submit(put_watch, plan, watch, storage)
    digest = pool.submit(
        files_digest, storage, night.tables, _ledger_rows(plan, night.outcomes), REPORTS_SCHEMA, REGIONS_SCHEMA
    )
    compacted = pool.submit(compact_if_many, storage, earlier)
    objects, page = _write_objects(plan, night, refused, remarks(watch), storage)
    noted = pool.submit(note_untold, plan, storage)
    watch_key, watch_sha256 = put.result()
    objects.add({watch_key: watch_sha256})
    index_key, index_sha256 = objects.put(storage, f"{run_prefix(plan.date, plan.run_id)}/index.json")
    noted.result()
    compacted.result()
    return _manifest_of(plan, night, refused).model_copy(
        update={
            "files": (*night.tables, quarantine.result(), ledger.result()),
            "index_key": index_key,
            "index_sha256": index_sha256,
            "digest": digest.result(),
            "sequence": next_sequence(earlier),
            "watch_key": watch_key,
            "watch_sha256": watch_sha256,
            "withheld": watch.withheld,
            "review_key": f"{page}/index.html",
            "replaced_key": f"{page}/{SUPERSEDED_FILE}",
        }
    )


def _manifest_of(plan: NightPlan, night: SettledNight, refused: Sequence[InputOutcome]) -> Manifest:
    """Return the manifest of a night, without what has to be written before it."""
    return Manifest(
        date=plan.date,
        run_id=plan.run_id,
        fencing=plan.fencing,
        key_id=plan.key_id,
        inbox_id=plan.inbox_id,
        bundle=plan.bundle,
        registry_available=plan.registry_available,
        num_inputs=plan.num_new + plan.num_pending,
        num_accepted=len(night.outcomes) - len(refused),
        num_quarantined=len(refused),
        num_pending=plan.num_pending,
        num_flagged=sum(1 for each in night.outcomes if each.num_flags),
        reasons=dict(sorted(Counter(each.reason for each in refused).items())),
        num_failed_studies=num_failed_studies(refused),
        thresholds=dict(night.thresholds),
        abnormal_threshold=night.abnormal_threshold,
        superseded=night.superseded,
        committed_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={"crrg": crrg.__version__, "python": platform.python_version(), "pyarrow": pa.__version__},
        num_shards_on_cpu=night.num_shards_on_cpu,
    )


def _ledger_rows(plan: NightPlan, outcomes: Iterable[InputOutcome]) -> Iterator[LedgerRow]:
    return (_ledger_row(plan, outcome) for outcome in outcomes)


def _ledger_row(plan: NightPlan, outcome: InputOutcome) -> LedgerRow:
    return LedgerRow(
        key_hmac=outcome.key_hmac,
        etag=outcome.etag,
        source_digest=bytes.fromhex(outcome.source_digest),
        pixel_digest=bytes.fromhex(outcome.pixel_digest),
        patient_id=outcome.patient_id,
        study_id=outcome.study_id,
        instance_id=outcome.instance_id,
        outcome=outcome.outcome,
        reason=outcome.reason,
        is_carried=outcome.is_carried,
        bundle_id=plan.bundle.bundle_id,
        run_id=plan.run_id,
        date=plan.date,
        inbox_id=plan.inbox_id,
    )


def _write_quarantine(plan: NightPlan, refused: Sequence[InputOutcome], storage: Storage) -> TableFile:
    rows = [
        {
            "key_hmac": each.key_hmac,
            "source": INBOX,
            "etag": each.etag,
            "source_digest": bytes.fromhex(each.source_digest),
            "study_id": each.study_id,
            "instance_id": each.instance_id,
            "reason": each.reason,
            "detail": each.detail,
            "run_id": plan.run_id,
            "version": crrg.__version__,
        }
        for each in sorted(refused, key=lambda each: each.key_hmac)
    ]
    table = pa.Table.from_pylist(rows, QUARANTINE_SCHEMA)
    return write_table(storage, f"quarantine/date={plan.date}/{plan.run_id}.parquet", table, "quarantine")


def _write_objects(
    plan: NightPlan, night: SettledNight, refused: Sequence[InputOutcome], told: tuple[str, ...], storage: Storage
) -> tuple[ObjectIndex, str]:
    """Write documents and page; return the index of the run's objects, and where the page lies."""
    prefix = run_prefix(plan.date, plan.run_id)
    shown = [each for each in (*night.outcomes, *night.earlier.outcomes) if each.is_drafted]
    sizes = {each.instance_id: (each.width, each.height) for each in shown}
    bundles = {
        **night.earlier.bundles,
        plan.bundle.bundle_id: DraftingBundle(plan.bundle.model_version, night.thresholds, night.abnormal_threshold),
    }
    facts = NightFacts(
        date=plan.date,
        bundle_id=plan.bundle.bundle_id,
        model_version=plan.bundle.model_version,
        num_pending=plan.num_pending,
        thresholds=night.thresholds,
        remarks=told,
    )
    lines = [RefusedObject(each.key_hmac, each.reason, each.detail, each.instance_id) for each in refused]

    def put_in(folder: str, pictures: Pictures) -> ObjectIndex:
        objects = night.objects.copy()
        documents = night_documents(night.tables, night.spread, sizes, bundles, storage)
        written = writing(documents, prefix, objects, storage)
        objects.add(put_page(folder, review_files(facts, written, lines, pictures), storage))
        return objects

    try:
        return put_in(f"{prefix}/review", night.pictures), f"{prefix}/review"
    except Conflict:
        # left by a holder that saw the night otherwise, and that may be at work on it still
        folder = f"{prefix}/review-{plan.fencing}"
        return put_in(folder, replace(night.pictures, folder="../review/")), folder
