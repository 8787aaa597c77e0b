"""Whether a store that does not give out one object gives out others: then that object is at fault, else a right is.

One film of another owner, in an archive tier, under another's key or on a broken sector must not keep a hospital's
night from its drafts, or an archive from becoming a dataset; a store that gives nothing must.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from crrg.data.refusals import UNREADABLE
from crrg.errors import Conflict, DataError, DigestMismatch, StorageError
from crrg.retries import ACCESS_DENIED
from crrg.storage import Storage

T = TypeVar("T")

NUM_ASKED = 8
"""Objects asked for a byte, spread over the listing, and as many of the newest: archived ones are old, new ones may be
another's."""
NUM_TRIES = 3
"""How often an object is asked for that is denied while others are given: a store's rights may fail for a moment."""
LONGEST_WAIT_S = 0.4
"""Before it is asked for again. Some hundred objects that stay denied must not hold up a night."""


class Listed(Protocol):
    """An object as a listing shows it."""

    @property
    def key(self) -> str:
        """Key in the store."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def modified_s(self) -> float:
        """Store's modification time, seconds since the epoch."""


class Givers:
    """The objects of a store, as witnesses that it may be read."""

    def __init__(self, storage: Storage, objects: Iterable[Listed]) -> None:
        """Remember where to ask.

        Args:
            storage: The store.
            objects: What lies there; listed once something is denied.
        """
        self._storage = storage
        self._listing = objects
        self._objects: list[Listed] | None = None
        self._last: Listed | None = None
        self._lock = threading.Lock()

    def note(self, found: Listed) -> None:
        """Take an object that was given just now as the first to ask for."""
        self._last = found

    def gives_others(self, denied: str) -> bool:
        """Return whether the store gives out a byte of any object but the one of a key.

        Raises:
            StorageError: The store is out of reach.
        """
        if self._last is not None and self._last.key != denied and denial(self._storage, self._last) is None:
            return True
        with self._lock:
            if self._objects is None:
                self._objects = [found for found in self._listing if found.size]
        newest = sorted(self._objects, key=lambda found: -found.modified_s)[:NUM_ASKED]
        others = {found.key: found for found in (*newest, *_spread(self._objects)) if found.key != denied}
        return any(denial(self._storage, found) is None for found in others.values())


def _spread(objects: Sequence[Listed]) -> Sequence[Listed]:
    """Return a few objects from all parts of a list."""
    return objects[:: max(1, -(-len(objects) // NUM_ASKED))]


def denial(storage: Storage, found: Listed) -> StorageError | None:
    """Return why a store does not give out a byte of an object; ``None`` where it does, or where the object is gone.

    Raises:
        StorageError: The store is out of reach.
    """
    try:
        storage.get_range(found.key, 0, 1)
    except StorageError as error:
        if _is_passing(error, storage):
            raise
        return error if _is_there(error, storage, found.key) else None
    return None


def read_given(read: Callable[[], T], key: str, storage: Storage, givers: Givers, subject: str) -> T:
    """Return what reading an object returns; one that is denied while others are given is asked for some more times.

    Args:
        read: Reads it.
        key: The object.
        storage: The store.
        givers: Other objects of it.
        subject: What stands for the object in an error of the store as a whole.

    Raises:
        DataError: It is gone, or stays denied while others are given.
        Conflict: It was replaced.
        DigestMismatch: It is not what it was.
        StorageError: The store is out of reach, or does not let itself be read.
    """
    num_tries = 1 if storage.is_local else NUM_TRIES
    for attempt in range(1, num_tries + 1):
        try:
            return read()
        except (Conflict, DigestMismatch):
            raise
        except StorageError as error:
            reason = _refusal(error, key, storage, givers)
            if reason is None:
                raise nameless(error, subject) from None
            if error.code != ACCESS_DENIED or attempt == num_tries:
                raise reason from None
        time.sleep(random.uniform(0.25, 1.0) * LONGEST_WAIT_S)
    raise AssertionError("unreachable: the last try returns or raises")


def _refusal(error: StorageError, key: str, storage: Storage, givers: Givers) -> DataError | None:
    """Return why one object is refused that could not be read; ``None`` where the store as a whole is at fault.

    Raises:
        StorageError: The store is out of reach.
    """
    if _is_passing(error, storage):
        return None
    if not _is_there(error, storage, key):
        return gone()
    if givers.gives_others(key):
        return DataError("the store lists the object but does not return it; check who owns it", code=UNREADABLE)
    return None


def gone() -> DataError:
    """Return why an object is refused that is not there any more."""
    return DataError("the object is gone since it was listed", code="CHANGED.GONE")


def nameless(error: StorageError, subject: str) -> StorageError:
    """Return a store's error with a subject that is ours: a source's own names must not travel on."""
    return StorageError(error.reason, subject, retryable=error.retryable, code=error.code)


def read_beside(storage: Storage, key: str, givers: Givers) -> bytes:
    """Return the bytes of a small object that an archive has beside its films.

    Args:
        storage: The archive.
        key: The object.
        givers: Other objects of it.

    Raises:
        DataError: It is gone, or not given out while others are.
        StorageError: The store is out of reach, or does not let itself be read.
    """
    return read_given(lambda: storage.get(key), key, storage, givers, "object of an archive")


def _is_passing(error: StorageError, storage: Storage) -> bool:
    """Return whether an error says more of the way to a store than of one object; a folder's files fail one by one."""
    return error.retryable and not storage.is_local


def _is_there(error: StorageError, storage: Storage, key: str) -> bool:
    """Return whether an object that could not be read exists; one that is denied does, and need not be asked for."""
    return error.code == ACCESS_DENIED or storage.exists(key)
