"""A committed night as a summary, from its manifest alone, and which nights nobody was told of yet.

Right before its commit, while its index is written, a night leaves a note under ``spool/untold``, which goes once that
was told: tracked, or waiting in the spool to be. Of a process that is ended between the two the next night tells. A
night may be told twice, never not at all.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence

from crrg.config.base import FrozenConfig
from crrg.config.references import NightPlan, NightSummary
from crrg.config.watch import NightWatch
from crrg.data.refusals import failure_share, is_failure
from crrg.errors import StorageError
from crrg.ledger.lease import unsealed_leases
from crrg.ledger.manifest import Manifest, manifest_key, read_manifests
from crrg.operations.night.digest import committed_digest
from crrg.operations.night.records import get_value, put_value
from crrg.operations.night.watch import find_watch, usual_prevalence
from crrg.storage import Storage

logger = logging.getLogger(__name__)

UNTOLD = "spool/untold"


class UntoldNight(FrozenConfig):
    """A night that is about to be committed.

    Attributes:
        date: The night.
        run_id: Its run.
        max_failure_rate: Share of refused inputs from which it counts as failed.
    """

    date: str
    run_id: str
    max_failure_rate: float


def summarize(
    manifest: Manifest,
    max_failure_rate: float,
    storage: Storage,
    watch: NightWatch | None = None,
    nights: Sequence[Manifest] | None = None,
) -> NightSummary:
    """Return what happened in a committed run.

    Args:
        manifest: Its commit.
        max_failure_rate: Share of refused inputs from which it counts as failed.
        storage: The root.
        watch: What was found of it, where it is known already.
        nights: The committed runs of all nights, itself included, where they are known; read otherwise.

    Raises:
        StorageError: The root is out of reach.
    """
    found = watch or find_watch(storage, manifest)
    known = read_manifests(storage) if nights is None else nights
    digest = _digest_of_date(manifest, known, storage)
    return _summary(manifest, max_failure_rate, found, digest, usual_prevalence(storage, manifest.date, known))


def summarize_published(
    manifest: Manifest,
    max_failure_rate: float,
    storage: Storage,
    watch: NightWatch | None = None,
    nights: Sequence[Manifest] | None = None,
) -> NightSummary:
    """Return what happened in a run that was committed just now; see ``summarize``.

    It is published, so nothing that is read for its summary may fail it any more: what cannot be read is left out.
    """
    try:
        return summarize(manifest, max_failure_rate, storage, watch, nights)
    except StorageError as error:
        logger.warning(
            "night %s is published; digest of the date and figures of earlier nights are left out of its summary: %s",
            manifest.date, error,
        )  # fmt: skip
        return _summary(manifest, max_failure_rate, watch, "", {})


def _summary(
    manifest: Manifest,
    max_failure_rate: float,
    watch: NightWatch | None,
    digest: str,
    usual: Mapping[str, float],
) -> NightSummary:
    share = failure_share(manifest.reasons, manifest.num_accepted)
    num_failures = sum(number for reason, number in manifest.reasons.items() if is_failure(reason))
    return NightSummary(
        date=manifest.date,
        status="committed",
        manifest_key=manifest_key(manifest.date, manifest.fencing),
        bundle_id=manifest.bundle.bundle_id if manifest.bundle else "",
        num_inputs=manifest.num_inputs,
        num_accepted=manifest.num_accepted,
        num_quarantined=manifest.num_quarantined,
        num_pending=manifest.num_pending,
        num_flagged=manifest.num_flagged,
        reasons=manifest.reasons,
        review_key=manifest.review_key,
        digest=digest,
        failure_share=share,
        exceeds_failure_rate=share > max_failure_rate,
        max_failure_rate=max_failure_rate,
        num_failed_studies=num_failures if manifest.num_failed_studies is None else manifest.num_failed_studies,
        watch=watch,
        usual_prevalence=dict(usual),
        model_version=manifest.bundle.model_version if manifest.bundle else "",
        num_shards_on_cpu=manifest.num_shards_on_cpu,
    )


def note_untold(plan: NightPlan, storage: Storage) -> None:
    """Note a night that is about to be committed."""
    note = UntoldNight(date=plan.date, run_id=plan.run_id, max_failure_rate=plan.config.max_failure_rate)
    put_value(storage, _key(manifest_key(plan.date, plan.fencing)), note)


def note_told(commit_key: str, storage: Storage) -> None:
    """Forget the note of a night that was told.

    Args:
        commit_key: Key of its manifest.
        storage: The root.
    """
    _forget(_key(commit_key), storage)


def untold_nights(storage: Storage) -> Iterator[NightSummary]:
    """Yield the committed nights of which a note is left, be it that their process is telling of them just now.

    Notes of nights that came to no commit, and can no more, are forgotten.

    Raises:
        StorageError: The root is out of reach.
    """
    for stored in storage.list_objects(UNTOLD):
        if not stored.size:
            continue
        try:
            note = get_value(storage, stored.key, UntoldNight)
        except StorageError as error:
            if error.retryable:
                raise
            logger.warning(
                "%s is damaged: whether its night was committed is not known, and it is not announced", stored.key
            )
            continue
        # in this order: what may commit no more has committed by then, or never will
        held = {lease.removeprefix("leases/date=").replace("/", "-") for lease in unsealed_leases(storage)}
        nights = read_manifests(storage)
        found = next((each for each in nights if (each.date, each.run_id) == (note.date, note.run_id)), None)
        if found is not None:
            yield summarize(found, note.max_failure_rate, storage, nights=nights)
        if found is not None or stored.key.removeprefix(f"{UNTOLD}/") not in held:
            _forget(stored.key, storage)


def _digest_of_date(manifest: Manifest, nights: Sequence[Manifest], storage: Storage) -> str:
    """Return the digest over all runs of a run's date; empty where another of them is damaged or gone."""
    if sum(each.date == manifest.date for each in nights) == 1:
        return manifest.digest
    try:
        return committed_digest(storage, manifest.date)
    except StorageError as error:
        if error.retryable:
            raise
        logger.warning("the digest of night %s cannot be computed: %s", manifest.date, error)
        return ""


def _key(commit_key: str) -> str:
    return f"{UNTOLD}/{commit_key.removeprefix('results/date=').replace('/_manifest', '')}"


def _forget(key: str, storage: Storage) -> None:
    storage.put(key, b"")
    storage.discard(key)
