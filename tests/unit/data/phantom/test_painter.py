"""Drawn films: deterministic, exact boxes, findings where they belong."""

from __future__ import annotations

import numpy as np
import pytest

from crrg.data.phantom.anatomy import build_anatomy
from crrg.data.phantom.difficulty import dense_white
from crrg.data.phantom.film_frame import place_on_film
from crrg.data.phantom.kinds import KINDS, drawn_finding
from crrg.data.phantom.painter import PaintedFilm, paint
from crrg.data.phantom.scene import DrawnFinding, Scene
from crrg.domain.regions import REGIONS
from crrg.domain.study import ViewPosition

SEED = 3


def scene_with(*findings: DrawnFinding, index: int = 8, patient: int = 8) -> Scene:
    return Scene(index, patient, ViewPosition.PA, 55, "M", findings)


def change(finding: DrawnFinding, size: int = 192, index: int = 8) -> tuple[np.ndarray, PaintedFilm]:
    """Return how much a finding brightens every pixel, after both films are brought to one mean and spread."""
    normal = dense_white(paint(scene_with(index=index), SEED, size))
    film = paint(scene_with(finding, index=index), SEED, size)
    found = dense_white(film)
    rest = np.abs(found - normal) < 0.05
    slope, offset = np.polyfit(found[rest], normal[rest], 1)
    return found * slope + offset - normal, film


def mean_inside(image: np.ndarray, box: tuple[float, float, float, float]) -> float:
    x1, y1, x2, y2 = (round(value) for value in box)
    return float(image[y1:y2, x1:x2].mean())


def test_same_seed_and_study_give_the_same_film():
    scene = scene_with(drawn_finding("mass", "left", 0.5, "upper"))
    first, second = paint(scene, SEED, 96), paint(scene, SEED, 96)
    np.testing.assert_array_equal(first.pixels, second.pixels)
    assert first.boxes == second.boxes
    assert not np.array_equal(first.pixels, paint(scene, SEED + 1, 96).pixels)


def test_film_is_12_bit_and_its_longer_side_is_the_size_asked_for():
    for index in range(12):
        film = paint(scene_with(index=index, patient=index), SEED, 128)
        assert film.pixels.dtype == np.uint16
        assert film.pixels.max() <= 4095
        assert max(film.pixels.shape) == 128
        assert film.pixels.std() > 200


def test_size_changes_resolution_not_geometry():
    scene = scene_with(drawn_finding("enlarged_heart", "midline", 0.7))
    small, large = paint(scene, SEED, 128), paint(scene, SEED, 512)
    assert small.photometric == large.photometric
    assert small.pixel_spacing_mm == pytest.approx(4 * large.pixel_spacing_mm, rel=0.02)
    for region in REGIONS:
        np.testing.assert_allclose(np.array(large.boxes[region]) / 4, small.boxes[region], atol=2.5)


def test_boxes_of_all_regions_lie_on_the_film():
    for index in range(40):
        film = paint(scene_with(index=index, patient=index), SEED, 64)
        height, width = film.pixels.shape
        assert tuple(film.boxes) == REGIONS
        for x1, y1, x2, y2 in film.boxes.values():
            assert 0 <= x1 < x2 <= width
            assert 0 <= y1 < y2 <= height
            assert x2 - x1 >= 2
            assert y2 - y1 >= 2


def test_right_is_on_the_left_of_the_film_and_zones_follow_from_top_to_bottom():
    for index in range(20):
        boxes = paint(scene_with(index=index, patient=index), SEED, 64).boxes
        assert boxes["right lung"][0] < boxes["left lung"][0]
        assert boxes["right clavicle"][0] < boxes["left clavicle"][0]
        for side in ("right", "left"):
            tops = [boxes[f"{side} {zone} lung zone"][1] for zone in ("upper", "mid", "lower")]
            assert tops == sorted(tops)
        assert boxes["aortic arch"][3] <= boxes["cardiac silhouette"][3]


def test_lung_box_holds_the_dark_lung():
    for index in range(8):
        film = paint(scene_with(index=index, patient=index), SEED, 128)
        grey = dense_white(film)
        assert mean_inside(grey, film.boxes["right mid lung zone"]) < mean_inside(
            grey, film.boxes["cardiac silhouette"]
        )
        assert mean_inside(grey, film.boxes["left upper lung zone"]) < mean_inside(grey, film.boxes["abdomen"])


@pytest.mark.parametrize("severity", [0.0, 1 / 3, 1.0])
def test_heart_box_grows_with_cardiomegaly(severity: float):
    normal = paint(scene_with(), SEED, 64).boxes["cardiac silhouette"]
    large = paint(scene_with(drawn_finding("enlarged_heart", "midline", severity)), SEED, 64).boxes[
        "cardiac silhouette"
    ]
    assert (large[2] - large[0]) / (normal[2] - normal[0]) >= 1.1


def test_cardiothoracic_ratio_of_a_drawn_cardiomegaly_exceeds_one_half():
    for index in range(20):
        scene = scene_with(drawn_finding("enlarged_heart", "midline", 0.1), index=index, patient=index)
        anatomy = build_anatomy(scene, SEED)
        assert anatomy.heart_width / (2 * anatomy.half_width) > 0.5


def test_a_patients_body_stays_and_the_pose_changes():
    first = build_anatomy(scene_with(index=1, patient=1), SEED)
    second = build_anatomy(scene_with(index=2, patient=1), SEED)
    other = build_anatomy(scene_with(index=2, patient=2), SEED)
    assert first.half_width == second.half_width
    assert first.lung_height != second.lung_height
    assert other.half_width != second.half_width
    assert place_on_film(first, scene_with(index=1), SEED, 64) != place_on_film(second, scene_with(index=2), SEED, 64)


@pytest.mark.parametrize(
    ("kind", "zone"),
    [
        ("patchy_opacity", "mid"),
        ("mass", "upper"),
        ("lobar_consolidation", "upper"),
        ("lobar_consolidation", "lower"),
        ("pneumonia", "mid"),
        ("basal_atelectasis", "lower"),
        ("pleural_effusion", "lower"),
        ("pleural_thickening", "upper"),
        ("pleural_plaque", "mid"),
    ],
)
@pytest.mark.parametrize("side", ["right", "left"])
def test_dense_finding_brightens_its_region_and_leaves_the_other_side(kind: str, zone, side):
    finding = drawn_finding(kind, side, 0.9, zone)
    image, film = change(finding)
    here = finding.regions[0]
    there = here.replace(side, "left" if side == "right" else "right")
    assert mean_inside(image, film.boxes[here]) > 0.02
    assert mean_inside(image, film.boxes[here]) > 3 * abs(mean_inside(image, film.boxes[there]))


def test_pneumothorax_darkens_its_apex():
    finding = drawn_finding("apical_pneumothorax", "left", 0.9)
    image, film = change(finding)
    assert mean_inside(image, film.boxes["left apical zone"]) < -0.03


@pytest.mark.parametrize("kind", [kind for kinds in KINDS.values() for kind in kinds])
def test_every_kind_changes_the_film_more_when_severe(kind: str):
    sizes = []
    for severity in (0.1, 0.95):
        totals = []
        for index in (8, 12, 16):
            normal, found = (
                paint(scene_with(*present, index=index), SEED, 96).pixels.astype(float)
                for present in ((), (drawn_finding(kind, "right", severity, "mid"),))
            )
            totals.append(np.abs(found - normal).mean())
        sizes.append(np.mean(totals))
    assert sizes[0] > 2
    assert sizes[1] > sizes[0]


def test_both_polarities_and_views_are_drawn():
    films = [paint(scene_with(index=index, patient=index), SEED, 32) for index in range(40)]
    assert {film.photometric for film in films} == {"MONOCHROME1", "MONOCHROME2"}
