"""Thresholds chosen on validation films, with expected values by hand."""

from __future__ import annotations

import numpy as np

from crrg.inference.regions import RegionThresholds, select_regions
from crrg.training.thresholds import NEVER, count_threshold


def test_count_threshold_chooses_as_many_as_the_references_have() -> None:
    probabilities = np.array([[0.9, 0.8, 0.3], [0.7, 0.2, 0.1]])
    is_chosen = np.array([[False, False, True], [False, False, False]])
    references = np.array([[1.0, 0.0, 1.0], [1.0, 0.0, np.nan]])
    limit = count_threshold(probabilities, is_chosen, references)
    assert limit == 0.8
    assert ((probabilities >= limit) | is_chosen)[np.isfinite(references)].sum() == 3


def test_count_threshold_is_out_of_reach_where_the_chosen_are_enough() -> None:
    assert count_threshold(np.array([0.9]), np.array([True]), np.array([1.0])) == NEVER
    assert count_threshold(np.array([0.9]), np.array([False]), np.array([np.nan]), default=0.4) == 0.4


def test_a_film_with_a_finding_uses_its_own_selection_threshold() -> None:
    thresholds = RegionThresholds(0.5, 0.8, 0.5, np.full(14, 0.6, dtype=np.float32))
    selection = np.array([[0.6, 0.9, 0.1], [0.6, 0.9, 0.1]], dtype=np.float32)
    findings = np.zeros((2, 3, 14), dtype=np.float32)
    findings[1, 2, 3] = 0.7
    expected = [[True, True, False], [False, True, True]]
    assert select_regions(selection, findings, thresholds).tolist() == expected
