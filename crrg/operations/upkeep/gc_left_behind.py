"""What identities that may not delete leave behind: leases that ended, training states nobody goes on with, probes.

Nights and trainings remove these themselves where they may (``Storage.discard``). And what a kill leaves in a folder:
objects that were being written, under names that no listing shows.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from crrg.ledger.lease import unsealed_leases
from crrg.local_files import find_files
from crrg.operations.night.summary import UNTOLD
from crrg.storage import Storage, StoredObject
from crrg.training.state_files import NUM_STATES_KEPT, weights_key

PROBES = "spool/doctor-"


def left_behind(storage: Storage) -> Iterator[StoredObject]:
    """Yield the objects that their makers would have removed."""
    yield from _leases(storage)
    yield from _training_states(storage)
    yield from (stored for stored in storage.list_objects("spool") if stored.key.startswith(PROBES))
    yield from (stored for stored in storage.list_objects(UNTOLD) if not stored.size)
    yield from _half_written(storage)


def _half_written(storage: Storage) -> Iterator[StoredObject]:
    """Yield what a folder's writers were killed over; a bucket shows no object before it is whole."""
    if storage.is_local:
        for path, info in find_files(storage.root, temporary=True).items():
            yield StoredObject(os.path.relpath(path, storage.root), info["size"], info["mtime"], etag="")


def _leases(storage: Storage) -> Iterator[StoredObject]:
    """Yield every lease object but those that the next night has to seal, if their holder is not at work."""
    found = storage.list_objects("leases")
    kept = unsealed_leases(storage) if found else frozenset()
    yield from (stored for stored in found if stored.key not in kept)


def _training_states(storage: Storage) -> Iterator[StoredObject]:
    """Yield the states of finished stages, and of unfinished ones all but the newest; those emptied in any case."""
    folders: dict[str, dict[str, StoredObject]] = {}
    for stored in storage.list_objects("checkpoints"):
        folder, _, name = stored.key.rpartition("/")
        folders.setdefault(folder, {})[name] = stored
    for files in folders.values():
        states = sorted(name for name in files if name.startswith("state-") and name.endswith(".json"))
        whole = [name for name in states if files[name].size and "result.json" not in files]
        for name in sorted(set(states) - set(whole[-NUM_STATES_KEPT:])):
            yield from (files[each] for each in (name, weights_key(name)) if each in files)
