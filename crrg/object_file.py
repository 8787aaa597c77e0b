"""An object of a store as a file that is read anywhere in it, each piece as ``Storage`` reads whole objects.

What a client of a store opens itself asks once for each piece and raises its own errors in the middle of a table or a
ZIP. Here every piece is tried again, has a time limit and fails with our errors.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, BinaryIO, Protocol, TypeVar, cast

from crrg.retries import object_limit_s
from crrg.s3_requests import read_in_one

T = TypeVar("T")

READ_AHEAD = 5 * 2**20
"""Bytes asked for at a time at least: small files in a ZIP, and columns of a table, lie one after the other."""


class Call(Protocol):
    """Runs one action on a store's client, tries it again, and names what goes wrong."""

    def __call__(self, action: Callable[[Any], T], /) -> T:
        """Return what the action returns."""


def open_object(url: str, call: Call, *, is_local: bool, is_s3: bool) -> BinaryIO:
    """Open an object of a store.

    Args:
        url: The object.
        call: How the store is asked.
        is_local: Whether it is a file, which the system itself opens.
        is_s3: Whether the store can be asked for the very version that was opened.

    Raises:
        StorageError: There is no such object, or the store cannot be reached. Reading from a store raises it, too, and
            ``Conflict`` where the object was replaced since.
    """
    if is_local:
        return cast("BinaryIO", call(lambda fs: fs.open(url, "rb")))
    info = call(lambda fs: fs.info(url))
    etag = str(info.get("ETag", "")).strip('"')

    def read(start: int, end: int) -> bytes:
        if is_s3:
            return call(lambda fs: read_in_one(fs, url, etag, object_limit_s(end - start), (start, end)))[0]
        return bytes(call(lambda fs: fs.cat_file(url, start=start, end=end)))

    return cast("BinaryIO", io.BufferedReader(_Pieces(int(info["size"]), read), READ_AHEAD))


class _Pieces(io.RawIOBase):
    """The bytes of an object, fetched as they are asked for."""

    def __init__(self, size: int, read: Callable[[int, int], bytes]) -> None:
        self._size, self._read, self._place = size, read, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        if place < 0:
            raise ValueError("no place before the beginning")
        self._place = place
        return place

    def readinto(self, memory: Any, /) -> int:
        end = min(self._place + len(memory), self._size)
        if end <= self._place:
            return 0
        data = self._read(self._place, end)
        memory[: len(data)] = data
        self._place += len(data)
        return len(data)
