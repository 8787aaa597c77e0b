"""What a compressed picture says of itself, read without decoding it.

A frame header may promise more pixels than the DICOM header or the memory holds, and a cut codestream may decode into
a grey lower half: both are told here first. Knows JPEG, JPEG-LS and JPEG 2000 marker segments, nothing of pixels.

Source: ITU-T T.81 annex B, T.87 annex C, T.800 annex A.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crrg.data.decoding.limits import in_force
from crrg.errors import DataError

MAX_SCANS = 100
"""Passes over one JPEG; a legal progressive one has about ten, and each costs as much as a picture."""
MAX_TILES = 65_535
MAX_PACKETS = 2_000_000
"""Packets of a JPEG 2000 tile (layers x precincts x components), for which a decoder keeps records."""
MAX_CODESTREAM_TAIL = 64
_JPEG_FRAMES = frozenset([*range(0xC0, 0xD0), 0xF7]) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = 0xC2
_STANDALONE = frozenset([0x01, *range(0xD0, 0xD9)])
_MARKERS = frozenset([0xC4, 0xCC, *range(0xD9, 0xF0), 0xF8, 0xFE, 0xFF]) | _JPEG_FRAMES | _STANDALONE
_START_OF_SCAN, _END = 0xDA, 0xD9
_SCANNED_BYTES = 2**20


def _ends_scan(*inside: range) -> NDArray[np.bool_]:
    """Return for each byte whether a scan ends where it follows 0xFF: all but the ones that may stand inside."""
    ends = np.ones(256, np.bool_)
    for values in (*inside, range(0xD0, 0xD8), range(0xFF, 0x100)):
        ends[values.start : values.stop] = False
    return ends


_ENDS_SCAN = _ends_scan(range(1))
_ENDS_LS_SCAN = _ends_scan(range(0x80))
"""After 0xFF, JPEG-LS stuffs a bit where JPEG stuffs a byte."""
_J2K_START = b"\xff\x4f\xff\x51"
_J2K_COD = 0x52
_PROGRAMS = (b"PK", b"MZ", b"\x7fELF", b"#!", b"Rar!", b"%PDF", b"<?php", b"<script")


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


@dataclass(frozen=True)
class JpegForm:
    """What the markers of a whole JPEG say.

    Attributes:
        end: Offset behind the end marker.
        is_progressive: Whether the picture comes in passes.
        colour_space: ``YCBCR`` or ``RGB`` where a marker says so, else empty.
    """

    end: int
    is_progressive: bool
    colour_space: str


def check_pixel_limit(width: int, height: int, bytes_per_pixel: int = 1) -> None:
    """Refuse a picture that is too large to decode.

    Raises:
        DataError: LIMIT.PIXELS.
    """
    limits = in_force.inputs
    if width * height > limits.max_pixels or width * height * bytes_per_pixel > limits.max_picture_bytes:
        raise DataError(
            f"{width} x {height} pixels of {bytes_per_pixel} bytes, at most {limits.max_pixels} pixels and "
            f"{limits.max_picture_bytes} bytes are decoded (CRRG_MAX_PIXELS)",
            code="LIMIT.PIXELS",
        )


def check_trailer(tail: bytes) -> None:
    """Refuse a program or an archive behind the end of a picture.

    Raises:
        DataError: SECURITY.TRAILER.
    """
    stripped = tail.lstrip(b"\0\xff\r\n\t ")
    if stripped.startswith(_PROGRAMS) or b"PK\x03\x04" in tail or b"PK\x05\x06" in tail:
        raise DataError("a program or archive follows the picture", code="SECURITY.TRAILER")


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
        if marker in (_END, _START_OF_SCAN) or length < 2:
            break
        position += 2 + length
    raise DataError("the JPEG codestream has no frame header", code="DECODE.CODESTREAM")


def walk_jpeg(data: bytes) -> JpegForm:
    """Follow the markers of a JPEG or JPEG-LS codestream to its end marker.

    Raises:
        DataError: DECODE.TRUNCATED where the end is missing, DECODE.CODESTREAM where a marker stands that cannot be
            there or restart markers are not in turn, LIMIT.SCANS.
    """
    position, num_scans, frame, colour_space, components = 2, 0, 0, "", b""
    while position + 2 <= len(data):
        marker = data[position + 1]
        if data[position] != 0xFF or marker not in _MARKERS:
            raise DataError("the codestream is damaged: no marker where one must be", code="DECODE.CODESTREAM")
        if marker == _END:
            space = colour_space or ("RGB" if components == b"RGB" else "")
            return JpegForm(position + 2, is_progressive=frame == _PROGRESSIVE, colour_space=space)
        if marker == 0xFF or marker in _STANDALONE:
            position += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        segment = data[position + 4 : position + 2 + length]
        position += 2 + length
        if marker in _JPEG_FRAMES:
            frame, components = marker, segment[6::3]
        elif marker in (0xE0, 0xEE):
            colour_space = _stated_space(segment) or colour_space
        elif marker == _START_OF_SCAN:
            num_scans += 1
            if num_scans > MAX_SCANS:
                raise DataError(f"more than {MAX_SCANS} scans in one JPEG", code="LIMIT.SCANS")
            position = _end_of_scan(data, position, is_ls=frame == 0xF7)
    raise DataError("the codestream has no end marker, it was cut", code="DECODE.TRUNCATED")


def _end_of_scan(data: bytes, start: int, *, is_ls: bool) -> int:
    """Return where the first marker after a scan stands; restart markers within it must be in turn."""
    ends, num_restarts = (_ENDS_LS_SCAN if is_ls else _ENDS_SCAN), 0
    for offset in range(start, len(data) - 1, _SCANNED_BYTES):
        part = np.frombuffer(data, np.uint8, min(_SCANNED_BYTES + 1, len(data) - offset), offset)
        places = np.flatnonzero(part[:-1] == 0xFF)
        following = part[places + 1]
        found = np.flatnonzero(ends[following])
        inside = following[: found[0]] if found.size else following
        restarts = inside[(inside & 0xF8) == 0xD0] & 7
        if np.any(restarts != (num_restarts + np.arange(restarts.size)) % 8):
            raise DataError("restart markers are out of order, a part is missing", code="DECODE.CODESTREAM")
        num_restarts += restarts.size
        if found.size:
            return offset + int(places[found[0]])
    raise DataError("the codestream has no end marker, it was cut", code="DECODE.TRUNCATED")


def _stated_space(segment: bytes) -> str:
    """Return the colour space that a JFIF or Adobe segment states; empty where it states none."""
    if segment.startswith(b"JFIF\0"):
        return "YCBCR"
    if segment.startswith(b"Adobe") and len(segment) >= 12:
        return {0: "RGB", 1: "YCBCR"}.get(segment[11], "")
    return ""


def read_j2k_header(data: bytes) -> FrameHeader:
    """Read the image size segment of a JPEG 2000 codestream, raw or in a JP2 file.

    Raises:
        DataError: DECODE.CODESTREAM where there is none, LIMIT.TILES.
    """
    start = data.find(_J2K_START)
    segment = data[start + 6 : start + 6 + 40]
    if start < 0 or len(segment) < 39:
        raise DataError("the JPEG 2000 codestream has no size segment", code="DECODE.CODESTREAM")
    x_size, y_size, x_offset, y_offset, tile_width, tile_height = (
        int.from_bytes(segment[i : i + 4], "big") for i in range(2, 26, 4)
    )
    if not tile_width or not tile_height or x_offset >= x_size or y_offset >= y_size:
        raise DataError("the JPEG 2000 size segment makes no sense", code="DECODE.CODESTREAM")
    if -(-x_size // tile_width) * -(-y_size // tile_height) > MAX_TILES:
        raise DataError(f"more than {MAX_TILES} tiles", code="LIMIT.TILES")
    return FrameHeader(
        width=x_size - x_offset,
        height=y_size - y_offset,
        num_components=int.from_bytes(segment[34:36], "big"),
        precision=(segment[36] & 0x7F) + 1,
    )


def check_j2k_complete(data: bytes, header: FrameHeader) -> int:
    """Refuse a JPEG 2000 codestream whose tile parts or end marker are missing.

    Args:
        data: The codestream, raw or in a JP2 file.
        header: Its size.

    Returns:
        Offset behind the end marker.

    Raises:
        DataError: DECODE.TRUNCATED, DECODE.CODESTREAM where no tile part begins, LIMIT.PACKETS.
    """
    position = data.find(_J2K_START) + 2
    while data[position : position + 2] != b"\xff\x90":
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        if data[position : position + 1] != b"\xff" or length < 2:
            raise DataError("the JPEG 2000 main header is damaged", code="DECODE.CODESTREAM")
        if data[position + 1] == _J2K_COD:
            _check_packets(data[position + 4 : position + 2 + length], header)
        position += 2 + length
    while data[position : position + 2] == b"\xff\x90":
        length = int.from_bytes(data[position + 6 : position + 10], "big")
        if length == 0:
            break
        if length < 14 or position + length > len(data):
            raise DataError("a tile part ends beyond the codestream, it was cut", code="DECODE.TRUNCATED")
        position += length
    end = data.rfind(b"\xff\xd9") if data[position : position + 2] == b"\xff\x90" else data.find(b"\xff\xd9", position)
    if end < 0 or (data[position : position + 2] != b"\xff\x90" and end - position > MAX_CODESTREAM_TAIL):
        raise DataError("the codestream has no end marker, it was cut", code="DECODE.TRUNCATED")
    return end + 2


def _check_packets(segment: bytes, header: FrameHeader) -> None:
    """Refuse coding styles that make a decoder keep records for millions of packets."""
    if len(segment) < 10:
        raise DataError("the JPEG 2000 coding style is damaged", code="DECODE.CODESTREAM")
    num_layers, num_levels = int.from_bytes(segment[2:4], "big"), segment[5]
    if num_levels > 32 or not num_layers:
        raise DataError("the JPEG 2000 coding style makes no sense", code="DECODE.CODESTREAM")
    sizes = segment[10 : 11 + num_levels] if segment[0] & 1 else b"\xff" * (num_levels + 1)
    num_precincts = 0
    for level, size in enumerate(sizes):
        scale = num_levels - level
        columns, rows = (header.width >> scale >> (size & 15)) + 1, (header.height >> scale >> (size >> 4)) + 1
        num_precincts += columns * rows
    if num_layers * num_precincts * header.num_components > MAX_PACKETS:
        raise DataError(f"more than {MAX_PACKETS} packets", code="LIMIT.PACKETS")
