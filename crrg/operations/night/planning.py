"""What a night that is held is going to do: the plan that an earlier run left open, or what is new and asked for.

Before either is worked on it is seen that the night may read and write and that there is room for what is left of it.
Who holds nights is not known here; how plans lie in the store, ``plans.py`` knows.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor

from crrg.config.references import NightPlan
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.ledger.inventory import InboxObject, Inventory, list_inbox, take_inventory
from crrg.ledger.lease import store_time_s
from crrg.ledger.ledger import Ledger, Wanted, read_ledger
from crrg.ledger.manifest import Manifest
from crrg.operations.night.checks import check_rights, check_room, check_room_aside
from crrg.operations.night.plans import find_open_plan, listed_inputs, shard_refs, write_plan
from crrg.operations.night.records import OpenPlan, finished_shards, plan_identity
from crrg.operations.night.rereads import asked_rereads, find_rereads, not_found
from crrg.operations.night.settling import take_settled
from crrg.operations.root import check_outside
from crrg.storage import Storage

logger = logging.getLogger(__name__)


def plan_held_night(
    idle: NightPlan, fencing: int, nights: Sequence[Manifest], storage: Storage, pseudonyms: Pseudonyms
) -> NightPlan:
    """Take up the plan that an earlier run of a held night left open, or plan what is new.

    Args:
        idle: The night, without anything to do.
        fencing: Number of its lease.
        nights: The committed runs of all nights, read while it was held.
        storage: The root.
        pseudonyms: Makes the ids.

    Returns:
        The plan; of status ``nothing_new`` where there is nothing to do.

    Raises:
        ConfigError: There is no such inbox.
        StorageError: Inbox or root is out of reach, something may not be read or written, or there is no room.
    """
    config = idle.config
    inbox = storage.at(config.inbox).without_names()
    check_outside(storage, inbox, "inbox")
    objects = list_inbox(inbox, pseudonyms.object_key, says_hidden=True)
    if not objects:  # of a bucket, an address that is mistyped looks the same
        logger.warning("night %s: the inbox is empty; if it should not be, check its address", idle.date)
    # what is read again may have been drafted from an object that is gone: then every row counts
    asked = None if any(asked_rereads(config)) else Wanted(keys=frozenset(found.key_hmac for found in objects))
    inbox_id = pseudonyms.object_key(inbox.root, "inbox")
    identity = plan_identity(config, idle.bundle.bundle_id, inbox_id)
    with ThreadPoolExecutor(thread_name_prefix="plan") as pool:
        clock = pool.submit(store_time_s, storage)
        found_plan = pool.submit(find_open_plan, idle.date, identity, nights, storage)
        ledger = read_ledger(storage, asked, nights)
    open_plan = found_plan.result()
    idle = idle.model_copy(update={"not_found": _told_not_found(idle, ledger, nights)})
    now_s, settle_s = clock.result(), config.settle_s
    inventory = take_inventory(objects, ledger, date=idle.date, now_s=now_s, settle_s=settle_s, inbox_id=inbox_id)
    unknown = frozenset(each.key_hmac for each in (*inventory.new, *inventory.pending))
    if open_plan is not None:
        left = _left_to_read(idle.date, open_plan, objects, storage)
        _check_before_work(idle, left, objects, storage, inbox, num_films=sum(open_plan.shards))
    else:
        inventory = take_settled(inventory, objects, inbox, now_s=now_s, settle_s=settle_s, limit=config.limit)
        known = (found for found in objects if found.key_hmac not in unknown)
        rereads = find_rereads(config, idle, known, ledger, storage)
        if config.limit:
            rereads = rereads[: max(0, config.limit - len(inventory.new))]
        if not inventory.new and not rereads:
            update = {"num_done": inventory.num_known, "num_pending": len(inventory.pending)}
            return idle.model_copy(update={**update, "status": "nothing_new"})
        to_read = [*inventory.new, *(each.found for each in rereads)]
        _check_before_work(idle, to_read, objects, storage, inbox, num_films=len(to_read))
        num_committed = sum(each.date == idle.date for each in nights)
        open_plan = write_plan(idle, identity, inventory, rereads, ledger, num_committed, storage)
    planned = _as_planned(idle, open_plan, inventory, unknown, storage)
    return planned.model_copy(update={"fencing": fencing, "inbox_id": inbox_id})


def _told_not_found(night: NightPlan, ledger: Ledger, nights: Sequence[Manifest]) -> tuple[str, ...]:
    """Return what the form asks to read again and no night has read, after it was logged."""
    date, studies, _ = asked_rereads(night.config)
    if not (date or studies):
        return ()
    said = not_found(date, studies, ledger.studies(), nights, "study that a night has read")
    for each in said:
        logger.warning("night %s: asked to read again: %s", night.date, each)
    return said


def _left_to_read(date: str, plan: OpenPlan, objects: Iterable[InboxObject], storage: Storage) -> Sequence[InboxObject]:
    """Return what an open plan lists and no finished shard of it has read."""
    finished = finished_shards(storage, date, plan.run_id)
    shards = [shard for shard in shard_refs(date, plan) if shard.index not in finished]
    left = {each.key_hmac for listed in listed_inputs(storage, shards) for each in listed}
    return [found for found in objects if found.key_hmac in left]


def _check_before_work(
    night: NightPlan,
    to_read: Sequence[InboxObject],
    objects: Sequence[InboxObject],
    storage: Storage,
    inbox: Storage,
    *,
    num_films: int,
) -> None:
    """Check room and rights.

    Args:
        night: Its date and form.
        to_read: What is still to be read.
        objects: All that lies in the inbox.
        storage: The root.
        inbox: The inbox.
        num_films: Inputs that may be drafted in the end, those of finished shards among them.

    Raises:
        StorageError: Something is not allowed, or there is no room.
    """
    check_room(len(to_read), night.config.image_size, storage)
    check_room_aside(num_films)
    check_rights(night.date, storage, inbox, to_read, objects)


def _as_planned(
    idle: NightPlan, plan: OpenPlan, inventory: Inventory, unknown: Set[str], storage: Storage
) -> NightPlan:
    """Return a night with the shards of a plan; counts are of the inbox as it is now.

    Args:
        idle: The night.
        plan: What it does.
        inventory: What is new by now.
        unknown: Keys of what is new or young.
        storage: The root.
    """
    shards = shard_refs(idle.date, plan)
    planned: set[str] = set()
    num_again = 0
    for listed in listed_inputs(storage, shards):
        planned |= {each.key_hmac for each in listed}
        num_again += sum(1 for each in listed if each.replaces_run and each.key_hmac not in unknown)
    return idle.model_copy(
        update={
            "run_id": plan.run_id,
            "shards": shards,
            "num_new": len(planned),
            "num_done": inventory.num_known - num_again,
            "num_pending": sum(1 for each in (*inventory.new, *inventory.pending) if each.key_hmac not in planned),
            "status": "planned",
        }
    )
