"""Notes of finished deliveries in the identified zone: what is noted was delivered, and is not delivered again.

A note holds the study's own UID, so its name must not hold the pseudonym: the two side by side would be the way back,
which is stored nowhere. The name is made of HMACs, which only the secret ties to a study and a delivery of it. Earlier
versions of this program named notes by the pseudonym; these are renamed.
"""

from __future__ import annotations

import re

from crrg.data.privacy.deidentify import Pseudonyms
from crrg.storage import Storage

NOTES = "delivered"
_BY_PSEUDONYM = re.compile(r"([a-z2-7]{26})-([0-9a-f]{16})\.json")


def note_key(pseudonyms: Pseudonyms, study_id: str, identity: str) -> str:
    """Return where a finished delivery is noted.

    Args:
        pseudonyms: The key the nights ran with.
        study_id: Pseudonym of the study.
        identity: Digest of what makes it another delivery.
    """
    return f"{NOTES}/{pseudonyms.delivery(study_id)}-{pseudonyms.delivery(f'{study_id}-{identity}')}.json"


def rename_notes(zone: Storage, pseudonyms: Pseudonyms) -> int:
    """Rename notes that an earlier version of this program named by pseudonyms; return how many there were.

    Where this process may remove nothing, the old note is emptied; who withdraws documents removes it.

    Args:
        zone: The identified zone.
        pseudonyms: The key the nights ran with.

    Raises:
        StorageError: The zone is out of reach.
    """
    num_renamed = 0
    for stored in zone.list_objects(NOTES):
        named = _BY_PSEUDONYM.fullmatch(stored.key.removeprefix(f"{NOTES}/"))
        if named is None or not stored.size:
            continue
        zone.put(note_key(pseudonyms, named[1], named[2]), zone.get(stored.key))
        if not zone.discard(stored.key):
            zone.put(stored.key, b"")
        num_renamed += 1
    return num_renamed


def notes_of(zone: Storage, pseudonyms: Pseudonyms, studies: frozenset[str], folders: frozenset[str]) -> list[str]:
    """Return the keys of the notes of some studies, and of what is left of renamed ones.

    Args:
        zone: The identified zone.
        pseudonyms: The key the nights ran with.
        studies: Pseudonyms of the studies.
        folders: Their own UIDs, where notes of before a change of the secret have to be found, too: another key made
            their names.
    """
    marks = {pseudonyms.delivery(study_id) for study_id in studies}
    keys = []
    for stored in zone.list_objects(NOTES):
        name = stored.key.removeprefix(f"{NOTES}/")
        named = _BY_PSEUDONYM.fullmatch(name)
        is_theirs = named[1] in studies if named else name.partition("-")[0] in marks
        is_renamed = named is not None and not stored.size
        if is_theirs or is_renamed or (folders and zone.get_json(stored.key).get("study") in folders):
            keys.append(stored.key)
    return keys
