"""Plans of nights as they lie in the store: written before a night begins to work, found again by a run that goes on.

A plan counts once its last object is there. It is open while no run has read any of its inputs since.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from crrg.config.references import NightPlan, ShardRef
from crrg.data.map_ahead import map_ahead
from crrg.data.refusals import may_pass
from crrg.errors import StorageError
from crrg.ledger.inventory import InboxObject, Inventory, cut_shards
from crrg.ledger.ledger import Ledger, LedgerRow, Wanted, read_ledger
from crrg.ledger.manifest import Manifest, night_prefix, read_manifests
from crrg.operations.night.records import (
    OpenPlan,
    PreviousOutcome,
    ShardInput,
    ShardInputs,
    get_value,
    inputs_key,
    plan_key,
    put_value,
)
from crrg.operations.night.rereads import Reread, last_reading
from crrg.storage import Storage, hash_json

logger = logging.getLogger(__name__)


def find_open_plan(date: str, identity: str, nights: Sequence[Manifest], storage: Storage) -> OpenPlan | None:
    """Return the plan of an equal run of this night that did not come to its commit, or ``None``.

    Args:
        date: The night.
        identity: Digest over what its results depend on besides its inputs.
        nights: The committed runs of all nights.
        storage: The root.
    """
    plan = next((plan for plan in open_plans(date, storage, nights) if plan.identity == identity), None)
    if plan is not None:
        logger.info("night %s is resumed where an earlier run left off", date)
    return plan


def open_plans(date: str, storage: Storage, nights: Sequence[Manifest] | None = None) -> Iterator[OpenPlan]:
    """Yield the plans of a night that can be gone on with: not committed, and all their inputs are still to do.

    Args:
        date: The night.
        storage: The root.
        nights: The committed runs of all nights, where the caller holds these and knows them; read otherwise.
    """
    known = read_manifests(storage, date) if nights is None else nights
    committed = {manifest.run_id for manifest in known if manifest.date == date}
    folders = [name for name in storage.list_folder(night_prefix(date)) if name.startswith("run=")]
    for run_id in sorted(name.removeprefix("run=") for name in folders):
        key = plan_key(date, run_id)
        if run_id in committed or not storage.exists(key):
            continue
        try:
            plan = get_value(storage, key, OpenPlan)
            listed = [each for inputs in listed_inputs(storage, shard_refs(date, plan)) for each in inputs]
        except StorageError as error:
            if error.retryable:
                raise
            logger.warning("a plan of %s is damaged and is not resumed", date)
            continue
        # what is read again may have been drafted from another object: then every row counts
        keys = frozenset(each.key_hmac for each in listed)
        wanted = None if any(each.replaces_run for each in listed) else Wanted(keys=keys)
        ledger = read_ledger(storage, wanted, nights)
        if all(_is_to_do(each, ledger) for each in listed):
            yield plan


def shard_refs(date: str, plan: OpenPlan) -> tuple[ShardRef, ...]:
    """Return a plan's shards as tasks are given them."""
    return tuple(
        ShardRef(index=index, key=inputs_key(date, plan.run_id, index), num_inputs=num_inputs)
        for index, num_inputs in enumerate(plan.shards)
    )


def listed_inputs(storage: Storage, shards: Iterable[ShardRef]) -> Iterator[tuple[ShardInput, ...]]:
    """Yield what each shard lists; the next ones are read meanwhile."""
    return map_ahead(lambda shard: get_value(storage, shard.key, ShardInputs).inputs, shards)


def _is_to_do(planned: ShardInput, ledger: Ledger) -> bool:
    """Whether no run has read an input since it was planned."""
    if not planned.replaces_run:
        return ledger.find(planned.key_hmac, planned.etag) is None
    find = ledger.find if planned.is_sent_back else partial(last_reading, ledger=ledger)
    row = find(planned.key_hmac, planned.etag)
    return row is not None and row.run_id == planned.replaces_run


def write_plan(
    idle: NightPlan,
    identity: str,
    inventory: Inventory,
    rereads: Sequence[Reread],
    ledger: Ledger,
    num_committed: int,
    storage: Storage,
) -> OpenPlan:
    """Write the listings of all shards, then the plan that makes them count.

    Args:
        idle: The night.
        identity: Digest over what its results depend on besides its inputs.
        inventory: What is new, and what an earlier night could not judge for good.
        rereads: What is read again because somebody asked.
        ledger: What earlier nights did.
        num_committed: Runs of this date that are committed.
        storage: The root.
    """
    known = [row for each in inventory.new if (row := ledger.find(each.key_hmac, each.etag)) is not None]
    sent_back = {row.key_hmac for row in known if row.is_of_a_draft}
    runs = {each.found.key_hmac: each.run_id for each in rereads} | {row.key_hmac: row.run_id for row in known}
    content: list[object] = [idle.date, inventory.digest, identity]
    if runs:
        # The same objects may be read again by the same bundle later: what is committed keeps its own prefix.
        content += [runs, num_committed]
    run_id = hash_json(content)
    members_of_night = sorted([*inventory.new, *(each.found for each in rereads)], key=lambda each: each.key)
    by_age = sorted(members_of_night, key=lambda each: (each.modified_s, each.key))
    ranks = {each.key_hmac: rank for rank, each in enumerate(by_age)}
    shards = cut_shards(members_of_night, idle.config.shard_size)

    def put_listing(index: int) -> int:
        inputs = [
            _shard_input(each, ranks[each.key_hmac], ledger, runs.get(each.key_hmac, ""), each.key_hmac in sent_back)
            for each in shards[index]
        ]
        listing = ShardInputs(inputs=tuple(sorted(inputs, key=lambda each: each.rank)))
        put_value(storage, inputs_key(idle.date, run_id, index), listing)
        return len(inputs)

    plan = OpenPlan(run_id=run_id, identity=identity, shards=tuple(map_ahead(put_listing, range(len(shards)))))
    put_value(storage, plan_key(idle.date, run_id), plan)
    return plan


def _shard_input(found: InboxObject, rank: int, ledger: Ledger, replaces_run: str, is_sent_back: bool) -> ShardInput:
    earlier = None if replaces_run else ledger.find_key(found.key_hmac)
    return ShardInput(
        key_hmac=found.key_hmac,
        etag=found.etag,
        size=found.size,
        rank=rank,
        previous=None if earlier is None or may_pass(earlier.reason) else _previous(earlier),
        replaces_run=replaces_run,
        is_sent_back=is_sent_back,
    )


def _previous(row: LedgerRow) -> PreviousOutcome:
    return PreviousOutcome(
        source_digest=row.source_digest.hex(),
        pixel_digest=row.pixel_digest.hex(),
        patient_id=row.patient_id,
        study_id=row.study_id,
        instance_id=row.instance_id,
        outcome=row.outcome,
        reason=row.reason,
    )
