"""Stored pixel values out of every transfer syntax, before any look-up table or inversion.

Compressed pictures go straight to imagecodecs (libjpeg-turbo, CharLS, OpenJPEG), after their own frame header was
compared to the DICOM header. Knows no display rule; see ``dicom_display``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from crrg.data.codestream import (
    FrameHeader,
    check_j2k_complete,
    check_jpeg_complete,
    check_pixel_limit,
    read_j2k_header,
    read_jpeg_header,
)
from crrg.data.dicom_header import PixelLayout
from crrg.data.dicom_structure import DEFLATED, EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE, DicomBody
from crrg.errors import DataError, DicomError

RLE = "1.2.840.10008.1.2.5"
NATIVE = frozenset([IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED])
JPEG = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70))
JPEG_LS = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (80, 81))
JPEG_2000 = frozenset(f"1.2.840.10008.1.2.4.{number}" for number in (90, 91, 201, 202, 203))

Stored = NDArray[np.integer[Any]]


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
    if body.transfer_syntax in NATIVE:
        if body.pixel_length < 0:
            raise DicomError("pixel data is encapsulated under a native transfer syntax", code="PARSE.ENCAPSULATION")
        return _mask(_native(body, layout), layout), layout
    if body.pixel_length >= 0:
        raise DicomError("pixel data is native under a compressed transfer syntax", code="PARSE.ENCAPSULATION")
    stream = b"".join(body.data[start : start + length] for start, length in body.fragments)
    if body.transfer_syntax == RLE:
        return _mask(_rle(stream, layout), layout), layout
    if body.transfer_syntax in JPEG:
        check_jpeg_complete(stream)
        values = _decode(stream, layout, read_jpeg_header(stream), _jpeg_codec(layout))
        return values, replace(layout, photometric="RGB") if layout.samples == 3 else layout
    if body.transfer_syntax in JPEG_LS:
        check_jpeg_complete(stream)
        return _decode(stream, layout, read_jpeg_header(stream), imagecodecs.jpegls_decode), layout
    if body.transfer_syntax in JPEG_2000:
        header = read_j2k_header(stream)
        check_j2k_complete(stream)
        return _decode(stream, layout, header, imagecodecs.jpeg2k_decode), layout
    raise DicomError(f"no decoder for transfer syntax {_uid(body.transfer_syntax)}", code="DECODE.UNSUPPORTED")


def _native(body: DicomBody, layout: PixelLayout) -> Stored:
    order = "<" if body.is_little else ">"
    if layout.bits_allocated == 16:
        words = np.frombuffer(body.data, f"{order}u2", layout.num_bytes // 2, body.pixel_start).astype(np.uint16)
        return words.reshape(layout.rows, layout.columns)
    values = np.frombuffer(body.data, np.uint8, body.pixel_length, body.pixel_start)
    if not body.is_little and body.pixel_length % 2 == 0:
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
    segments = int.from_bytes(stream[:4], "little")
    expected = layout.samples * layout.bits_allocated // 8
    if len(stream) < 64 or segments != expected:
        raise DicomError(f"{segments} RLE segments, expected {expected}", code="DECODE.CODESTREAM")
    dtype = np.uint16 if layout.bits_allocated == 16 else np.uint8
    decoded = _run(lambda: imagecodecs.dicomrle_decode(stream, dtype))
    if len(decoded) != layout.num_bytes:
        raise DicomError("the RLE segments hold another number of pixels", code="DECODE.TRUNCATED")
    values = np.frombuffer(decoded, dtype)
    return _as_picture(values, layout, is_planar=True)


def _decode(stream: bytes, layout: PixelLayout, header: FrameHeader, codec: Callable[[bytes], Any]) -> Stored:
    check_pixel_limit(header.width, header.height)
    if (header.width, header.height, header.num_components) != (layout.columns, layout.rows, layout.samples):
        raise DicomError(
            f"the codestream holds {header.width} x {header.height} x {header.num_components}, "
            f"the header says {layout.columns} x {layout.rows} x {layout.samples}",
            code="GEOMETRY.CODESTREAM",
        )
    if header.precision > layout.bits_allocated:
        raise DicomError(f"{header.precision} bits in the codestream", code="BITS.CODESTREAM")
    values = np.asarray(_run(lambda: codec(stream)))
    if values.shape[:2] != (layout.rows, layout.columns) or values.dtype.itemsize > 2:
        raise DicomError("the codec returned another picture than the header says", code="DECODE.CODEC")
    if layout.samples == 3:
        return values.astype(np.uint8, copy=False)
    return _clip(values, layout)


def _jpeg_codec(layout: PixelLayout) -> Callable[[bytes], Any]:
    """Return the JPEG decoder, told the colour space by DICOM, since markers in the stream are often wrong."""
    if layout.samples == 1:
        return cast("Callable[[bytes], Any]", imagecodecs.jpeg_decode)
    space = "YCBCR" if layout.photometric.startswith("YBR") else "RGB"
    return lambda stream: imagecodecs.jpeg_decode(stream, colorspace=space, outcolorspace="RGB")


def _run(decode: Callable[[], Any]) -> Any:
    """Call a codec; whatever it throws becomes a named reason, without its message."""
    try:
        return decode()
    except DataError:
        raise
    except MemoryError as error:
        raise DicomError("decoding needs more memory than is allowed", code="LIMIT.MEMORY") from error
    except Exception as error:
        raise DicomError(f"the codec failed ({type(error).__name__})", code="DECODE.CODEC") from error


def _as_picture(values: NDArray[Any], layout: PixelLayout, is_planar: bool) -> Stored:
    if layout.samples == 1:
        return values.reshape(layout.rows, layout.columns)
    if is_planar:
        return np.moveaxis(values.reshape(3, layout.rows, layout.columns), 0, -1)
    return values.reshape(layout.rows, layout.columns, 3)


def _mask(values: Stored, layout: PixelLayout) -> Stored:
    """Cut bits outside the stored ones and extend the sign."""
    if layout.samples == 3:
        return values
    full = layout.shift == 0 and layout.bits_stored == layout.bits_allocated
    if not full:
        values = (values >> layout.shift) & ((1 << layout.bits_stored) - 1)
    if not layout.is_signed:
        return values
    unused = 16 - layout.bits_stored
    return (values.astype(np.uint16) << unused).view(np.int16) >> unused


def _clip(values: Stored, layout: PixelLayout) -> Stored:
    """Bring decoded values into the stored range; lossy codecs overshoot, and a mask would wrap white to black."""
    if layout.is_signed and values.dtype.kind == "u":
        return _mask(values, layout)
    low, high = (-(1 << layout.bits_stored - 1), (1 << layout.bits_stored - 1) - 1) if layout.is_signed else (0, 0)
    if not layout.is_signed:
        high = (1 << layout.bits_stored) - 1
    info = np.iinfo(values.dtype)
    if low <= info.min and high >= info.max:
        return values
    return np.clip(values, max(low, int(info.min)), min(high, int(info.max)))


def _uid(text: str) -> str:
    """Return a UID for a message only if it is one, since a damaged header may hold anything."""
    return text if len(text) <= 64 and set(text) <= set("0123456789.") else "(illegal)"
