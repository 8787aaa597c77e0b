"""A night: what is new in an inbox becomes drafts and labels, published with one manifest.

``plan_night`` takes the night and lists what is new, ``run_shard`` drafts one shard, ``commit_night`` publishes;
``run_night`` does all three without any orchestrator. Between them travel references only. A night that was cut off
anywhere is run again: finished shards are kept, the result is the same to the byte. Who starts nights, and where the
bundle comes from, is not known here.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime

from crrg.config.references import BundleRef, NightPlan, NightSummary, ShardRef, ShardResult
from crrg.config.running import NightlyConfig
from crrg.data.deidentify import Pseudonyms
from crrg.errors import StorageError, TooManyRefused
from crrg.ledger.inventory import InboxObject, Inventory, cut_shards, list_inbox, take_inventory
from crrg.ledger.lease import Lease, acquire_lease
from crrg.ledger.ledger import Ledger, LedgerRow, Wanted, compact_if_many, read_ledger
from crrg.ledger.manifest import night_prefix, read_manifests
from crrg.operations.night_checks import check_rights, check_room
from crrg.operations.night_commit import publish_night
from crrg.operations.night_feed import ShardFeed
from crrg.operations.night_reading import idle_decoders
from crrg.operations.night_records import (
    OpenPlan,
    PreviousOutcome,
    ShardInput,
    ShardInputs,
    inputs_key,
    plan_identity,
    plan_key,
    put_value,
)
from crrg.operations.night_rereads import Reread, asked_rereads, find_rereads, last_reading
from crrg.operations.night_settling import take_settled
from crrg.operations.night_shard import NightDrafter, run_shard
from crrg.operations.night_signals import EXIT_SIGTERM, sigterm_noticed
from crrg.operations.secret import check_secret
from crrg.operations.stop import STOP_KEY, is_stopped
from crrg.operations.summaries import reasons_table
from crrg.operations.supersede import mark_superseded
from crrg.progress import StageClock
from crrg.storage import Storage, hash_json

__all__ = ["commit_night", "exit_code", "plan_night", "release_night", "run_night", "run_shard"]

logger = logging.getLogger(__name__)

EXIT_NOT_DONE = 1
EXIT_TOO_MANY_QUARANTINED = 3
_held: dict[tuple[str, str, int], Lease] = {}


def plan_night(
    config: NightlyConfig,
    storage: Storage,
    bundle: BundleRef,
    pseudonyms: Pseudonyms,
    *,
    registry_available: bool = True,
) -> NightPlan:
    """Take the night and list what is new, in shards.

    The lease is renewed by a thread of this process until ``commit_night`` or ``release_night``. A plan that an earlier
    run of the same night left unfinished is taken up again; what arrived since then stays pending until the next run.

    Args:
        config: The form.
        storage: The root.
        bundle: The resolved bundle.
        pseudonyms: Makes the ids.
        registry_available: Whether the bundle's alias came from the registry and not from the last record.

    Returns:
        The plan; without shards where nothing is new or another holder has the night (see ``status``).

    Raises:
        ConfigError: There is no such inbox, or earlier nights were made with another secret.
        StorageError: Inbox or root is out of reach.
    """
    check_secret(storage, pseudonyms)
    date = config.date or datetime.now().astimezone().date().isoformat()
    idle = NightPlan(
        date=date,
        run_id="",
        inbox=config.inbox,
        bundle=bundle,
        fencing=0,
        shards=(),
        num_new=0,
        num_done=0,
        registry_available=registry_available,
        key_id=pseudonyms.key_id,
        status="held",
        config=config,
    )
    lease = acquire_lease(storage, date)
    if lease is None:
        logger.info("another holder has the night %s; nothing to do", date)
        return idle
    started_s = time.monotonic()
    try:
        plan = _plan_held_night(idle, lease.fencing, storage, pseudonyms)
    except BaseException:
        lease.release()
        raise
    if plan.shards:
        _held[storage.root, date, lease.fencing] = lease
    else:
        lease.release()
    return plan.model_copy(update={"planning_s": time.monotonic() - started_s})


def commit_night(plan: NightPlan, results: list[ShardResult], storage: Storage) -> NightSummary:
    """Publish a night and give it back; after an error that a retry may cure it is kept for the retry.

    Args:
        plan: The night.
        results: What became of its shards, in any order.
        storage: The root.

    Returns:
        What happened; also of a night that had nothing to do or was stopped.

    Raises:
        CrrgError: The counts do not add up, or another holder took the night over; nothing was published.
    """
    clock = StageClock()
    try:
        with clock.stage("publishing"):
            summary = _idle_summary(plan, results, storage) or publish_night(plan, results, storage)
            if summary.status == "committed":
                compact_if_many(storage)
    except StorageError as error:
        if not error.retryable:
            release_night(plan, storage)
        raise
    except BaseException:
        release_night(plan, storage)
        raise
    release_night(plan, storage)
    if summary.status == "committed":
        mark_superseded(storage)
    return summary.model_copy(update={"times_s": _times_s(plan, results, clock)})


def release_night(plan: NightPlan, storage: Storage) -> None:
    """Give a night back without publishing it; a second call, or one from another process, does nothing.

    Decoding processes that wait for its next shard end here.
    """
    idle_decoders.end()
    lease = _held.pop((storage.root, plan.date, plan.fencing), None)
    if lease is not None:
        _give_back(lease)


def release_all(storage: Storage) -> None:
    """Give back every night of a root that this process holds; for when whoever planned it has ended without a word."""
    for lease in [lease for (root, _, _), lease in list(_held.items()) if root == storage.root]:
        _held.pop((storage.root, lease.date, lease.fencing), None)
        _give_back(lease)


def run_night(
    config: NightlyConfig,
    storage: Storage,
    bundle: BundleRef,
    pseudonyms: Pseudonyms,
    make_drafter: Callable[[], NightDrafter],
    *,
    make_cpu_drafter: Callable[[], NightDrafter] | None = None,
    registry_available: bool = True,
    on_shard: Callable[[NightPlan, ShardResult], None] | None = None,
) -> NightSummary:
    """Run a whole night in this process.

    Args:
        config: The form.
        storage: The root.
        bundle: The resolved bundle.
        pseudonyms: Makes the ids.
        make_drafter: Builds the bundle's pipeline; called only if there is something to draft.
        make_cpu_drafter: Builds it on the CPU, for a shard that the device's memory does not suffice for.
        registry_available: Whether the bundle's alias came from the registry.
        on_shard: Told of every finished shard, for a progress bar.

    Raises:
        SystemExit: With 143, after SIGTERM: the night was given back and goes on where it was when run again.
        CrrgError: The night could not be done; nothing was published.
    """
    plan = plan_night(config, storage, bundle, pseudonyms, registry_available=registry_available)
    results: list[ShardResult] = []
    with sigterm_noticed(lambda: release_night(plan, storage)) as is_terminated:
        try:
            if plan.shards:
                drafter = make_drafter()
            # what the feed knows of the inbox is gone when the night is published
            with ShardFeed(plan, storage, pseudonyms) as feed:
                for shard in plan.shards:
                    result = run_shard(
                        plan, shard, storage, pseudonyms, drafter,
                        cpu_drafter=make_cpu_drafter, feed=feed, should_stop=is_terminated.is_set,
                    )  # fmt: skip
                    results.append(result)
                    if on_shard is not None:
                        on_shard(plan, result)
                    if result.stopped:
                        break
            if is_terminated.is_set():
                raise SystemExit(EXIT_SIGTERM)
            return commit_night(plan, results, storage)
        finally:
            release_night(plan, storage)


def exit_code(summary: NightSummary) -> int:
    """Return the exit code of a night: 0 done, 1 stopped, 3 done with too many quarantined inputs."""
    if summary.status == "stopped":
        return EXIT_NOT_DONE
    return EXIT_TOO_MANY_QUARANTINED if summary.exceeds_failure_rate else 0


def check_failure_rate(summary: NightSummary) -> None:
    """Check that no more of a published night was refused than its form allows.

    Raises:
        TooManyRefused: It was; the message has the table of reasons.
    """
    if summary.exceeds_failure_rate:
        raise TooManyRefused(
            f"{summary.failure_share:.0%} of its inputs were refused, more than max_failure_rate allows; what could be "
            f"drafted is published. Look at the source of the films:\n\n{reasons_table(summary.reasons)}",
            f"night {summary.date}",
            summary=summary,
        )


def _times_s(plan: NightPlan, results: list[ShardResult], publishing: StageClock) -> dict[str, float]:
    times_s = Counter({"planning": plan.planning_s})
    for each in results:
        times_s.update(each.times_s)
    return {name: round(seconds, 2) for name, seconds in {**times_s, **publishing.times_s}.items()}


def _give_back(lease: Lease) -> None:
    try:
        lease.release()
    except StorageError as error:
        logger.warning("the lease of %s was not removed and will expire: %s", lease.date, error.reason)


def _idle_summary(plan: NightPlan, results: list[ShardResult], storage: Storage) -> NightSummary | None:
    """Return the summary of a night that has nothing to publish, or ``None``."""
    was_stopped = any(result.stopped for result in results)
    if plan.status == "planned" and not was_stopped:
        return None
    if was_stopped:
        first = f"remove {STOP_KEY} and " if is_stopped(storage) else ""
        logger.warning("the night %s was stopped between shards; %srun it again to go on", plan.date, first)
    num_pending = plan.num_new + plan.num_pending
    return NightSummary(
        date=plan.date,
        status="stopped" if plan.status == "planned" else plan.status,
        bundle_id=plan.bundle.bundle_id,
        num_inputs=num_pending,
        num_pending=num_pending,
    )


def _plan_held_night(idle: NightPlan, fencing: int, storage: Storage, pseudonyms: Pseudonyms) -> NightPlan:
    config = idle.config
    inbox = storage.at(config.inbox).without_names()
    objects = list_inbox(inbox, pseudonyms.object_key)
    # what is read again may have been drafted from an object that is gone: then every row counts
    asked = None if any(asked_rereads(config)) else Wanted(keys=frozenset(found.key_hmac for found in objects))
    ledger = read_ledger(storage, asked)
    identity = plan_identity(config, idle.bundle.bundle_id, pseudonyms.object_key(inbox.root, "inbox"))
    plan_open = _find_open_plan(idle.date, identity, ledger, storage)
    now_s = time.time()
    inventory = take_inventory(objects, ledger, now_s=now_s, settle_s=config.settle_s)
    if plan_open is None:
        inventory = take_settled(inventory, objects, inbox, now_s=now_s, settle_s=config.settle_s, limit=config.limit)
        rereads = find_rereads(config, idle.bundle, objects, ledger, storage)
        if config.limit:
            rereads = rereads[: max(0, config.limit - len(inventory.new))]
        if not inventory.new and not rereads:
            update = {"num_done": inventory.num_known, "num_pending": len(inventory.pending)}
            return idle.model_copy(update={**update, "status": "nothing_new"})
        to_read = [*inventory.new, *(each.found for each in rereads)]
        check_room(len(to_read), config.image_size, storage)
        check_rights(idle.date, storage, inbox, next((each for each in to_read if each.size), None))
        plan_open = _write_plan(idle, identity, inventory, rereads, ledger, storage)
    shards = _shard_refs(idle.date, plan_open)
    planned: set[str] = set()
    num_again = 0
    for shard in shards:
        listed = _listed(storage, shard.key)
        planned |= {each.key_hmac for each in listed}
        num_again += sum(1 for each in listed if each.replaces_run)
    return idle.model_copy(
        update={
            "run_id": plan_open.run_id,
            "fencing": fencing,
            "shards": shards,
            "num_new": len(planned),
            "num_done": inventory.num_known - num_again,
            "num_pending": sum(1 for each in (*inventory.new, *inventory.pending) if each.key_hmac not in planned),
            "status": "planned",
        }
    )


def _find_open_plan(date: str, identity: str, ledger: Ledger, storage: Storage) -> OpenPlan | None:
    """Return the plan of an equal run of this night that did not come to its commit, or ``None``."""
    committed = {manifest.run_id for manifest in read_manifests(storage, date)}
    folders = [name for name in storage.list_folder(night_prefix(date)) if name.startswith("run=")]
    for run_id in sorted(name.removeprefix("run=") for name in folders):
        key = plan_key(date, run_id)
        if run_id in committed or not storage.exists(key):
            continue
        plan = OpenPlan.model_validate_json(storage.get(key))
        listed = (each for shard in _shard_refs(date, plan) for each in _listed(storage, shard.key))
        if plan.identity == identity and all(_is_to_do(each, ledger) for each in listed):
            logger.info("the night %s is taken up where an earlier run left it", date)
            return plan
    return None


def _is_to_do(planned: ShardInput, ledger: Ledger) -> bool:
    """Whether no run has read an input since it was planned."""
    if not planned.replaces_run:
        return ledger.find(planned.key_hmac, planned.etag) is None
    row = last_reading(planned.key_hmac, planned.etag, ledger)
    return row is not None and row.run_id == planned.replaces_run


def _write_plan(
    idle: NightPlan,
    identity: str,
    inventory: Inventory,
    rereads: Sequence[Reread],
    ledger: Ledger,
    storage: Storage,
) -> OpenPlan:
    """Write the listings of all shards, then the plan that makes them count."""
    runs = {each.found.key_hmac: each.run_id for each in rereads}
    content: list[object] = [idle.date, inventory.digest, identity]
    if runs:
        # The same objects may be read again by the same bundle later: what is committed keeps its own prefix.
        content += [runs, len(read_manifests(storage, idle.date))]
    run_id = hash_json(content)
    members_of_night = sorted([*inventory.new, *(each.found for each in rereads)], key=lambda each: each.key)
    by_age = sorted(members_of_night, key=lambda each: (each.modified_s, each.key))
    ranks = {each.key_hmac: rank for rank, each in enumerate(by_age)}
    shards = cut_shards(members_of_night, idle.config.shard_size)
    for index, members in enumerate(shards):
        inputs = [_shard_input(each, ranks[each.key_hmac], ledger, runs.get(each.key_hmac, "")) for each in members]
        listing = ShardInputs(inputs=tuple(sorted(inputs, key=lambda each: each.rank)))
        put_value(storage, inputs_key(idle.date, run_id, index), listing)
    plan = OpenPlan(run_id=run_id, identity=identity, shards=tuple(len(members) for members in shards))
    put_value(storage, plan_key(idle.date, run_id), plan)
    return plan


def _shard_input(found: InboxObject, rank: int, ledger: Ledger, replaces_run: str) -> ShardInput:
    earlier = None if replaces_run else ledger.find_key(found.key_hmac)
    return ShardInput(
        key_hmac=found.key_hmac,
        etag=found.etag,
        size=found.size,
        rank=rank,
        previous=None if earlier is None else _previous(earlier),
        replaces_run=replaces_run,
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


def _shard_refs(date: str, plan: OpenPlan) -> tuple[ShardRef, ...]:
    return tuple(
        ShardRef(index=index, key=inputs_key(date, plan.run_id, index), num_inputs=num_inputs)
        for index, num_inputs in enumerate(plan.shards)
    )


def _listed(storage: Storage, key: str) -> tuple[ShardInput, ...]:
    return ShardInputs.model_validate_json(storage.get(key)).inputs
