"""Rectangles on a film and the one place where they change frame.

``box_xyxy`` is ``(x1, y1, x2, y2)`` in float pixels of the *original image*: origin at the top left corner, x to the
right, y down, the maximum exclusive. ``input_boxes_xyxy`` are the same rectangles in model-input pixels; only
``Letterbox`` converts between the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

BoxXyxy: TypeAlias = tuple[float, float, float, float]
FloatArray: TypeAlias = NDArray[np.floating[Any]]


def box_iou(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return the intersection over union of boxes pair by pair.

    Args:
        first: Boxes ``[..., 4]``, any one frame.
        second: Boxes ``[..., 4]`` in the same frame, broadcast against ``first``.

    Returns:
        IoU ``[...]`` in 0..1; 0 where both boxes are empty.
    """
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., 2:], second[..., 2:])
    inter = np.prod(np.clip(high - low, 0, None), axis=-1)
    union = box_area(first) + box_area(second) - inter
    return np.asarray(np.divide(inter, union, out=np.zeros_like(np.asarray(inter, dtype=float)), where=union > 0))


def box_area(boxes: FloatArray) -> FloatArray:
    """Return the area of boxes ``[..., 4]`` in squared pixels; inverted boxes have area 0."""
    return np.asarray(np.prod(np.clip(boxes[..., 2:] - boxes[..., :2], 0, None), axis=-1))


@dataclass(frozen=True)
class Letterbox:
    """How a film lies in a square model input: scaled, aspect kept, centred, padded.

    A film is kept in whole pixels, smaller than the original, and fitted into the square from there in whole pixels
    again: where both sizes are not told, its edges would be taken to lie up to a pixel from where they are.

    Attributes:
        width: Width of the film the boxes belong to, pixels.
        height: Height of that film, pixels.
        size: Side of the square input, pixels.
        kept_size: Width and height of the picture that was fitted into the square; ``None`` if it is the film itself.
    """

    width: int
    height: int
    size: int
    kept_size: tuple[int, int] | None = None

    @property
    def inner_size(self) -> tuple[int, int]:
        """Width and height of the film inside the input, at least one pixel each."""
        width, height = self.kept_size or (self.width, self.height)
        scale = self.size / max(width, height)
        return max(1, round(width * scale)), max(1, round(height * scale))

    @property
    def offset(self) -> tuple[int, int]:
        """Left and top padding, pixels."""
        inner_width, inner_height = self.inner_size
        return (self.size - inner_width) // 2, (self.size - inner_height) // 2

    def to_input(self, boxes_xyxy: FloatArray) -> FloatArray:
        """Map boxes ``[..., 4]`` from original to input pixels."""
        return boxes_xyxy * self._scales() + self._offsets()

    def to_original(self, input_boxes_xyxy: FloatArray) -> FloatArray:
        """Map boxes ``[..., 4]`` from input to original pixels, clipped to the film."""
        boxes = (input_boxes_xyxy - self._offsets()) / self._scales()
        return np.clip(boxes, 0, np.array([self.width, self.height] * 2, dtype=float))

    def _scales(self) -> FloatArray:
        inner_width, inner_height = self.inner_size
        return np.array([inner_width / self.width, inner_height / self.height] * 2)

    def _offsets(self) -> FloatArray:
        return np.array([*self.offset, *self.offset], dtype=float)
