"""Legal films by how they are shown: polarity, tables, windows, padding, aspect, headers; and pictures."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom.sequence import Sequence

from tests.support.film_corpus import (
    BIG,
    CR,
    DX,
    DX_FOR_PROCESSING,
    IMPLICIT,
    SC,
    TOP,
    Pixels,
    Variant,
    chest_8,
    colour,
    dicom,
    drawn_chest,
    item,
)

Case = tuple[str, bytes] | tuple[str, bytes, Pixels]


def legal_displays() -> Iterator[Variant]:
    """Yield every way to show the chest, and the pictures."""
    for case in [
        *_polarity(),
        *_colours(),
        *_palettes(),
        *_modality(),
        *_windows(),
        *_padding(),
        *_aspect(),
        *_headers(),
        *_pictures(),
    ]:
        yield Variant(case[0], case[1], truth=case[2] if len(case) == 3 else drawn_chest())


def _polarity() -> Iterator[Case]:
    white, black = drawn_chest(), TOP - drawn_chest()
    mono1: dict[str, Any] = {"PhotometricInterpretation": "MONOCHROME1"}
    raw: dict[str, Any] = {"SOPClassUID": DX_FOR_PROCESSING, "Modality": "DX"}
    yield "MONOCHROME1", dicom(black, **mono1)
    yield "MONOCHROME1 and INVERSE", dicom(black, **mono1, PresentationLUTShape="INVERSE")
    yield "MONOCHROME2 and IDENTITY", dicom(white, PresentationLUTShape="IDENTITY")
    yield "MONOCHROME2 and INVERSE, shown well", dicom(white, PresentationLUTShape="INVERSE")
    yield "MONOCHROME2 and INVERSE, a negative", dicom(black, PresentationLUTShape="INVERSE")
    yield "MONOCHROME1 and IDENTITY, shown well", dicom(black, **mono1, PresentationLUTShape="IDENTITY")
    yield "MONOCHROME1 and IDENTITY, a negative", dicom(white, **mono1, PresentationLUTShape="IDENTITY")
    yield "MONOCHROME1 with a window", dicom(black, **mono1, WindowCenter="2048", WindowWidth="4096")
    yield "for processing, values rise with the beam", dicom(black, **raw, PixelIntensityRelationshipSign=1)
    yield "for processing, values fall with the beam", dicom(white, **raw, PixelIntensityRelationshipSign=-1)
    yield "for processing, MONOCHROME1 and rising", dicom(black, **raw, **mono1, PixelIntensityRelationshipSign=1)
    yield "for processing, not said, a negative", dicom(black, **raw)
    yield "for processing, not said, shown well", dicom(white, **raw)
    yield (
        "for processing by its intent",
        dicom(black, Modality="CR", PresentationIntentType="FOR PROCESSING", PixelIntensityRelationshipSign=1),
    )


def _colours() -> Iterator[Case]:
    flat = chest_8()
    planes = np.ascontiguousarray(np.moveaxis(colour(flat), -1, 0)).tobytes()
    ybr = np.stack([flat, np.full_like(flat, 100), np.full_like(flat, 160)], axis=-1)
    yield "RGB by plane", dicom(colour(flat), raw=planes, PlanarConfiguration=1)
    yield "YBR_FULL by pixel", dicom(ybr, PhotometricInterpretation="YBR_FULL")
    ybr_planes = np.ascontiguousarray(np.moveaxis(ybr, -1, 0)).tobytes()
    yield "YBR_FULL by plane", dicom(ybr, raw=ybr_planes, PhotometricInterpretation="YBR_FULL", PlanarConfiguration=1)
    quads = np.stack([flat[:, 0::2], flat[:, 1::2], ybr[:, 0::2, 1], ybr[:, 0::2, 2]], axis=-1)
    yield "YBR_FULL_422", dicom(ybr, raw=quads.tobytes(), PhotometricInterpretation="YBR_FULL_422")


def _palettes() -> Iterator[Case]:
    flat = chest_8()
    yield "palette of 16 bits", dicom(flat, **palette(np.arange(256, dtype="<u2") * 257))
    yield "palette of 16 bits, implicit", dicom(flat, syntax=IMPLICIT, **palette(np.arange(256, dtype="<u2") * 257))
    yield "palette of 16 bits, big endian", dicom(flat, syntax=BIG, **palette(np.arange(256, dtype=">u2") * 257))
    yield "palette of 8 bits", dicom(flat, **palette(np.arange(256, dtype=np.uint8), bits=8))
    yield "palette of 8 bits in words", dicom(flat, **palette(np.arange(256, dtype="<u2"), bits=8))
    yield "palette of 8 bits called 16", dicom(flat, **palette(np.arange(256, dtype="<u2")))
    yield "palette that turns", dicom(255 - flat, **palette(np.arange(255, -1, -1, dtype="<u2") * 257))
    shifted = (flat >> 1) + 20
    yield "palette with a first entry", dicom(shifted, **palette(np.arange(128, dtype="<u2") * 516, first=20))
    yield (
        "palette shorter than its indices",
        dicom(flat, **palette(np.arange(200, dtype="<u2") * 257)),
        np.minimum(flat, 199),
    )
    wide = drawn_chest()
    yield "palette of 4096 entries", dicom(wide, BitsStored=16, **palette(np.arange(4096, dtype="<u2") * 16))
    line = np.array([0, 1, 0, 1, 255, 65535], "<u2")
    yield "palette as a line", dicom(flat, **palette(line, name="Segmented{}PaletteColorLookupTableData", entries=256))
    # a run of 0..63, the same again, then a line to the top
    runs = np.array([0, 64, *range(0, 64 * 256, 256), 2, 1, 0, 0, 1, 128, 65280], "<u2")
    table = np.concatenate([np.arange(64), np.arange(64), np.linspace(63, 255, 129)[1:]])
    yield (
        "palette of segments",
        dicom(flat, **palette(runs, name="Segmented{}PaletteColorLookupTableData", entries=256)),
        table[flat].astype(np.float32),
    )


def palette(
    table: Pixels, *, bits: int = 16, first: int = 0, entries: int = 0, name: str = "{}PaletteColorLookupTableData"
) -> dict[str, Any]:
    """Return the attributes of a palette with one table for all three colours."""
    tags: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for shade in ("Red", "Green", "Blue"):
        tags[f"{shade}PaletteColorLookupTableDescriptor"] = [entries or len(table), first, bits]
        tags[name.format(shade)] = table.tobytes()
    return tags


def _modality() -> Iterator[Case]:
    chest = drawn_chest()
    yield "rescale", dicom(RescaleSlope="2.5", RescaleIntercept="-1000", RescaleType="US")
    yield (
        "rescale and window",
        dicom(RescaleSlope="2", RescaleIntercept="-1000", WindowCenter="3096", WindowWidth="8192"),
    )
    yield "rescale that turns", dicom(TOP - chest, RescaleSlope="-1", RescaleIntercept="4095")
    yield "slope 0", dicom(RescaleSlope="0", RescaleIntercept="5")
    yield "slope far too large", dicom(RescaleSlope="1e38", RescaleIntercept="1e38")
    curve = np.rint(4095 * (np.arange(4096) / 4095) ** 1.5).astype("<u2")
    shown = curve[chest]
    for name, table, syntax in (
        ("", curve, "1.2.840.10008.1.2.1"),
        (", implicit", curve, IMPLICIT),
        (", big endian", curve.astype(">u2"), BIG),
    ):
        sequence = Sequence([item(LUTDescriptor=[4096, 0, 16], ModalityLUTType="US", LUTData=table.tobytes())])
        yield f"modality table{name}", dicom(syntax=syntax, ModalityLUTSequence=sequence), shown
    short = Sequence([item(LUTDescriptor=[4096, 0, 16], ModalityLUTType="US", LUTData=curve[:100].tobytes())])
    yield "modality table too short", dicom(ModalityLUTSequence=short)


def _windows() -> Iterator[Case]:
    chest = drawn_chest().astype(np.float64)
    linear = np.clip((chest - 1847.5) / 2799 + 0.5, 0, 1)
    exact = np.clip((chest - 1848) / 2800 + 0.5, 0, 1)
    sigmoid = 1 / (1 + np.exp(-4 * (chest - 1848) / 2800))
    window = {"WindowCenter": "1848", "WindowWidth": "2800"}
    yield "window", dicom(**window), linear
    yield "window LINEAR", dicom(**window, VOILUTFunction="LINEAR"), linear
    yield "window LINEAR_EXACT", dicom(**window, VOILUTFunction="LINEAR_EXACT"), exact
    yield "window SIGMOID", dicom(**window, VOILUTFunction="SIGMOID"), sigmoid
    yield "two windows", dicom(WindowCenter=["1848", "40"], WindowWidth=["2800", "400"]), linear
    yield "two windows, the first far off", dicom(WindowCenter=["90000", "1848"], WindowWidth=["10", "2800"]), linear
    yield "three centres, one width", dicom(WindowCenter=["1848", "9", "9"], WindowWidth="2800"), linear
    for name, width in (("0", "0"), ("negative", "-5"), ("1", "1"), ("a thousandth", "0.001"), ("infinite", "1e30")):
        yield f"window of width {name}", dicom(WindowCenter="2000", WindowWidth=width)
    yield "window far off", dicom(WindowCenter="-30000", WindowWidth="100")
    data = dicom(WindowCenter="2048", WindowWidth="4096")
    yield "window in words", data.replace(b"4096", b"wide", 1)
    curve = np.rint(255 * np.sqrt(np.arange(4096) / 4095)).astype("<u2")
    for bits, table in ((8, curve), (12, curve * 16), (16, curve * 257)):
        sequence = Sequence([item(LUTDescriptor=[4096, 0, bits], LUTData=table.tobytes())])
        yield f"VOI table of {bits} bits", dicom(VOILUTSequence=sequence), curve[drawn_chest()]
    packed = Sequence([item(LUTDescriptor=[4096, 0, 8], LUTData=curve.astype(np.uint8).tobytes())])
    yield "VOI table packed", dicom(VOILUTSequence=packed, WindowCenter="0", WindowWidth="1"), curve[drawn_chest()]
    below = Sequence([item(LUTDescriptor=[4096, 65536 - 1000, 16], LUTData=(curve * 257).tobytes())])
    yield (
        "VOI table that begins below 0",
        dicom(RescaleSlope="1", RescaleIntercept="-1000", VOILUTSequence=below),
        curve[drawn_chest()],
    )
    flat = Sequence([item(LUTDescriptor=[4096, 0, 16], LUTData=np.full(4096, 7, "<u2").tobytes())])
    yield "VOI table that says nothing", dicom(VOILUTSequence=flat)


def _padding() -> Iterator[Case]:
    chest = drawn_chest() // 2 + 500
    truth = drawn_chest().copy()
    truth[:, :20] = 0
    padded = chest.copy()
    padded[:, :20] = 4000
    yield "padding", dicom(padded, PixelPaddingValue=4000), truth
    yield "padding, implicit", dicom(padded, syntax=IMPLICIT, PixelPaddingValue=4000), truth
    yield "padding, big endian", dicom(padded, syntax=BIG, PixelPaddingValue=4000), truth
    ramp = padded.copy()
    ramp[:, :20] = np.arange(3980, 4000)
    yield "padding range", dicom(ramp, PixelPaddingValue=3980, PixelPaddingRangeLimit=4000), truth
    dark = TOP - chest
    dark[:, :20] = 0
    yield "padding, MONOCHROME1", dicom(dark, PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=0), truth
    signed = chest.astype(np.int16)
    signed[:, :20] = -2000
    tags: dict[str, Any] = {"PixelRepresentation": 1, "BitsStored": 16}
    yield "padding, signed", dicom(signed, **tags, PixelPaddingValue=-2000), truth
    data = dicom(signed, **tags, PixelPaddingValue=-2000)
    yield "padding, signed in an unsigned attribute", data.replace(b"\x28\x00\x20\x01SS", b"\x28\x00\x20\x01US"), truth


def _aspect() -> Iterator[Case]:
    half = drawn_chest()[::2]
    wide = np.ascontiguousarray(drawn_chest()[:, ::2])
    yield "pixels twice as high, PixelSpacing", dicom(half, PixelSpacing=["0.4", "0.2"])
    yield "pixels twice as high, ImagerPixelSpacing", dicom(half, ImagerPixelSpacing=["0.4", "0.2"])
    yield "pixels twice as high, PixelAspectRatio", dicom(half, PixelAspectRatio=["2", "1"])
    yield "pixels twice as wide", dicom(wide, PixelSpacing=["0.2", "0.4"])
    yield "spacing 0", dicom(PixelSpacing=["0", "0"])


def _headers() -> Iterator[Case]:
    yield "no view", dicom(ViewPosition=None)
    yield "view as a code", dicom(ViewPosition=None, ViewCodeSequence=Sequence([item(CodeMeaning="postero-anterior")]))
    yield "lateral", dicom(ViewPosition="LL")
    yield "no body part", dicom(BodyPartExamined=None)
    yield (
        "body part as a code",
        dicom(BodyPartExamined=None, AnatomicRegionSequence=Sequence([item(CodeMeaning="Thorax")])),
    )
    yield "child", dicom(PatientAge="004Y")
    yield "age in words", dicom(PatientAge="old")
    yield "DX", dicom(SOPClassUID=DX, Modality="DX")
    yield "CR that says DX", dicom(SOPClassUID=CR, Modality="DX")
    yield "secondary capture", dicom(SOPClassUID=SC, Modality="OT")
    yield (
        "secondary capture, many-frame word, one frame",
        dicom(SOPClassUID=SC + ".3", Modality="OT", NumberOfFrames="1"),
    )
    yield "one frame", dicom(NumberOfFrames="1")
    yield "unknown character set", dicom(SpecificCharacterSet="ISO_IR 999")
    yield "formula for a name", dicom(PatientName='=HYPERLINK("x")^@SUM')
    yield "null behind values", dicom(Modality="CR\0", BodyPartExamined="CHEST\0")
    nested = item(CodeValue="1")
    for _ in range(12):
        nested = item(ContentSequence=Sequence([nested]))
    yield "sequences twelve deep", dicom(ContentSequence=Sequence([nested]))
    icon = item(Rows=2, Columns=2, PixelData=b"\0\1\2\3")
    yield "icon inside", dicom(IconImageSequence=Sequence([icon]))
    yield "a megabyte of text", dicom(ImageComments="x" * 1_000_000)
    data = dicom()
    start = data.index(b"\x08\x00\x16\x00")
    yield (
        "private elements",
        data[:start]
        + data[start:].replace(
            b"\x10\x00\x10\x00PN",
            b"\x09\x00\x10\x00LO\x04\0OURS\x09\x00\x01\x10UN\0\0\x04\0\0\0\0\0\0\0\x10\x00\x10\x00PN",
            1,
        ),
    )


def encode(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Return a picture file."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _pictures() -> Iterator[Case]:
    flat, deep = chest_8(), drawn_chest()
    grey, rgb = Image.fromarray(flat), Image.fromarray(colour(flat))
    yield "PNG", encode(grey)
    yield "PNG, 16 bits", encode(Image.fromarray(deep * 16))
    yield "PNG, 12 bits in 16", encode(Image.fromarray(deep))
    yield "PNG, colour", encode(rgb)
    yield "PNG, palette", encode(grey.convert("P"))
    yield "PNG, alpha", encode(Image.merge("LA", [grey, Image.new("L", grey.size, 255)]))
    yield "PNG, colour and alpha", encode(rgb.convert("RGBA"))
    text = PngInfo()
    text.add_text("Comment", "drawn", zip=True)
    yield "PNG with text", encode(grey, pnginfo=text)
    yield "PNG, a negative", encode(Image.fromarray(255 - flat))
    yield "PNG, 16 bits, a negative", encode(Image.fromarray((TOP - deep) * 16))
    yield "JPEG", encode(grey, "JPEG", quality=92)
    yield "JPEG, strong", encode(grey, "JPEG", quality=50)
    yield "JPEG, colour", encode(rgb, "JPEG", quality=92)
    yield "JPEG, progressive", encode(grey, "JPEG", quality=92, progressive=True)
    yield "JPEG, restart markers", encode(grey, "JPEG", quality=92, restart_marker_blocks=4)
    yield "JPEG, zeros behind", encode(grey, "JPEG", quality=92) + b"\0" * 300
    yield "JPEG, a negative", encode(Image.fromarray(255 - flat), "JPEG", quality=92)
    turns = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM}
    turns |= {5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE}
    turns |= {8: Image.Transpose.ROTATE_270}
    for orientation, turn in turns.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield f"JPEG, EXIF turn {orientation}", encode(grey.transpose(turn), "JPEG", quality=92, exif=exif)
