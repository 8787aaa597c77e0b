from __future__ import annotations

import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from crrg.data.decoding.limits import InputLimits
from crrg.data.dicom.film import read_dicom_film
from crrg.data.identity import check_identity
from crrg.domain.acquisition import OWN_MANUFACTURER
from crrg.domain.study import Film, ViewPosition
from crrg.errors import DataError, IdentityError
from tests.support.dicom_builder import SECONDARY_CAPTURE, build_dicom, gradient


def film_of(data: bytes, size: int) -> Film:
    return read_dicom_film(data, size).film


def code_of(data: bytes) -> str:
    with pytest.raises(DataError) as caught:
        film_of(data, 64)
    return caught.value.code


def test_a_plain_film_is_shown_between_its_extremes():
    film = film_of(build_dicom(), 64)
    assert film.pixels.shape == (40, 50)
    assert film.pixels.dtype == np.uint8
    assert film.pixels[0, 0] == 0
    assert film.pixels[0, -1] == 255
    assert (film.original_width, film.original_height) == (50, 40)
    assert film.view_position is ViewPosition.PA
    assert film.flags == ()
    assert not film.polarity_inverted


def test_a_larger_film_is_reduced_to_the_longest_side():
    film = film_of(build_dicom(gradient(100, 200)), 64)
    assert film.pixels.shape == (32, 64)
    assert (film.original_width, film.original_height) == (200, 100)


def test_monochrome1_is_inverted_once():
    plain = film_of(build_dicom(), 64)
    inverted = film_of(build_dicom(4095 - gradient(), PhotometricInterpretation="MONOCHROME1"), 64)
    assert inverted.polarity_inverted
    assert np.abs(plain.pixels.astype(int) - inverted.pixels.astype(int)).max() <= 1


def test_a_window_is_applied_and_a_far_off_one_is_dropped():
    # LINEAR: 0 at centre - 0.5 - (width - 1) / 2 = 548, 1 at 3547
    film = film_of(build_dicom(WindowCenter="2048", WindowWidth="3000"), 64)
    values = gradient()[0].astype(float)
    expected = np.clip((values - 548) / 2999, 0, 1) * 255
    assert np.abs(film.pixels[0] - expected).max() <= 1
    far = film_of(build_dicom(WindowCenter="90000", WindowWidth="10"), 64)
    assert "window_dropped" in far.flags
    assert far.pixels[0, -1] == 255
    for width in ("0", "-3", "1"):
        assert film_of(build_dicom(WindowCenter="2048", WindowWidth=width), 64).pixels[0, -1] == 255


def test_rescale_comes_before_the_window():
    film = film_of(build_dicom(RescaleSlope="2", RescaleIntercept="-1000", WindowCenter="3096", WindowWidth="6000"), 64)
    values = gradient()[0] * 2.0 - 1000
    expected = np.clip((values - 3095.5) / 5999 + 0.5, 0, 1) * 255
    assert np.abs(film.pixels[0] - expected).max() <= 1
    assert "rescale_ignored" in film_of(build_dicom(RescaleSlope="0"), 64).flags


def test_voi_table_wins_over_the_window():
    item = Dataset()
    item.LUTDescriptor = [4096, 0, 8]
    item.LUTData = np.repeat(np.arange(256, dtype=np.uint16), 16).tobytes()
    item["LUTData"].VR = "OW"
    film = film_of(build_dicom(VOILUTSequence=Sequence([item]), WindowCenter="0", WindowWidth="2"), 64)
    assert np.abs(film.pixels[0] - gradient()[0] / 4095 * 255).max() <= 2


def test_padding_neither_stretches_nor_brightens():
    values = gradient() // 4 + 1000
    values[:10] = 4095
    film = film_of(build_dicom(values, PixelPaddingValue=4095), 64)
    assert film.pixels[0].max() == 0
    assert film.pixels[20, -1] == 255


def test_pixels_that_are_not_square_are_resampled_to_the_finer_side():
    film = film_of(build_dicom(PixelSpacing=["0.4", "0.2"]), 64)
    assert (film.original_width, film.original_height) == (50, 80)
    assert film.pixels.shape == (64, 40)
    assert film.pixel_spacing_mm == (0.2, 0.2)
    assert code_of(build_dicom(PixelAspectRatio=["50", "1"])) == "GEOMETRY.ASPECT"


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_signed_values_and_junk_above_the_stored_bits(photometric):
    signed = (gradient().astype(np.int32) - 2048).astype(np.int16)
    data = build_dicom(signed.view(np.uint16), PixelRepresentation=1, PhotometricInterpretation=photometric)
    junk = build_dicom(gradient() | 0xA000, PhotometricInterpretation=photometric)
    plain = build_dicom(gradient(), PhotometricInterpretation=photometric)
    assert np.array_equal(film_of(data, 64).pixels, film_of(plain, 64).pixels)
    assert np.array_equal(film_of(junk, 64).pixels, film_of(plain, 64).pixels)


def test_colour_becomes_luminance():
    rgb = np.zeros((40, 50, 3), dtype=np.uint8)
    rgb[:, 10:20, 0], rgb[:, 20:30, 1], rgb[:, 30:40, 2], rgb[:, 40:] = 255, 255, 255, 255
    data = build_dicom(rgb, PhotometricInterpretation="RGB", PlanarConfiguration=0)
    row = film_of(data, 64).pixels[5]
    assert [row[i] for i in (5, 15, 25, 35, 45)] == [0, 76, 150, 29, 255]
    planar = np.moveaxis(rgb, -1, 0)
    data = build_dicom(
        rgb, PhotometricInterpretation="RGB", PlanarConfiguration=1, PixelData=np.ascontiguousarray(planar).tobytes()
    )
    assert np.array_equal(film_of(data, 64).pixels[5], row)
    ybr = np.full((40, 50, 3), 128, dtype=np.uint8)
    ybr[..., 0] = np.arange(50) * 5
    data = build_dicom(ybr, PhotometricInterpretation="YBR_FULL", PlanarConfiguration=0)
    assert film_of(data, 64).pixels[5].tolist() == (np.arange(50) * 5).tolist()


def test_palette_is_looked_up_and_clamped():
    indices = np.tile(np.arange(50, dtype=np.uint8), (40, 1))
    table = (np.arange(40, dtype=np.uint16) * 6 << 8).tobytes()
    tags = {
        f"{colour}PaletteColorLookupTable{part}": value
        for colour in ("Red", "Green", "Blue")
        for part, value in (("Descriptor", [40, 0, 16]), ("Data", table))
    }
    row = film_of(build_dicom(indices, PhotometricInterpretation="PALETTE COLOR", **tags), 64).pixels[0]
    assert row[10] == 60
    assert row[45] == 39 * 6


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        ("1.2.840.10008.1.2.4.90", lambda a: imagecodecs.jpeg2k_encode(a, level=0, reversible=True, codecformat="j2k")),
        ("1.2.840.10008.1.2.4.80", imagecodecs.jpegls_encode),
        ("1.2.840.10008.1.2.4.70", lambda a: imagecodecs.ljpeg_encode(a, bitspersample=12)),
    ],
)
def test_lossless_codestreams_give_the_same_film(syntax, encode):
    codestream = bytes(encode(gradient()))
    plain = film_of(build_dicom(), 64)
    film = film_of(build_dicom(codestream=codestream, syntax=syntax), 64)
    assert film.pixel_digest == plain.pixel_digest
    assert code_of(build_dicom(codestream=codestream[: len(codestream) * 2 // 3], syntax=syntax)).startswith("DECODE.")
    wrong = build_dicom(codestream=codestream, syntax=syntax, Rows=41)
    assert code_of(wrong) == "GEOMETRY.CODESTREAM"


def test_colour_jpeg_is_read_as_dicom_says():
    rgb = np.zeros((40, 48, 3), dtype=np.uint8)
    rgb[:, 16:32], rgb[:, 32:] = 120, 240
    codestream = imagecodecs.jpeg_encode(rgb, level=95)
    data = build_dicom(
        rgb,
        codestream=codestream,
        syntax="1.2.840.10008.1.2.4.50",
        PhotometricInterpretation="YBR_FULL_422",
        PlanarConfiguration=0,
    )
    row = film_of(data, 64).pixels[20].astype(int)
    assert abs(row[8]) <= 3
    assert abs(row[24] - 120) <= 3
    assert abs(row[40] - 240) <= 3


def test_a_frame_header_larger_than_allowed_is_refused_undecoded():
    codestream = bytearray(imagecodecs.jpeg_encode(np.zeros((16, 16), dtype=np.uint8), level=90))
    frame = codestream.index(b"\xff\xc0")
    codestream[frame + 5 : frame + 9] = struct.pack(">HH", 65500, 65500)
    data = build_dicom(np.zeros((16, 16), np.uint8), codestream=bytes(codestream), syntax="1.2.840.10008.1.2.4.50")
    assert code_of(data) == "LIMIT.PIXELS"


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, "SOP_CLASS.NOT_A_RADIOGRAPH"),
        ({"SOPClassUID": None}, "SOP_CLASS.NOT_A_RADIOGRAPH"),
        (
            {"SOPClassUID": SECONDARY_CAPTURE, "Modality": "OT", "Manufacturer": OWN_MANUFACTURER},
            "SOP_CLASS.OWN_CAPTURE",
        ),
        ({"Modality": "CT"}, "MODALITY.NOT_A_RADIOGRAPH"),
        ({"SOPClassUID": SECONDARY_CAPTURE, "Modality": "MG"}, "MODALITY.NOT_A_RADIOGRAPH"),
        ({"BodyPartExamined": "HIP"}, "BODY_PART.NOT_CHEST"),
        ({"BodyPartExamined": "EXTREMITY"}, "BODY_PART.NOT_CHEST"),
        ({"BurnedInAnnotation": "YES"}, "PHI.BURNED_IN"),
        ({"NumberOfFrames": 2}, "MULTIFRAME.FRAMES"),
        ({"NumberOfFrames": 1_000_000}, "LIMIT.FRAMES"),
        ({"Rows": 0}, "GEOMETRY.SIZE"),
        ({"Columns": None}, "GEOMETRY.SIZE"),
        ({"Rows": 39}, "GEOMETRY.PIXEL_DATA"),
        ({"Columns": 51}, "GEOMETRY.PIXEL_DATA"),
        ({"Rows": 60000, "Columns": 60000}, "LIMIT.PIXELS"),
        ({"BitsAllocated": 12}, "BITS.UNSUPPORTED"),
        ({"BitsStored": 24}, "BITS.UNSUPPORTED"),
        ({"PhotometricInterpretation": "HSV"}, "PHOTOMETRIC.UNSUPPORTED"),
        ({"SamplesPerPixel": 3}, "PHOTOMETRIC.SAMPLES"),
        ({"PixelData": None}, "NO_PIXELS.ABSENT"),
        ({"PixelData": np.full((40, 50), 900, np.uint16).tobytes()}, "QUALITY.BLANK"),
    ],
)
def test_what_is_refused(tags, code):
    assert code_of(build_dicom(**tags)) == code


def test_floating_point_pixels_are_refused():
    data = build_dicom(PixelData=None, FloatPixelData=gradient().astype(np.float32).tobytes())
    assert code_of(data) == "FLOAT.PIXEL_DATA"


@pytest.mark.parametrize(
    ("tags", "flags"),
    [
        ({"ViewPosition": None}, ("view_unknown",)),
        ({"BodyPartExamined": ""}, ("body_part_unknown",)),
        ({"PatientAge": "009Y"}, ("paediatric",)),
        ({"PatientAge": "190M"}, ("paediatric",)),
        ({"PatientAge": None}, ("age_unknown",)),
        ({"SOPClassUID": SECONDARY_CAPTURE, "Modality": "OT"}, ()),
        ({"SOPClassUID": SECONDARY_CAPTURE, "Modality": "OT", "Manufacturer": "Scanner"}, ()),
        ({"Manufacturer": OWN_MANUFACTURER}, ()),
        ({"BodyPartExamined": "THORAX"}, ()),
    ],
)
def test_what_is_accepted_with_a_flag(tags, flags):
    assert film_of(build_dicom(**tags), 64).flags == flags


@pytest.mark.parametrize(
    ("view", "expected"),
    [("LL", "LL"), ("RL", "LATERAL"), ("LATERAL", "LATERAL"), ("AP", "AP"), ("AP SUPINE", "AP"), ("AP/PA", "UNKNOWN")],
)
def test_views(view, expected):
    assert film_of(build_dicom(ViewPosition=view), 64).view_position.value == expected


def test_form_of_the_file():
    data = build_dicom()
    assert code_of(b"") == "EMPTY.FILE"
    assert code_of(b"hello world, this is no film" * 20) == "NOT_DICOM.MARK"
    for magic in (b"MZ", b"\x7fELF", b"#!", b"PK", b"\xcf\xfa\xed\xfe"):
        assert code_of(magic + data[len(magic) :]) == "SECURITY.PREAMBLE"
    assert code_of(data + b"PK\x03\x04rest") == "SECURITY.TRAILER"
    assert code_of(data + b"junkjunkjunk") == "PARSE.TRAILER"
    assert film_of(data + b"\0" * 10, 64).pixels.shape == (40, 50)
    assert film_of(b"II*\0" + data[4:], 64).pixels.shape == (40, 50)
    headerless = data[data.index(struct.pack("<HH", 8, 0x16)) :]
    assert film_of(headerless, 64).pixel_digest == film_of(data, 64).pixel_digest


def test_every_cut_is_refused_by_name():
    data = build_dicom()
    # a cut between two elements leaves a whole data set, of which then something else is missing
    families = {"EMPTY", "NOT_DICOM", "PARSE", "NO_PIXELS", "SOP_CLASS", "MODALITY"}
    assert {code_of(data[:end]).split(".")[0] for end in range(0, len(data) - 1, 7)} <= families


def test_noise_never_crashes_the_reader():
    rng = np.random.default_rng(5)
    data = np.frombuffer(build_dicom(), np.uint8)
    codes = []
    for _ in range(300):
        damaged = data.copy()
        damaged[rng.integers(0, 700, 4)] = rng.integers(0, 256, 4)
        try:
            film_of(damaged.tobytes(), 64)
        except DataError as error:
            codes.append(error.code)
    assert 0 < len(codes) < 300
    assert "DECODE.UNEXPECTED" not in codes


def test_deflated_data_and_a_deflate_bomb(monkeypatch):
    data = build_dicom()
    start = data.index(struct.pack("<HH", 8, 0x16))
    syntax = b"1.2.840.10008.1.2.1.99"
    element = struct.pack("<HH", 2, 0x10) + b"UI" + struct.pack("<H", len(syntax)) + syntax
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = deflater.compress(data[start:]) + deflater.flush()
    packed = b"\0" * 128 + b"DICM" + element + body
    assert film_of(packed, 64).pixel_digest == film_of(data, 64).pixel_digest
    assert code_of(packed[:-20]) in {"PARSE.TRUNCATED", "PARSE.DEFLATE"}
    monkeypatch.setattr(InputLimits, "max_inflated_bytes", 1000)
    assert code_of(packed) == "LIMIT.INFLATED"


def test_deep_sequences_and_many_elements_are_refused():
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    opened = struct.pack("<HH2sHI", 0x8, 0x1140, b"SQ", 0, 0xFFFFFFFF) + item
    data = build_dicom()
    start = data.index(struct.pack("<HH", 8, 0x16))
    assert code_of(data[:start] + opened * 5000) == "LIMIT.DEPTH"
    element = struct.pack("<HH2sH", 0x8, 0x8, b"CS", 0)
    assert code_of(data[:start] + element * 30_000) == "LIMIT.ELEMENTS"


def test_an_icon_inside_is_not_taken_for_the_film():
    icon = Dataset()
    icon.Rows = icon.Columns = 2
    icon.PixelData = b"\0\1\2\3"
    icon["PixelData"].VR = "OB"
    film = film_of(build_dicom(IconImageSequence=Sequence([icon])), 64)
    assert film.pixels.shape == (40, 50)


@pytest.mark.parametrize("is_compressed", [False, True])
def test_values_that_need_more_bits_than_the_header_says_are_not_wrapped(is_compressed):
    values = gradient(top=16383)
    stream = bytes(imagecodecs.jpegls_encode(values)) if is_compressed else b""
    data = build_dicom(values, codestream=stream, syntax="1.2.840.10008.1.2.4.80" if is_compressed else "")
    film = film_of(data, 64)
    assert film.flags == ("bits_exceeded",)
    assert np.abs(film.pixels[0] - np.linspace(0, 255, 50)).max() <= 6


def test_padding_leaves_no_seam_where_values_fall_by_their_slope():
    values = np.clip(gradient(300, 310), 1000, 4000)
    values[:, :84] = 0
    window = {"WindowCenter": "2048", "WindowWidth": "4000", "PixelPaddingValue": 0}
    wanted = film_of(build_dicom(values, **window), 64).pixels
    falling = np.where(values, 4095 - values, 0).astype(np.uint16)
    found = film_of(build_dicom(falling, RescaleSlope="-1", RescaleIntercept="4095", **window), 64).pixels
    assert np.abs(wanted.astype(int) - found.astype(int)).max() <= 1


def test_identity_is_read_and_checked_and_never_shown():
    header = read_dicom_film(build_dicom(), 64).header
    assert (header.patient_id, header.study_instance_uid, header.sop_instance_uid) == ("P-7", "1.2.3", "1.2.3.4")
    assert header.names == ("Quux^Zebedee",)
    assert "Quux" not in repr(header)
    assert "P-7" not in repr(header)
    check_identity(header)


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        ({"PatientID": None}, "IDENTITY.MISSING"),
        ({"StudyInstanceUID": None}, "IDENTITY.MISSING"),
        ({"SOPInstanceUID": "1.02.3"}, "IDENTITY.INVALID"),
        ({"SOPInstanceUID": ["1.2.3", "1.2.4"]}, "IDENTITY.INVALID"),
        ({"PatientID": "WARD\\0815"}, "IDENTITY.INVALID"),
        ({"SOPInstanceUID": "../../etc"}, "IDENTITY.INVALID"),
        ({"SOPInstanceUID": "1." + "2" * 70}, "IDENTITY.INVALID"),
    ],
)
def test_identity_that_is_missing_or_illegal(tags, code):
    header = read_dicom_film(build_dicom(**tags), 64).header
    with pytest.raises(IdentityError) as caught:
        check_identity(header)
    assert caught.value.code == code
