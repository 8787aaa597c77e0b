"""Cases whose annotations and drafts are known, and what is known of training beside them, for tests of scorecards."""

from __future__ import annotations

import numpy as np

from crrg.domain.labels import LABELS
from crrg.domain.regions import NUM_REGIONS, REGIONS
from crrg.domain.report import Report
from crrg.domain.study import Film, Pair, RegionAnnotation, RegionSource, Split, ViewPosition
from crrg.operations.scoring.cases import Baselines, Case, thumbnails_of
from tests.support.drawn_night import draft_of

HEART, SPINE = "cardiac silhouette", "spine"


def annotation(region: str, phrase: str | None, is_abnormal: bool | None) -> RegionAnnotation:
    """Return what a report says of a region; all have the same box."""
    return RegionAnnotation(region, (50.0, 40.0, 300.0, 360.0), phrase, is_abnormal, RegionSource.SCENE_GRAPH)


def case(number: int, regions: tuple[RegionAnnotation, ...]) -> Case:
    """Return a film of noise with its draft; an even number and the next are of one patient."""
    pixels = np.random.default_rng(number).integers(0, 255, (40, 50), dtype=np.uint8)
    film = Film(pixels, 500, 400, ViewPosition.PA, None, False, b"")
    report = Report(findings="The lungs are clear. There is edema." if number % 2 else "The lungs are clear.")
    labels = {label: (number + place) % 2 for place, label in enumerate(LABELS)}
    ids = (f"p{number // 2}", f"s{number}", f"i{number}")
    pair = Pair(*ids, film, report, regions, labels, "drawn", "phantom", b"", Split.TEST)
    return Case(pair, draft_of(film))


TIED = (
    annotation(HEART, "The heart is large.", True),
    annotation(SPINE, None, False),
    annotation("right lung", None, None),
    annotation("left lung", "The left lung is clear.", False),
)
CASES = [case(number, TIED) for number in range(12)]


def known() -> Baselines:
    """Return what is known of training: its films are those of the cases, so that each is its own neighbour."""
    texts = [f"The lungs are clear. Film {number}." for number in range(12)]
    return Baselines(
        mean_boxes=np.tile([0.1, 0.1, 0.6, 0.9], (NUM_REGIONS, 1)),
        usual_regions=np.array([region == HEART for region in REGIONS]),
        thumbnails=thumbnails_of(CASES),
        labels=np.zeros((12, len(LABELS))),
        findings=texts,
        texts=texts,
        constant="The lungs are clear.",
        validation=["The lungs are clear."],
        usual_phrases={HEART: "The heart is large."},
    )
