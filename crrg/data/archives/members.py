"""Small files beside films (reports, scene graphs), loose or inside ZIP files, found by a part of their path.

Only paths are kept, of a bounded number of files; a file's bytes are read when they are asked for, and never more of
them than the limit.
"""

from __future__ import annotations

import re
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from crrg.data.archives.givers import Givers, read_beside
from crrg.errors import DataError, StorageError
from crrg.storage import FOREIGN_OBJECT, Storage, StoredObject

_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)
"""What damaged and hostile ZIPs raise, names that are no text (``ValueError``) and passwords included."""
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Those of published archives; others may take any amount of memory."""
MAX_MEMBERS = 1_000_000
"""Four times the files of the largest published archive; each takes half a kilobyte of memory."""
MAX_DIRECTORY_BYTES = 256 * 2**20
_MEMBER = b"PK\x01\x02"
"""What every entry of a ZIP's directory begins with."""
_ENCRYPTED = 1


@dataclass(frozen=True, slots=True)
class _Place:
    path: str = field(repr=False)
    size: int
    archive: zipfile.ZipFile | None


class Members:
    """Files under one root by name; a loose file counts before a packed one of the same name."""

    def __init__(
        self,
        storage: Storage,
        pattern: re.Pattern[str],
        loose: Iterable[StoredObject],
        packed: Iterable[StoredObject],
        max_bytes: int,
    ) -> None:
        """List the files.

        Args:
            storage: Where they lie.
            pattern: Found in a path where it is one of the files; its group ``name`` is the file's name.
            loose: Objects that may be files.
            packed: ZIP objects that may hold files.
            max_bytes: Longest file that is read.

        Raises:
            DataError: A ZIP cannot be read (``PARSE.ZIP``), or ZIPs hold too many files (``LIMIT.ZIP``).
        """
        self._storage = storage
        self._max_bytes = max_bytes
        self._places: dict[str, _Place] = {}
        self._shadowed: list[tuple[str, str]] = []
        num_members = 0
        for stored in packed:
            archive = _open_zip(storage, stored.key)
            members = archive.infolist()
            num_members += len(members)
            if num_members > MAX_MEMBERS:
                raise _too_many()
            for info in members:
                self._add(pattern, _Place(info.filename, info.file_size, archive))
        found = [stored for stored in loose if pattern.search(stored.key)]
        for stored in found:
            self._add(pattern, _Place(stored.key, stored.size, None))
        self._givers = Givers(storage, found)

    def __contains__(self, name: str) -> bool:
        """Return whether there is a file of this name."""
        return name in self._places

    def paths(self) -> dict[str, str]:
        """Return the path of every file by its name."""
        return {name: place.path for name, place in self._places.items()}

    def all_paths(self) -> Iterator[tuple[str, str]]:
        """Yield name and path of every file, also of those that one of the same name counts before."""
        yield from ((name, place.path) for name, place in self._places.items())
        yield from self._shadowed

    def read(self, name: str) -> bytes:
        """Return a file's bytes.

        Raises:
            DataError: It is too large (``LIMIT.FILE_SIZE``), damaged in its ZIP (``PARSE.ZIP``), not there any more
                (``CHANGED.GONE``) or not given out while others are (``CHANGED.UNREADABLE``).
            StorageError: The store is out of reach, or does not let itself be read.
        """
        place = self._places[name]
        if place.size > self._max_bytes:
            raise self._too_large(place.size)
        if place.archive is None:
            return read_beside(self._storage, place.path, self._givers)
        try:
            _check_readable(place.archive.getinfo(place.path))
            with place.archive.open(place.path) as file:
                data = file.read(self._max_bytes + 1)
        except _DAMAGED as error:
            raise DataError(f"a file in a ZIP cannot be read ({type(error).__name__})", code="PARSE.ZIP") from error
        except OSError as error:
            raise _not_given(error) from None
        if len(data) > self._max_bytes:
            raise self._too_large(len(data))
        return data

    def _add(self, pattern: re.Pattern[str], place: _Place) -> None:
        match = pattern.search(place.path)
        if match is None:
            return
        name = match.group("name")
        before = self._places.get(name)
        if before is not None and before.path != place.path:
            self._shadowed.append((name, before.path))
        self._places[name] = place

    def _too_large(self, size: int) -> DataError:
        return DataError(f"{size} bytes beside a film, at most {self._max_bytes} are read", code="LIMIT.FILE_SIZE")


class _Bounded:
    """A ZIP whose directory is not handed on where it lists too many files; it would be held in memory as a whole."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.seekable, self.close = file.seek, file.tell, file.seekable, file.close

    def read(self, size: int = -1, /) -> bytes:
        if size > MAX_DIRECTORY_BYTES:
            raise _too_many()
        data = self._file.read(size)
        if data.count(_MEMBER) > MAX_MEMBERS:
            raise _too_many()
        return data


def _open_zip(storage: Storage, key: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(_Bounded(storage.open_binary(key)))
    except _DAMAGED as error:
        raise DataError("a ZIP beside the films cannot be read; fetch it again", code="PARSE.ZIP") from error
    except OSError as error:
        raise _not_given(error) from None


def _check_readable(info: zipfile.ZipInfo) -> None:
    """Refuse a file in a ZIP that is packed in a way that is not read, without reading it."""
    reason = ""
    if info.flag_bits & _ENCRYPTED:
        reason = "a file in a ZIP is encrypted; unpack it with its password beside the films"
    elif stat.S_ISLNK(info.external_attr >> 16):
        reason = "a ZIP holds a link in place of a file; pack the file itself"
    elif info.compress_type not in _PACKINGS:
        reason = "a file in a ZIP is not compressed with deflate; repack it"
    if reason:
        raise DataError(reason, code="PARSE.ZIP")


def _too_many() -> DataError:
    reason = f"ZIPs beside the films hold more than {MAX_MEMBERS} files; pack only those of the collection"
    return DataError(reason, code="LIMIT.ZIP")


def _not_given(error: OSError) -> StorageError:
    """Return the error of a store that breaks off in the middle of a ZIP, without the names that its own may hold."""
    reason = f"the store does not return a ZIP beside the films ({type(error).__name__}); run again later"
    return StorageError(reason, FOREIGN_OBJECT, retryable=True)
