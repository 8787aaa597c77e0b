"""Whether an inbox that does not give out one object gives out others: then that object is at fault, else a right is.

One film of another owner, in an archive tier, under another's key or on a broken sector must not keep a hospital's
night from its drafts, night after night; an inbox that gives nothing must. Which refusal follows is not known here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from crrg.errors import StorageError
from crrg.ledger.inventory import InboxObject
from crrg.retries import ACCESS_DENIED
from crrg.storage import Storage

NUM_ASKED = 8
"""Objects asked for a byte, spread over the inbox, and as many of the newest: archived ones are old, new ones may be
another's."""


class Givers:
    """The objects of an inbox, as witnesses that it may be read."""

    def __init__(self, inbox: Storage, objects: Iterable[InboxObject]) -> None:
        """Remember where to ask.

        Args:
            inbox: The inbox.
            objects: What lies there.
        """
        self._inbox = inbox
        self._objects = [found for found in objects if found.size]
        self._last: InboxObject | None = None

    def note(self, found: InboxObject) -> None:
        """Take an object that was given just now as the first to ask for."""
        self._last = found

    def gives_others(self, denied: InboxObject) -> bool:
        """Return whether the inbox gives out a byte of any other object.

        Raises:
            StorageError: The inbox is out of reach.
        """
        newest = sorted(self._objects, key=lambda found: -found.modified_s)[:NUM_ASKED]
        asked = [*([self._last] if self._last else []), *newest, *_spread(self._objects)]
        others = {found.key: found for found in asked if found.key != denied.key}
        return any(denial(self._inbox, found) is None for found in others.values())


def _spread(objects: Sequence[InboxObject]) -> list[InboxObject]:
    """Return a few objects from all parts of a list that are not empty."""
    held = [found for found in objects if found.size]
    return held[:: max(1, -(-len(held) // NUM_ASKED))]


def denial(inbox: Storage, found: InboxObject) -> StorageError | None:
    """Return why an inbox does not give out a byte of an object; ``None`` where it does, or where the object is gone.

    Raises:
        StorageError: The inbox is out of reach.
    """
    try:
        inbox.get_range(found.key, 0, 1)
    except StorageError as error:
        if is_passing(error, inbox):
            raise
        return error if is_there(error, inbox, found.key) else None
    return None


def is_passing(error: StorageError, inbox: Storage) -> bool:
    """Return whether an error says more of the way to a store than of one object; a folder's files fail one by one."""
    return error.retryable and not inbox.is_local


def is_there(error: StorageError, inbox: Storage, key: str) -> bool:
    """Return whether an object that could not be read exists; one that is denied does, and need not be asked for."""
    return error.code == ACCESS_DENIED or inbox.exists(key)
