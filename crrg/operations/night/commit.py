"""The end of a night: look at all shards together, count, and publish with one manifest.

Only here is the whole night visible, so equal images and studies that lie in several shards are settled here; the few
shards that this changes get new tables beside the old ones. The manifest comes last: before it nothing is published,
after it nothing is changed. Nothing is written over on the way either (``ledger/beside.py``): a holder that was frozen
here and wakes up after another committed the run spoils nothing that the other names, before its own commit is refused.
"""

from __future__ import annotations

import logging
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

import pyarrow as pa

import crrg
from crrg.config.references import NightPlan, NightSummary, ShardResult
from crrg.data.dataset.quarantine import INBOX, QUARANTINE_SCHEMA
from crrg.data.map_ahead import map_ahead
from crrg.domain.regions import NUM_REGIONS
from crrg.errors import Conflict
from crrg.exports.documents import DraftingBundle
from crrg.exports.page_pictures import Pictures, find_pictures
from crrg.exports.parquet import REGIONS_SCHEMA, REPORTS_SCHEMA, with_primary, without_films
from crrg.exports.review import NightFacts, review_files
from crrg.exports.superseded import SUPERSEDED_FILE
from crrg.exports.work_list import RefusedObject
from crrg.ledger.digest import files_digest
from crrg.ledger.ledger import Ledger, LedgerRow, Outcome, Wanted, read_ledger, write_ledger
from crrg.ledger.manifest import (
    Manifest,
    Superseded,
    commit_manifest,
    find_own_commit,
    next_sequence,
    run_prefix,
)
from crrg.ledger.object_index import ObjectIndex
from crrg.ledger.tables import TableFile, read_each, read_table, write_table
from crrg.operations.night.documents import night_documents, put_page, writing
from crrg.operations.night.duplicates import FirstImages, is_open
from crrg.operations.night.late import EarlierFilms, copy_pictures, find_earlier_films, write_earlier_films
from crrg.operations.night.pictures import settled_pictures
from crrg.operations.night.plans import listed_inputs
from crrg.operations.night.records import (
    InputOutcome,
    ShardRecord,
    conservation_error,
    num_failed_studies,
    primary_images,
    read_record,
    table_key,
)
from crrg.operations.night.summary import note_untold, summarize_published
from crrg.operations.night.watch import put_watch, remarks, watch_night
from crrg.operations.upkeep.audit import audit_night
from crrg.storage import Storage

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SettledNight:
    """A night after its shards were looked at together.

    Attributes:
        outcomes: What became of every input.
        tables: Report and region tables.
        objects: The pictures of drafted films.
        pictures: Where they lie, as seen from the page beside them.
        spread: Studies whose films lie in several tables.
        earlier: Films of earlier nights whose studies this night adds to.
        superseded: Older drafts that are replaced.
        thresholds: Probability from which a label counts as positive.
        abnormal_threshold: Probability from which a region reads abnormal; ``None`` where it was not noted.
        num_shards_on_cpu: Shards for which the device's memory did not suffice.
    """

    outcomes: tuple[InputOutcome, ...]
    tables: tuple[TableFile, ...]
    objects: ObjectIndex
    pictures: Pictures
    spread: frozenset[str]
    earlier: EarlierFilms
    superseded: tuple[Superseded, ...]
    thresholds: Mapping[str, float]
    abnormal_threshold: float | None
    num_shards_on_cpu: int


def publish_night(
    plan: NightPlan,
    results: Sequence[ShardResult],
    storage: Storage,
    before_commit: Callable[[], None] = lambda: None,
) -> NightSummary:
    """Settle, count and publish a night whose shards are all finished, unless an earlier try of this run did.

    Args:
        plan: The night.
        results: What became of its shards, in any order.
        storage: The root.
        before_commit: Called right before entry and manifest are sent: from then on they may land, whatever is heard.

    Returns:
        What happened.

    Raises:
        CrrgError: The counts do not add up; nothing was published.
        Conflict: Another holder took the night over; nothing was published.
    """
    committed = find_own_commit(storage, plan.date, plan.run_id, plan.fencing)
    if committed is not None:
        logger.info("night %s had been committed already; the store's answer was lost", plan.date)
        return summarize_published(committed, plan.config.max_failure_rate, storage)
    night = _settle(plan, _finished_records(plan, results, storage), storage)
    _check_counts(night, storage)
    watch = watch_night(plan, night.outcomes, night.tables, storage)
    refused = [each for each in night.outcomes if each.outcome is Outcome.QUARANTINED]
    by_key = sorted(night.outcomes, key=lambda each: each.key_hmac)
    with ThreadPoolExecutor(thread_name_prefix="publish") as pool:
        quarantine = pool.submit(_write_quarantine, plan, refused, storage)
        ledger = pool.submit(write_ledger, storage, plan.date, plan.run_id, _ledger_rows(plan, by_key))
        watch_key, watch_sha256 = put_watch(plan, watch, storage)
    files = (*night.tables, quarantine.result(), ledger.result())
    objects, page = _write_objects(plan, night, refused, remarks(watch), storage)
    objects.add({watch_key: watch_sha256})
    written = {"watch_key": watch_key, "watch_sha256": watch_sha256, "withheld": watch.withheld,
               "review_key": f"{page}/index.html", "replaced_key": f"{page}/{SUPERSEDED_FILE}"}  # fmt: skip
    manifest = _manifest_of(plan, night, files, objects, storage).model_copy(update=written)
    note_untold(manifest, plan.config.max_failure_rate, storage)
    # before the entry: a number of which it speaks is used, or sealed
    before_commit()
    read = [(each.key_hmac, each.etag) for each in night.outcomes]
    manifest = manifest.model_copy(update={"audit": audit_night(plan, manifest, read, storage)})
    commit_manifest(storage, manifest)
    counts = (manifest.num_accepted, manifest.num_quarantined, manifest.num_pending)
    logger.info("night %s committed: %d accepted, %d quarantined, %d pending", plan.date, *counts)
    return summarize_published(manifest, plan.config.max_failure_rate, storage, watch)


def _manifest_of(
    plan: NightPlan, night: SettledNight, files: tuple[TableFile, ...], objects: ObjectIndex, storage: Storage
) -> Manifest:
    """Write the index of the objects, and return the manifest that names it; where watch and page lie comes later."""
    index_key, index_sha256 = objects.put(storage, f"{run_prefix(plan.date, plan.run_id)}/index.json")
    refused = [each for each in night.outcomes if each.outcome is Outcome.QUARANTINED]
    return Manifest(
        date=plan.date,
        run_id=plan.run_id,
        fencing=plan.fencing,
        key_id=plan.key_id,
        inbox_id=plan.inbox_id,
        bundle=plan.bundle,
        registry_available=plan.registry_available,
        files=files,
        index_key=index_key,
        index_sha256=index_sha256,
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
        digest=files_digest(storage, files, _ledger_rows(plan, night.outcomes), REPORTS_SCHEMA, REGIONS_SCHEMA),
        committed_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        sequence=next_sequence(storage),
        versions={"crrg": crrg.__version__, "python": platform.python_version(), "pyarrow": pa.__version__},
        num_shards_on_cpu=night.num_shards_on_cpu,
    )


def _finished_records(plan: NightPlan, results: Sequence[ShardResult], storage: Storage) -> list[ShardRecord]:
    """Read the records of all shards and check that they account for exactly the inputs that were planned."""
    expected = [shard.index for shard in plan.shards]
    if sorted(result.index for result in results) != expected:
        raise conservation_error(plan.run_id, f"{len(expected)} shards", f"{len(results)}")
    records = list(map_ahead(partial(read_record, storage, plan), expected))
    num_found = 0
    for listed, record in zip(listed_inputs(storage, plan.shards), records, strict=True):
        planned = Counter(each.key_hmac for each in listed)
        found = Counter(each.key_hmac for each in record.outcomes)
        num_found += found.total()
        if planned != found:
            raise conservation_error(plan.run_id, f"{planned.total()} inputs", f"{found.total()} outcomes")
    if num_found != plan.num_new:
        raise conservation_error(plan.run_id, f"{plan.num_new} inputs", f"{num_found} outcomes")
    return records


def _earlier_rows(records: Sequence[ShardRecord], storage: Storage) -> Ledger:
    """Return what earlier nights did of the images and studies that this one drafts, and of those that images left."""
    drafted = [each for record in records for each in record.outcomes if each.is_drafted]
    instances, studies = frozenset(each.instance_id for each in drafted), frozenset(each.study_id for each in drafted)
    ledger = read_ledger(storage, Wanted(instances=instances, studies=studies))
    left = {row.study_id for name in instances if (row := ledger.find_draft(name))} - studies
    return read_ledger(storage, Wanted(instances=instances, studies=studies | left)) if left else ledger


def _settle(plan: NightPlan, records: Sequence[ShardRecord], storage: Storage) -> SettledNight:
    """Decide between equal images of different shards and nights, and choose each study's primary image."""
    ledger = _earlier_rows(records, storage)
    settled, superseded, earlier, copied = _judge(plan, records, ledger, storage)
    outcomes = tuple(settled.values())
    shown = (*outcomes, *earlier.outcomes)
    primary = primary_images(shown)
    tables: list[TableFile] = []
    for record in records:
        drafted = [each for each in record.outcomes if each.is_drafted]
        dropped = {each for each in drafted if not settled[each.key_hmac].is_drafted}
        was_primary = primary_images(record.outcomes)
        moved = {each for each in drafted if (each.instance_id in was_primary) != (each.instance_id in primary)}
        gone = frozenset(each.instance_id for each in dropped)
        tables += _settled_tables(plan, record, gone, primary, storage) if dropped | moved else record.tables
    tables += write_earlier_films(plan, earlier, primary, storage)
    spread = Counter(study for record in records for study in {e.study_id for e in record.outcomes if e.is_drafted})
    across = {each.study_id for each in earlier.outcomes} | {study for study, number in spread.items() if number > 1}
    pictures = {**settled_pictures(records, settled), **copied}
    return SettledNight(
        outcomes=outcomes,
        tables=tuple(tables),
        objects=ObjectIndex(pictures),
        pictures=find_pictures(pictures),
        spread=frozenset(across),
        earlier=earlier,
        superseded=tuple(dict.fromkeys((*superseded, *earlier.superseded))),
        thresholds=records[0].thresholds,
        abnormal_threshold=records[0].abnormal_threshold,
        num_shards_on_cpu=sum(record.is_on_cpu for record in records),
    )


def _judge(
    plan: NightPlan, records: Sequence[ShardRecord], ledger: Ledger, storage: Storage
) -> tuple[dict[str, InputOutcome], Sequence[Superseded], EarlierFilms, dict[str, str]]:
    """Return what becomes of every input, the drafts of images that came again, and what moves on with its pictures.

    Films whose study cannot move on have to wait, which may let others be drafted in their place: then all is judged
    once more.
    """
    ordered = sorted((each for record in records for each in record.outcomes), key=lambda each: each.rank)
    damaged: frozenset[str] = frozenset()
    while True:
        first_images = FirstImages(ledger, plan.config.resend_policy, damaged, filter(is_open, ordered))
        settled: dict[str, InputOutcome] = {}
        for outcome in ordered:
            refusal = first_images.refusal(outcome) if is_open(outcome) else None
            settled[outcome.key_hmac] = outcome.refused(*refusal) if refusal else outcome
        earlier = find_earlier_films((each for each in settled.values() if each.is_drafted), ledger, storage)
        copied, without_pictures = copy_pictures(plan, earlier, storage)
        if not earlier.damaged | without_pictures:
            return settled, first_images.superseded, earlier, copied
        damaged |= earlier.damaged | without_pictures


def _settled_tables(
    plan: NightPlan, record: ShardRecord, dropped: frozenset[str], primary: frozenset[str], storage: Storage
) -> list[TableFile]:
    reports, regions = (read_table(storage, file) for file in record.tables)
    return [
        write_table(
            storage,
            table_key(plan, "reports", record.index, "-settled"),
            with_primary(reports, dropped, primary),
            "reports",
        ),
        write_table(
            storage, table_key(plan, "regions", record.index, "-settled"), without_films(regions, dropped), "regions"
        ),
    ]


def _check_counts(night: SettledNight, storage: Storage) -> None:
    """Check that tables hold a row for every image of a draft and 29 for its regions, and nothing else."""
    drafted = [*(each for each in night.outcomes if each.is_drafted), *night.earlier.outcomes]
    num_drafted = len(drafted)
    num_rows = Counter[str]()
    for file in night.tables:
        num_rows[file.kind] += file.num_rows
    if num_rows["reports"] != num_drafted or num_rows["regions"] != num_drafted * NUM_REGIONS:
        raise conservation_error("tables", f"{num_drafted} drafts with {NUM_REGIONS} regions each", dict(num_rows))
    missing = {each.instance_id for each in drafted}
    for table in read_each(storage, (file for file in night.tables if file.kind == "reports")):
        missing.difference_update(table["instance_id"].to_pylist())
    if missing or len({each.instance_id for each in drafted}) != num_drafted:
        raise conservation_error("tables", "the drafted images", "others")


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
