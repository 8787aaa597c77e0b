"""Films that must be refused, each with the reason families it may be refused with; bombs are marked."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import imagecodecs
import numpy as np
from PIL import Image

from tests.support.film_corpus import (
    BIG,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    J2K_LOSSLESS,
    JPEG_8,
    JPEG_12,
    JPEG_LS,
    JPEG_SV1,
    RLE,
    SC,
    Variant,
    chest_8,
    colour,
    dicom,
    drawn_chest,
)
from tests.support.film_corpus_coding import rle_frame, run_lengths
from tests.support.film_corpus_display import encode, palette

Fault = tuple[str, bytes, str]


def faults() -> Iterator[Variant]:
    """Yield every faulty film."""
    for name, data, families in [
        *_no_film(),
        *_cut(),
        *_damaged(),
        *_scope(),
        *_geometry(),
        *_security(),
        *_pictures(),
    ]:
        yield Variant(name, data, families=tuple(families.split()))
    for name, data, families in _bombs():
        yield Variant(name, data, families=tuple(families.split()), is_bomb=True)


def _no_film() -> Iterator[Fault]:
    data = dicom()
    yield "no bytes", b"", "EMPTY"
    yield "text", b"this is no film\n" * 30, "NOT_DICOM"
    yield "noise", np.random.default_rng(9).bytes(5000), "NOT_DICOM"
    yield "SVG", b'<svg xmlns="http://www.w3.org/2000/svg"/>' * 9, "NOT_DICOM"
    yield "zeros", bytes(4000), "NOT_DICOM"
    yield "mark only", data[:132], "PARSE NO_PIXELS SOP_CLASS"
    yield "meta header only", data[: data.index(b"\x08\x00\x16\x00")], "PARSE NO_PIXELS SOP_CLASS"
    yield "no pixel data", dicom(PixelData=None), "NO_PIXELS"
    yield "empty pixel data", dicom(raw=b""), "NO_PIXELS GEOMETRY"
    yield "no frame in the encapsulation", _fragments(b""), "NO_PIXELS"
    yield "float pixels", dicom(PixelData=None, FloatPixelData=drawn_chest().astype(np.float32).tobytes()), "FLOAT"
    yield "double pixels", dicom(PixelData=None, DoubleFloatPixelData=drawn_chest().astype(float).tobytes()), "FLOAT"
    yield "blank", dicom(np.full_like(drawn_chest(), 900)), "QUALITY"
    yield "nearly blank", dicom(drawn_chest() // 1000 + 900), "QUALITY"


def _cut() -> Iterator[Fault]:
    frames = {name: (syntax, stream) for name, syntax, stream in _streams()}
    for name, (syntax, stream) in frames.items():
        data = dicom(syntax=syntax, frames=[stream], **_bits_of(name))
        yield f"{name}, file cut", data[: len(data) * 2 // 3], "PARSE"
        whole = stream[: len(stream) // 2 // 2 * 2]
        yield f"{name}, codestream cut", dicom(syntax=syntax, frames=[whole], **_bits_of(name)), "DECODE"
        if name != "RLE":
            glued = dicom(syntax=syntax, frames=[whole + b"\xff\xd9"], **_bits_of(name))
            yield f"{name}, codestream cut, end glued on", glued, "DECODE"
    for name, syntax in (("explicit", EXPLICIT), ("implicit", IMPLICIT), ("big endian", BIG)):
        data = dicom(syntax=syntax)
        yield f"{name}, pixels cut", data[:-1000], "PARSE"
        yield f"{name}, header cut", data[:300], "PARSE"
    deflated = dicom(syntax=DEFLATED)
    yield "deflated, cut", deflated[: len(deflated) // 2], "PARSE"


def _streams() -> Iterator[tuple[str, str, bytes]]:
    deep, flat = drawn_chest(), chest_8()
    yield "JPEG baseline", JPEG_8, bytes(imagecodecs.jpeg_encode(flat, level=92))
    yield "JPEG extended", JPEG_12, bytes(imagecodecs.jpeg_encode(deep, level=92, bitspersample=12))
    lossless = imagecodecs.jpeg_encode(deep, lossless=True, predictor=1, bitspersample=12)
    yield "JPEG lossless", JPEG_SV1, bytes(lossless)
    yield "JPEG-LS", JPEG_LS, bytes(imagecodecs.jpegls_encode(deep))
    yield "JPEG 2000", J2K_LOSSLESS, bytes(imagecodecs.jpeg2k_encode(deep, level=0, reversible=True, codecformat="j2k"))
    yield "RLE", RLE, rle_frame([run_lengths(flat.tobytes())])


def _bits_of(name: str) -> dict[str, Any]:
    is_flat = name in ("JPEG baseline", "RLE")
    return {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7} if is_flat else {}


def _fragments(*parts: bytes) -> bytes:
    data = dicom(syntax=JPEG_LS, frames=[b"\xff\xd8\xff\xd9"])
    start = data.index(b"\xe0\x7f\x10\x00OB") + 12
    items = b"".join(b"\xfe\xff\x00\xe0" + struct.pack("<I", len(part)) + part for part in parts)
    return data[:start] + items + b"\xfe\xff\xdd\xe0\0\0\0\0"


def _damaged() -> Iterator[Fault]:
    data = dicom()
    rows = data.index(b"\x28\x00\x10\x00US")
    yield "unknown value representation", data.replace(b"\x28\x00\x10\x00US", b"\x28\x00\x10\x00ZZ"), "PARSE"
    yield "length beyond the file", data[: rows + 6] + b"\xff\xff" + data[rows + 8 :], "PARSE"
    item_end = struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    yield "stray delimiter", data[:rows] + item_end + data[rows:], "PARSE"
    yield "bytes behind the pixels", data + b"some other bytes", "PARSE"
    yield "sequence without end", data[:rows] + b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + data[rows:], "PARSE"
    deflated = bytearray(dicom(syntax=DEFLATED))
    deflated[-200:-150] = b"\xff" * 50
    yield "deflated, damaged", bytes(deflated), "PARSE"
    yield (
        "encapsulated called native",
        dicom(syntax=JPEG_LS, frames=[bytes(imagecodecs.jpegls_encode(drawn_chest()))]).replace(
            b"1.2.840.10008.1.2.4.80", b"1.2.840.10008.1.2.1\0\0\0"
        ),
        "PARSE",
    )
    yield (
        "native called compressed",
        data.replace(b"UI\x14\x001.2.840.10008.1.2.1\0", b"UI\x16\x001.2.840.10008.1.2.4.70"),
        "PARSE",
    )
    for uid in ("1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.52", "1.2.840.10008.1.2.4.110", "1.3.5.7"):
        stream = bytes(imagecodecs.jpegls_encode(drawn_chest()))
        padded = uid.encode().ljust(len(uid) + len(uid) % 2, b"\0")
        made = dicom(syntax=JPEG_LS, frames=[stream])
        old = b"\x02\x00\x10\x00UI" + struct.pack("<H", 22) + b"1.2.840.10008.1.2.4.80"
        yield (
            f"unknown syntax {uid}",
            made.replace(old, b"\x02\x00\x10\x00UI" + struct.pack("<H", len(padded)) + padded),
            "DECODE",
        )
    jpeg = bytes(imagecodecs.jpeg_encode(chest_8(), level=92))
    yield "codestream of another codec", dicom(drawn_chest(), syntax=J2K_LOSSLESS, frames=[jpeg]), "DECODE"
    flat: dict[str, Any] = {"BitsAllocated": 8, "BitsStored": 8}
    noise = jpeg[: jpeg.index(b"\xff\xda") + 12] + b"\xff\x31" * 500 + b"\xff\xd9"
    yield "marker that cannot be", dicom(chest_8(), syntax=JPEG_8, frames=[noise], **flat), "DECODE"
    yield "frames beyond the one", dicom(chest_8(), syntax=JPEG_8, frames=[jpeg + jpeg], **flat), "GEOMETRY"
    bad = bytearray(rle_frame([run_lengths(chest_8().tobytes())]))
    bad[4:8] = struct.pack("<I", 1 << 30)
    yield "RLE segment outside", dicom(chest_8(), syntax=RLE, frames=[bytes(bad)], **flat), "DECODE"
    yield (
        "RLE with too many segments",
        dicom(chest_8(), syntax=RLE, frames=[rle_frame([run_lengths(chest_8().tobytes())] * 2)], **flat),
        "DECODE",
    )


def _scope() -> Iterator[Fault]:
    for name, uid in (("CT", "2"), ("MR", "4"), ("mammogram", "1.2"), ("ultrasound", "6.1"), ("report", "88.11")):
        yield f"{name} object", dicom(SOPClassUID=f"1.2.840.10008.5.1.4.1.1.{uid}"), "SOP_CLASS"
    yield "PDF object", dicom(SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1", PixelData=None), "SOP_CLASS NO_PIXELS"
    yield "no SOP class", dicom(SOPClassUID=None), "SOP_CLASS"
    yield "DICOMDIR", dicom(SOPClassUID="1.2.840.10008.1.3.10", PixelData=None), "SOP_CLASS"
    for modality in ("CT", "MG", "US", "", "MR"):
        yield f"CR object of modality {modality or 'none'}", dicom(Modality=modality), "MODALITY"
    yield "secondary capture of a mammogram", dicom(SOPClassUID=SC, Modality="MG"), "MODALITY"
    for part in ("HIP", "SKULL", "EXTREMITY", "BREAST", "ABDOMEN"):
        yield f"body part {part}", dicom(BodyPartExamined=part), "BODY_PART"
    yield "burned-in text declared", dicom(BurnedInAnnotation="YES"), "PHI"


def _geometry() -> Iterator[Fault]:
    for rows, columns in ((0, 128), (160, 0), (None, 128), (160, None), (159, 128), (161, 128), (160, 127), (320, 128)):
        yield f"{rows} rows, {columns} columns", dicom(Rows=rows, Columns=columns), "GEOMETRY"
    data = dicom()
    at = data.index(b"\x28\x00\x10\x00US")
    yield "rows in 32 bits", data[:at] + b"\x28\x00\x10\x00UL\x04\0\xa0\0\0\0" + data[at + 10 :], "GEOMETRY"
    yield "two values for rows", data[:at] + b"\x28\x00\x10\x00US\x04\0\xa0\0\xa0\0" + data[at + 10 :], "GEOMETRY"
    yield "excess pixel bytes", dicom(raw=drawn_chest().tobytes() + bytes(64)), "GEOMETRY"
    yield "pixels far from square", dicom(PixelAspectRatio=["50", "1"]), "GEOMETRY"
    yield (
        "codestream of another size",
        dicom(syntax=JPEG_LS, frames=[bytes(imagecodecs.jpegls_encode(drawn_chest()[:100]))]),
        "GEOMETRY",
    )
    yield (
        "codestream of three colours",
        dicom(chest_8(), syntax=JPEG_8, frames=[imagecodecs.jpeg_encode(colour(chest_8()), level=90)]),
        "GEOMETRY",
    )
    yield "two frames", dicom(NumberOfFrames="2", raw=drawn_chest().tobytes() * 2), "MULTIFRAME"
    for name, tags in (
        ("1 bit", {"BitsAllocated": 1, "BitsStored": 1}),
        ("12 bits allocated", {"BitsAllocated": 12}),
        ("32 bits", {"BitsAllocated": 32, "BitsStored": 32}),
        ("24 stored in 16", {"BitsStored": 24}),
        ("0 stored", {"BitsStored": 0, "HighBit": 0}),
        ("high bit below", {"HighBit": 5}),
        ("high bit above", {"HighBit": 16}),
        ("no bits allocated", {"BitsAllocated": None}),
        ("sign of 7", {"PixelRepresentation": 7}),
    ):
        yield name, dicom(**tags), "BITS"
    yield "colour of 16 bits", dicom(colour(drawn_chest())), "BITS"
    for photometric in ("HSV", "CMYK", "", None, "MONOCHROME3"):
        yield f"photometric {photometric}", dicom(PhotometricInterpretation=photometric), "PHOTOMETRIC"
    yield "three samples of grey", dicom(SamplesPerPixel=3), "PHOTOMETRIC GEOMETRY"
    yield "palette without tables", dicom(chest_8(), PhotometricInterpretation="PALETTE COLOR"), "PHOTOMETRIC"
    tables = palette(np.arange(256, dtype="<u2"))
    short = {name: value[:40] if isinstance(value, bytes) else value for name, value in tables.items()}
    yield "palette cut", dicom(chest_8(), **short), "PHOTOMETRIC"
    wild = palette(np.array([7, 7, 7, 7], "<u2"), name="Segmented{}PaletteColorLookupTableData", entries=256)
    yield "palette of unknown segments", dicom(chest_8(), **wild), "PHOTOMETRIC"
    itself = palette(np.array([2, 5, 0, 0], "<u2"), name="Segmented{}PaletteColorLookupTableData", entries=256)
    yield "palette that repeats itself", dicom(chest_8(), **itself), "PHOTOMETRIC"


def _security() -> Iterator[Fault]:
    data = dicom()
    for name, magic in (
        ("Windows program", b"MZ\x90\0"),
        ("Linux program", b"\x7fELF"),
        ("script", b"#!/bin/sh\n"),
        ("archive", b"PK\x03\x04"),
        ("macOS program", b"\xcf\xfa\xed\xfe"),
        ("PDF", b"%PDF-1.7"),
        ("web page", b"<html><script>"),
        ("PNG", b"\x89PNG\r\n\x1a\n"),
    ):
        yield f"{name} in the preamble", magic + data[len(magic) :], "SECURITY"
    yield "archive behind", data + b"PK\x03\x04archive", "SECURITY"
    yield "archive behind zeros", data + bytes(200) + b"PK\x03\x04archive", "SECURITY PARSE"
    yield "program behind", data + b"MZ\x90\0program", "SECURITY"
    for name, tags in (
        ("no SOPInstanceUID", {"SOPInstanceUID": None}),
        ("no patient", {"PatientID": None}),
        ("no study", {"StudyInstanceUID": None}),
        ("SOPInstanceUID that climbs", {"SOPInstanceUID": "../../etc/passwd"}),
        ("SOPInstanceUID overlong", {"SOPInstanceUID": "1." + "2" * 70}),
        ("SOPInstanceUID with a leading 0", {"SOPInstanceUID": "1.02.3"}),
        ("null inside SOPInstanceUID", {"SOPInstanceUID": "1.2\x00.3"}),
    ):
        yield name, dicom(**tags), "IDENTITY"


def _pictures() -> Iterator[Fault]:
    grey = Image.fromarray(chest_8())
    png, jpeg = encode(grey), encode(grey, "JPEG", quality=92)
    yield "PNG cut", png[: len(png) // 2], "DECODE"
    yield "PNG without end", png[:-12], "DECODE"
    at = png.index(b"IDAT") + 500
    yield "PNG damaged", png[:at] + bytes([png[at] ^ 255]) + png[at + 1 :], "DECODE"
    yield "PNG with an archive behind", png + b"PK\x03\x04", "SECURITY"
    yield "PNG of 1 bit", encode(grey.convert("1")), "BITS"
    yield "PNG blank", encode(Image.new("L", grey.size, 7)), "QUALITY"
    yield "JPEG cut", jpeg[: len(jpeg) // 2], "DECODE"
    yield "JPEG cut, end glued on", jpeg[: len(jpeg) // 2] + b"\xff\xd9", "DECODE"
    yield "JPEG with an archive behind", jpeg + b"\0" * 100 + b"PK\x03\x04", "SECURITY"
    restarts = encode(grey, "JPEG", quality=92, restart_marker_blocks=4)
    third = restarts.index(b"\xff\xd3")
    yield "JPEG, a restart interval missing", restarts[:third] + restarts[restarts.index(b"\xff\xd5") :], "DECODE"
    yield "JPEG of four inks", encode(grey.convert("CMYK"), "JPEG"), "PHOTOMETRIC"
    yield "GIF", encode(grey, "GIF"), "NOT_DICOM"
    yield "TIFF", encode(grey, "TIFF"), "NOT_DICOM"


def _bombs() -> Iterator[Fault]:
    jpeg = bytearray(imagecodecs.jpeg_encode(chest_8(), level=90))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 65500, 65500)
    yield "JPEG frame header of 65500 x 65500", dicom(chest_8(), syntax=JPEG_8, frames=[bytes(jpeg)]), "LIMIT"
    yield "JPEG picture of 65500 x 65500", bytes(jpeg), "LIMIT"
    j2k = bytearray(imagecodecs.jpeg2k_encode(drawn_chest(), level=0, reversible=True, codecformat="j2k"))
    wide = bytearray(j2k)
    wide[8] ^= 0x40
    yield "JPEG 2000, one bit in its size", dicom(syntax=J2K_LOSSLESS, frames=[bytes(wide)]), "LIMIT GEOMETRY"
    tiles = bytearray(j2k)
    tiles[24:32] = struct.pack(">II", 0, 1)
    yield "JPEG 2000 of no tile", dicom(syntax=J2K_LOSSLESS, frames=[bytes(tiles)]), "DECODE"
    large = drawn_chest().repeat(4, axis=0).repeat(4, axis=1)
    many = bytearray(imagecodecs.jpeg2k_encode(large, level=0, reversible=True, codecformat="j2k"))
    many[24:32] = struct.pack(">II", 1, 1)
    yield "JPEG 2000 of a tile a pixel", dicom(large, syntax=J2K_LOSSLESS, frames=[bytes(many)]), "LIMIT"
    layers = bytearray(j2k)
    coding = layers.index(b"\xff\x52")
    layers[coding + 6 : coding + 8] = b"\xff\xff"
    layers[coding + 9] = 32
    yield "JPEG 2000 of 65535 layers", dicom(syntax=J2K_LOSSLESS, frames=[bytes(layers)]), "LIMIT"
    ls = bytearray(imagecodecs.jpegls_encode(drawn_chest()))
    frame = ls.index(b"\xff\xf7")
    ls[frame + 5 : frame + 9] = struct.pack(">HH", 60000, 60000)
    yield "JPEG-LS of 60000 x 60000", dicom(syntax=JPEG_LS, frames=[bytes(ls)]), "LIMIT"
    yield "header of 60000 x 60000", dicom(Rows=60000, Columns=60000), "LIMIT"
    yield "a million frames", dicom(NumberOfFrames="1000000"), "LIMIT MULTIFRAME"
    yield (
        "RLE that grows a thousandfold",
        dicom(chest_8(), syntax=RLE, frames=[rle_frame([b"\x81\0" * 2_000_000])]),
        "DECODE LIMIT",
    )
    yield "deflated far beyond what its header lets expect", _deflate_bomb(), "LIMIT"
    data = dicom()
    start = data.index(b"\x08\x00\x16\x00")
    opened = struct.pack("<HH2sHI", 8, 0x1140, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    yield "sequences 5000 deep", data[:start] + opened * 5000, "LIMIT"
    yield "a million elements", data[:start] + struct.pack("<HH2sH", 8, 8, b"CS", 0) * 1_000_000, "LIMIT"
    four_gigabytes = struct.pack("<HH2sHI", 8, 9, b"OB", 0, 0xFFFFFFF0)
    yield "element of 4 GB", data[:start] + four_gigabytes + data[start:], "PARSE LIMIT"
    yield "PNG of 60000 x 60000", _png_header(60000, 60000, 0), "LIMIT"
    yield "PNG of 10000 x 10000 in 64 bits", _png_header(10000, 10000, 6), "LIMIT"
    scans = encode(Image.fromarray(chest_8()), "JPEG", progressive=True)
    last = scans.rindex(b"\xff\xda")
    yield "JPEG of two thousand scans", scans[:last] + scans[last:-2] * 2000 + b"\xff\xd9", "LIMIT"
    chunk = b"\0\0\0\0tEXt" + struct.pack(">I", zlib.crc32(b"tEXt"))
    png = encode(Image.fromarray(chest_8()))
    yield "PNG of a hundred thousand chunks", png[:33] + chunk * 100_000 + png[33:], "LIMIT"


def _deflate_bomb() -> bytes:
    plain = dicom(drawn_chest(), Rows=160, Columns=128)
    start = plain.index(b"\x08\x00\x16\x00")
    pixels = plain.index(b"\xe0\x7f\x10\x00OW")
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = io.BytesIO()
    body.write(deflater.compress(plain[start:pixels] + b"\xe0\x7f\x10\x00OW\0\0\xf0\xff\xff\x3f"))
    for _ in range(64):
        body.write(deflater.compress(bytes(2**20)))
    body.write(deflater.flush())
    packed = dicom(syntax=DEFLATED)
    length = struct.unpack("<I", packed[140:144])[0]
    return packed[: 144 + length] + body.getvalue()


def _png_header(width: int, height: int, colour_type: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
