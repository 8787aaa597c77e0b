"""Legal films by how their pixels are stored: transfer syntaxes, bits, byte orders, colour, fragments."""

from __future__ import annotations

from collections.abc import Iterator

import imagecodecs
import numpy as np
from pydicom.encaps import encapsulate_extended

from tests.support.film_corpus import (
    BIG,
    DEFLATED,
    EXPLICIT,
    HTJ2K,
    HTJ2K_LOSSLESS,
    HTJ2K_RPCL,
    IMPLICIT,
    J2K,
    J2K_LOSSLESS,
    JPEG_8,
    JPEG_12,
    JPEG_14,
    JPEG_LS,
    JPEG_LS_NEAR,
    JPEG_SV1,
    RLE,
    TOP,
    Pixels,
    Variant,
    chest_8,
    colour,
    dicom,
    drawn_chest,
)


def legal_codings() -> Iterator[Variant]:
    """Yield every way to store the chest."""
    for name, data in [*_native(), *_bits(), *_jpeg(), *_newer_codecs(), *_run_lengths(), *_fragments(), *_forms()]:
        yield Variant(name, data, truth=drawn_chest())


def _native() -> Iterator[tuple[str, bytes]]:
    names = {IMPLICIT: "implicit", EXPLICIT: "explicit", BIG: "big endian", DEFLATED: "deflated"}
    for syntax, name in names.items():
        yield f"{name}, 12 bits", dicom(syntax=syntax)
        yield f"{name}, 8 bits", dicom(chest_8(), syntax=syntax)
        signed = (drawn_chest().astype(np.int32) - 2048).astype(np.int16)
        yield f"{name}, signed", dicom(signed, syntax=syntax, PixelRepresentation=1, BitsStored=16)
        yield f"{name}, colour", dicom(colour(chest_8()), syntax=syntax)
    swapped = chest_8().tobytes()
    words = np.frombuffer(swapped, ">u2").astype("<u2").tobytes()
    data = dicom(chest_8(), syntax=BIG, raw=words)
    yield "big endian, 8 bits in words", data.replace(b"\x7f\xe0\x00\x10OB", b"\x7f\xe0\x00\x10OW")


def _bits() -> Iterator[tuple[str, bytes]]:
    for bits in range(8, 17):
        values = np.rint(drawn_chest() / TOP * ((1 << bits) - 1)).astype(np.uint16)
        yield f"{bits} bits in 16", dicom(values, BitsStored=bits)
        signed = (values.astype(np.int32) - (1 << bits - 1)).astype(np.int16)
        yield f"{bits} bits in 16, signed", dicom(signed, BitsStored=bits, PixelRepresentation=1)
    yield "8 bits, signed", dicom((chest_8().astype(np.int16) - 128).astype(np.int8), PixelRepresentation=1)
    yield "7 bits in 8", dicom(chest_8() >> 1, BitsStored=7)
    yield "12 bits at the top of 16", dicom(drawn_chest() << 4, HighBit=15)
    yield "12 bits in the middle of 16", dicom(drawn_chest() << 2, HighBit=13)
    junk = np.random.default_rng(1).integers(0, 16, drawn_chest().shape).astype(np.uint16) << 12
    yield "junk above the stored bits", dicom(drawn_chest() | junk)
    overlay = np.zeros_like(drawn_chest())
    overlay[20:40, 20:60] = 1 << 15
    yield "overlay in an unused bit", dicom(drawn_chest() | overlay)
    low = dicom((drawn_chest() << 4) | (overlay >> 15), HighBit=15)
    yield "overlay below the stored bits", low


def _jpeg() -> Iterator[tuple[str, bytes]]:
    deep, flat, rgb = drawn_chest(), chest_8(), colour(chest_8())
    encode = imagecodecs.jpeg_encode
    yield "JPEG baseline", dicom(flat, syntax=JPEG_8, frames=[encode(flat, level=95)])
    yield (
        "JPEG baseline, 8 bits in 16",
        dicom(flat.astype(np.uint16), syntax=JPEG_8, frames=[encode(flat, level=95)], BitsStored=8),
    )
    yield (
        "JPEG baseline, MONOCHROME1",
        dicom(flat, syntax=JPEG_8, frames=[encode(255 - flat, level=95)], PhotometricInterpretation="MONOCHROME1"),
    )
    for sampling in ("444", "422", "420"):
        stream = encode(rgb, level=95, colorspace="RGB", outcolorspace="YCBCR", subsampling=sampling)
        yield (
            f"JPEG baseline, YBR {sampling}",
            dicom(rgb, syntax=JPEG_8, frames=[stream], PhotometricInterpretation="YBR_FULL_422"),
        )
        yield f"JPEG baseline, YBR {sampling} called RGB", dicom(rgb, syntax=JPEG_8, frames=[stream])
    true_rgb = encode(rgb, level=95, colorspace="RGB", outcolorspace="RGB")
    yield "JPEG baseline, RGB", dicom(rgb, syntax=JPEG_8, frames=[true_rgb])
    yield "JPEG extended, 12 bits", dicom(syntax=JPEG_12, frames=[encode(deep, level=97, bitspersample=12)])
    yield "JPEG extended, 8 bits", dicom(flat, syntax=JPEG_12, frames=[encode(flat, level=97)])
    for predictor in range(1, 8):
        stream = encode(deep, lossless=True, predictor=predictor, bitspersample=12)
        yield f"JPEG lossless, predictor {predictor}", dicom(syntax=JPEG_14, frames=[stream])
    for bits in (10, 12, 14, 16):
        values = np.rint(deep / TOP * ((1 << bits) - 1)).astype(np.uint16)
        stream = encode(values, lossless=True, predictor=1, bitspersample=bits)
        yield f"JPEG lossless SV1, {bits} bits", dicom(values, syntax=JPEG_SV1, frames=[stream], BitsStored=bits)
    yield "JPEG lossless SV1, 8 bits", dicom(flat, syntax=JPEG_SV1, frames=[encode(flat, lossless=True, predictor=1)])
    signed = (deep.astype(np.int32) - 2048).astype(np.int16)
    stream = encode(signed.view(np.uint16), lossless=True, predictor=1, bitspersample=16)
    yield "JPEG lossless SV1, signed", dicom(signed, syntax=JPEG_SV1, frames=[stream], PixelRepresentation=1)
    yield (
        "JPEG lossless, another writer",
        dicom(syntax=JPEG_SV1, frames=[bytes(imagecodecs.ljpeg_encode(deep, bitspersample=12))]),
    )


def _newer_codecs() -> Iterator[tuple[str, bytes]]:
    deep, flat, rgb = drawn_chest(), chest_8(), colour(chest_8())
    signed = (deep.astype(np.int32) - 2048).astype(np.int16)
    full = np.rint(deep / TOP * 65535).astype(np.uint16)

    def j2k(values: Pixels, level: int = 0) -> bytes:
        return bytes(imagecodecs.jpeg2k_encode(values, level=level, reversible=not level, codecformat="j2k"))

    def ls(values: Pixels, level: int = 0) -> bytes:
        return bytes(imagecodecs.jpegls_encode(values, level=level))

    def ht(values: Pixels) -> bytes:
        return bytes(imagecodecs.htj2k_encode(values))

    for name, syntax, encode in (
        ("JPEG-LS", JPEG_LS, ls),
        ("JPEG 2000", J2K_LOSSLESS, j2k),
        ("HTJ2K", HTJ2K_LOSSLESS, ht),
    ):
        yield f"{name} lossless, 12 bits", dicom(syntax=syntax, frames=[encode(deep)])
        yield f"{name} lossless, 8 bits", dicom(flat, syntax=syntax, frames=[encode(flat)])
        yield f"{name} lossless, 16 bits", dicom(full, syntax=syntax, frames=[encode(full)], BitsStored=16)
        yield (
            f"{name} lossless, signed in unsigned",
            dicom(signed, syntax=syntax, frames=[encode(signed.view(np.uint16))], PixelRepresentation=1),
        )
    yield "JPEG-LS near-lossless", dicom(syntax=JPEG_LS_NEAR, frames=[ls(deep, 3)])
    yield "JPEG-LS, colour", dicom(rgb, syntax=JPEG_LS, frames=[ls(rgb)])
    yield "JPEG 2000 lossy", dicom(syntax=J2K, frames=[j2k(deep, 75)])
    yield "JPEG 2000, signed", dicom(signed, syntax=J2K_LOSSLESS, frames=[j2k(signed)], PixelRepresentation=1)
    yield "JPEG 2000, signed called unsigned", dicom(signed, syntax=J2K_LOSSLESS, frames=[j2k(signed)])
    yield "JPEG 2000, colour", dicom(rgb, syntax=J2K_LOSSLESS, frames=[j2k(rgb)], PhotometricInterpretation="YBR_RCT")
    boxed = bytes(imagecodecs.jpeg2k_encode(deep, level=0, reversible=True, codecformat="jp2"))
    yield "JPEG 2000 in a JP2 file", dicom(syntax=J2K_LOSSLESS, frames=[boxed])
    yield "HTJ2K lossless, RPCL", dicom(syntax=HTJ2K_RPCL, frames=[ht(deep)])
    yield "HTJ2K", dicom(syntax=HTJ2K, frames=[ht(deep)])


def run_lengths(plane: bytes) -> bytes:
    """Return an RLE segment: one run or one literal after the other, simplest form."""
    made, position = bytearray(), 0
    while position < len(plane):
        run = 1
        while run < 128 and plane[position : position + run + 1] == plane[position : position + 1] * (run + 1):
            run += 1
        if run > 2:
            made += bytes([257 - run, plane[position]])
        else:
            run = min(16, len(plane) - position)
            made += bytes([run - 1]) + plane[position : position + run]
        position += run
    return bytes(made)


def rle_frame(planes: list[bytes], pad: bytes = b"\0") -> bytes:
    """Return an RLE frame of encoded segments."""
    offsets, body = [], b""
    for plane in planes:
        offsets.append(64 + len(body))
        body += plane + pad * (len(plane) % 2)
    return np.array([len(planes), *offsets, *[0] * (15 - len(planes))], "<u4").tobytes() + body


def _run_lengths() -> Iterator[tuple[str, bytes]]:
    deep, flat = drawn_chest(), chest_8()
    planes = [run_lengths((deep >> 8).astype(np.uint8).tobytes()), run_lengths((deep & 255).astype(np.uint8).tobytes())]
    yield "RLE, 16 bits", dicom(syntax=RLE, frames=[rle_frame(planes)])
    yield "RLE, padded otherwise", dicom(syntax=RLE, frames=[rle_frame([plane + b"\x80" for plane in planes], b"\x80")])
    yield "RLE, 8 bits", dicom(flat, syntax=RLE, frames=[rle_frame([run_lengths(flat.tobytes())])])
    yield "RLE, colour", dicom(colour(flat), syntax=RLE, frames=[rle_frame([run_lengths(flat.tobytes())] * 3)])


def _fragments() -> Iterator[tuple[str, bytes]]:
    stream = bytes(imagecodecs.jpegls_encode(drawn_chest()))
    stream += b"\0" * (len(stream) % 2)
    half = len(stream) // 4 * 2
    parts = [stream[:half], stream[half:]]
    several = b"".join(b"\xfe\xff\x00\xe0" + len(part).to_bytes(4, "little") + part for part in [b"", *parts])
    data = dicom(syntax=JPEG_LS, frames=[stream])
    start = data.index(b"\xe0\x7f\x10\x00OB") + 12
    yield "codestream in two fragments", data[:start] + several + b"\xfe\xff\xdd\xe0\0\0\0\0"
    one = b"".join(b"\xfe\xff\x00\xe0" + len(part).to_bytes(4, "little") + part for part in [b"", stream])
    yield "empty offset table", data[:start] + one + b"\xfe\xff\xdd\xe0\0\0\0\0"
    _, offsets, lengths = encapsulate_extended([stream])
    yield (
        "extended offset table",
        dicom(syntax=JPEG_LS, frames=[stream], ExtendedOffsetTable=offsets, ExtendedOffsetTableLengths=lengths),
    )


def _forms() -> Iterator[tuple[str, bytes]]:
    data = dicom()
    start = data.index(b"\x08\x00\x16\x00")
    yield "no preamble, no meta header", data[start:]
    implicit = dicom(syntax=IMPLICIT)
    yield "no preamble, implicit", implicit[implicit.index(b"\x08\x00\x16\x00") :]
    yield "no preamble, with meta header", data[132:]
    yield "TIFF preamble", b"II*\0" + data[4:]
    yield "zeros behind the pixels", data + b"\0" * 100
    yield "trailing padding element", data + b"\xfc\xff\xfc\xffOB\0\0\x04\0\0\0\0\0\0\0"
    odd = np.ascontiguousarray(chest_8()[:, :127][:159])
    yield "odd number of bytes", dicom(odd)
