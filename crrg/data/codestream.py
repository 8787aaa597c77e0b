"""What a compressed picture says of itself, read without decoding it.

A frame header may promise more pixels than the DICOM header or the memory holds, and a cut codestream may decode into
a grey lower half: both are told here first. Knows JPEG, JPEG-LS and JPEG 2000 marker segments, nothing of pixels.

Source: ITU-T T.81 annex B, T.87 annex C, T.800 annex A.
"""

from __future__ import annotations

from dataclasses import dataclass

from crrg.errors import DataError

MAX_PIXELS = 100_000_000
_JPEG_FRAMES = frozenset([*range(0xC0, 0xD0), 0xF7]) - {0xC4, 0xC8, 0xCC}
_STANDALONE = frozenset([0x01, *range(0xD0, 0xD9)])
_J2K_START = b"\xff\x4f\xff\x51"


@dataclass(frozen=True)
class FrameHeader:
    """Size and depth that a codestream announces.

    Attributes:
        width: Pixels.
        height: Pixels.
        num_components: Samples per pixel.
        precision: Bits per sample.
    """

    width: int
    height: int
    num_components: int
    precision: int


def check_pixel_limit(width: int, height: int) -> None:
    """Refuse a picture that is too large to decode.

    Raises:
        DataError: LIMIT.PIXELS.
    """
    if width * height > MAX_PIXELS:
        raise DataError(f"{width} x {height} pixels, at most {MAX_PIXELS} are decoded", code="LIMIT.PIXELS")


def read_jpeg_header(data: bytes) -> FrameHeader:
    """Read the frame header of a JPEG or JPEG-LS codestream.

    Raises:
        DataError: DECODE.CODESTREAM where the marker segments make no sense.
    """
    position = 2
    while data[:2] == b"\xff\xd8" and position + 4 <= len(data):
        if data[position] != 0xFF:
            break
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker in _STANDALONE:
            position += 2
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        if marker in _JPEG_FRAMES:
            segment = data[position + 4 : position + 2 + length]
            if len(segment) >= 6:
                height, width = int.from_bytes(segment[1:3], "big"), int.from_bytes(segment[3:5], "big")
                return FrameHeader(width, height, num_components=segment[5], precision=segment[0])
            break
        if marker in (0xD9, 0xDA) or length < 2:
            break
        position += 2 + length
    raise DataError("the JPEG codestream has no frame header", code="DECODE.CODESTREAM")


def read_j2k_header(data: bytes) -> FrameHeader:
    """Read the image size segment of a JPEG 2000 codestream, raw or in a JP2 file.

    Raises:
        DataError: DECODE.CODESTREAM where there is none.
    """
    start = data.find(_J2K_START)
    segment = data[start + 6 : start + 6 + 40]
    if start < 0 or len(segment) < 39:
        raise DataError("the JPEG 2000 codestream has no size segment", code="DECODE.CODESTREAM")
    x_size, y_size, x_offset, y_offset = (int.from_bytes(segment[i : i + 4], "big") for i in (2, 6, 10, 14))
    num_components = int.from_bytes(segment[34:36], "big")
    return FrameHeader(
        width=max(0, x_size - x_offset),
        height=max(0, y_size - y_offset),
        num_components=num_components,
        precision=(segment[36] & 0x7F) + 1,
    )


def check_jpeg_complete(data: bytes) -> None:
    """Refuse a JPEG or JPEG-LS codestream without its end marker.

    Raises:
        DataError: DECODE.TRUNCATED.
    """
    if b"\xff\xd9" not in data[-64:]:
        raise DataError("the codestream has no end marker, it was cut", code="DECODE.TRUNCATED")


def check_j2k_complete(data: bytes) -> None:
    """Refuse a JPEG 2000 codestream whose tile parts or end marker are missing.

    Raises:
        DataError: DECODE.TRUNCATED, or DECODE.CODESTREAM where no tile part begins.
    """
    start = data.find(_J2K_START)
    position = start + 2
    while data[position : position + 2] != b"\xff\x90":
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        if data[position : position + 1] != b"\xff" or length < 2:
            raise DataError("the JPEG 2000 main header is damaged", code="DECODE.CODESTREAM")
        position += 2 + length
    while data[position : position + 2] == b"\xff\x90":
        length = int.from_bytes(data[position + 6 : position + 10], "big")
        if length == 0:
            break
        if length < 14 or position + length > len(data):
            raise DataError("a tile part ends beyond the codestream, it was cut", code="DECODE.TRUNCATED")
        position += length
    if b"\xff\xd9" not in data[position:][-64:]:
        raise DataError("the codestream has no end marker, it was cut", code="DECODE.TRUNCATED")
