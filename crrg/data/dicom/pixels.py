"""Stored pixel values out of every transfer syntax, before any look-up table or inversion.

A codestream's own frame header is compared to the DICOM header and its markers are followed to their end before a
codec sees it. What is decoded by what stands in ``dicom.codecs``. Knows no display rule; see ``dicom.display``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crrg.data.codestream import (
    MAX_CODESTREAM_TAIL,
    FrameHeader,
    check_j2k_complete,
    check_pixel_limit,
    check_trailer,
    read_j2k_header,
    read_jpeg_header,
    walk_jpeg,
)
from crrg.data.dicom.codecs import TRANSFER_SYNTAXES, Codec, TransferSyntax, decode_codestream, unpack_run_lengths
from crrg.data.dicom.header import PixelLayout
from crrg.data.dicom.structure import DicomBody
from crrg.data.jpeg_fill import check_not_filled
from crrg.errors import DataError, DicomError

Stored = NDArray[np.integer[Any]]
_RLE_HEADER_BYTES = 64
_ROUGHNESS_ROWS = 8


def read_stored_values(body: DicomBody, layout: PixelLayout) -> tuple[Stored, PixelLayout]:
    """Decode the picture of a data set that passed the gate.

    Args:
        body: The data set.
        layout: Its checked geometry and bits.

    Returns:
        uint8, uint16 or int16 ``[H, W]`` as stored, or uint8 ``[H, W, 3]``; and the layout of what is returned, whose
        photometric interpretation is RGB where the codec turned YBR into it.

    Raises:
        DataError: DECODE, GEOMETRY or LIMIT.
    """
    syntax = TRANSFER_SYNTAXES.get(body.transfer_syntax)
    if syntax is None:
        raise DicomError(f"no decoder for transfer syntax {_uid(body.transfer_syntax)}", code="DECODE.UNSUPPORTED")
    if syntax.codec is Codec.NATIVE:
        if body.pixel_length < 0:
            raise DicomError("pixel data is encapsulated under a native transfer syntax", code="PARSE.ENCAPSULATION")
        return _mask(_native(body, layout), layout), layout
    if body.pixel_length >= 0:
        raise DicomError("pixel data is native under a compressed transfer syntax", code="PARSE.ENCAPSULATION")
    stream = b"".join(body.data[start : start + length] for start, length in body.fragments)
    if syntax.codec is Codec.RLE:
        return _mask(_rle(stream, layout), layout), layout
    if syntax.codec is Codec.JPEG_2000:
        header = read_j2k_header(stream)
        _check_header(header, layout)
        _check_tail(stream[check_j2k_complete(stream, header) :])
        values = _run(lambda: decode_codestream(syntax.codec, stream))
        # the codec has undone the colour transform that these two name
        is_rgb = layout.photometric in ("YBR_RCT", "YBR_ICT")
        shown = replace(layout, photometric="RGB") if is_rgb else layout
        return _checked(values, shown, header, syntax), shown
    return _jpeg(stream, layout, syntax)


def _jpeg(stream: bytes, layout: PixelLayout, syntax: TransferSyntax) -> tuple[Stored, PixelLayout]:
    header = read_jpeg_header(stream)
    _check_header(header, layout)
    form = walk_jpeg(stream)
    _check_tail(stream[form.end :])
    if syntax.codec is Codec.JPEG_LS:
        return _checked(_run(lambda: decode_codestream(Codec.JPEG_LS, stream)), layout, header, syntax), layout
    space = ""
    if layout.samples == 3:
        # a file that calls its colours RGB often holds YCbCr all the same, and says so in its markers
        space = form.colour_space if layout.photometric == "RGB" else "YCBCR"
        layout = replace(layout, photometric="RGB")
        space = space or "RGB"

    def decode(data: bytes) -> NDArray[Any]:
        return np.asarray(_run(lambda: decode_codestream(Codec.JPEG, data, space)))

    values = decode(stream)
    if not form.is_progressive and values.shape[:2] == (layout.rows, layout.columns):
        check_not_filled(stream, form.end, values, header.precision, decode)
    return _checked(values, layout, header, syntax), layout


def _native(body: DicomBody, layout: PixelLayout) -> Stored:
    order = "<" if body.is_little else ">"
    if layout.bits_allocated == 16:
        words = np.frombuffer(body.data, f"{order}u2", layout.num_bytes // 2, body.pixel_start).astype(
            np.uint16, copy=False
        )
        return words.reshape(layout.rows, layout.columns)
    values = np.frombuffer(body.data, np.uint8, body.pixel_length, body.pixel_start)
    if not body.is_little and body.pixel_vr == b"OW" and body.pixel_length % 2 == 0:
        values = values.view(">u2").astype("<u2").view(np.uint8)
    values = values[: layout.num_bytes]
    if layout.photometric == "YBR_FULL_422":
        return _upsample_422(values, layout)
    return _as_picture(values, layout, layout.is_planar)


def _upsample_422(values: NDArray[np.uint8], layout: PixelLayout) -> Stored:
    """Spread chroma shared by two pixels (Y1 Y2 Cb Cr) over both."""
    if layout.columns % 2:
        raise DicomError("4:2:2 colour with an odd number of columns", code="GEOMETRY.PIXEL_DATA")
    quads = values.reshape(layout.rows, layout.columns // 2, 4)
    picture = np.empty((layout.rows, layout.columns, 3), dtype=np.uint8)
    picture[:, 0::2, 0], picture[:, 1::2, 0] = quads[..., 0], quads[..., 1]
    picture[..., 1:] = np.repeat(quads[..., 2:], 2, axis=1)
    return picture


def _rle(stream: bytes, layout: PixelLayout) -> Stored:
    bytes_per_sample = layout.bits_allocated // 8
    num_segments, *offsets = np.frombuffer(stream[:_RLE_HEADER_BYTES].ljust(_RLE_HEADER_BYTES, b"\0"), "<u4").tolist()
    if len(stream) < _RLE_HEADER_BYTES or num_segments != layout.samples * bytes_per_sample:
        raise DicomError(f"{num_segments} RLE segments do not fit samples and bits", code="DECODE.CODESTREAM")
    ends = [*offsets[1:num_segments], len(stream)]
    bounds = list(zip(offsets, ends, strict=False))
    if any(not _RLE_HEADER_BYTES <= start < end <= len(stream) for start, end in bounds):
        raise DicomError("the RLE header points outside its data", code="DECODE.CODESTREAM")
    num_pixels = layout.rows * layout.columns
    planes = _run(lambda: [unpack_run_lengths(stream[start:end], num_pixels) for start, end in bounds])
    if any(len(plane) != num_pixels for plane in planes):
        raise DicomError("an RLE segment holds too few pixels", code="DECODE.TRUNCATED")
    values = np.frombuffer(b"".join(planes), np.uint8).reshape(layout.samples, bytes_per_sample, num_pixels)
    if bytes_per_sample == 2:
        words = values[0, 0].astype(np.uint16) << 8 | values[0, 1]
        return np.asarray(words.reshape(layout.rows, layout.columns), np.uint16)
    return _as_picture(values.reshape(-1), layout, is_planar=True)


def _check_header(header: FrameHeader, layout: PixelLayout) -> None:
    check_pixel_limit(header.width, header.height, header.num_components * -(-header.precision // 8))
    if (header.width, header.height, header.num_components) != (layout.columns, layout.rows, layout.samples):
        raise DicomError(
            f"the codestream holds {header.width} x {header.height} x {header.num_components}, "
            f"the header says {layout.columns} x {layout.rows} x {layout.samples}",
            code="GEOMETRY.CODESTREAM",
        )
    if header.precision > layout.bits_allocated:
        raise DicomError(f"{header.precision} bits in the codestream", code="BITS.CODESTREAM")


def _check_tail(tail: bytes) -> None:
    """Refuse what hides behind the one codestream a single frame may have."""
    check_trailer(tail)
    rest = tail.strip(b"\0\xff")
    if rest.startswith((b"\xff\xd8", b"\xff\x4f", b"\xd8\xff", b"\x4f\xff")) or len(rest) > MAX_CODESTREAM_TAIL:
        raise DicomError("pixel data holds more than the one frame", code="GEOMETRY.PIXEL_DATA")


def _checked(values: Stored, layout: PixelLayout, header: FrameHeader, syntax: TransferSyntax) -> Stored:
    """Compare what a codec returned to the header, and bring it into the stored range."""
    if values.shape[:2] != (layout.rows, layout.columns) or values.dtype.itemsize > 2:
        raise DicomError("the codec returned another picture than the header says", code="DECODE.CODEC")
    if layout.samples == 3:
        if values.dtype != np.uint8 or values.shape[2:] != (3,):
            raise DicomError("the codec returned no 8-bit colours", code="BITS.CODESTREAM")
        return values
    if values.dtype.kind == "i" and not layout.is_signed:
        # the codestream knows better than the header whether its values have a sign
        return values
    if layout.shift or (syntax.is_lossless and header.precision > layout.bits_stored):
        return _mask(values, layout)
    return _clip(values, layout)


def _run(decode: Callable[[], Any]) -> Any:
    """Call a codec; whatever it throws becomes a named reason, without its message."""
    try:
        return decode()
    except DataError:
        raise
    except MemoryError as error:
        raise DicomError("decoding needs more memory than is allowed", code="LIMIT.MEMORY") from error
    except ImportError as error:
        raise DicomError("the codec is not installed; crrg doctor names it", code="DECODE.UNSUPPORTED") from error
    except Exception as error:
        raise DicomError(f"the codec failed ({type(error).__name__})", code="DECODE.CODEC") from error


def _as_picture(values: NDArray[Any], layout: PixelLayout, is_planar: bool) -> Stored:
    if layout.samples == 1:
        return values.reshape(layout.rows, layout.columns)
    if is_planar:
        return np.moveaxis(values.reshape(3, layout.rows, layout.columns), 0, -1)
    return values.reshape(layout.rows, layout.columns, 3)


def _mask(values: Stored, layout: PixelLayout) -> Stored:
    """Cut bits outside the stored ones and extend the sign; leave bits that the header forgot."""
    if layout.samples == 3:
        return values
    full = layout.shift == 0 and layout.bits_stored == layout.bits_allocated
    if not full and (layout.shift or layout.is_signed or values.max() >> layout.bits_stored):
        cut = (values >> layout.shift if layout.shift else values) & ((1 << layout.bits_stored) - 1)
        if not layout.shift and not layout.is_signed and _roughness(values) < _roughness(cut):
            return values
        values = cut
    if not layout.is_signed:
        return values
    unused = 16 - layout.bits_stored
    return (values.astype(np.uint16) << unused).view(np.int16) >> unused


def _roughness(values: Stored) -> float:
    """Return the mean step between neighbours: bits that belong to a picture make it smoother, others rougher."""
    return float(np.abs(np.diff(values[::_ROUGHNESS_ROWS].astype(np.int32), axis=1)).mean())


def _clip(values: Stored, layout: PixelLayout) -> Stored:
    """Bring decoded values into the stored range; lossy codecs overshoot, and a mask would wrap white to black."""
    if layout.is_signed and values.dtype.kind == "u":
        return _mask(values, layout)
    low, high = (-(1 << layout.bits_stored - 1), (1 << layout.bits_stored - 1) - 1) if layout.is_signed else (0, 0)
    if not layout.is_signed:
        high = (1 << layout.bits_stored) - 1
    info = np.iinfo(values.dtype)
    # looking for the ends costs a tenth of clipping, and lossless codecs never pass them
    if (low <= info.min or values.min() >= low) and (high >= info.max or values.max() <= high):
        return values
    return np.clip(values, max(low, int(info.min)), min(high, int(info.max)))


def _uid(text: str) -> str:
    """Return a UID for a message only if it is one, since a damaged header may hold anything."""
    return text if len(text) <= 64 and set(text) <= set("0123456789.") else "(illegal)"
