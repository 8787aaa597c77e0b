"""Names of regions on a picture: each can be read, whatever the boxes of the film are."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import cv2
import numpy as np
import pytest

from crrg.data.phantom.painter import paint
from crrg.data.phantom.sampler import sample_scene
from crrg.domain.regions import REGIONS
from crrg.domain.study import DraftReport, Film, ViewPosition
from crrg.exports.pictures import PANEL_SIDE, evidence_sheet, place_names
from tests.support.drawn_night import draft_of

NEARLY_WHITE = 140
"""Brighter in all three colours is nothing but a letter."""


def drawn(index: int) -> tuple[Film, DraftReport]:
    """Return a drawn film, darkened so that letters alone are bright, and a draft with a sentence for every region."""
    painted = paint(sample_scene(5, index), 5, 256)
    pixels = (painted.pixels >> 5).astype(np.uint8)
    height, width = pixels.shape
    film = Film(pixels, width, height, ViewPosition.PA, None, False, b"")
    draft = draft_of(film)
    regions = [replace(each, box_xyxy=painted.boxes[each.region], phrase="Seen.") for each in draft.regions]
    return film, replace(draft, regions=tuple(regions))


@pytest.mark.parametrize("index", range(6))
def test_no_name_covers_another_or_leaves_the_picture(index: int) -> None:
    film, draft = drawn(index)
    sheet = cv2.imdecode(np.frombuffer(evidence_sheet(film, draft, [], 0.5), np.uint8), cv2.IMREAD_COLOR)
    height, width = sheet.shape[:2]
    scale = PANEL_SIDE / max(film.pixels.shape)
    corners = [(round(each.box_xyxy[0] * scale), round(each.box_xyxy[1] * scale)) for each in draft.regions]
    places = place_names(REGIONS, corners, width, height)
    assert len(places) == len(REGIONS)
    assert all(0 <= left < right <= width and 0 <= top < bottom <= height for left, top, right, bottom in places)
    for one, other in combinations(places, 2):
        assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
    letters = sheet.min(axis=2) > NEARLY_WHITE
    for left, top, right, bottom in places:
        inside = letters[top:bottom, left:right]
        assert inside.any()
        border = np.concatenate([inside[0], inside[-1], inside[:, 0], inside[:, -1]])
        assert not border.any(), "a name has dark around it on every side"
        letters[top:bottom, left:right] = False
    assert not letters.any(), "nothing is written anywhere else"


def test_a_name_can_be_read_on_a_white_film() -> None:
    film, draft = drawn(0)
    white = replace(film, pixels=np.full_like(film.pixels, 255))
    sheet = cv2.imdecode(np.frombuffer(evidence_sheet(white, draft, [], 0.5), np.uint8), cv2.IMREAD_COLOR)
    scale = PANEL_SIDE / max(film.pixels.shape)
    corners = [(round(each.box_xyxy[0] * scale), round(each.box_xyxy[1] * scale)) for each in draft.regions]
    for left, top, right, bottom in place_names(REGIONS, corners, sheet.shape[1], sheet.shape[0]):
        assert (sheet[top:bottom, left:right].max(axis=2) < 60).mean() > 0.2


def test_a_name_stands_over_its_box_where_there_is_room_and_moves_no_farther_than_it_must() -> None:
    alone, beside = place_names(["spine", "carina"], [(50, 60), (200, 60)], 300, 200)
    assert (alone[0], alone[3]) == (50, 60)
    assert (beside[0], beside[3]) == (200, 60)
    first, second = place_names(["spine", "carina"], [(50, 60), (50, 61)], 300, 200)
    assert first == alone
    assert second[1] == first[3] or second[3] == first[1]
    (clamped,) = place_names(["spine"], [(299, 0)], 300, 200)
    assert (clamped[2], clamped[1]) == (300, 0)


def test_a_name_without_room_is_written_nevertheless() -> None:
    places = place_names(["spine", "carina"], [(0, 5), (0, 5)], 8, 8)
    assert [place[:2] for place in places] == [(0, 0), (0, 0)]
