"""Films without a scene graph: boxes of the atlas or a detector, phrases on boxes only, nothing invented."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crrg.data.atlas import HEART, LUNGS, atlas_boxes
from crrg.data.pair_grounding import ground_by_detector, ground_pair, needs_boxes
from crrg.domain.boxes import box_iou
from crrg.domain.regions import REGIONS
from crrg.domain.report import Report
from crrg.domain.study import Film, Pair, RegionAnnotation, RegionSource, Split, ViewPosition
from crrg.evaluation.labeler import label_report

RIGHT, LEFT = (100.0, 80.0, 240.0, 400.0), (270.0, 85.0, 410.0, 395.0)
REPORT = Report(findings="The heart is enlarged. The right lung is clear.", impression="No pneumothorax.")


def pair(*regions: RegionAnnotation, report: Report = REPORT, view: ViewPosition = ViewPosition.PA) -> Pair:
    film = Film(np.zeros((8, 8), dtype=np.uint8), 512, 480, view, None, False, b"d" * 32)
    return Pair("p", "s", "i", film, report, regions, {}, "report", "folder", b"x" * 32, Split.TRAIN)


def box(region: str, corners: tuple[float, float, float, float], source: RegionSource = RegionSource.MASK):
    return RegionAnnotation(region, corners, None, None, source)


LUNG_BOXES = (box("right lung", RIGHT), box("left lung", LEFT))


def test_lungs_give_all_boxes_and_the_report_its_phrases() -> None:
    regions = {region.region: region for region in ground_pair(pair(*LUNG_BOXES), label_report).regions}
    assert tuple(regions) == REGIONS
    assert {r for r, a in regions.items() if a.source is RegionSource.MASK} == set(LUNGS)
    assert regions["cardiac silhouette"].source is RegionSource.ATLAS
    assert regions["cardiac silhouette"].phrase == "The heart is enlarged."
    assert regions["cardiac silhouette"].is_abnormal is True
    assert regions["right lung"].phrase == "The right lung is clear."
    assert regions["left lung"].phrase is None
    assert regions["right apical zone"].phrase is None, "only findings give phrases"


def test_without_atlas_a_phrase_needs_a_box_that_is_there() -> None:
    grounded = ground_pair(pair(*LUNG_BOXES), label_report, with_atlas=False)
    assert [(r.region, r.phrase) for r in grounded.regions] == [
        ("right lung", "The right lung is clear."), ("left lung", None),
    ]  # fmt: skip
    assert ground_pair(pair(), label_report).regions == ()
    assert ground_pair(pair(LUNG_BOXES[0]), label_report).regions[0].phrase == "The right lung is clear."


@pytest.mark.parametrize(
    "other",
    [
        pair(*LUNG_BOXES, view=ViewPosition.LATERAL),
        pair(box("spine", RIGHT, RegionSource.SCENE_GRAPH), *LUNG_BOXES),
        replace(pair(), film=None),
    ],
)
def test_other_rows_come_back_as_they_are(other: Pair) -> None:
    assert ground_pair(other, label_report) is other
    assert ground_by_detector(other, {"carina": RIGHT}, label_report) is other
    assert not needs_boxes(other)


def test_detector_replaces_the_atlas_and_never_a_person() -> None:
    row = ground_pair(pair(*LUNG_BOXES), label_report)
    heart = (200.0, 200.0, 330.0, 380.0)
    found = ground_by_detector(row, {"right lung": heart, "cardiac silhouette": heart}, label_report)
    regions = {region.region: region for region in found.regions}
    assert regions["right lung"] == RegionAnnotation(
        "right lung", RIGHT, "The right lung is clear.", False, RegionSource.MASK
    )
    assert regions["cardiac silhouette"] == RegionAnnotation(
        "cardiac silhouette", heart, "The heart is enlarged.", True, RegionSource.DETECTOR
    )
    assert regions["carina"].source is RegionSource.ATLAS


def test_a_region_that_was_not_detected_stays_unannotated() -> None:
    found = ground_by_detector(pair(), {"right lung": RIGHT}, label_report)
    assert [region.region for region in found.regions] == ["right lung"]
    assert needs_boxes(found)


def test_atlas_moves_and_grows_with_the_lungs() -> None:
    known = dict(zip(LUNGS, (RIGHT, LEFT), strict=True))
    made = atlas_boxes(known, (512, 480))
    assert set(made) == set(REGIONS) - set(LUNGS)
    doubled = {lung: tuple(2 * value + 10 for value in corners) for lung, corners in known.items()}
    grown = atlas_boxes(doubled, (1100, 1100))
    for region in ("cardiac silhouette", "carina", "left apical zone"):
        assert np.allclose(grown[region], 2 * np.array(made[region]) + 10, atol=1e-6)
    assert made["left upper lung zone"][3] < made["left lower lung zone"][1] + 40
    assert box_iou(np.array(made["left lower lung zone"]), np.array(LEFT)) > 0.2


def test_atlas_needs_two_lungs_in_their_places_and_uses_a_known_heart() -> None:
    assert atlas_boxes({"right lung": RIGHT}, (512, 480)) == {}
    assert atlas_boxes({"right lung": LEFT, "left lung": RIGHT}, (512, 480)) == {}
    known = dict(zip(LUNGS, (RIGHT, LEFT), strict=True))
    low = {**known, HEART: (180.0, 300.0, 330.0, 420.0)}
    high = {**known, HEART: (180.0, 200.0, 330.0, 320.0)}
    assert atlas_boxes(low, (512, 480))["right atrium"][1] > atlas_boxes(high, (512, 480))["right atrium"][1] + 40
    assert HEART not in atlas_boxes(low, (512, 480))
