"""METEOR of single sentences by hand: which pairs count, of which regions, and what the ratio compares."""

from __future__ import annotations

import numpy as np
import pytest

from crrg.domain.regions import REGION_INDEX, REGIONS
from crrg.evaluation.bootstrap import Resampling
from crrg.evaluation.meteor import meteor_counts, meteor_from_counts
from crrg.evaluation.phrase_figures import phrase_figures
from crrg.evaluation.protocols import tokenize

HEART, SPINE, LUNG = "cardiac silhouette", "spine", "right lung"
DRAFTS = [
    {HEART: "The heart is large.", SPINE: "The spine is normal.", LUNG: "The lung is clear."},
    {HEART: "The heart is normal.", SPINE: ""},
    {LUNG: "There is edema."},
]
REFERENCES = [
    {HEART: "The heart is mildly enlarged.", SPINE: "The spine is normal."},
    {HEART: "The heart is normal in size.", SPINE: "Scoliosis of the spine.", LUNG: "Clear lung."},
    {},
]


def meteor(*pairs: tuple[str, str]) -> float:
    drafts, references = zip(*pairs, strict=True)
    counts = meteor_counts([tokenize(text, "rgrg") for text in drafts], [tokenize(text, "rgrg") for text in references])
    return meteor_from_counts(counts.sum(axis=0))


def abnormality() -> np.ndarray:
    values = np.full((3, len(REGIONS)), np.nan)
    values[0, REGION_INDEX[HEART]] = values[1, REGION_INDEX[SPINE]] = 1
    values[0, REGION_INDEX[SPINE]] = 0
    return values


def figures() -> dict[str, float]:
    often, samples = np.tile(abnormality(), (6, 1)), Resampling([str(row) for row in range(18)])
    found = phrase_figures(DRAFTS * 6, REFERENCES * 6, often, samples, {})
    assert all(each.low <= each.value <= each.high for each in found)
    # of six patients two have phrases of the heart and the spine
    few = phrase_figures(DRAFTS * 2, REFERENCES * 2, often[:6], Resampling(list("abcdef")), {})
    assert all(each.low is None for each in few)
    found = phrase_figures(DRAFTS, REFERENCES, abnormality(), Resampling(["a", "b", "c"]), {})
    assert all(each.is_detail == (each.name.count("/") > 1) for each in found)
    return {each.name: each.value for each in found}


def test_pairs_are_of_regions_that_were_selected_and_spoken_of() -> None:
    own = [(DRAFTS[film][region], REFERENCES[film][region]) for film in (0, 1) for region in (HEART, SPINE)]
    crossed = [
        (DRAFTS[film][first], REFERENCES[film][second])
        for film in (0, 1)
        for first, second in ((HEART, SPINE), (SPINE, HEART))
    ]
    assert figures() == pytest.approx(
        {
            "rgrg/phrase_meteor_offline": meteor(*own),
            "rgrg/phrase_meteor_offline_normal": meteor(own[1]),
            "rgrg/phrase_meteor_offline_abnormal": meteor(own[0], own[3]),
            f"rgrg/phrase_meteor_offline/{HEART}": meteor(own[0], own[2]),
            f"rgrg/phrase_meteor_offline/{SPINE}": meteor(own[1], own[3]),
            "rgrg/phrase_meteor_ratio_offline": meteor(*own) / meteor(*crossed),
        }
    )
    assert figures()["rgrg/phrase_meteor_offline_normal"] == 1
    assert figures()["rgrg/phrase_meteor_ratio_offline"] > 1


def test_a_baseline_says_its_own_of_the_same_regions() -> None:
    rivals = {"usual phrase": [dict.fromkeys(given, "The heart is normal.") for given in DRAFTS]}
    found = phrase_figures(DRAFTS, REFERENCES, abnormality(), Resampling(["a", "b", "c"]), rivals)
    assert {each.baseline_name for each in found} == {"usual phrase"}
    (heart,) = [each for each in found if each.name.endswith(f"/{HEART}")]
    assert heart.baseline == pytest.approx(
        meteor(*(("The heart is normal.", REFERENCES[film][HEART]) for film in (0, 1)))
    )


def test_nothing_is_said_where_no_region_counts() -> None:
    empty = [{}, {}, {}]
    assert phrase_figures(DRAFTS, empty, abnormality(), Resampling(["a", "b", "c"]), {}) == []
    assert phrase_figures([], [], np.zeros((0, len(REGIONS))), Resampling([]), {}) == []
