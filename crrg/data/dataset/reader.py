"""Any row of a dataset at any time, from a folder or S3, in an order that a resumed run repeats.

A reader knows every row group from the manifest, fetches one as a byte range, verifies it, and keeps the last few. It
can be pickled into the worker processes of a ``torch.utils.data.DataLoader`` (spawned ones too), where it opens its own
connections; torch is not needed here. ``EpochOrder`` is the sampler that goes with it: shuffled, but so that neighbours
in time lie in few row groups. Prepares no batch (``batches``) and knows no model.
"""

from __future__ import annotations

import bisect
import hashlib
import io
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from crrg.config.references import DatasetRef
from crrg.data.dataset.pair_schema import row_to_pair
from crrg.data.dataset.pairs import read_manifest
from crrg.data.parquet import read_parquet
from crrg.domain.study import Pair, Split
from crrg.errors import DigestMismatch
from crrg.storage import Storage

WINDOW_GROUPS = 8
"""Row groups that are mixed with each other and held in memory: 256 films, 67 MB at 512 px, in each worker."""


@dataclass(frozen=True, slots=True)
class _Range:
    start: int
    end: int
    sha256: str


@dataclass(frozen=True, slots=True)
class _Part:
    key: str
    num_bytes: int
    footer: _Range


@dataclass(frozen=True, slots=True)
class _Group:
    part: int
    number: int | None
    """Number in its part; ``None`` for a whole part, of versions written before row groups were indexed."""
    place: _Range


class PairReader:
    """The rows of one split as a sequence; ``reader[0]`` is the first.

    Reading costs one request per row group that is not at hand, so read in an order that stays in few of them for a
    while (``EpochOrder``). In a loader of W workers each row group is fetched by up to W of them.
    """

    def __init__(self, storage: Storage, dataset: DatasetRef, split: Split, cached_groups: int = WINDOW_GROUPS) -> None:
        """Index a split; only the manifest is read.

        Args:
            storage: Where ``datasets/`` lies.
            dataset: The version to read.
            split: Part of it.
            cached_groups: Row groups kept in memory, at least 1.

        Raises:
            StorageError: There is no such version.
        """
        self._storage = storage
        self._split = split
        self._num_cached = max(1, cached_groups)
        self._parts: list[_Part] = []
        self._groups: list[_Group] = []
        self.group_sizes: list[int] = []
        for entry in read_manifest(storage, dataset)["files"]:
            if entry["split"] == split.value:
                self._index(entry)
        self._ends = list(accumulate(self.group_sizes))
        self._clear()

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Pair:
        """Return one row.

        Raises:
            DigestMismatch: The row group's bytes are not the recorded ones.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        group = bisect.bisect_right(self._ends, index)
        row = index - (self._ends[group] - self.group_sizes[group])
        return row_to_pair(self._table(group).slice(row, 1).to_pylist()[0], self._split)

    def group(self, index: int) -> list[Pair]:
        """Return the rows of one row group, fetched anew; threads may share the reader for this.

        Args:
            index: Number of the row group, below ``len(group_sizes)``.

        Raises:
            DigestMismatch: The row group's bytes are not the recorded ones.
        """
        return [row_to_pair(row, self._split) for row in self._read(index).to_pylist()]

    def __getstate__(self) -> dict[str, Any]:
        """Leave what was read behind: every process reads for itself."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_tables", "_footers")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Start in another process with nothing at hand."""
        self.__dict__.update(state)
        self._clear()

    def _clear(self) -> None:
        self._tables: OrderedDict[int, pa.Table] = OrderedDict()
        self._footers: dict[int, pq.FileMetaData] = {}

    def _index(self, entry: dict[str, Any]) -> None:
        part = len(self._parts)
        if "row_groups" not in entry:
            whole = _Range(0, entry["num_bytes"], entry["sha256"])
            self._parts.append(_Part(entry["key"], entry["num_bytes"], whole))
            self._groups.append(_Group(part, None, whole))
            self.group_sizes.append(entry["num_rows"])
            return
        self._parts.append(_Part(entry["key"], entry["num_bytes"], _Range(**entry["footer"])))
        for number, group in enumerate(entry["row_groups"]):
            place = _Range(group["start"], group["end"], group["sha256"])
            self._groups.append(_Group(part, number, place))
            self.group_sizes.append(group["num_rows"])

    def _table(self, index: int) -> pa.Table:
        if index in self._tables:
            self._tables.move_to_end(index)
            return self._tables[index]
        while len(self._tables) >= self._num_cached:
            self._tables.popitem(last=False)
        self._tables[index] = self._read(index)
        return self._tables[index]

    def _read(self, index: int) -> pa.Table:
        group = self._groups[index]
        part = self._parts[group.part]
        if group.number is None:
            return read_parquet(self._fetch(part, group.place))
        if group.part not in self._footers:
            # a file's end alone is enough to read what its footer says
            self._footers[group.part] = pq.read_metadata(pa.BufferReader(self._fetch(part, part.footer)))
        view = _PartView(part.num_bytes, group.place.start, self._fetch(part, group.place))
        file = pq.ParquetFile(pa.PythonFile(view, mode="r"), metadata=self._footers[group.part])
        return file.read_row_group(group.number, use_threads=False)

    def _fetch(self, part: _Part, place: _Range) -> bytes:
        data = self._storage.get_range(part.key, place.start, place.end)
        if hashlib.sha256(data).hexdigest() != place.sha256:
            raise DigestMismatch("the bytes are not the recorded ones; restore the object", part.key)
        return data


class EpochOrder:
    """The order in which one epoch reads a dataset: a sampler that starts anywhere and is the same everywhere.

    Row groups come in random order; the rows of ``window_groups`` of them are mixed. Every row comes exactly once. The
    order depends on seed and epoch alone, not on the number of workers.
    """

    def __init__(
        self, group_sizes: Sequence[int], seed: int, epoch: int = 0, start: int = 0, window_groups: int = WINDOW_GROUPS
    ) -> None:
        """Describe an epoch.

        Args:
            group_sizes: Rows per row group, as ``PairReader.group_sizes`` has them.
            seed: Seed of the run.
            epoch: 0-based epoch.
            start: How many rows of the epoch were read before; the order continues there.
            window_groups: Row groups mixed with each other, at least 1.
        """
        self._group_sizes = np.asarray(group_sizes, dtype=np.int64)
        self._key = (seed, epoch)
        self._start = start
        self._window_groups = max(1, window_groups)

    def __len__(self) -> int:
        """Return the number of rows that are left."""
        return max(0, int(self._group_sizes.sum()) - self._start)

    def __iter__(self) -> Iterator[int]:
        """Yield row numbers."""
        return iter(self.rows().tolist())

    def rows(self) -> NDArray[np.int64]:
        """Return the row numbers that are left, int64 ``[N]``."""
        rng = np.random.default_rng(self._key)
        firsts = np.cumsum(self._group_sizes) - self._group_sizes
        groups = rng.permutation(len(self._group_sizes))
        windows = []
        for start in range(0, len(groups), self._window_groups):
            members = groups[start : start + self._window_groups]
            rows = [np.arange(firsts[group], firsts[group] + self._group_sizes[group]) for group in members]
            windows.append(rng.permutation(np.concatenate(rows)))
        order = np.concatenate(windows) if windows else np.zeros(0, dtype=np.int64)
        return order[self._start :].astype(np.int64, copy=False)


class _PartView(io.RawIOBase):
    """A part of which only one range of bytes is at hand, at its right place."""

    def __init__(self, num_bytes: int, start: int, data: bytes) -> None:
        super().__init__()
        self._num_bytes, self._start, self._data = num_bytes, start, memoryview(data)
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._num_bytes}[whence]
        self._position = base + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        wanted = self._num_bytes - self._position if size < 0 else min(size, self._num_bytes - self._position)
        first = self._position - self._start
        if first < 0 or first + wanted > len(self._data):
            raise OSError("bytes outside the range that was fetched")
        self._position += wanted
        return bytes(self._data[first : first + wanted])
