"""Selection thresholds chosen by how the drafts read."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from crrg.config.base import Compat
from crrg.domain.regions import NUM_REGIONS, REGION_INDEX
from crrg.inference.regions import RegionReadings, RegionThresholds
from crrg.training.selection_tuning import MIN_REPORTS, candidate_regions, tune_selection

HEART, AORTA = REGION_INDEX["cardiac silhouette"], REGION_INDEX["aortic arch"]
SENTENCES = {HEART: "The heart is normal in size.", AORTA: "The aorta is normal in caliber."}


def readings(num_films: int, abnormal_heart: float = 0.0) -> RegionReadings:
    """Films without findings: the heart is selected at 0.75, the aorta at 0.5, nothing else."""
    selection = np.zeros((num_films, NUM_REGIONS), dtype=np.float32)
    selection[:, HEART], selection[:, AORTA] = 0.76, 0.51
    empty = np.zeros((num_films, NUM_REGIONS), dtype=np.float32)
    return RegionReadings(
        input_boxes_xyxy=np.zeros((num_films, NUM_REGIONS, 4), dtype=np.float32),
        scores=empty,
        detected=empty > 0,
        features=empty[..., None],
        selection_probabilities=selection,
        abnormal_probabilities=np.where(np.arange(NUM_REGIONS) == HEART, np.float32(abnormal_heart), empty),
        finding_probabilities=np.zeros((num_films, NUM_REGIONS, 14), dtype=np.float32),
    )


THRESHOLDS = RegionThresholds(0.1, 0.1, 0.5, np.full(14, 0.5, dtype=np.float32))


def tuned(
    reference: str,
    num_films: int = MIN_REPORTS,
    *,
    sentences: Mapping[int, str] = SENTENCES,
    hidden: int | None = None,
    compat: Compat = "none",
    abnormal_heart: float = 0.0,
) -> RegionThresholds:
    read = readings(num_films, abnormal_heart)
    shown = np.arange(NUM_REGIONS)[None].repeat(num_films, axis=0) != hidden
    films, regions = np.nonzero(candidate_regions(read, THRESHOLDS) & shown)
    phrases = {(int(film), int(region)): sentences[int(region)] for film, region in zip(films, regions, strict=True)}
    return tune_selection(read, THRESHOLDS, phrases, [reference] * num_films, shown=shown, compat=compat)


def test_short_reports_ask_for_a_high_threshold() -> None:
    assert 0.51 < tuned("The heart is normal in size.").selection <= 0.76


def test_long_reports_ask_for_a_low_threshold() -> None:
    assert tuned("The aorta is normal in caliber. The heart is normal in size.").selection <= 0.51


def test_reports_are_put_together_as_they_will_be_at_night() -> None:
    stated = "There is a pleural effusion."
    sentences = {HEART: stated, AORTA: "There is no pleural effusion."}
    # ours drops the denial whichever is selected, the published way keeps it
    assert tuned(stated, sentences=sentences).selection <= 0.51
    assert tuned(stated, sentences=sentences, compat="rgrg").selection > 0.51


def test_a_flagged_region_counts_as_it_will_at_night() -> None:
    stated = "The heart is displaced."
    sentences = {HEART: stated, AORTA: "No acute cardiopulmonary abnormality."}
    # beside an abnormal heart the denial is dropped whichever is selected
    assert tuned(stated, sentences=sentences, abnormal_heart=1.0).selection <= 0.51
    assert tuned(stated, sentences=sentences).selection > 0.51


def test_nothing_is_said_of_a_region_that_is_not_shown() -> None:
    denied = {HEART: "There is no pleural effusion.", AORTA: "There is a pleural effusion."}
    assert tuned("There is no pleural effusion.", sentences=denied).selection > 0.51
    lowest = tuned("There is no pleural effusion.", sentences=denied, hidden=AORTA).selection
    assert lowest <= 0.51, "the sentence that would be wrong is never said"


def test_few_reports_leave_the_selectors_thresholds() -> None:
    assert tuned("The heart is normal in size.", MIN_REPORTS - 1) == THRESHOLDS
