"""A night whose shards are looked at together: only here is the whole of it visible.

Equal images and studies that lie in several shards are settled here; the few shards that this changes get new tables
beside the old ones. Nothing is published by it (``commit.py``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from crrg.config.references import NightPlan, ShardResult
from crrg.data.map_ahead import map_ahead
from crrg.domain.regions import NUM_REGIONS
from crrg.exports.page_pictures import Pictures, find_pictures
from crrg.exports.parquet import with_primary, without_films
from crrg.ledger.ledger import Ledger, Wanted, read_ledger
from crrg.ledger.manifest import Manifest, Superseded
from crrg.ledger.object_index import ObjectIndex
from crrg.ledger.tables import TableFile, read_each, read_table, write_table
from crrg.operations.night.duplicates import FirstImages, is_open
from crrg.operations.night.late import EarlierFilms, copy_pictures, find_earlier_films, write_earlier_films
from crrg.operations.night.pictures import settled_pictures
from crrg.operations.night.plans import listed_inputs
from crrg.operations.night.records import (
    InputOutcome,
    ShardRecord,
    conservation_error,
    primary_images,
    read_record,
    table_key,
)
from crrg.storage import Storage


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


def finished_records(plan: NightPlan, results: Sequence[ShardResult], storage: Storage) -> list[ShardRecord]:
    """Read the records of all shards and check that they account for exactly the inputs that were planned.

    Raises:
        CrrgError: They do not; nothing may be published.
    """
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


def settle_night(
    plan: NightPlan, records: Sequence[ShardRecord], committed: Sequence[Manifest], storage: Storage
) -> SettledNight:
    """Decide between equal images of different shards and nights, and choose each study's primary image.

    Args:
        plan: The night.
        records: What became of its shards (``finished_records``).
        committed: The committed runs of all nights before it.
        storage: The root.
    """
    ledger = _earlier_rows(records, committed, storage)
    settled, superseded, earlier, copied = _judge(plan, records, ledger, committed, storage)
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


def check_counts(night: SettledNight, storage: Storage) -> None:
    """Check that tables hold a row for every image of a draft and 29 for its regions, and nothing else.

    Raises:
        CrrgError: They do not; nothing may be published.
    """
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


def _earlier_rows(records: Sequence[ShardRecord], committed: Sequence[Manifest], storage: Storage) -> Ledger:
    """Return what earlier nights did of the images and studies that this one drafts, and of those that images left."""
    drafted = [each for record in records for each in record.outcomes if each.is_drafted]
    instances, studies = frozenset(each.instance_id for each in drafted), frozenset(each.study_id for each in drafted)
    ledger = read_ledger(storage, Wanted(instances=instances, studies=studies), committed)
    left = {row.study_id for name in instances if (row := ledger.find_draft(name))} - studies
    return read_ledger(storage, Wanted(instances=instances, studies=studies | left), committed) if left else ledger


def _judge(
    plan: NightPlan,
    records: Sequence[ShardRecord],
    ledger: Ledger,
    committed: Sequence[Manifest],
    storage: Storage,
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
        drafted = (each for each in settled.values() if each.is_drafted)
        earlier = find_earlier_films(drafted, ledger, committed, storage)
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
