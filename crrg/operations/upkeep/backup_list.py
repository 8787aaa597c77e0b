"""The list of a backup: its objects, what each must be, and under which name it lies there.

It is written last, and alone says what a backup is. What replaces other bytes of an earlier list is written beside
them, so that this list is true until the next one takes its place.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from crrg.checked_json import check_schema_version
from crrg.errors import StorageError
from crrg.storage import Storage, StoredObject, canonical_json

LIST_KEY = "_backup.json"
SCHEMA_VERSION = 2
"""Version 1 knew neither names nor marks of copies: every object lay under its key."""


class Entry(NamedTuple):
    """One object of a backup.

    Attributes:
        size: Bytes.
        sha256: Their digest.
        mark: The version mark that the source had; empty for one that a later backup must look at again.
        name: Its key in the backup.
        copy_mark: The version mark that it has there; empty where that is not known.
    """

    size: int
    sha256: str
    mark: str
    name: str
    copy_mark: str = ""

    def is_whole(self, there: Mapping[str, StoredObject]) -> bool:
        """Return whether it lies among the objects of a place as it was written there."""
        copy = there.get(self.name)
        return copy is not None and copy.size == self.size and self.copy_mark in ("", copy.etag)


def free_name(key: str, sha256: str, taken: Container[str]) -> str:
    """Return where an object is written whose bytes are no others' of a list.

    Args:
        key: Its key in the root.
        sha256: Digest of its bytes.
        taken: Names of the list that counts.
    """
    return f"{key}~{sha256[:8]}" if key in taken else key


def read_list(place: Storage) -> dict[str, Entry]:
    """Return the objects of a backup by their keys in the root; none where no backup was finished.

    Raises:
        StorageError: A later program wrote the list, or the place is out of reach.
    """
    if not place.exists(LIST_KEY):
        return {}
    value = place.get_json(LIST_KEY)
    check_schema_version(value["schema_version"], range(1, SCHEMA_VERSION + 1), LIST_KEY)
    return {
        key: Entry(int(size), str(sha256), str(mark), *(beside or (key,)))
        for key, (size, sha256, mark, *beside) in value["objects"].items()
    }


def write_list(place: Storage, entries: Mapping[str, Entry]) -> None:
    """Commit a backup, whose objects all lie there; from now on it takes the place of an earlier one.

    Raises:
        StorageError: An object was removed or changed in the place meanwhile, or the place is out of reach.
    """
    there = {stored.key: stored for stored in place.list_objects()}
    lost = sorted(key for key, entry in entries.items() if not entry.is_whole(there))
    if lost:
        reason = f"{len(lost)} objects were removed or changed in the backup meanwhile; run crrg backup again"
        raise StorageError(reason, lost[0], retryable=True)
    marked = {key: entry._replace(copy_mark=there[entry.name].etag) for key, entry in entries.items()}
    created = datetime.now(UTC).isoformat(timespec="seconds")
    place.put(LIST_KEY, canonical_json({"schema_version": SCHEMA_VERSION, "created_utc": created, "objects": marked}))
