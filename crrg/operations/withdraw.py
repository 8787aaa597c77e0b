"""Withdrawal: what was delivered of some studies goes from the identified zone.

A folder there is named by the study's own UID; its pseudonym says whether it is meant, so that neither inbox nor film
is needed. What an archive took is the archive's to delete; the audit says of which studies it took something.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass

from crrg.config.base import Settings
from crrg.data.deidentify import Pseudonyms
from crrg.errors import ConfigError
from crrg.ledger.audit import read_audit
from crrg.operations.deliver import identified_zone
from crrg.storage import Storage

NOTES = "delivered"


@dataclass(frozen=True)
class Delivered:
    """What the audit knows of the delivery of some studies.

    Attributes:
        num_studies: Studies of which documents were written.
        num_sent: DICOM objects that an archive took.
    """

    num_studies: int
    num_sent: int


def delivered_of(storage: Storage, studies: Set[str]) -> Delivered:
    """Return what was delivered of some studies, as the audit tells.

    Args:
        storage: The root.
        studies: Pseudonyms.
    """
    entries = [entry for entry in read_audit(storage) if entry.action == "deliver" and entry.subject in studies]
    num_sent = sum(entry.counts.get("sent", 0) for entry in entries)
    return Delivered(len({entry.subject for entry in entries}), num_sent)


def check_zone(settings: Settings, delivered: Delivered) -> None:
    """Refuse to leave delivered documents behind.

    Raises:
        ConfigError: Documents were delivered and this process does not know where.
    """
    if delivered.num_studies and not settings.identified_root:
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
    wanted = set(studies)
    if not settings.identified_root or not wanted:
        return 0
    zone = identified_zone(storage, settings)
    folders = [name for name in zone.list_folder() if name != NOTES and pseudonyms.study(name) in wanted]
    keys = [stored.key for folder in folders for stored in zone.list_objects(folder)]
    keys += [f"{NOTES}/{name}" for name in zone.list_folder(NOTES) if name.partition("-")[0] in wanted]
    for key in keys:
        zone.delete(key)
    return len(keys)
