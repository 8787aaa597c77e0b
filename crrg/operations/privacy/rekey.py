"""The secret of the pseudonyms changed over: every night is written again under the ids that the new secret makes.

Nothing is drafted again. Which id belongs to which is found by computing both from the inboxes, where the sources lie;
nothing stores it. A study of which a source is gone has no new ids: it stays out, or nothing is done, as is asked, and
what of it lies in an inbox is new then. Nights are written again one by one, so that a change that was cut off goes on
where it was; until it is done no night runs, since ids of two secrets would meet. Datasets are ingested again
(``--new-secret``), which drafts nothing either.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from crrg.data.dicom.header import read_attributes, read_identity
from crrg.data.dicom.structure import open_dicom
from crrg.data.film_ids import NONE, Ids, ids_of_content, ids_of_header
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.data.privacy.forgotten import (
    REASON,
    UNFINISHED,
    carry_over,
    read_forgotten,
    read_left_behind,
    write_forgotten_ids,
)
from crrg.errors import ConfigError, Conflict, DataError
from crrg.ledger.audit import write_audit
from crrg.ledger.inventory import InboxObject, list_inbox
from crrg.ledger.ledger import LedgerRow, Outcome, in_commit_order, ledger_rows
from crrg.ledger.manifest import Manifest, read_manifests, run_prefix
from crrg.operations.night.duplicates import freed_duplicates
from crrg.operations.night.rewrite import RunChange, no_night, remove_held, remove_unnamed, rewrite_night
from crrg.operations.privacy.private_runs import forget_private_runs
from crrg.operations.privacy.traces import open_runs
from crrg.progress import count_progress
from crrg.storage import Storage, StoredObject

logger = logging.getLogger(__name__)


@dataclass
class Rekeyed:
    """What a change of the secret would do, or did.

    Attributes:
        num_nights: Committed runs under the old secret.
        num_rows: Rows of their ledgers.
        num_missing: Rows whose source is gone from the inboxes, or was replaced; of a drafted film all of its study.
        num_lost_tombstones: Patients forgotten under the old secret of whom no film that nights read is there: only a
            process that has that secret, too, refuses one that comes.
        is_done: Whether it was done.
    """

    num_nights: int = 0
    num_rows: int = 0
    num_missing: int = 0
    num_lost_tombstones: int = 0
    is_done: bool = False


def rekey(
    inbox_urls: str | Sequence[str],
    storage: Storage,
    old: Pseudonyms,
    new: Pseudonyms,
    *,
    drop_missing: bool = False,
    do: bool = False,
) -> Rekeyed:
    """Write all nights again under the ids of a new secret.

    Args:
        inbox_urls: The inbox that the nights read, or all of them where they read several.
        storage: The root.
        old: The secret that the nights were made with.
        new: The secret that takes its place.
        drop_missing: Whether rows whose source is gone are left out; objects that come again are new then.
        do: Whether to do it; otherwise nothing is changed.

    Raises:
        ConfigError: The secrets are the same or others than the nights', a removal of patients was cut off, or sources
            are gone and may not be dropped.
        StorageError: A night is running, or a store is out of reach; run it again, it goes on where it was.
    """
    every = read_manifests(storage)
    manifests = [manifest for manifest in every if manifest.key_id != new.key_id]
    _check_secrets(manifests, old, new)
    _check_no_removal(storage)
    rows = [row for manifest in manifests for row in ledger_rows(storage, manifest)]
    # nights that are done already tell of films that others repeat
    done = [row for manifest in every if manifest not in manifests for row in ledger_rows(storage, manifest)]
    urls = (inbox_urls,) if isinstance(inbox_urls, str) else inbox_urls
    ids = _NewIds([storage.at(url).without_names() for url in urls], old, new)
    ids.learn([*rows, *done], read_forgotten(storage, old).tombstones)
    # of a study's draft a film that was refused is no part
    accepted = (row for row in rows if row.outcome is Outcome.ACCEPTED)
    ids.lost = frozenset(row.study_id for row in accepted if ids.row(row) is None) - {""}
    left = read_left_behind(storage, new)
    rekeyed = Rekeyed(
        num_nights=len(manifests),
        num_rows=len(rows),
        num_missing=sum(ids.row(row) is None or row.study_id in ids.lost for row in rows),
        num_lost_tombstones=sum(key_id == old.key_id for name, key_id in left.items() if name not in ids.forgotten),
    )
    if do:
        if rekeyed.num_missing and not drop_missing:
            raise ConfigError(
                f"{rekeyed.num_missing} objects that nights read are not in the given inboxes as they were, and have "
                "no new id; give every inbox that nights read (--inbox, several times), put them back, or give "
                "--drop-missing to leave them out",
                "inbox",
            )
        carry_over(storage, new, ids.forgotten)
        write_forgotten_ids(storage, new, ids.forgotten_ids)
        _rewrite(storage, manifests, ids, rows, done)
        counts = {"nights": rekeyed.num_nights, "rows": rekeyed.num_rows, "dropped": rekeyed.num_missing}
        write_audit(storage, "rekey", counts=counts)
        rekeyed.is_done = True
    return rekeyed


def _check_secrets(manifests: Iterable[Manifest], old: Pseudonyms, new: Pseudonyms) -> None:
    """Check that the nights that are left were made with the old secret, and that the new one is another.

    Raises:
        ConfigError: They were not, or it is not.
    """
    if old.key_id == new.key_id:
        raise ConfigError(
            "the old and the new secret are the same; set CRRG_HMAC_KEY to a new one", "CRRG_OLD_HMAC_KEY"
        )
    if others := {manifest.key_id for manifest in manifests} - {"", old.key_id}:
        made = f"nights were made with secret {', '.join(sorted(others))}, this one is {old.key_id}"
        raise ConfigError(f"{made}; give that secret as CRRG_OLD_HMAC_KEY", "CRRG_OLD_HMAC_KEY")


def _check_no_removal(storage: Storage) -> None:
    """Refuse to change the ids by which a removal that was cut off knows what has to go.

    Raises:
        ConfigError: There is such a removal.
    """
    if storage.list_objects(UNFINISHED):
        raise ConfigError(
            "a removal of patients was interrupted; finish it under the old secret with crrg forget and any of "
            "its ids, then run crrg rekey",
            UNFINISHED,
        )


class _Inbox:
    """What lies in one inbox, by the pseudonyms of both secrets."""

    def __init__(self, storage: Storage, old: Pseudonyms, new: Pseudonyms) -> None:
        self.storage = storage
        self.ids = [each.object_key(storage.root, "inbox") for each in (old, new)]
        before, after = list_inbox(storage, old.object_key), list_inbox(storage, new.object_key)
        self.located = {found.key_hmac: found for found in (*before, *after)}
        self.objects = {one.key_hmac: other.key_hmac for one, other in zip(before, after, strict=True)}


class _NewIds:
    """Old ids to new ones, as far as the inboxes show them."""

    def __init__(self, inboxes: Iterable[Storage], old: Pseudonyms, new: Pseudonyms) -> None:
        self.old, self.new = old, new
        self.inboxes = [_Inbox(inbox, old, new) for inbox in inboxes]
        self.known: dict[str, str] = {}
        self.forgotten: dict[str, str] = {}
        self.forgotten_ids: set[str] = set()
        self.lost: frozenset[str] = frozenset()
        self.known |= dict(inbox.ids for inbox in self.inboxes)

    def learn(self, rows: Iterable[LedgerRow], tombstones: frozenset[str]) -> None:
        """Read what must be read; forgotten patients are noted by their old tombstones."""
        wanted = list({(row.inbox_id, row.key_hmac, row.etag): row for row in rows}.values())
        say = count_progress("ids of the inbox", "objects")
        for number, row in enumerate(wanted):
            if row.patient_id or row.reason == REASON:
                one, other = self._both(row)
                self.known |= {each: its for each, its in zip(one, other, strict=True) if each}
                if row.reason == REASON and one[0] and self.old.tombstone(one[0]) in tombstones:
                    self.forgotten[self.old.tombstone(one[0])] = other[0]
                    self.forgotten_ids |= set(other[1:])
            say(number + 1, len(wanted))

    def kept_images(self, rows: Iterable[LedgerRow], done: Iterable[LedgerRow]) -> frozenset[str]:
        """Return the old ids of images whose drafts stay: those of studies of which every row has new ids.

        Args:
            rows: Under old ids.
            done: Under new ids.
        """
        former = {other: one for one, other in self.known.items()}
        kept = {row.instance_id for row in rows if self.row(row) is not None and row.study_id not in self.lost}
        return frozenset((kept | {former.get(row.instance_id, "") for row in done}) - {""})

    def row(self, row: LedgerRow) -> LedgerRow | None:
        """Return a row under the new ids; ``None`` where one of them is not known."""
        ids = [row.patient_id, row.study_id, row.instance_id]
        key_hmac = next((key for each in self._read_by(row) if (key := each.objects.get(row.key_hmac))), None)
        if key_hmac is None or any(each and each not in self.known for each in ids):
            return None
        patient_id, study_id, instance_id = (self.known.get(each, "") for each in ids)
        return replace(row, key_hmac=key_hmac, patient_id=patient_id, study_id=study_id, instance_id=instance_id)

    def _read_by(self, row: LedgerRow) -> list[_Inbox]:
        """Return the inbox of a row; all of them where its night noted none, or one that has another address now."""
        return [each for each in self.inboxes if row.inbox_id in each.ids] or self.inboxes

    def _find(self, row: LedgerRow) -> tuple[Storage, InboxObject] | None:
        for inbox in self._read_by(row):
            found = inbox.located.get(row.key_hmac)
            if found is not None and found.etag == row.etag:
                return inbox.storage, found
        return None

    def _both(self, row: LedgerRow) -> tuple[Ids, Ids]:
        """Return the ids that both secrets make of an object; empty ones where it is gone or not what the row says."""
        by_content = self._of_content(row.source_digest.hex())
        if row.patient_id and row.patient_id in (by_content[0].patient_id, by_content[1].patient_id):
            return by_content
        both = NONE, NONE
        if (located := self._find(row)) is None:
            return both
        inbox, found = located
        try:
            data = inbox.get_unchanged(StoredObject(found.key, found.size, found.modified_s, found.etag))
            header = read_identity(read_attributes(open_dicom(data)))
        except Conflict:
            return both
        except DataError:
            return self._of_content(hashlib.sha256(data).hexdigest()) if row.reason == REASON else both
        one, other = ids_of_header(header, self.old), ids_of_header(header, self.new)
        return (one, other) if row.reason == REASON or row.patient_id in (one.patient_id, other.patient_id) else both

    def _of_content(self, digest: str) -> tuple[Ids, Ids]:
        return ids_of_content(digest, self.old), ids_of_content(digest, self.new)


def _rewrite(
    storage: Storage,
    manifests: Iterable[Manifest],
    ids: _NewIds,
    rows: Sequence[LedgerRow],
    done: Iterable[LedgerRow],
) -> None:
    """Write the nights again whose rows are given, beside those of nights that are done."""
    # first, since a later removal could not tell whose the old ids are
    of_rows = {each for row in rows for each in (row.patient_id, row.study_id, row.instance_id)}
    forget_private_runs(storage, {*ids.known, *of_rows} - {""})
    kept = ids.kept_images(rows, done)
    freed = freed_duplicates(rows, lambda row: ids.row(row) is None or row.study_id in ids.lost)
    change = RunChange(
        keeps_draft=lambda row: row["instance_id"] in kept,
        ledger_row=lambda row: None if row.study_id in ids.lost or row in freed else ids.row(row),
        keeps_mark=lambda instance_id: instance_id in kept,
        renamed=ids.known,
        key_id=ids.new.key_id,
    )
    # the last commit first: what repeats a refusal is found by the run that made it
    for manifest in reversed(in_commit_order(manifests)):
        rewrite_night(storage, manifest.date, manifest.run_id, change)
        logger.info("night %s was rewritten under the new secret", manifest.date)
    with no_night(storage) as lease:
        for date, run_id in list(open_runs(storage)):
            keys = [stored.key for stored in storage.list_objects(run_prefix(date, run_id))]
            remove_held(lease, keys, storage.discard)
        remove_unnamed(storage, lease, must=False)
