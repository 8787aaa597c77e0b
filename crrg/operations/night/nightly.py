"""A night: what is new in an inbox becomes drafts and labels, published with one manifest.

``plan_night`` takes the night and lists what is new, ``run_shard`` drafts one shard, ``commit_night`` publishes;
``run_night`` does all three without any orchestrator. Between them travel references only. A night that was cut off
anywhere is run again: finished shards are kept, the result is the same to the byte. Who starts nights, and where the
bundle comes from, is not known here.
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from crrg.config.base import default_num_workers
from crrg.config.references import BundleRef, NightPlan, NightSummary, ShardResult
from crrg.config.running import NightlyConfig
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.errors import ConfigError, NightStopped, StorageError, TooManyRefused
from crrg.ledger.lease import Lease, LeaseState, acquire_lease, find_holder
from crrg.ledger.manifest import is_committed
from crrg.operations.night.commit import PublishedNight, publish_night
from crrg.operations.night.feed import ShardFeed
from crrg.operations.night.planning import plan_held_night
from crrg.operations.night.reading import idle_decoders
from crrg.operations.night.shard import NightDrafter, run_shard
from crrg.operations.night.signals import sigterm_noticed
from crrg.operations.night.supersede import mark_superseded
from crrg.operations.privacy.secret import check_secret
from crrg.operations.stop import STOP_KEY, WAY_OUT, is_stopped
from crrg.operations.summaries import reasons_table, too_many_refused
from crrg.progress import StageClock
from crrg.storage import Storage
from crrg.termination import EXIT_NOT_DONE, EXIT_SIGTERM, EXIT_TOO_MANY_QUARANTINED

__all__ = ["commit_night", "dated", "exit_code", "plan_night", "release_night", "run_night", "run_shard"]

logger = logging.getLogger(__name__)

FEWEST_FAILED_STUDIES = 3
"""Studies of which something is refused, from which a share of refused inputs turns a night Failed: of two inputs whose
study nobody knows, both may be films of one."""
PATIENCE_S = 30.0
"""How long a night waits for what is in its way and soon over."""
NOBODY = "another run started at the same time, or has just ended; run this night again"
WAITS_S = (0.3, 3.0)
"""Between two tries, drawn anew each time, so that nights that came at once do not come at once again."""
_held: dict[tuple[str, str, int], Lease] = {}


def dated(config: NightlyConfig, started: datetime) -> NightlyConfig:
    """Return the form with a date: its own, or that of a moment in the form's time zone.

    Args:
        config: The form.
        started: When the night was scheduled, or begins; with a time zone.
    """
    if config.date:
        return config
    zone = ZoneInfo(config.timezone) if config.timezone else None
    return config.model_copy(update={"date": started.astimezone(zone).date().isoformat()})


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
        ConfigError: There is no such inbox, earlier nights had another secret, or the form leaves the films' size open.
        StorageError: Inbox or root is out of reach, something may not be read or written, or there is no room.
    """
    check_secret(storage, pseudonyms)
    config = dated(_sized(config), datetime.now(UTC))
    held = NightPlan(
        date=config.date,
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
    lease = _take(storage, config.date)
    if not isinstance(lease, Lease):
        return _told_by_whom(held, lease)
    started_s = time.monotonic()
    try:
        # again: ids may have been changed while this waited
        nights = check_secret(storage, pseudonyms)
        plan = _prepared(plan_held_night(held, lease.fencing, nights, storage, pseudonyms))
    except BaseException:
        # the error that ended planning is told, also where the store takes nothing any more
        _give_back(lease)
        raise
    if plan.shards:
        _held[storage.root, config.date, lease.fencing] = lease
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
    lease = _held.get((storage.root, plan.date, plan.fencing))

    def note(is_committing: bool) -> None:
        if lease is not None:
            lease.is_committing = is_committing

    try:
        with clock.stage("publishing"):
            # what has landed, though its answer was lost, cannot be stopped any more
            has_landed = lease is not None and lease.is_committing and is_committed(storage, plan.date, plan.fencing)
            if idle := None if has_landed else _idle_summary(plan, results, storage):
                # of a night that is stopped a commit may land yet: where one was sent, its number is sealed
                night = PublishedNight(idle)
            else:
                night = publish_night(plan, results, storage, lambda: note(True))
                note(False)
    except StorageError as error:
        if not error.retryable:
            release_night(plan, storage)
        raise
    except BaseException:
        release_night(plan, storage)
        raise
    release_night(plan, storage)
    # also without anything new: an earlier night may have been cut off between its commit and this
    if night.summary.status in ("committed", "nothing_new"):
        mark_superseded(storage, night.committed)
    return night.summary.model_copy(update={"times_s": _times_s(plan, results, clock), "not_found": plan.not_found})


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
    """Return the exit code of a night: 0 done or run elsewhere, 1 not done, 3 done with too many quarantined inputs."""
    if summary.status == "stopped" or _is_in_the_way(summary):
        return EXIT_NOT_DONE
    return EXIT_TOO_MANY_QUARANTINED if summary.exceeds_failure_rate else 0


def check_ended_well(summary: NightSummary) -> None:
    """Check that nothing kept a night from its end, and that no more of it was refused than its form allows.

    In a small night a single bad study may be a large share: the exit code says so, but the night has not failed.

    Raises:
        NightStopped: Nothing was published; the message names the object that stops it and who may remove it, or what
            else was at work for too long.
        TooManyRefused: More was refused, of more than one or two studies; the message has the table of reasons.
    """
    if summary.status == "stopped":
        raise NightStopped(f"stopped, nothing is published: {WAY_OUT}", f"night {summary.date}", summary=summary)
    if _is_in_the_way(summary):
        raise NightStopped(f"not begun: {summary.held_by}", f"night {summary.date}", summary=summary)
    if summary.exceeds_failure_rate and summary.num_failed_studies < FEWEST_FAILED_STUDIES:
        logger.warning(
            "night %s: %s These are of fewer than %d studies, too few to fail a flow run.",
            summary.date, too_many_refused(summary), FEWEST_FAILED_STUDIES,
        )  # fmt: skip
    elif summary.exceeds_failure_rate:
        raise TooManyRefused(
            f"{too_many_refused(summary)} Look at the source of the films:\n\n{reasons_table(summary.reasons)}",
            f"night {summary.date}",
            summary=summary,
        )


def _is_in_the_way(summary: NightSummary) -> bool:
    """Return whether something else than this very night kept it from beginning."""
    return summary.status == "held" and not summary.is_run_elsewhere


def _sized(config: NightlyConfig) -> NightlyConfig:
    """Return the form, whose size of the films was taken from the bundle by whoever resolved it."""
    if not config.image_size:
        way_out = "plan it by crrg.operations.night.steps, or give the bundle's image_size"
        raise ConfigError(f"size of the films is open; {way_out}", "night")
    return config


def _take(storage: Storage, date: str) -> Lease | LeaseState | None:
    """Take a night, or return who runs it or was in its way for too long; ``None`` if that has just ended.

    Two dates that come at once both step back, and drafts are marked, patients forgotten and ids changed under leases
    of seconds: a night that gave up for these would not run before its next schedule.
    """
    until_s = time.monotonic() + PATIENCE_S
    while (lease := acquire_lease(storage, date)) is None:
        holder, left_s = find_holder(storage), until_s - time.monotonic()
        if left_s <= 0 or _runs(holder, date):
            return holder
        time.sleep(min(left_s, random.uniform(*WAITS_S)))
    return lease


def _prepared(plan: NightPlan) -> NightPlan:
    """Start the decoders of shards that this process is to run, so that they load while it does other things."""
    if plan.shards and plan.config.fan_out.task_runner in ("here", "flow"):
        idle_decoders.prepare(min(plan.config.num_workers or default_num_workers(), plan.num_new))
    return plan


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


def _told_by_whom(held: NightPlan, holder: LeaseState | None) -> NightPlan:
    """Return the plan of a night that is held, with what keeps it from beginning."""
    held_by = NOBODY if holder is None else holder.describe()
    logger.info("night %s is not started: %s", held.date, held_by)
    return held.model_copy(update={"held_by": held_by, "is_run_elsewhere": _runs(holder, held.date)})


def _runs(holder: LeaseState | None, date: str) -> bool:
    """Return whether a holder runs the night of a date, and nothing else."""
    return holder is not None and holder.date == date and holder.record.is_night


def _idle_summary(plan: NightPlan, results: list[ShardResult], storage: Storage) -> NightSummary | None:
    """Return the summary of a night that has nothing to publish, or that an operator stopped, or ``None``."""
    was_stopped = any(result.stopped for result in results)
    is_held_back = bool(plan.shards) and is_stopped(storage)
    if plan.status == "planned" and not (was_stopped or is_held_back):
        return None
    if was_stopped or is_held_back:
        where = "between shards" if was_stopped else "before it was published"
        first = f"remove {STOP_KEY} and " if is_held_back else ""
        logger.warning("the night %s was stopped %s; %srun it again to go on", plan.date, where, first)
    num_pending = plan.num_new + plan.num_pending
    return NightSummary(
        date=plan.date,
        status="stopped" if plan.status == "planned" else plan.status,
        bundle_id=plan.bundle.bundle_id,
        num_inputs=num_pending,
        num_pending=num_pending,
        held_by=plan.held_by,
        is_run_elsewhere=plan.is_run_elsewhere,
    )
