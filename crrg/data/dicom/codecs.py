"""Transfer syntaxes that are read, what decodes each, and whether it does so on this machine.

One table: ``dicom.pixels`` looks a syntax up in it, ``crrg doctor`` prints it. A syntax that is not in it ends as
``DECODE.UNSUPPORTED``.

Source: DICOM PS3.6 table A-1.
"""

from __future__ import annotations

import base64
import logging
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crrg.data.dicom.structure import DEFLATED, EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE

logger = logging.getLogger(__name__)


class Codec(StrEnum):
    """How a picture is stored."""

    NATIVE = "none"
    RLE = "RLE"
    JPEG = "JPEG"
    JPEG_LS = "JPEG-LS"
    JPEG_2000 = "JPEG 2000"


@dataclass(frozen=True)
class TransferSyntax:
    """One row of the table.

    Attributes:
        uid: UID.
        name: Name for people.
        codec: How the picture is stored.
        is_lossless: Whether decoded values are exactly the stored ones; else they may overshoot.
    """

    uid: str
    name: str
    codec: Codec
    is_lossless: bool = True


_BASE = "1.2.840.10008.1.2"
TRANSFER_SYNTAXES = {
    row.uid: row
    for row in (
        TransferSyntax(IMPLICIT_LITTLE, "Implicit VR Little Endian", Codec.NATIVE),
        TransferSyntax(EXPLICIT_LITTLE, "Explicit VR Little Endian", Codec.NATIVE),
        TransferSyntax(EXPLICIT_BIG, "Explicit VR Big Endian", Codec.NATIVE),
        TransferSyntax(DEFLATED, "Deflated Explicit VR Little Endian", Codec.NATIVE),
        TransferSyntax(f"{_BASE}.5", "RLE Lossless", Codec.RLE),
        TransferSyntax(f"{_BASE}.4.50", "JPEG Baseline (8 bits)", Codec.JPEG, is_lossless=False),
        TransferSyntax(f"{_BASE}.4.51", "JPEG Extended (12 bits)", Codec.JPEG, is_lossless=False),
        TransferSyntax(f"{_BASE}.4.57", "JPEG Lossless, process 14", Codec.JPEG),
        TransferSyntax(f"{_BASE}.4.70", "JPEG Lossless, process 14, SV1", Codec.JPEG),
        TransferSyntax(f"{_BASE}.4.80", "JPEG-LS Lossless", Codec.JPEG_LS),
        TransferSyntax(f"{_BASE}.4.81", "JPEG-LS Near-lossless", Codec.JPEG_LS, is_lossless=False),
        TransferSyntax(f"{_BASE}.4.90", "JPEG 2000 Lossless", Codec.JPEG_2000),
        TransferSyntax(f"{_BASE}.4.91", "JPEG 2000", Codec.JPEG_2000, is_lossless=False),
        TransferSyntax(f"{_BASE}.4.201", "High-Throughput JPEG 2000 Lossless", Codec.JPEG_2000),
        TransferSyntax(f"{_BASE}.4.202", "High-Throughput JPEG 2000 Lossless, RPCL", Codec.JPEG_2000),
        TransferSyntax(f"{_BASE}.4.203", "High-Throughput JPEG 2000", Codec.JPEG_2000, is_lossless=False),
    )
}
"""Every transfer syntax that is read, by UID."""

_LIBRARIES = {
    Codec.NATIVE: "numpy",
    Codec.RLE: "imagecodecs",
    Codec.JPEG: "imagecodecs (libjpeg-turbo)",
    Codec.JPEG_LS: "imagecodecs (CharLS)",
    Codec.JPEG_2000: "imagecodecs (OpenJPEG)",
}
_RUN = bytes([7, *range(8), 0xF9, 9, 0x80])
_SAMPLES = {
    f"{_BASE}.4.50": (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBYQERMUFRUVDA8X"
        "GBYUGBIUFRT/wAALCAAIAAgBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAABf/EABkQAAEFAAAAAAAAAAAAAAAAAAgAJDRCUf/aAAgBAQAAPwAc"
        "ZBkiNMqv/9k="
    ),
    f"{_BASE}.4.51": (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBYQERMUFRUVDA8X"
        "GBYUGBIUFRT/wQALDAAIAAgBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAABv/EABsQAAEEAwAAAAAAAAAAAAAAAAwAKDhGVWJy/9oACAEBAAA/"
        "AB4taLWxHaPiq9xov//Z"
    ),
    f"{_BASE}.4.57": (
        "/9j/xAAWAAEBAQAAAAAAAAAAAAAAAAAICQz/wwALDAAIAAgBABEA/9oACAEAAAYAAM//AEipFSKkVIqRUipEkUikUikUikaRJFIpFIpFIpGk"
        "SRSKRSKRSKRpEkUikUikUikaRJFIpFIpFIpGkSRSKRSKRSKRpEkUikUikUikQP/Z"
    ),
    f"{_BASE}.4.70": (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/wwALDAAIAAgBAREA/8QAFQABAQAAAAAAAAAAAAAAAAAACQz/2gAIAQEAAQAAn/0iSJIkiSJIkiSJIkiS"
        "JIkiSJIkiSJIkiSJIkiSJIkiSJIkiSJIkiSJIkiSJIkiSJIkiSJIkiSJIkiSJIkiSJIkiSJIkiSJIkiSJIkiSJIv/9k="
    ),
    f"{_BASE}.4.80": (
        "/9j/6AAgU1BJRkYAAgAAAQAAAAgAAAAIChAGAQAAASwAAAEs/+gACAAAAAH/2P/3AAsQAAgACAEBEQD/+AANAf//ABIAQwEUAED/2gAIAQEA"
        "AAAAsh5DyDj9HqO0c5EyJkLICPkeI6yIjhGyNEZIwRcizISKkUImRIiJECHsgIcQ0hhCyFEJIQR8g5BiCkEIGQIgJHiAP+/z+v4/b9Edfl+H"
        "3fZ9X0fMjgD/2Q=="
    ),
    f"{_BASE}.4.90": (
        "/0//UQApAAAAAAAIAAAACAAAAAAAAAAAAAAACAAAAAgAAAAAAAAAAAABDwEB/1IADAAAAAEAAAQEAAH/XAAEQID/ZAAlAAFDcmVhdGVkIGJ5"
        "IE9wZW5KUEVHIHZlcnNpb24gMi41LjT/kAAKAAAAAAB1AAH/k9/4kxgSK2cWj4+hghgWRS1wcTDKbuwMoG2NsCjLLUrAvqXTjZypZLUngGjR"
        "L7Not50ucEjWqQhcbYlriWt7CIq6qqqqqp2LsQU2jUfYaT281djuQ2UuLbEtcS1xN/uYicROInEUH8P/2Q=="
    ),
    f"{_BASE}.4.201": (
        "/0//UQApQAAAAAAIAAAACAAAAAAAAAAAAAAACAAAAAgAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB/1wAEyCIkJCQkJCQ"
        "kJCQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAF0AAf+TwAAmp/UFB3QAAADAABNAABMAVPoDB3QAVPoDB3QAwAAT"
        "wAATgBhh9AKCdAAYxegAo1QAwAAqoAAVYEKECBHyqnICdQBCChEi5MBCAey2AP/Z"
    ),
}
"""Ramps of 8 x 8 pixels, one for each codec and process: 17 a step in 8 bits, 290 a step in 12."""
_STEP_8, _STEP_12, _LOSSY_ERROR = 17, 290, 48
_SAMPLE_OF = {f"{_BASE}.4.81": f"{_BASE}.4.80", f"{_BASE}.4.91": f"{_BASE}.4.90"} | {
    f"{_BASE}.4.{number}": f"{_BASE}.4.201" for number in (202, 203)
}


@dataclass(frozen=True)
class SyntaxCheck:
    """Whether a transfer syntax is read on this machine.

    Attributes:
        syntax: The row of the table.
        library: What decodes it.
        problem: Empty where a small sample decoded to what it should.
    """

    syntax: TransferSyntax
    library: str
    problem: str


def check_syntaxes() -> list[SyntaxCheck]:
    """Decode a small sample of every transfer syntax; nothing is raised."""
    return [SyntaxCheck(syntax, _LIBRARIES[syntax.codec], _problem(syntax)) for syntax in TRANSFER_SYNTAXES.values()]


def decode_codestream(codec: Codec, stream: bytes, colour_space: str = "") -> NDArray[Any]:
    """Decode a JPEG, JPEG-LS or JPEG 2000 codestream; whatever the codec throws is passed on.

    Args:
        codec: Its kind.
        stream: The codestream.
        colour_space: ``YCBCR`` or ``RGB`` for a colour JPEG, which is returned as RGB.
    """
    # codecs are loaded where films are decoded, which is a child process as a rule
    import imagecodecs

    if codec is Codec.JPEG_2000:
        return np.asarray(imagecodecs.jpeg2k_decode(stream))
    if codec is Codec.JPEG_LS:
        return np.asarray(imagecodecs.jpegls_decode(stream))
    if colour_space:
        return np.asarray(imagecodecs.jpeg_decode(stream, colorspace=colour_space, outcolorspace="RGB"))
    return np.asarray(imagecodecs.jpeg_decode(stream))


def unpack_run_lengths(segment: bytes, num_bytes: int) -> bytes:
    """Decode an RLE segment into at most ``num_bytes``; a longer one makes the codec throw."""
    import imagecodecs

    # one byte of padding behind an odd segment may look like the start of another run
    return bytes(imagecodecs.packbits_decode(segment, out=num_bytes + 2))[:num_bytes]


def load_codecs() -> None:
    """Import every codec now, for a process that may not open files later."""
    for check in check_syntaxes():
        if check.problem:
            logger.warning("%s does not decode here: %s", check.syntax.name, check.problem)


def _problem(syntax: TransferSyntax) -> str:
    if syntax.codec is Codec.NATIVE:
        return ""
    try:
        if syntax.codec is Codec.RLE:
            return "" if unpack_run_lengths(_RUN, 16) == bytes([*range(8), *[9] * 8]) else "wrong values"
        stream = base64.b64decode(_SAMPLES[_SAMPLE_OF.get(syntax.uid, syntax.uid)])
        values = decode_codestream(syntax.codec, stream).astype(np.int64)
    except Exception as error:
        return f"not installed or not usable ({type(error).__name__})"
    ramp = np.add.outer(np.arange(8), np.arange(8)) * (_STEP_8 if values.max() < 256 else _STEP_12)
    is_near = values.shape == (8, 8) and int(np.abs(values - ramp).max()) <= _LOSSY_ERROR
    return "" if is_near else "wrong values"
