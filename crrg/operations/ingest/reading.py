"""The objects of an archive on their way into the decoder: read ahead by threads, hashed there, bounded in bytes.

Reading and hashing overlap with decoding, so that the latency of a store does not add up. An object that went away or
was replaced since it was listed, or is not given out while others are, comes out with its reason; an object that is
known from an earlier ingest is not read.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

from crrg.data.archives.givers import Givers, read_given
from crrg.data.archives.sources import Source, SourceItem
from crrg.data.decoding.pool import DecodeItem
from crrg.data.decoding.shared_films import FilmPlaces, PlacedFilm
from crrg.data.dicom.structure import size_refusal
from crrg.errors import Conflict, DataError
from crrg.operations.ingest.inputs import InputRecord
from crrg.storage import Storage, StoredObject

READERS = 8
READ_AHEAD = 16
MAX_BYTES_AHEAD = 256 * 2**20
"""Films read ahead hold at most this much memory, but for a single one that is larger."""
MAX_WITNESSES = 1024
"""Films of an archive among which some are asked for where one is denied; to list all of them may take minutes."""

_MEMORY_OPTIONS = ((-3, 32 * 2**20), (-1, 256 * 2**20), (-8, 1))
"""Numbers of malloc.h: largest block that is kept, most that is kept, number of pools that threads keep it in."""


@contextmanager
def archive_named(number: int, num_archives: int) -> Iterator[None]:
    """Say of which archive something is that ends an ingest of several: by its place, since its name may be a person's.

    Args:
        number: Its place, from 0.
        num_archives: How many there are.

    Raises:
        DataError: As within the block.
    """
    try:
        yield
    except DataError as error:
        if num_archives == 1:
            raise
        place = ": ".join(filter(None, (archive_place(number, num_archives), error.subject)))
        raise DataError(error.reason, place, code=error.code) from error


def archive_place(number: int, num_archives: int) -> str:
    """Return what an archive is called in messages, counted from 1."""
    return f"archive {number + 1} of {num_archives}"


@dataclass(frozen=True)
class ReadItem:
    """An input that was handed to the decoder.

    Attributes:
        item: What the archive says.
        said: HMAC of that; empty where there is no film.
        known: What an earlier ingest made of it; it was not read then.
        digest: sha256 of the film's bytes; empty where it was not read.
    """

    item: SourceItem
    said: str = ""
    known: InputRecord | None = None
    digest: bytes = b""

    @property
    def has_film(self) -> bool:
        """Whether there is a film that could be read."""
        return self.item.film is not None and self.item.problem is None


@dataclass
class FilmFeed:
    """The inputs of a source as the decoder takes them.

    Attributes:
        source: The archive.
        limit: Most inputs to take; 0 = all.
        look_up: Returns what is said of a film, as an HMAC, and what an earlier ingest made of it.
        givers: Films of the whole archive, to tell one that is denied from an archive that is.
        places: Where films are read into; as bytes if not given.
        waiting: What was handed to the decoder and has not come back, in order.
        num_handed_over: How many inputs the decoder was given.
    """

    source: Source
    limit: int
    look_up: Callable[[SourceItem], tuple[str, InputRecord | None]]
    givers: Givers
    places: FilmPlaces | None = None
    waiting: deque[ReadItem] = field(default_factory=deque)
    num_handed_over: int = 0

    def films(self) -> Generator[DecodeItem, None, None]:
        """Yield the bytes of every film, or a reason where there are none to decode.

        Close it where it is not consumed whole: it waits for its threads, which garbage collection must never do.
        """
        ahead: deque[tuple[ReadItem, Future[tuple[DecodeItem, bytes]] | None]] = deque()
        bytes_ahead = 0
        with ThreadPoolExecutor(READERS, thread_name_prefix="crrg-read") as readers:
            for item in islice(self.source.items(), self.limit or None):
                read, size = self._prepare(item), item.film.size if item.film else 0
                while len(ahead) >= READ_AHEAD or (ahead and bytes_ahead + size > MAX_BYTES_AHEAD):
                    bytes_ahead -= _size_ahead(ahead[0])
                    yield self._hand_over(*ahead.popleft())
                is_read = read.has_film and read.known is None
                task = partial(read_object, self.source.storage, item, self.places, self.givers)
                ahead.append((read, readers.submit(task) if is_read else None))
                bytes_ahead += _size_ahead(ahead[-1])
            while ahead:
                yield self._hand_over(*ahead.popleft())

    def _prepare(self, item: SourceItem) -> ReadItem:
        read = ReadItem(item)
        if not read.has_film:
            return read
        said, known = self.look_up(item)
        return ReadItem(item, said, known)

    def _hand_over(self, read: ReadItem, future: Future[tuple[DecodeItem, bytes]] | None) -> DecodeItem:
        self.num_handed_over += 1
        if future is None:
            self.waiting.append(read)
            return DataError("nothing to decode", code="DUPLICATE.CARRIED")
        data, digest = future.result()
        self.waiting.append(ReadItem(read.item, read.said, digest=digest))
        return data


def film_givers(source: Source) -> Givers:
    """Return films of an archive as witnesses that it may be read; they are listed once a film is denied."""

    def films() -> Iterator[StoredObject]:
        yield from (item.film for item in islice(source.items(), MAX_WITNESSES) if item.film is not None)

    return Givers(source.storage, films())


def read_object(
    storage: Storage, item: SourceItem, places: FilmPlaces | None = None, givers: Givers | None = None
) -> tuple[DecodeItem, bytes]:
    """Return an object's bytes and their sha256, or the reason why it cannot be read.

    Args:
        storage: Where it lies.
        item: The input, which has a film.
        places: Where to read it into, while one is free.
        givers: Other films that lie there; without them one that is denied stands for all.

    Raises:
        StorageError: The store is out of reach, or does not let itself be read; the source's name is not in it.
    """
    film = item.film
    if film is None:
        raise AssertionError("unreachable: only films are read")
    if (refusal := size_refusal(film.size)) is not None:
        return refusal, b""
    placed = places.take(film.size) if places else None
    read, digest = _read(storage, film, placed, givers or Givers(storage, ()))
    if not isinstance(read, DataError) and item.sha256 and digest.hex() != item.sha256:
        read = DataError("the bytes are not those whose digest the archive publishes", code="INTEGRITY.SHA256")
    if isinstance(read, DataError):
        if placed is not None:
            placed.give_back()
        return read, b""
    return read, digest


def _read(storage: Storage, film: StoredObject, placed: PlacedFilm | None, givers: Givers) -> tuple[DecodeItem, bytes]:
    def read() -> tuple[DecodeItem, bytes]:
        if placed is None:
            data = storage.get_unchanged(film)
            return data, hashlib.sha256(data).digest()
        with placed.view() as memory:
            storage.read_unchanged(film, memory)
            return placed, hashlib.sha256(memory).digest()

    try:
        found = read_given(read, film.key, storage, givers, "object of an archive")
    except Conflict:
        return DataError("the object was replaced while the archive was read", code="CHANGED.REPLACED"), b""
    except DataError as reason:
        return reason, b""
    givers.note(film)
    return found


def keep_freed_memory() -> None:
    """Let this process keep the memory of films that it read for those that follow.

    glibc would give it back after each film and get it anew, zeroed, page by page, which costs as much as reading the
    film; elsewhere nothing happens.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in _MEMORY_OPTIONS:
            mallopt(option, value)


def _size_ahead(entry: tuple[ReadItem, Future[tuple[DecodeItem, bytes]] | None]) -> int:
    read, future = entry
    return 0 if future is None or read.item.film is None else read.item.film.size
