"""Retention: drafts, documents, pictures and pages of old nights go; that their objects were read stays known.

A night is written again with its ledger and its quarantine alone (``night.rewrite``), so that nothing of its inbox is
new again. A night that holds the newest draft of a study stays unless that is asked for by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from datetime import date as Date

from crrg.errors import ConfigError
from crrg.exports.parquet import REPORTS_SCHEMA
from crrg.ledger.audit import write_audit
from crrg.ledger.manifest import Manifest, read_manifests, run_prefix
from crrg.ledger.tables import read_tables
from crrg.operations.night.rewrite import RunChange, rewrite_night
from crrg.operations.privacy.versioned import kept_versions
from crrg.operations.upkeep.gc import named_by
from crrg.storage import Storage


@dataclass
class Expired:
    """Nights older than an age that hold drafts.

    Attributes:
        nights: Those that go, as date and commit.
        num_drafts: Drafted images in them.
        num_newest: Studies whose newest draft is among these.
        kept_nights: Those that stay because they hold newest drafts.
        num_newest_kept: Studies whose newest draft lies in these.
        is_removed: Whether they are gone.
        old_versions: What the bucket keeps of what is removed, as sentences.
    """

    nights: tuple[str, ...] = ()
    num_drafts: int = 0
    num_newest: int = 0
    kept_nights: tuple[str, ...] = ()
    num_newest_kept: int = 0
    is_removed: bool = False
    old_versions: tuple[str, ...] = ()


def expire_results(
    storage: Storage,
    older_than_days: int,
    *,
    with_newest: bool = False,
    remove: bool = False,
    today: Date | None = None,
) -> Expired:
    """Find the drafts of old nights; remove them where asked.

    Args:
        storage: The root.
        older_than_days: Nights dated before so many days ago are old.
        with_newest: Whether nights go that hold the newest draft of a study.
        remove: Whether to remove; otherwise nothing is changed.
        today: Day to count from; the date in UTC where not given, so that every machine counts alike.

    Raises:
        ConfigError: The age is not positive.
        StorageError: A night is running, or the root is out of reach; run it again, it goes on where it was.
    """
    if older_than_days < 1:
        raise ConfigError("give 1 or more days", "results_older_than")
    day = today or datetime.now(UTC).date()
    limit = day - timedelta(days=min(older_than_days, (day - Date.min).days))
    expired, num_objects = Expired(old_versions=kept_versions({"root": storage})), 0
    for manifest, num_drafts, num_newest in _nights_with_drafts(storage):
        if manifest.date >= limit.isoformat():
            continue
        name = f"{manifest.date} commit {manifest.fencing}"
        if num_newest and not with_newest:
            expired.kept_nights += (name,)
            expired.num_newest_kept += num_newest
            continue
        expired.nights += (name,)
        expired.num_drafts += num_drafts
        expired.num_newest += num_newest
        if remove:
            num_objects += _expire(storage, manifest)
    if remove and expired.nights:
        counts = {"nights": len(expired.nights), "drafts": expired.num_drafts, "newest": expired.num_newest}
        write_audit(storage, "expire", counts={**counts, "objects": num_objects, "days": older_than_days})
        expired.is_removed = True
    return expired


def _nights_with_drafts(storage: Storage) -> Iterator[tuple[Manifest, int, int]]:
    """Yield the runs that hold drafts, how many, and of how many studies they hold the newest."""
    manifests = read_manifests(storage)
    replaced = {(each.instance_id, each.run_id) for manifest in manifests for each in manifest.superseded}
    for manifest in manifests:
        rows = read_tables(storage, manifest.files, "reports", REPORTS_SCHEMA).select(["study_id", "instance_id"])
        drafts = rows.to_pylist()
        newest = {row["study_id"] for row in drafts if (row["instance_id"], manifest.run_id) not in replaced}
        if drafts:
            yield manifest, len(drafts), len(newest)


def _expire(storage: Storage, manifest: Manifest) -> int:
    # with the tables and lists from before drafts were marked as superseded, which no manifest names any more
    held = (stored.key for stored in storage.list_objects(run_prefix(manifest.date, manifest.run_id)))
    before = named_by(storage, manifest).union(held)
    change = RunChange(keeps_draft=lambda _row: False, has_page=False)
    after = named_by(storage, rewrite_night(storage, manifest.date, manifest.run_id, change))
    for key in sorted(before - after):
        storage.delete(key)
    return len(before - after)
