"""Boxes of regions that people drew: from masks of the lungs, or from a table of boxes.

A mask is a PNG of the film's size or a smaller one, 0 = background, 1 = right lung, 2 = left lung; right is the
patient's, on the left of a frontal film. A table has a column that names the film, ``label``, ``x1``, ``y1``, ``x2``,
``y2`` in the film's pixels (maximum exclusive) and, where known, ``source``. Masks come from the owner of the archive,
not from a device, so they are decoded here: as PNG alone, after their header and length were checked.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from crrg.data.archives.tables import Row, text_of
from crrg.data.pictures import PNG_MAGIC, check_png
from crrg.domain.regions import REGION_INDEX
from crrg.domain.study import RegionAnnotation, RegionSource
from crrg.errors import AnnotationError, DataError

REGION_OF_VALUE: Mapping[int, str] = {1: "right lung", 2: "left lung"}
BOX_COLUMNS = ("x1", "y1", "x2", "y2")
_MADE_FROM_MASK = "mask"


def boxes_of_mask(data: bytes) -> tuple[tuple[RegionAnnotation, ...], tuple[int, int]]:
    """Return the extent of each lung in a mask, and the mask's width and height.

    A lung that is not there has no box.

    Args:
        data: The whole PNG file.

    Raises:
        AnnotationError: GEOMETRY.MASK where it is no single-channel PNG of whole lungs.
        ImageError: LIMIT or PARSE, as for a film.
    """
    if not data.startswith(PNG_MAGIC):
        raise AnnotationError("a mask must be a PNG file", code="GEOMETRY.MASK")
    check_png(data)
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
            if picture.mode not in ("L", "P"):
                raise AnnotationError("a mask must have one channel of 8 bits", code="GEOMETRY.MASK")
            values = np.asarray(picture)
    except (OSError, ValueError, SyntaxError) as error:
        raise AnnotationError(f"the mask cannot be decoded ({type(error).__name__})", code="GEOMETRY.MASK") from error
    found = np.unique(values)
    if not set(found.tolist()) <= {0, *REGION_OF_VALUE}:
        raise AnnotationError("a mask holds values other than 0, 1 and 2", code="GEOMETRY.MASK")
    annotations = []
    for value in REGION_OF_VALUE.keys() & set(found.tolist()):
        rows, columns = (np.flatnonzero((values == value).any(axis=axis)) for axis in (1, 0))
        box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
        annotations.append(RegionAnnotation(REGION_OF_VALUE[value], box, None, None, RegionSource.MASK))
    height, width = values.shape
    return _in_region_order(annotations), (width, height)


def is_box_table(row: Mapping[str, Any]) -> bool:
    """Return whether a table's row is one box of a film."""
    return "label" in row and all(name in row for name in BOX_COLUMNS)


def boxes_of_rows(rows: Iterable[Row], file_columns: Iterable[str]) -> dict[str, tuple[RegionAnnotation, ...]]:
    """Return the boxes of a table by the name of their film.

    A label that is no region is passed over. Of several boxes of one region on one film, one made from a mask counts,
    else the first.

    Args:
        rows: One box each.
        file_columns: Columns of which one names the film.

    Raises:
        DataError: PARSE.TABLE where a coordinate is no number.
    """
    names = tuple(file_columns)
    boxes: dict[str, dict[str, tuple[bool, RegionAnnotation]]] = {}
    for row in rows:
        region = text_of(row, "label").lower()
        if region not in REGION_INDEX:
            continue
        is_from_mask = _MADE_FROM_MASK in text_of(row, "source").lower()
        of_film = boxes.setdefault(text_of(row, *names), {})
        if region not in of_film or (is_from_mask and not of_film[region][0]):
            of_film[region] = (is_from_mask, _annotation(region, row))
    return {
        name: _in_region_order([annotation for _, annotation in of_film.values()]) for name, of_film in boxes.items()
    }


def _annotation(region: str, row: Row) -> RegionAnnotation:
    try:
        x1, y1, x2, y2 = (float(text_of(row, name)) for name in BOX_COLUMNS)
    except ValueError as error:
        raise DataError("a coordinate in the table of boxes is not a number", code="PARSE.TABLE") from error
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        raise DataError("a coordinate in the table of boxes is not finite", code="PARSE.TABLE")
    return RegionAnnotation(region, (x1, y1, x2, y2), None, None, RegionSource.MASK)


def _in_region_order(annotations: Iterable[RegionAnnotation]) -> tuple[RegionAnnotation, ...]:
    return tuple(sorted(annotations, key=lambda annotation: REGION_INDEX[annotation.region]))
