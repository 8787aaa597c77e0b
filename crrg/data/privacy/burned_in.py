"""Text that a machine burned into the pixels: rows of small, even, equally high shapes on one line.

Names, dates and numbers in a corner stay in a film however well its header is cleaned. This finds them without reading
them: first the few cells of the film that are dense in hard edges both ways, and only there strokes, letters and rows.
What is allowed on a legal film is told by ``marker_words``. Knows no header and no file format.

Source: DICOM PS3.15 E.3.1 (clean pixel data), PS3.3 C.7.6.1 (BurnedInAnnotation).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from crrg.data.marker_words import count_unread, is_marker
from crrg.errors import ImageError

MIN_CHARACTERS = 6
"""A shorter row names nobody: side letters, initials, a time of day."""
_MIN_MARKER_CHARACTERS = 2
_MAX_UNREAD = 3
"""Letters beside words of position: ``AP``, ``45`` or a clip; three name nobody."""
_Grey: TypeAlias = NDArray[np.uint8]
_Box: TypeAlias = "tuple[int, int, int, int]"
_MIN_STEP = 40
"""Grey levels of 255 between a stroke and what lies around it."""
_STEP_OVER_GRAIN = 6.5
"""The same over the median step between neighbours, so that grain is not taken for strokes."""
_CELL_PIXELS = 16
_EDGE_SHARE = 0.03
"""Share of hard edges in a neighbourhood of 3 x 3 cells, along each axis, from which letters are looked for."""
_MAX_STROKE_PIXELS = 19
_TILE_PIXELS = 768
_TILE_OVERLAP_PIXELS = 256
_MIN_HEIGHT_PIXELS, _MAX_HEIGHT_PIXELS = 6, 72
_MAX_COMPONENTS = 1500
_PEAK_PIXELS = 31
_INK_SHARES = (0.5, 0.35, 0.65)
"""Share of the strongest stroke nearby from which a pixel is ink."""
_MORE_EVEN = 0.1
_MIN_CRISPNESS = 0.38
"""Share of a stroke's contrast that is reached across three pixels of its edge."""
_WIDEST_LETTER, _NARROW_PITCH = 1.3, 0.62
"""Width of a letter, and distance of letters in a narrow type face, over the height of a capital."""


@dataclass(frozen=True)
class TextRow:
    """A row of letters.

    Attributes:
        box_xyxy: Where it lies, pixels of the film.
        num_characters: How many letters, about.
        is_upright: Whether it runs from left to right; else the text is turned by a quarter.
    """

    box_xyxy: tuple[int, int, int, int]
    num_characters: int
    is_upright: bool


def check_no_burned_in_text(grey: NDArray[Any]) -> None:
    """Refuse a film on which a row of text stands that is no side or position marker.

    Args:
        grey: uint8, uint16 or int16 ``[H, W]`` at full resolution, either polarity.

    Raises:
        ImageError: PHI.BURNED_IN.
    """
    if find_text(grey):
        raise ImageError(
            "a row of text is burned into the picture; blank it or send the original", code="PHI.BURNED_IN"
        )


def find_text(grey: NDArray[Any]) -> list[TextRow]:
    """Return the rows of text on a film, markers left out; empty where there is none.

    Args:
        grey: uint8, uint16 or int16 ``[H, W]`` at full resolution, either polarity.
    """
    found: list[_Found] = []
    levels = _to_8_bits(grey)
    across, along = cv2.absdiff(levels[:, 2:], levels[:, :-2]), cv2.absdiff(levels[2:], levels[:-2])
    min_step = max(_MIN_STEP, int(_STEP_OVER_GRAIN * np.median(across[::8, ::8])))
    for left, top, right, bottom in _tiles(_candidates(across, along, min_step)):
        tile = levels[top:bottom, left:right]
        for is_upright in (True, False):
            turned = np.ascontiguousarray(tile if is_upright else tile.T)
            found += [each.moved(left, top, is_upright) for each in _rows_of(turned, min_step)]
    return [
        TextRow(each.box, each.num_characters, each.is_upright)
        for each in found
        if each.num_characters >= MIN_CHARACTERS and not each.is_marker and not any(map(each.is_ghost_of, found))
    ]


@dataclass(frozen=True)
class _Found:
    """Shapes on a line that are text of some kind.

    Attributes:
        box: x1, y1, x2, y2.
        num_characters: How many letters, about.
        evenness: Share of letters with one height on one line; 0 where letters touch.
        is_marker: Whether it reads as words that are legal on a film.
        is_bright: Whether ink is brighter than paper.
        is_upright: Whether it runs from left to right.
    """

    box: _Box
    num_characters: int
    evenness: float
    is_marker: bool
    is_bright: bool
    is_upright: bool = True

    def moved(self, left: int, top: int, is_upright: bool) -> _Found:
        """Return the same row in pixels of the film."""
        x1, y1, x2, y2 = self.box if is_upright else (self.box[1], self.box[0], self.box[3], self.box[2])
        return replace(self, box=(left + x1, top + y1, left + x2, top + y2), is_upright=is_upright)

    def is_ghost_of(self, other: _Found) -> bool:
        """Return whether this is the ground between another row's letters, or a piece of a marker."""
        x1, y1, x2, y2 = self.box
        left, top, right, bottom = other.box
        shared = max(0, min(x2, right) - max(x1, left)) * max(0, min(y2, bottom) - max(y1, top))
        if shared <= (x2 - x1) * (y2 - y1) / 2:
            return False
        return other.is_marker or (self.is_bright != other.is_bright and other.evenness > self.evenness + _MORE_EVEN)


def _to_8_bits(grey: NDArray[Any]) -> _Grey:
    """Return the film in 256 steps between its 1st and 99th percentile; text beyond them is cut to their ends."""
    if grey.dtype == np.uint8:
        return np.ascontiguousarray(grey)
    low, high = (float(value) for value in np.percentile(grey[::8, ::8], (1, 99)))
    scale = 255 / max(high - low, 1.0)
    values = np.ascontiguousarray(grey.astype(np.float32) if grey.dtype == np.int16 else grey)
    # OpenCV takes the absolute value, which would fold what is darker than the window back into it
    values = np.maximum(values, values.dtype.type(max(low, 0) if values.dtype.kind == "u" else low))
    return np.asarray(cv2.convertScaleAbs(values, alpha=scale, beta=-low * scale), dtype=np.uint8)


def _candidates(across: _Grey, along: _Grey, min_step: int) -> Iterator[_Box]:
    """Yield boxes that hold hard edges both ways, close together."""
    height, width = across.shape[0], along.shape[1]
    shares = [_edge_share(steps, min_step, height, width) for steps in (across, along)]
    dense = ((shares[0] > _EDGE_SHARE) & (shares[1] > _EDGE_SHARE)).astype(np.uint8)
    if not dense.any():
        return
    count, _, boxes, _ = cv2.connectedComponentsWithStats(cv2.dilate(dense, np.ones((3, 3), np.uint8)), connectivity=8)
    for x, y, w, h, _ in boxes[1:count].tolist():
        box = (v * _CELL_PIXELS for v in (x, y, x + w, y + h))
        x1, y1, x2, y2 = box
        yield x1, y1, min(x2, width), min(y2, height)


def _edge_share(steps: _Grey, min_step: int, height: int, width: int) -> NDArray[np.float32]:
    """Return the share of hard edges, 0..1, around each cell of 16 x 16 pixels."""
    rows, columns = -(-height // _CELL_PIXELS), -(-width // _CELL_PIXELS)
    hard = cv2.threshold(steps, min_step, 255, cv2.THRESH_BINARY)[1]
    below, right = rows * _CELL_PIXELS - hard.shape[0], columns * _CELL_PIXELS - hard.shape[1]
    padded = cv2.copyMakeBorder(hard, 0, below, 0, right, cv2.BORDER_CONSTANT, value=0)
    cells = cv2.resize(padded, (columns, rows), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.blur(cells.astype(np.float32) / 255, (3, 3), borderType=cv2.BORDER_REPLICATE), np.float32)


def _tiles(boxes: Iterator[_Box]) -> Iterator[_Box]:
    """Cut large boxes into overlapping ones, which bounds the work on a film full of edges."""
    step = _TILE_PIXELS - _TILE_OVERLAP_PIXELS
    for x1, y1, x2, y2 in boxes:
        for top in range(y1, max(y1 + 1, y2 - _TILE_OVERLAP_PIXELS), step):
            for left in range(x1, max(x1 + 1, x2 - _TILE_OVERLAP_PIXELS), step):
                yield left, top, min(left + _TILE_PIXELS, x2), min(top + _TILE_PIXELS, y2)


def _rows_of(tile: _Grey, min_step: int) -> Iterator[_Found]:
    """Yield the rows that run from left to right, bright or dark."""
    size = np.ones((_MAX_STROKE_PIXELS, _MAX_STROKE_PIXELS), np.uint8)
    for operation in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT):
        strokes = cv2.morphologyEx(tile, operation, size)
        peaks = cv2.dilate(strokes, np.ones((_PEAK_PIXELS, _PEAK_PIXELS), np.uint8))
        letters = _Letters.find(_ink(strokes, peaks, min_step, _INK_SHARES[0]), strokes)
        for row in letters.rows():
            box = letters.bounds(row)
            yield _Found(
                box=box,
                num_characters=letters.num_characters(row),
                evenness=letters.evenness(row),
                is_marker=_reads_as_marker(strokes, peaks, box, min_step),
                is_bright=operation == cv2.MORPH_TOPHAT,
            )


def _ink(strokes: _Grey, peaks: _Grey, min_step: int, share: float) -> _Grey:
    """Return where strokes are, 0 or 1: at least a share of the strongest one nearby."""
    return np.asarray((strokes > share * peaks) & (strokes >= min_step), dtype=np.uint8)


def _reads_as_marker(strokes: _Grey, peaks: _Grey, box: _Box, min_step: int) -> bool:
    """Return whether a row spells legal words with thin, usual or thick strokes: faint ones break, fat ones touch."""
    x1, y1, x2, y2 = max(0, box[0] - 2), max(0, box[1] - 2), box[2] + 2, box[3] + 2
    cut, highest = strokes[y1:y2, x1:x2], peaks[y1:y2, x1:x2]
    for share in _INK_SHARES:
        letters = _Letters.find(_ink(cut, highest, min_step, share), cut)
        if len(letters.boxes) and is_marker(cut, letters.boxes):
            return True
        if len(letters.boxes) >= MIN_CHARACTERS and count_unread(cut, letters.boxes) <= _MAX_UNREAD:
            return True
    return False


@dataclass(frozen=True)
class _Letters:
    """Shapes of ink that may be letters.

    Attributes:
        ink: uint8 ``[H, W]``, 1 = stroke.
        strokes: uint8 ``[H, W]``, contrast of each pixel with what lies around it.
        boxes: ``[N, 4]`` x, y, width, height.
        fill: Share of ink in each box.
        depth: Mean contrast of each shape's ink, 0..255.
    """

    ink: NDArray[np.uint8]
    strokes: _Grey
    boxes: NDArray[np.int64]
    fill: NDArray[np.float64]
    depth: NDArray[np.float64]

    @classmethod
    def find(cls, ink: NDArray[np.uint8], strokes: _Grey) -> _Letters:
        """Return the shapes of a letter's size."""
        count, labels, stats, _ = cv2.connectedComponentsWithStats(ink, connectivity=8)
        stats = stats.astype(np.int64)
        height, width, area = stats[:, 3], stats[:, 2], stats[:, 4]
        fits = (height >= _MIN_HEIGHT_PIXELS) & (height <= _MAX_HEIGHT_PIXELS) & (width <= 12 * height)
        fits[0] = False
        if fits.sum() > _MAX_COMPONENTS:
            # so many shapes are grain, not writing
            fits[:] = False
        depth = np.bincount(labels.ravel(), weights=strokes.ravel(), minlength=count) / np.maximum(area, 1)
        return cls(ink, strokes, stats[fits, :4], (area / (height * width))[fits], depth[fits])

    def rows(self) -> Iterator[NDArray[np.int64]]:
        """Yield the indices of the letters of each row of text."""
        if len(self.boxes) < 2:
            return
        x, y, width, height = self.boxes.T
        right, middle = x + width, y + height / 2
        tallest = np.maximum(height[:, None], height[None])
        gap = np.maximum(x[:, None], x[None]) - np.minimum(right[:, None], right[None])
        near = (gap < 1.3 * tallest) & (gap > -0.35 * tallest)
        level = np.abs(middle[:, None] - middle[None]) < 0.35 * tallest
        alike = np.minimum(height[:, None], height[None]) >= 0.45 * tallest
        groups = _connected(near & level & alike)
        for group in np.unique(groups):
            row = np.flatnonzero(groups == group)
            if self._is_text(row):
                yield row

    def num_characters(self, row: NDArray[np.int64]) -> int:
        """Return about how many characters a row has; letters that touch are counted by their width."""
        relative = self.boxes[row, 2] / self._cap_height(row)
        return int(np.where(relative < _WIDEST_LETTER, 1, np.rint(relative / _NARROW_PITCH)).sum())

    def evenness(self, row: NDArray[np.int64]) -> float:
        """Return the share of letters that have one height and stand on one line, 0 where letters touch."""
        height = self._cap_height(row)
        _, y, width, tall = self.boxes[row].T
        if (width > _WIDEST_LETTER * height).any():
            return 0.0
        tolerance = max(1.5, 0.14 * height)
        bottom = y + tall
        is_even = (np.abs(tall - height) <= tolerance) & (np.abs(bottom - np.median(bottom)) <= tolerance)
        return float(is_even.mean())

    def bounds(self, row: NDArray[np.int64]) -> tuple[int, int, int, int]:
        """Return the box of a row as x1, y1, x2, y2."""
        x, y, width, height = self.boxes[row].T
        return int(x.min()), int(y.min()), int((x + width).max()), int((y + height).max())

    def _cap_height(self, row: NDArray[np.int64]) -> float:
        return float(np.percentile(self.boxes[row, 3], 75))

    def _is_text(self, row: NDArray[np.int64]) -> bool:
        """Return whether shapes on a line have what letters have and ribs, wires, clips and rulers have not."""
        if self.num_characters(row) < _MIN_MARKER_CHARACTERS:
            return False
        height = self._cap_height(row)
        _, y, width, tall = self.boxes[row].T
        tolerance = max(1.5, 0.14 * height)
        bottom, top = y + tall, y
        stands = float((np.abs(bottom - np.median(bottom)) <= tolerance).mean())
        reaches = max(float((np.abs(top - edge) <= tolerance).mean()) for edge in top)
        if stands < 0.6 or reaches < 0.4:
            return False
        weights = width / width.sum()
        mean_depth = float((weights * self.depth[row]).sum())
        spread = float(np.sqrt((weights * (self.depth[row] - mean_depth) ** 2).sum())) / mean_depth
        mean_fill = float((weights * self.fill[row]).sum())
        bars = float((width < 0.3 * height).mean())
        varies = float(self.fill[row].std()) > 0.03 or float(width.std()) > 0.06 * height
        return (
            spread < 0.25
            and 0.2 < mean_fill < 0.8
            and bars < 0.75
            and varies
            and self._is_crossed(row, height)
            and self._is_crisp(row)
        )

    def _is_crossed(self, row: NDArray[np.int64], height: float) -> bool:
        """Return whether lines through a row meet about as many strokes as letters do."""
        x1, y1, x2, y2 = self.bounds(row)
        lines = self.ink[y1 + (y2 - y1) // 5 : y2 - (y2 - y1) // 5 : max(1, int(height) // 6), x1:x2].astype(np.int8)
        crossings = float((np.diff(lines, axis=1, prepend=0) == 1).sum(axis=1).mean())
        return 0.7 <= crossings / self.num_characters(row) <= 3.5

    def _is_crisp(self, row: NDArray[np.int64]) -> bool:
        """Return whether strokes end within two or three pixels, which shadows and grain do not."""
        x1, y1, x2, y2 = self.bounds(row)
        left = max(0, x1 - 2)
        ink, strokes = self.ink[y1:y2, left : x2 + 2], self.strokes[y1:y2, left : x2 + 2].astype(np.int16)
        edges = ink[:, 1:-2] != ink[:, 2:-1]
        steps = np.abs(strokes[:, 3:] - strokes[:, :-3])[edges]
        return bool(len(steps)) and float(steps.mean()) >= _MIN_CRISPNESS * float(self.depth[row].mean())


def _connected(links: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return a group number per node of a graph, equal for nodes that are linked directly or over others."""
    groups = np.arange(len(links))
    while True:
        reached = np.where(links, groups[None], len(links)).min(axis=1)
        smaller = np.minimum(groups, reached)
        if (smaller == groups).all():
            return groups
        groups = smaller[smaller]
