"""Whether the end of a JPEG was read or made up.

Decoders fill what a cut codestream does not hold with mid grey, or with the last row, and say nothing. Where a picture
ends like that, it is decoded once more with other bytes put before its end marker: a whole codestream never reads
them, a cut one shows them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crrg.errors import ImageError

_BLOCK = 8
_PROBE = bytes((37 * i * i + 101 * i + 59) % 251 for i in range(512))


def check_not_filled(
    data: bytes, end: int, values: NDArray[Any], precision: int, decode: Callable[[bytes], NDArray[Any]]
) -> None:
    """Refuse a picture whose end the decoder made up.

    Args:
        data: The codestream, not progressive.
        end: Offset behind its end marker.
        values: The decoded picture, ``[H, W]`` or ``[H, W, 3]``, in any turn.
        precision: Bits per sample.
        decode: Gives such a picture for a codestream.

    Raises:
        ImageError: DECODE.TRUNCATED.
    """
    if not _ends_like_a_fill(values, 1 << (precision - 1)):
        return
    if not np.array_equal(values, decode(data[: end - 2] + _PROBE + data[end - 2 :])):
        raise ImageError("the codestream ends before the picture does", code="DECODE.TRUNCATED")


def _ends_like_a_fill(values: NDArray[Any], mid_grey: int) -> bool:
    """Return whether a corner is mid grey or an outer row or column has one value."""
    corners = (values[rows, columns] for rows in _ENDS for columns in _ENDS)
    edges = (values[-1], values[0], values[:, 0], values[:, -1])
    return any(bool((corner == mid_grey).all()) for corner in corners) or any(
        bool((edge == edge[0]).all()) for edge in edges
    )


_ENDS = (slice(None, _BLOCK), slice(-_BLOCK, None))
