from __future__ import annotations

import io

import cv2
import numpy as np
import pydicom
import pytest

from crrg.data.film import read_film
from crrg.data.marker_words import count_unread, is_marker
from crrg.data.privacy.burned_in import find_text
from crrg.errors import DataError
from tests.support.burned_text import BurnedText, burn, drawn_grey, sample_marker, sample_text
from tests.support.drawn_night import dicom_bytes


@pytest.fixture(scope="module")
def films():
    return [drawn_grey(index, 768) for index in range(5)]


@pytest.fixture
def named(films):
    text = BurnedText("SMITHSON, ANNA 12/03/1961", 16, "plain", "sans", "top_left", 0.0, 0)
    return burn(films[0], text, np.random.default_rng(0))


def png(grey) -> bytes:
    return bytes(cv2.imencode(".png", grey)[1])


def dicom(grey, annotation: str | None, photometric: str = "MONOCHROME2") -> bytes:
    film = pydicom.dcmread(io.BytesIO(dicom_bytes(1)))
    film.Rows, film.Columns = grey.shape
    film.PixelData = (grey.astype("<u2") * 16).tobytes()
    film.PhotometricInterpretation = photometric
    del film.BurnedInAnnotation
    if annotation is not None:
        film.BurnedInAnnotation = annotation
    buffer = io.BytesIO()
    film.save_as(buffer)
    return buffer.getvalue()


def code_of(data: bytes) -> str:
    try:
        read_film(data, 256)
    except DataError as error:
        return error.code
    return ""


def test_text_of_twelve_pixels_is_found(films):
    rng = np.random.default_rng(20)
    missed = []
    for index in range(100):
        text = sample_text(rng, min_height=17)
        if not find_text(burn(films[index % len(films)], text, rng)):
            missed.append(text)
    assert len(missed) <= 5, missed


def test_side_markers_are_left_alone(films):
    rng = np.random.default_rng(21)
    markers = [sample_marker(rng) for _ in range(100)]
    stopped = [
        marker for index, marker in enumerate(markers) if find_text(burn(films[index % len(films)], marker, rng))
    ]
    assert len(stopped) <= 1, stopped


def test_films_without_text(films):
    assert [find_text(film) for film in films] == [[]] * len(films)


@pytest.mark.parametrize("word", ["PORTABLE", "ERECT", "AP SUPINE"])
def test_position_words_are_left_alone(films, word):
    marker = BurnedText(word, 28, "plain", "sans", "top_right", 0.0, 0)
    assert find_text(burn(films[1], marker, np.random.default_rng(0))) == []


def test_a_position_with_a_time_is_text(films):
    text = BurnedText("PORTABLE 10:42 12/03", 28, "plain", "sans", "top_right", 0.0, 0)
    assert find_text(burn(films[1], text, np.random.default_rng(0)))


def test_where_and_how_much(films):
    text = BurnedText("12/03/1961", 24, "boxed", "sans", "bottom_left", 0.0, 0)
    rows = find_text(burn(films[2], text, np.random.default_rng(3)))
    assert len(rows) == 1
    assert abs(rows[0].num_characters - 10) <= 2
    assert rows[0].box_xyxy[0] < 200
    assert rows[0].box_xyxy[3] > 650
    assert rows[0].is_upright


def test_picture_with_text_is_refused(films, named):
    assert code_of(png(named)) == "PHI.BURNED_IN"
    assert code_of(png(films[0])) == ""


def test_the_tag_decides_where_it_speaks(named):
    assert code_of(dicom(named, None)) == "PHI.BURNED_IN"
    assert code_of(dicom(named, "MAYBE")) == "PHI.BURNED_IN"
    assert code_of(dicom(named, "YES")) == "PHI.BURNED_IN"
    assert code_of(dicom(named, "NO")) == ""


def test_either_polarity(named):
    assert code_of(dicom(255 - named, None, "MONOCHROME1")) == "PHI.BURNED_IN"


def test_a_silent_tag_on_a_clean_film(films):
    assert code_of(dicom(films[3], None)) == ""


@pytest.mark.parametrize(("word", "num_unread"), [("SUPINE", 1), ("GARCIA", 7)])
def test_a_shape_beside_a_position_word_does_not_hide_it(word, num_unread):
    line = np.zeros((60, 300), np.uint8)
    cv2.putText(line, word, (20, 45), cv2.FONT_HERSHEY_SIMPLEX, 1.2, 255, 2, cv2.LINE_AA)
    top, bottom = np.flatnonzero(line.any(axis=1))[[0, -1]]
    right = np.flatnonzero(line.any(axis=0))[-1]
    line[top : bottom + 1, right + 4 : right + 9] = 255
    boxes = cv2.connectedComponentsWithStats((line > 127).astype(np.uint8))[2][1:, :4].astype(np.int64)
    assert not is_marker(line, boxes)
    assert count_unread(line, boxes) == num_unread


@pytest.mark.parametrize("text", ["SUPINE SMITHSON", "PORTABLE 12/03/61", "AP ERECT GARCIA"])
def test_a_name_or_date_beside_a_position_word_is_text(films, text):
    row = BurnedText(text, 28, "plain", "sans", "top_right", 0.0, 0)
    assert find_text(burn(films[1], row, np.random.default_rng(0)))
