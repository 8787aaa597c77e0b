"""What is checked before a night begins to work: that it may read and write where it will, and that there is room.

A night that would fail at its commit for a missing right or a full disk fails here, before a film is read.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from crrg.data.archives.givers import Givers, denial
from crrg.errors import Conflict, DigestMismatch
from crrg.ledger.audit import PROBE as AUDIT_PROBE
from crrg.ledger.inventory import InboxObject
from crrg.ledger.manifest import night_prefix
from crrg.local_files import check_disk
from crrg.storage import Storage

ROOM_PER_FILM = 48 * 2**10
"""Rows, documents and page of a film, bytes; its picture has at most as many bytes as pixels."""
ROOM_ASIDE_PER_FILM = 16 * 2**10
"""What the page puts aside of a film while it is made, bytes: with a long sentence in every region, else 2 to 6 KB."""
_SPOOL_PROBE = "spool/doctor-night"
"""Where ``crrg gc`` looks for probes; a night notes itself under ``spool`` right before its commit."""
_PROBE = b"written by a night to see that it may"


def check_rights(
    date: str, storage: Storage, inbox: Storage, to_read: Iterable[InboxObject], objects: Iterable[InboxObject]
) -> None:
    """Write, read and remove a probe wherever a night writes, and read a byte of an object that the night will read.

    Args:
        date: The night.
        storage: The root.
        inbox: The inbox.
        to_read: What the night is going to read.
        objects: All that lies in the inbox; asked for where the one to be read is denied.

    Raises:
        StorageError: Something is not allowed; the message names the action and the bucket.
        DigestMismatch: The store gave back other bytes than were written.
    """
    folders = (night_prefix(date), f"ledger/date={date}", f"quarantine/date={date}")
    keys = [*(f"{folder}/probe" for folder in folders), _SPOOL_PROBE]
    with ThreadPoolExecutor(len(keys) + 2, thread_name_prefix="probe") as pool:
        probes = [pool.submit(_probe, storage, key, storage.put) for key in keys]
        probes.append(pool.submit(_probe_audit, storage))
        probes.append(pool.submit(_probe_inbox, inbox, next((each for each in to_read if each.size), None), objects))
    for probe in probes:
        probe.result()


def _probe_inbox(inbox: Storage, found: InboxObject | None, objects: Iterable[InboxObject]) -> None:
    denied = denial(inbox, found) if found is not None else None
    if found is not None and denied is not None and not Givers(inbox, objects).gives_others(found.key):
        raise denied


def _probe_audit(storage: Storage) -> None:
    """Probe where a policy may let entries only be added; a store asks for the right before it finds an older probe."""
    with contextlib.suppress(Conflict):
        _probe(storage, AUDIT_PROBE, storage.put_if_absent)


def _probe(storage: Storage, key: str, put: Callable[[str, bytes], None]) -> None:
    put(key, _PROBE)
    if storage.get(key) != _PROBE:
        raise DigestMismatch("the store returns other bytes than were written; do not use it", key)
    storage.discard(key)


def check_room_aside(num_films: int) -> None:
    """Check that there is room for the temporary file that the commit makes, whatever store the root is in.

    Args:
        num_films: Inputs that may become drafts.

    Raises:
        StorageError: There is not, code ``DISK.FULL``.
    """
    way_out = "make room, set TMPDIR to a folder of a larger disk, or take fewer films at a time (--limit)"
    check_disk(tempfile.gettempdir(), "temporary files", num_films * ROOM_ASIDE_PER_FILM, way_out)


def check_room(num_films: int, image_size: int, storage: Storage) -> None:
    """Check that a folder's disk has room for a night's results; a bucket does not say.

    Args:
        num_films: Inputs that may become drafts.
        image_size: Longer side of their pictures, pixels.
        storage: The root.

    Raises:
        StorageError: It has not, code ``DISK.FULL``.
    """
    if storage.is_local:
        check_disk(storage.root, "", num_films * (image_size**2 + ROOM_PER_FILM))
