"""One holder per night, by objects in the store alone.

A holder owns ``leases/date=D/<n>.json``, written only where there is none; ``n`` is its fencing number, which its
commit will carry (``manifest.py``). The highest number is the holder. While it lives, a thread renews the object; who
finds it expired by the store's own clock, or its holder dead (``lease_owner.py``), takes the next number and seals the
old one, so that the old holder cannot commit even if it wakes up. Nights of different dates read the same inbox, hence
only one date is held at a time. A released lease is removed; an identity that may not delete anything writes that it
has no lifetime any more, which is the same, and ``crrg gc`` removes it. What is done under a lease is not known here.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import ValidationError

from crrg.config.base import FrozenConfig
from crrg.data.map_ahead import map_ahead
from crrg.errors import Conflict, StorageError
from crrg.ledger.lease_owner import Owner, give_up, this_process
from crrg.ledger.manifest import fencing_numbers, is_committed, seal_number
from crrg.storage import Storage, StoredObject, canonical_json

logger = logging.getLogger(__name__)

LIFETIME_S = 120.0
RENEW_EVERY_S = 20.0
_LEASE = re.compile(r"leases/date=([^/]+)/(\d+)\.json")
_UNKNOWN = Owner(host="an unknown machine", pid=0, process_start_s=0.0, token="")


class LeaseRecord(FrozenConfig):
    """The content of a lease object.

    Attributes:
        owner: Its holder.
        lifetime_s: How long after its last renewal it is valid, seconds by the store's clock; 0 once it has ended.
        renewed_s: When it was renewed, by the holder's clock; only to be read by people.
        is_night: Whether its holder runs a night, and not something of seconds that no night may run beside.
    """

    owner: Owner
    lifetime_s: float
    renewed_s: float
    is_night: bool = True

    @property
    def has_ended(self) -> bool:
        """Whether it was released or taken over by an identity that may not delete it."""
        return self.lifetime_s <= 0


@dataclass(frozen=True)
class LeaseState:
    """A lease object that was found.

    Attributes:
        date: The night.
        fencing: Its number.
        record: Its content.
        modified_s: When it was last renewed, by the store's clock.
    """

    date: str
    fencing: int
    record: LeaseRecord
    modified_s: float

    @property
    def key(self) -> str:
        """Key of the object."""
        return lease_key(self.date, self.fencing)

    def describe(self) -> str:
        """Return which night is held, by whom and until when, for people."""
        owner, until = self.record.owner, datetime.fromtimestamp(self.modified_s + self.record.lifetime_s, UTC)
        return (
            f"night {self.date} is held by process {owner.pid} on {owner.host} until {until:%Y-%m-%d %H:%M:%S} UTC, "
            "and longer while it works"
        )


class Lease:
    """A night that this process holds; renewed in the background until released.

    Attributes:
        date: The night.
        fencing: The number that its commit carries.
        is_committing: Whether a commit was begun and its answer is not known: it may still land.
    """

    def __init__(
        self, storage: Storage, date: str, fencing: int, owner: Owner, lifetime_s: float, *, is_night: bool = True
    ) -> None:
        """Remember what is held; ``acquire_lease`` makes leases."""
        self.date = date
        self.fencing = fencing
        self.is_committing = False
        self._storage = storage
        self._owner = owner
        self._lifetime_s = lifetime_s
        self._is_night = is_night
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def key(self) -> str:
        """Key of the lease object."""
        return lease_key(self.date, self.fencing)

    def record(self) -> LeaseRecord:
        """Return the lease object's content as of now."""
        return LeaseRecord(
            owner=self._owner, lifetime_s=self._lifetime_s, renewed_s=time.time(), is_night=self._is_night
        )

    def payload(self) -> bytes:
        """Return the lease object's bytes as of now."""
        return canonical_json(self.record().model_dump(mode="json"))

    def start_renewing(self, every_s: float) -> None:
        """Begin to renew in the background."""
        self._thread = threading.Thread(
            target=self._keep_renewing, args=(every_s,), name=f"lease-{self.date}", daemon=True
        )
        self._thread.start()

    def is_lost(self) -> bool:
        """Whether another holder took the night over."""
        return self.is_passed_by(_find_leases(self._storage, f"leases/date={self.date}"))

    def is_passed_by(self, leases: Iterable[LeaseState]) -> bool:
        """Whether one of the leases that were found just now took the night over, or its number is used up."""
        higher = any(
            state.date == self.date and state.fencing > self.fencing and not state.record.has_ended for state in leases
        )
        return higher or self.fencing in fencing_numbers(self._storage, self.date)

    def release(self) -> None:
        """Stop renewing and remove the lease object; a second call does nothing.

        A commit that may still land is sealed first. Where that fails the object stays: it expires, or this process
        comes again, and whoever takes the night over seals it.

        Raises:
            StorageError: The store is out of reach.
        """
        if self._is_over.is_set():
            return
        self._is_over.set()
        try:
            if self._thread is not None:
                self._thread.join()
            if self.is_committing:
                seal_number(self._storage, self.date, self.fencing)
            _end(self._storage, self.key, self.record())
        finally:
            give_up(self._owner)

    def _keep_renewing(self, every_s: float) -> None:
        while not self._is_over.wait(every_s):
            try:
                if self.is_lost():
                    if not is_committed(self._storage, self.date, self.fencing):
                        logger.warning("the night %s was taken over; what this run does cannot be committed", self.date)
                    return
                self._storage.put(self.key, self.payload())
            except StorageError as error:
                logger.warning("lease of %s not renewed: %s", self.date, error.reason)


def lease_key(date: str, fencing: int) -> str:
    """Return the key of a lease object."""
    return f"leases/date={date}/{fencing}.json"


def acquire_lease(
    storage: Storage,
    date: str,
    *,
    lifetime_s: float = LIFETIME_S,
    renew_every_s: float = RENEW_EVERY_S,
    is_night: bool = True,
) -> Lease | None:
    """Take a night, or return ``None`` if someone else holds it or another night.

    Args:
        storage: The root.
        date: The night, ``YYYY-MM-DD``.
        lifetime_s: How long the lease outlives its last renewal, seconds.
        renew_every_s: Time between renewals, seconds; well below ``lifetime_s``.
        is_night: Whether a night is to be run under it.

    Raises:
        StorageError: The store is out of reach, or does not let a lease be read: nobody knows whether one is live.
    """
    # Leases are listed before manifests: a holder commits first and then removes its lease, so its number is seen in
    # at least one of the two lists.
    leases = _find_leases(storage)
    if _live_leases(storage, leases):
        return None
    used = fencing_numbers(storage, date)
    fencing = max([0, *used, *(state.fencing for state in leases if state.date == date)]) + 1
    owner = this_process()
    lease = Lease(storage, date, fencing, owner, lifetime_s, is_night=is_night)
    try:
        is_ours = _begin(storage, lease, leases)
    except BaseException:
        give_up(owner)
        raise
    if not is_ours:
        give_up(owner)
        return None
    lease.start_renewing(renew_every_s)
    return lease


def _begin(storage: Storage, lease: Lease, left: Iterable[LeaseState]) -> bool:
    """Put a new lease and seal those that are left; return whether it holds, else there is no object of it."""
    try:
        storage.put_if_absent(lease.key, lease.payload())
    except Conflict:
        return False
    try:
        is_first = _is_first(storage, lease)
        if is_first:
            _seal_left(storage, left)
    except BaseException:
        with contextlib.suppress(StorageError):
            _end(storage, lease.key, lease.record())
        raise
    if not is_first:
        _end(storage, lease.key, lease.record())
    return is_first


def _is_first(storage: Storage, lease: Lease) -> bool:
    """Return whether a new lease holds; of two dates that came at once neither can know who was first."""
    others = [state for state in _find_leases(storage) if state.key != lease.key]
    return not (_live_leases(storage, others) or lease.is_passed_by(others))


def _seal_left(storage: Storage, leases: Iterable[LeaseState]) -> None:
    """Seal and end leases whose holders are gone, also of other dates: those read the same inbox, or only sleep."""
    for state in leases:
        if not state.record.has_ended:
            logger.warning("night %s is taken over from a holder that is gone", state.date)
            seal_number(storage, state.date, state.fencing)
            _end(storage, state.key, state.record)


def unsealed_leases(storage: Storage) -> frozenset[str]:
    """Return the keys of leases under whose numbers somebody may commit, be it that he is asleep and wakes up.

    The next night seals the number of one that has expired; before that its object must not go.

    Raises:
        StorageError: The store is out of reach, or does not let a lease be read.
    """
    states = [state for state in _find_leases(storage) if not state.record.has_ended]
    return frozenset(each.key for each in states if each.fencing not in fencing_numbers(storage, each.date))


def find_holder(storage: Storage) -> LeaseState | None:
    """Return the live lease of any night, or ``None``."""
    live = _live_leases(storage, _find_leases(storage))
    return live[0] if live else None


def _end(storage: Storage, key: str, record: LeaseRecord) -> None:
    """Remove a lease object, or let it end at once where this identity may not delete it."""
    if not storage.discard(key):
        storage.put(key, canonical_json(record.model_copy(update={"lifetime_s": 0.0}).model_dump(mode="json")))


def _live_leases(storage: Storage, leases: list[LeaseState]) -> list[LeaseState]:
    """Return those leases whose holder may still be at work."""
    candidates = [
        state
        for state in leases
        if not state.record.has_ended
        and not state.record.owner.is_dead()
        and state.fencing not in fencing_numbers(storage, state.date)
    ]
    if not candidates:
        return []
    now_s = store_time_s(storage)
    return [state for state in candidates if now_s <= state.modified_s + state.record.lifetime_s]


def _find_leases(storage: Storage, prefix: str = "leases") -> list[LeaseState]:
    """Return the lease objects below a prefix.

    Raises:
        StorageError: One of them cannot be read: its holder may be at work.
    """

    def read(stored: StoredObject) -> LeaseState | None:
        match = _LEASE.fullmatch(stored.key)
        data = storage.get_if_there(stored.key) if match else None
        # it may be released between listing and reading: then it is no lease any more
        if match is None or data is None:
            return None
        return LeaseState(match[1], int(match[2]), _parsed(data), stored.modified_s)

    return [state for state in map_ahead(read, storage.list_objects(prefix)) if state is not None]


def _parsed(data: bytes) -> LeaseRecord:
    """Return a lease object's content; one that is damaged has a holder of whom nothing is known, and its lifetime."""
    try:
        return LeaseRecord.model_validate_json(data, extra="ignore")
    except ValidationError:
        return LeaseRecord(owner=_UNKNOWN, lifetime_s=LIFETIME_S, renewed_s=0.0)


def store_time_s(storage: Storage) -> float:
    """Return the store's present time, seconds since the epoch, so that clocks of two hosts need not agree."""
    key = f"leases/clock/{uuid.uuid4().hex}"
    storage.put(key, b"")
    stamps = [stored.modified_s for stored in storage.list_objects("leases/clock") if stored.key == key]
    storage.discard(key)
    return stamps[0] if stamps else time.time()
