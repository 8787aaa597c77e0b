"""One split of a dataset as arrays that a training stage can index.

Row groups are read in threads, and films are letterboxed to the model's size while reading, so that a split of 1,000
films of 128 px takes 16 MB. What exceeds ``MAX_HELD_BYTES`` lies in a temporary file that the arrays are mapped to: any
row is read when it is asked for, in any order, and memory stays flat from a thousand films to a million. Knows no
tensors and no loop.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import IO

import numpy as np
from numpy.typing import NDArray

from crrg.config.references import DatasetRef
from crrg.data.dataset.pairs import TEXT_COLUMNS, read_tables
from crrg.data.dataset.reader import PairReader
from crrg.data.dataset.spaced import sampled_films
from crrg.data.images import model_input
from crrg.data.map_ahead import map_ahead
from crrg.domain.boxes import Letterbox
from crrg.domain.labels import LABEL_INDEX, NUM_LABELS, LabelValues, deny_unmentioned
from crrg.domain.regions import NUM_REGIONS, REGION_INDEX
from crrg.domain.report import Report
from crrg.domain.study import Pair, Split
from crrg.local_files import full_disk_named
from crrg.storage import Storage

UNMENTIONED = -2
"""Stands in ``FilmTable.labels`` where a label is unmentioned: masked."""
UNKNOWN = -1
"""Stands in ``FilmTable.is_abnormal`` where nothing is known of a region."""


MAX_HELD_BYTES = 2 * 2**30
"""Pictures of a split that stay in memory; more go to a file in the folder for temporary files (``TMPDIR``)."""


@dataclass(frozen=True)
class FilmTable:
    """The frontal films of one split (or its lateral ones), row by row.

    Attributes:
        images: uint8 ``[N, S, S]``, letterboxed, white = dense; mapped to a file where they are many.
        original_sizes: int32 ``[N, 2]``, width and height in original pixels.
        input_boxes_xyxy: float32 ``[N, 29, 4]`` in input pixels; NaN where a region is un-annotated.
        phrases: Per film, region name to phrase; only regions that have one.
        is_abnormal: int8 ``[N, 29]``: 1, 0, or -1 where unknown.
        labels: int8 ``[N, 14]``: 1, 0, -1 uncertain, -2 unmentioned.
        reports: Per film, the findings section; empty where there is none.
        texts: Per film, all sections.
        patient_ids: Per film, the patient's pseudonym.
        instance_ids: Per film, its own pseudonym.
        study_ids: Per film, the pseudonym of its examination; empty where the table knows none.
        kept_sizes: int32 ``[N, 2]``, width and height of the pictures that became ``images``; ``None`` where those are
            the original ones.
        has_read_report: bool ``[N]``, whether its report was read for labels (``Pair.has_read_report``); ``None`` where
            none was.
    """

    images: NDArray[np.uint8]
    original_sizes: NDArray[np.int32]
    input_boxes_xyxy: NDArray[np.float32]
    phrases: list[dict[str, str]]
    is_abnormal: NDArray[np.int8]
    labels: NDArray[np.int8]
    reports: list[str]
    texts: list[Report]
    patient_ids: list[str]
    instance_ids: list[str]
    study_ids: list[str] = field(default_factory=list)
    kept_sizes: NDArray[np.int32] | None = None
    has_read_report: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        """Return the number of films."""
        return len(self.instance_ids)

    @property
    def is_annotated(self) -> NDArray[np.bool_]:
        """Whether any region of a film is annotated, ``[N]``."""
        return np.asarray(np.isfinite(self.input_boxes_xyxy).all(axis=-1).any(axis=-1))

    def letterbox(self, row: int) -> Letterbox:
        """Return how a film lies in its row of ``images``."""
        width, height = self.original_sizes[row].tolist()
        kept = None if self.kept_sizes is None else tuple(self.kept_sizes[row].tolist())
        return Letterbox(width, height, self.images.shape[-1], kept_size=kept)


def has_boxes(pair: Pair) -> bool:
    """Return whether any region of a row is annotated."""
    return bool(pair.regions)


def load_films(
    storage: Storage,
    dataset: DatasetRef,
    split: Split,
    size: int,
    limit: int = 0,
    *,
    keep: Callable[[Pair], bool] = lambda _pair: True,
    laterals: bool = False,
    unmentioned_absent: bool = False,
) -> FilmTable:
    """Read the frontal films of a split, or its lateral ones, ready for a model of one input size.

    Args:
        storage: Where ``datasets/`` lies.
        dataset: The version to read.
        split: Part of it.
        size: Side of the model's square input, pixels.
        limit: Most films to read; 0 = all.
        keep: Which rows to take, beside the view.
        laterals: Whether to read the films that are not frontal instead.
        unmentioned_absent: Whether labels are ``deny_unmentioned``.

    Returns:
        The films in dataset order; text-only rows and films of the other view are left out. Empty arrays where there is
        none.

    Raises:
        DigestMismatch: The bytes of a row group are not the recorded ones.
        StorageError: There is no such version.
    """
    pairs: list[Pair] = []
    images = _Pictures(size)
    reader = PairReader(storage, dataset, split)

    def prepare(group: int) -> list[tuple[Pair, NDArray[np.uint8]]]:
        return [
            (_without_pixels(pair), model_input(pair.film.pixels, size))
            for pair in reader.group(group)
            if pair.film is not None and pair.film.view_position.is_frontal != laterals and keep(pair)
        ]

    with closing(map_ahead(prepare, range(len(reader.group_sizes)))) as groups:
        for pair, image in islice(chain.from_iterable(groups), limit or None):
            images.add(image)
            pairs.append(pair)
    values = [deny_unmentioned(pair.labels) if unmentioned_absent else pair.labels for pair in pairs]
    return _film_table(pairs, values, images.array(), size)


def sample_films(
    storage: Storage,
    dataset: DatasetRef,
    split: Split,
    size: int,
    most: int,
    *,
    keep: Callable[[Pair], bool] = lambda _pair: True,
) -> FilmTable:
    """Read frontal films that stand for a split (``sampled_films``), ready for a model of one input size.

    Args:
        storage: Where ``datasets/`` lies.
        dataset: The version to read.
        split: Part of it.
        size: Side of the model's square input, pixels.
        most: Most films; 0 takes all.
        keep: Which rows to take, beside the view.

    Returns:
        The films in dataset order; empty arrays where there is none.

    Raises:
        DigestMismatch: The bytes of a row group are not the recorded ones.
        StorageError: There is no such version.
    """
    if not most:
        return load_films(storage, dataset, split, size, keep=keep)
    pairs: list[Pair] = []
    images = _Pictures(size)
    for pair, film in sampled_films(storage, dataset, split, most, keep=keep):
        images.add(model_input(film.pixels, size))
        pairs.append(_without_pixels(pair))
    return _film_table(pairs, [pair.labels for pair in pairs], images.array(), size)


def load_texts(storage: Storage, dataset: DatasetRef, split: Split) -> list[Report]:
    """Read the report of every row of a split, text-only rows too, in dataset order."""
    return [Report(**row) for table in read_tables(storage, dataset, split, TEXT_COLUMNS) for row in table.to_pylist()]


class _Pictures:
    """Equal pictures one after the other: in memory while they are few, then in a file without a name."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._held: list[NDArray[np.uint8]] = []
        self._file: IO[bytes] | None = None
        self._num = 0

    def add(self, picture: NDArray[np.uint8]) -> None:
        self._num += 1
        self._held.append(picture)
        if len(self._held) * picture.nbytes > (0 if self._file else MAX_HELD_BYTES):
            self._spill()

    def array(self) -> NDArray[np.uint8]:
        shape = (self._num, self._size, self._size)
        if self._file is None:
            return np.stack(self._held) if self._held else np.zeros(shape, dtype=np.uint8)
        with full_disk_named("films of a split"):
            self._file.flush()
        # the mapping keeps the file, which no folder names any more, until the last array is gone
        return np.memmap(self._file, np.uint8, "c", shape=shape)

    def _spill(self) -> None:
        self._file = self._file or tempfile.TemporaryFile(prefix="crrg-films-")  # noqa: SIM115 - outlives this call
        with full_disk_named("films of a split"):
            for picture in self._held:
                self._file.write(np.ascontiguousarray(picture).tobytes())
        self._held = []


def _film_table(pairs: list[Pair], values: list[LabelValues], images: NDArray[np.uint8], size: int) -> FilmTable:
    num = len(pairs)
    boxes = np.full((num, NUM_REGIONS, 4), np.nan, dtype=np.float32)
    is_abnormal = np.full((num, NUM_REGIONS), UNKNOWN, dtype=np.int8)
    labels = np.full((num, NUM_LABELS), UNMENTIONED, dtype=np.int8)
    original_sizes, kept_sizes = np.zeros((num, 2), dtype=np.int32), np.zeros((num, 2), dtype=np.int32)
    phrases: list[dict[str, str]] = []
    for row, pair in enumerate(pairs):
        if pair.film is None:
            raise AssertionError("unreachable: only rows with a film are kept")
        original_sizes[row] = pair.film.original_width, pair.film.original_height
        kept_sizes[row] = pair.film.pixels.shape[::-1]
        letterbox = pair.film.letterbox(size)
        for annotation in pair.regions:
            index = REGION_INDEX[annotation.region]
            boxes[row, index] = letterbox.to_input(np.array(annotation.box_xyxy))
            if annotation.is_abnormal is not None:
                is_abnormal[row, index] = annotation.is_abnormal
        for label, value in values[row].items():
            if value is not None:
                labels[row, LABEL_INDEX[label]] = value
        phrases.append({a.region: a.phrase for a in pair.regions if a.phrase is not None})
    return FilmTable(
        images=images,
        original_sizes=original_sizes,
        input_boxes_xyxy=boxes,
        phrases=phrases,
        is_abnormal=is_abnormal,
        labels=labels,
        reports=[pair.report.findings or "" for pair in pairs],
        texts=[pair.report for pair in pairs],
        patient_ids=[pair.patient_id for pair in pairs],
        instance_ids=[pair.instance_id for pair in pairs],
        study_ids=[pair.study_id for pair in pairs],
        kept_sizes=kept_sizes,
        has_read_report=np.array([pair.has_read_report for pair in pairs], dtype=np.bool_),
    )


def _without_pixels(pair: Pair) -> Pair:
    """Drop a film's pixels but not their number, so that a row group's memory can go."""
    if pair.film is None:
        return pair
    return replace(pair, film=replace(pair.film, pixels=np.broadcast_to(np.uint8(0), pair.film.pixels.shape)))
