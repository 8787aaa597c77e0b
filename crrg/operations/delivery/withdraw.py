"""Withdrawal: what was delivered of some studies goes from the identified zone.

A folder there is named by the study's own UID; its pseudonym says whether it is meant, so that neither inbox nor film
is needed. What an archive took is the archive's to delete; the audit says of which studies it was sent something.
Entries from before a change of the secret (``crrg rekey``) name studies by ids that nobody can tell any more: then only
the zone itself says whose documents it holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass

from crrg.config.base import Settings
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.errors import ConfigError
from crrg.ledger.audit import read_audit
from crrg.operations.delivery.deliver import identified_zone
from crrg.operations.delivery.notes import NOTES, notes_of
from crrg.storage import Storage


@dataclass(frozen=True)
class Delivered:
    """What the audit knows of the delivery of some studies.

    Attributes:
        num_studies: Studies of which documents were written.
        num_sent: DICOM objects that an archive was sent, each time counted, whether it took them or broke off.
        num_before: Studies, of whomever, that were delivered before the secret was last changed.
        num_sent_before: DICOM objects that an archive was sent of these.
    """

    num_studies: int
    num_sent: int
    num_before: int = 0
    num_sent_before: int = 0


def delivered_of(storage: Storage, studies: Set[str]) -> Delivered:
    """Return what was delivered of some studies, as the audit tells.

    Args:
        storage: The root.
        studies: Pseudonyms.
    """
    entries = read_audit(storage)
    changed = max((entry.number for entry in entries if entry.action == "rekey"), default=0)
    deliveries = [entry for entry in entries if entry.action == "deliver"]
    before = [entry for entry in deliveries if entry.number < changed]
    theirs = [entry for entry in deliveries if entry.subject in studies]
    return Delivered(
        len({entry.subject for entry in theirs}),
        sum(entry.counts.get("sent", 0) for entry in theirs),
        len({entry.subject for entry in before}),
        sum(entry.counts.get("sent", 0) for entry in before),
    )


def check_zone(settings: Settings, delivered: Delivered) -> None:
    """Refuse to leave delivered documents behind.

    Raises:
        ConfigError: Documents were, or may have been, delivered and this process does not know where.
    """
    if settings.identified_root:
        return
    if delivered.num_before:
        raise ConfigError(
            f"documents of {delivered.num_before} studies were delivered before the secret was changed, and only the "
            "zone tells whose; set it, so that those of these patients can be withdrawn",
            "CRRG_IDENTIFIED_ROOT",
        )
    if delivered.num_studies:
        raise ConfigError(
            f"documents of {delivered.num_studies} studies were delivered; set it, so that they can be withdrawn",
            "CRRG_IDENTIFIED_ROOT",
        )


def withdraw(storage: Storage, settings: Settings, pseudonyms: Pseudonyms, studies: Iterable[str]) -> int:
    """Remove the documents of some studies from the identified zone; return how many objects went.

    Args:
        storage: The root.
        settings: Name the zone; where they name none, nothing is done.
        pseudonyms: The key the nights ran with.
        studies: Pseudonyms.

    Raises:
        StorageError: The zone is out of reach.
    """
    wanted = frozenset(studies)
    if not settings.identified_root or not wanted:
        return 0
    zone = identified_zone(storage, settings)
    named = (name for name in zone.list_folder() if name != NOTES)
    folders = frozenset(name for name in named if pseudonyms.study(name) in wanted)
    keys = [stored.key for folder in sorted(folders) for stored in zone.list_objects(folder)]
    is_changed = delivered_of(storage, wanted).num_before > 0
    keys += notes_of(zone, pseudonyms, wanted, folders if is_changed else frozenset())
    for key in keys:
        zone.delete(key)
    return len(keys)
