"""Places in memory that decoding processes can read: a film is read into one once and copied nowhere.

A place is anonymous shared memory. The parent writes it; children inherit a descriptor that can only read, so that no
film can change another. Places are few and used again and again, because memory that is new has to be cleared page by
page. Knows no store and no decoder.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass

MAX_PLACED_BYTES = 64 * 2**20
"""Larger films take the way through a child's own memory, so that places stay small."""


class FilmPlaces:
    """A fixed number of places; whoever finds none free hands his film over as bytes."""

    def __init__(self, num_places: int) -> None:
        """Make the places, empty."""
        self._writable = [shared_memory() for _ in range(num_places)]
        self.descriptors = tuple(_readable_only(each) for each in self._writable)
        self._maps: list[mmap.mmap | None] = [None] * num_places
        self._free = list(range(num_places))
        self._lock = threading.Lock()

    def take(self, num_bytes: int) -> PlacedFilm | None:
        """Return a place for a film of this size, or ``None`` where none is free or the film is too large or empty."""
        if not 0 < num_bytes <= MAX_PLACED_BYTES:
            return None
        with self._lock:
            if not self._free:
                return None
            number = self._free.pop()
        held = self._maps[number]
        if held is None or len(held) < num_bytes:
            os.ftruncate(self._writable[number], num_bytes)
            self._maps[number] = mmap.mmap(self._writable[number], num_bytes)
        return PlacedFilm(self, number, num_bytes)

    def view(self, number: int, num_bytes: int) -> memoryview:
        """Return the memory of a place."""
        held = self._maps[number]
        if held is None:
            raise AssertionError("unreachable: a taken place is mapped")
        return memoryview(held)[:num_bytes]

    def give_back(self, number: int) -> None:
        """Make a place free again."""
        with self._lock:
            self._free.append(number)

    def close(self) -> None:
        """Give up all places; maps that are still looked at go with their last view."""
        for held in self._maps:
            if held is not None:
                with suppress(BufferError):
                    held.close()
        for descriptor in (*self._writable, *self.descriptors):
            with suppress(OSError):
                os.close(descriptor)


@dataclass(frozen=True)
class PlacedFilm:
    """A film's bytes in a place; exactly one owner gives it back.

    Attributes:
        places: Where it lies.
        number: Which place.
        num_bytes: Its length.
    """

    places: FilmPlaces
    number: int
    num_bytes: int

    def view(self) -> memoryview:
        """Return its memory, to be written by the parent only."""
        return self.places.view(self.number, self.num_bytes)

    def give_back(self) -> None:
        """Make the place free again; the film is gone."""
        self.places.give_back(self.number)


def shared_memory() -> int:
    """Return a descriptor of memory that a child can read: no pipe has to carry a film of ten megabytes."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("crrg-film")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _readable_only(descriptor: int) -> int:
    """Return another descriptor of the same memory that cannot write, where the system has a way to it."""
    try:
        return os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return os.dup(descriptor)
