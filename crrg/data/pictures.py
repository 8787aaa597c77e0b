"""PNG and JPEG files as films.

Magic bytes, size and completeness are checked on plain bytes before a codec sees the file. Eight bits are taken as
they are, since such files were windowed when they were made; sixteen bits are stretched between percentiles. Nothing
in such a file says whether white is dense, so a clear negative is turned (``polarity``).
"""

from __future__ import annotations

import io
import logging
import warnings
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from crrg.data.codestream import JpegForm, check_pixel_limit, check_trailer, read_jpeg_header, walk_jpeg
from crrg.data.greyscale import check_not_blank, luminance, stretch
from crrg.data.images import fitted_size, pixel_digest, resize
from crrg.data.jpeg_fill import check_not_filled
from crrg.data.polarity import NOT_STATED, judge_polarity
from crrg.data.privacy.burned_in import check_no_burned_in_text
from crrg.domain.study import Film, ViewPosition
from crrg.errors import DataError, ImageError

# Pillow writes what EXIF says into its log
logging.getLogger("PIL").setLevel(logging.CRITICAL + 1)

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
JPEG_MAGIC = b"\xff\xd8\xff"
_MAX_CHUNKS = 20_000
_DEEP_MODES = ("I;16", "I;16B", "I")
_SAMPLES_OF_COLOUR_TYPE = {0: 1, 2: 3, 3: 4, 4: 2, 6: 4}
"""Samples per pixel that are held in memory; a PNG palette is shown as four."""
_CRITICAL_CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_MODES = {"L": "L", "LA": "LA", "RGB": "RGB", "RGBA": "RGBA", "P": "RGBA", "PA": "RGBA"}


def is_picture(data: bytes) -> bool:
    """Return whether a file begins like PNG or JPEG."""
    return data.startswith((PNG_MAGIC, JPEG_MAGIC))


def read_picture(data: bytes, image_size: int) -> Film:
    """Decode a PNG or JPEG radiograph.

    The EXIF turn is applied, colour becomes luminance, and what is transparent is black. The projection is unknown
    here; a report table may say it.

    Args:
        data: The whole file.
        image_size: Longest side of the result, pixels; smaller films are not enlarged.

    Raises:
        ImageError: NOT_DICOM, LIMIT, BITS, MULTIFRAME, PHOTOMETRIC, DECODE, QUALITY or PHI.
    """
    try:
        form = _check_form(data)
        grey, num_levels = _decode(data)
        if form is not None and not form.is_progressive:
            check_not_filled(data, form.end, grey, 8, lambda probe: _decode(probe)[0])
        check_not_blank(grey, num_levels)
        check_no_burned_in_text(grey)
        return _as_film(grey, num_levels, image_size)
    except DataError:
        raise
    except MemoryError as error:
        raise ImageError("decoding needs more memory than is allowed", code="LIMIT.MEMORY") from error
    except Exception as error:
        raise ImageError(f"the codec failed ({type(error).__name__})", code="DECODE.CODEC") from error


def _check_form(data: bytes) -> JpegForm | None:
    """Check magic bytes, size and completeness; return what a JPEG says of itself."""
    if data.startswith(PNG_MAGIC):
        check_png(data)
        return None
    if not data.startswith(JPEG_MAGIC):
        raise ImageError("neither PNG nor JPEG", code="NOT_DICOM.MARK")
    header = read_jpeg_header(data)
    check_pixel_limit(header.width, header.height, header.num_components)
    if header.precision > 8:
        reason = f"a JPEG of {header.precision} bits is not read here; send it as a PNG of 16 bits or as DICOM"
        raise ImageError(reason, code="BITS.UNSUPPORTED")
    form = walk_jpeg(data)
    check_trailer(data[form.end :])
    return form


def _decode(data: bytes) -> tuple[NDArray[Any], int]:
    """Return ``[H, W]`` grey values and the number of levels a pixel can have."""
    with warnings.catch_warnings(), Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as picture:
        warnings.simplefilter("ignore")
        turned = ImageOps.exif_transpose(picture)
        if picture.mode in _DEEP_MODES:
            return np.asarray(turned).clip(0, 65535).astype(np.uint16), 65536
        mode = _MODES.get(picture.mode)
        if mode is None:
            code = "BITS.UNSUPPORTED" if picture.mode == "1" else "PHOTOMETRIC.UNSUPPORTED"
            raise ImageError("the colour model is not supported; save it in grey or RGB", code=code)
        values = np.asarray(turned if turned.mode == mode else turned.convert(mode))
    alpha = values[..., -1] if mode in ("LA", "RGBA") else None
    grey = values if mode == "L" else values[..., 0] if mode == "LA" else luminance(values[..., :3])
    if alpha is not None and alpha.min() < 255:
        grey = (grey.astype(np.uint16) * alpha // 255).astype(np.uint8)
    return grey, 256


def _as_film(grey: NDArray[Any], num_levels: int, image_size: int) -> Film:
    height, width = grey.shape
    small = resize(grey, *fitted_size(width, height, image_size))
    shown = small.astype(np.uint8) if num_levels == 256 else stretch(small.astype(np.float32))
    polarity = judge_polarity(shown, NOT_STATED)
    pixels = 255 - shown if polarity.inverts else shown
    return Film(
        pixels=pixels,
        original_width=width,
        original_height=height,
        view_position=ViewPosition.UNKNOWN,
        pixel_spacing_mm=None,
        polarity_inverted=polarity.inverts,
        pixel_digest=pixel_digest(pixels),
        flags=("view_unknown", "body_part_unknown", "age_unknown", *polarity.flags),
    )


def check_png(data: bytes) -> None:
    """Walk the chunks: size within the limit, one frame, every chunk whole, an end chunk, no archive behind it."""
    position = len(PNG_MAGIC)
    for _ in range(_MAX_CHUNKS):
        length = _number(data, position)
        kind = data[position + 4 : position + 8]
        if position + 12 + length > len(data):
            raise ImageError("a PNG chunk ends beyond the file, it was cut", code="DECODE.TRUNCATED")
        chunk = data[position + 4 : position + 8 + length]
        if position == len(PNG_MAGIC):
            _check_png_size(chunk)
        # the codec does not check the sum over the pixels, and checks that of the small chunks
        if kind in _CRITICAL_CHUNKS and zlib.crc32(chunk) != _number(data, position + 8 + length):
            raise ImageError("a PNG chunk is damaged", code="DECODE.CODESTREAM")
        if kind == b"acTL" and _number(data, position + 8) > 1:
            raise ImageError("more than one frame; send each as a film of its own", code="MULTIFRAME.FRAMES")
        position += 12 + length
        if kind == b"IEND":
            check_trailer(data[position:])
            return
    raise ImageError(f"more than {_MAX_CHUNKS} PNG chunks", code="LIMIT.ELEMENTS")


def _check_png_size(chunk: bytes) -> None:
    if not chunk.startswith(b"IHDR") or len(chunk) != 17:
        raise ImageError("the PNG does not begin with its header", code="DECODE.CODESTREAM")
    width, height = (int.from_bytes(chunk[i : i + 4], "big") for i in (4, 8))
    check_pixel_limit(width, height, _SAMPLES_OF_COLOUR_TYPE.get(chunk[13], 4) * (2 if chunk[12] == 16 else 1))


def _number(data: bytes, position: int) -> int:
    return int.from_bytes(data[position : position + 4], "big")
