"""Real films are read right side up, white = dense, and every codec gives what the collection says."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crrg.config.base import Settings
from crrg.data.dicom.display import display, to_grey
from crrg.data.dicom.header import read_attributes, read_layout, read_spacing
from crrg.data.dicom.pixels import read_stored_values
from crrg.data.dicom.structure import open_dicom
from crrg.data.film import read_film
from crrg.data.polarity import NOT_STATED, TURN_BELOW, chest_likeness, judge_polarity

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def open_data():
    folder = Settings().open_data
    if folder is None or not folder.is_dir():
        pytest.skip("CRRG_OPEN_DATA points to no folder of open data")
    return folder


def need(open_data: Path, *collections: str) -> None:
    """Skip a test that reads a collection which is not there."""
    if missing := [name for name in collections if not (open_data / name).is_dir()]:
        pytest.skip(f"{', '.join(missing)}: not in the folder of open data (docs/real-data.md)")


def rows_of(open_data):
    need(open_data, "dicom")
    return list(csv.DictReader((open_data / "dicom" / "manifest.csv").open()))


def test_dicom_chests_look_like_chests_and_not_like_their_negatives(open_data):
    chests = [row for row in rows_of(open_data) if row["body_part"] == "CHEST"]
    assert len(chests) == 9
    for row in chests:
        film = read_film((open_data / "dicom" / row["file"]).read_bytes(), 512).film
        assert chest_likeness(film.pixels) > 0.5, row["file"]
        # a chest upside down has its bright abdomen on top
        assert chest_likeness(film.pixels[::-1]) < chest_likeness(film.pixels) - 0.1, row["file"]
        assert not any(flag.startswith("polarity") for flag in film.flags), row["file"]


def test_both_12_bit_jpeg_extended_files_show_what_the_lossless_ones_show(open_data):
    shown = {}
    for row in rows_of(open_data):
        body = open_dicom((open_data / "dicom" / row["file"]).read_bytes())
        attributes = read_attributes(body)
        stored, layout = read_stored_values(body, read_layout(attributes, body))
        grey = to_grey(stored, layout, attributes)
        _, aspect = read_spacing(attributes)
        shown[row["file"]] = display(grey, layout, attributes, aspect, 256).pixels
    for extended, lossless in (("RG2_JPLY.dcm", "RG2_JLSL.dcm"), ("RG3_JPLY.dcm", "RG3_JLSL.dcm")):
        assert np.corrcoef(shown[extended].ravel(), shown[lossless].ravel())[0, 1] > 0.999


def test_no_real_picture_is_taken_for_a_negative_and_most_negatives_are_told(open_data):
    collections = ("covid-cxr", "vqa-rad-chest", "nih")
    need(open_data, *collections)
    likeness = []
    for folder in collections:
        for path in sorted((open_data / folder / "images").iterdir()):
            pixels = np.asarray(Image.open(path).convert("L"))
            likeness.append(chest_likeness(pixels))
            assert not judge_polarity(pixels, NOT_STATED).inverts, path.name
    assert len(likeness) == 302
    assert min(likeness) > TURN_BELOW + 0.05
    told = sum(value > -TURN_BELOW for value in likeness)
    assert told >= 260, told
