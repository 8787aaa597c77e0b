from __future__ import annotations

import imagecodecs
import numpy as np
import pytest

from crrg.data.dicom.film import read_dicom_film
from crrg.data.jpeg_fill import check_not_filled
from crrg.errors import DataError, DicomError
from tests.support.film_corpus import JPEG_8, JPEG_SV1, chest_8, dicom, drawn_chest


def check(stream: bytes, precision: int) -> None:
    values = np.asarray(imagecodecs.jpeg_decode(stream))
    check_not_filled(stream, len(stream), values, precision, lambda data: np.asarray(imagecodecs.jpeg_decode(data)))


def test_a_grey_corner_of_the_film_itself_is_no_fill():
    grey = chest_8().copy()
    grey[-20:, -20:] = 128
    check(bytes(imagecodecs.jpeg_encode(grey, level=95)), 8)


def test_a_black_border_of_the_film_itself_is_no_fill():
    black = drawn_chest().copy()
    black[-10:] = 0
    check(bytes(imagecodecs.jpeg_encode(black, lossless=True, predictor=1, bitspersample=12)), 12)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_fill_is_told_wherever_the_codestream_was_cut(share):
    for stream, precision in (
        (bytes(imagecodecs.jpeg_encode(chest_8(), level=95)), 8),
        (bytes(imagecodecs.jpeg_encode(drawn_chest(), lossless=True, predictor=1, bitspersample=12)), 12),
    ):
        with pytest.raises(DataError) as caught:
            check(stream[: int(len(stream) * share)] + b"\xff\xd9", precision)
        assert caught.value.code == "DECODE.TRUNCATED"


def test_a_codec_that_returns_nothing_is_named(monkeypatch):
    stream = bytes(imagecodecs.jpeg_encode(chest_8(), level=95))
    monkeypatch.setattr("crrg.data.dicom.pixels.decode_codestream", lambda *_: np.zeros((0, 128), np.uint8))
    with pytest.raises(DicomError) as caught:
        read_dicom_film(dicom(chest_8(), syntax=JPEG_8, frames=[stream]), 64)
    assert caught.value.code == "DECODE.CODEC"


def test_a_codec_that_is_missing_is_unsupported(monkeypatch):
    def missing(*_):
        raise ImportError("no codec")

    monkeypatch.setattr("crrg.data.dicom.pixels.decode_codestream", missing)
    stream = bytes(imagecodecs.jpeg_encode(drawn_chest(), lossless=True, predictor=1, bitspersample=12))
    with pytest.raises(DicomError) as caught:
        read_dicom_film(dicom(syntax=JPEG_SV1, frames=[stream]), 64)
    assert caught.value.code == "DECODE.UNSUPPORTED"
