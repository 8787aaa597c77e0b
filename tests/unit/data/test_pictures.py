from __future__ import annotations

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from crrg.data.film import may_be_film, read_film
from crrg.data.pictures import read_picture
from crrg.errors import DataError

ROW = np.arange(0, 250, 5, dtype=np.uint8)
GREY = np.tile(ROW, (40, 1))


def encode(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def code_of(data: bytes) -> str:
    with pytest.raises(DataError) as caught:
        read_film(data, 64)
    return caught.value.code


def test_eight_bits_are_taken_as_they_are():
    film = read_film(encode(Image.fromarray(GREY)), 64)
    assert film.header is None
    assert np.array_equal(film.film.pixels, GREY)
    assert "view_unknown" in film.film.flags


def test_jpeg_is_reduced():
    film = read_picture(encode(Image.fromarray(np.tile(ROW, (120, 2))), "JPEG", quality=95), 64)
    assert film.pixels.shape == (64, 53)
    assert (film.original_width, film.original_height) == (100, 120)


def test_exif_turn_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    film = read_picture(encode(Image.fromarray(GREY), "JPEG", quality=95, exif=exif), 64)
    assert film.pixels.shape == (50, 40)
    assert film.pixels[0].mean() < 10 < 200 < film.pixels[-1].mean()


def test_sixteen_bits_are_stretched():
    deep = (GREY.astype(np.uint16) * 16) + 300
    film = read_picture(encode(Image.fromarray(deep)), 64)
    assert film.pixels[0, 0] == 0
    assert film.pixels[0, -1] == 255


def test_alpha_is_black_and_colour_is_luminance():
    rgba = np.zeros((40, 50, 4), dtype=np.uint8)
    rgba[..., 1] = 200
    rgba[:, 25:, 3] = 255
    film = read_picture(encode(Image.fromarray(rgba, "RGBA")), 64)
    assert film.pixels[0, 0] == 0
    assert film.pixels[0, -1] == 117


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_cut_picture_is_refused(kind):
    data = encode(Image.fromarray(GREY), kind)
    for end in (20, len(data) // 2, len(data) - 3):
        assert code_of(data[:end]).startswith("DECODE.")


def test_a_bomb_is_refused_before_decoding():
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    assert code_of(b"\x89PNG\r\n\x1a\n" + chunk) == "LIMIT.PIXELS"


def test_a_picture_of_several_frames_is_refused_as_a_film_of_several_is():
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    assert code_of(encode(frames[0], save_all=True, append_images=frames[1:])) == "MULTIFRAME.FRAMES"
    still = encode(frames[0], save_all=True)
    assert read_picture(still, 64).pixels.shape == (40, 50)
    one = b"acTL" + struct.pack(">II", 1, 0)
    of_one = still[:33] + struct.pack(">I", 8) + one + struct.pack(">I", zlib.crc32(one)) + still[33:]
    assert read_picture(of_one, 64).pixels.shape == (40, 50)


def test_a_jpeg_of_twelve_bits_says_how_to_send_it():
    data = imagecodecs.jpeg_encode(GREY.astype(np.uint16) * 16, bitspersample=12)
    with pytest.raises(DataError, match="PNG of 16 bits") as refused:
        read_film(data, 64)
    assert refused.value.code == "BITS.UNSUPPORTED"


@pytest.mark.parametrize(("picture", "kind"), [(GREY > 100, "PNG"), (np.stack([GREY] * 4, axis=2), "JPEG")])
def test_a_colour_model_that_is_not_read_says_how_to_save_it(picture, kind):
    data = encode(Image.fromarray(picture) if kind == "PNG" else Image.fromarray(picture, "CMYK"), kind)
    with pytest.raises(DataError, match="save it in grey or RGB"):
        read_film(data, 64)


def test_other_files_are_refused():
    assert code_of(b"") == "EMPTY.FILE"
    assert code_of(b'<svg xmlns="http://www.w3.org/2000/svg"/>' * 10) == "NOT_DICOM.MARK"
    assert code_of(encode(Image.fromarray(GREY), "GIF")) == "NOT_DICOM.MARK"
    assert code_of(encode(Image.fromarray(GREY > 100))) == "BITS.UNSUPPORTED"
    assert code_of(encode(Image.fromarray(GREY).convert("CMYK"), "JPEG")) == "PHOTOMETRIC.UNSUPPORTED"
    assert code_of(encode(Image.fromarray(np.full((40, 50), 7, np.uint8)))) == "QUALITY.BLANK"
    assert code_of(encode(Image.fromarray(GREY)) + b"PK\x03\x04") == "SECURITY.TRAILER"


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("a/b.dcm", True),
        ("b.JPG", True),
        ("IM0001", True),
        ("1.2.840.113", True),
        ("readme.txt", False),
        (".hidden.png", False),
        ("a/_manifest.json", False),
    ],
)
def test_names_that_may_be_films(key, expected):
    assert may_be_film(key) is expected
