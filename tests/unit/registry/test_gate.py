from __future__ import annotations

import math

import pytest

from crrg.config.running import Gate
from crrg.registry.gate import CLINICAL_F1, LABEL_AUC, REGION_IOU, ZERO_SHOT_AUC, check_gate

GATE = Gate(min_region_iou=0.8, min_label_auc=0.7, min_clinical_f1=0.4, min_zero_shot_auc=0.6, max_drop=0.05)
NO_FLOORS = {"min_region_iou": 0.0, "min_label_auc": 0.0, "min_clinical_f1": 0.0, "min_zero_shot_auc": 0.0}
GOOD = {REGION_IOU: 0.85, LABEL_AUC: 0.75, CLINICAL_F1: 0.5, ZERO_SHOT_AUC: 0.8}


def test_figures_at_the_floors_pass() -> None:
    assert check_gate(GATE, {REGION_IOU: 0.8, LABEL_AUC: 0.7, CLINICAL_F1: 0.4, ZERO_SHOT_AUC: 0.6}).passed


@pytest.mark.parametrize("name", [REGION_IOU, LABEL_AUC, CLINICAL_F1, ZERO_SHOT_AUC])
def test_one_figure_below_its_floor_fails_and_is_named(name: str) -> None:
    outcome = check_gate(GATE, {**GOOD, name: 0.1})
    assert not outcome.passed
    (failure,) = outcome.failures
    assert name in failure
    assert "0.100" in failure


@pytest.mark.parametrize("figures", [{}, {**GOOD, LABEL_AUC: math.nan}])
def test_a_figure_that_was_not_measured_fails_its_floor(figures: dict[str, float]) -> None:
    outcome = check_gate(GATE, figures)
    assert not outcome.passed
    assert any(LABEL_AUC in failure and "not measured" in failure for failure in outcome.failures)


def test_a_gate_without_floors_passes_what_was_not_measured() -> None:
    assert check_gate(Gate(**NO_FLOORS), {}).passed


def test_a_small_fall_below_the_champion_is_allowed_and_a_larger_one_is_not() -> None:
    champion = {**GOOD, CLINICAL_F1: 0.54}
    assert check_gate(GATE, GOOD, champion).passed
    outcome = check_gate(GATE, GOOD, {**GOOD, CLINICAL_F1: 0.56})
    assert not outcome.passed
    assert "champion has 0.560" in outcome.failures[0]


def test_zero_shot_at_chance_fails_beside_good_figures() -> None:
    outcome = check_gate(Gate(), {REGION_IOU: 0.94, LABEL_AUC: 0.99, CLINICAL_F1: 0.9, ZERO_SHOT_AUC: 0.516})
    assert outcome.failures == ("classification/zero_shot_mean_auc is 0.516, at least 0.600 is required",)


@pytest.mark.parametrize(("found", "is_passed"), [(0.81, True), (0.79, False)])
def test_zero_shot_has_a_largest_fall_of_its_own(found: float, is_passed: bool) -> None:
    gate = GATE.model_copy(update={"max_zero_shot_drop": 0.1})
    assert check_gate(gate, {**GOOD, ZERO_SHOT_AUC: found}, {**GOOD, ZERO_SHOT_AUC: 0.9}).passed is is_passed


def test_losing_a_figure_that_the_champion_has_counts_as_a_fall() -> None:
    gate = Gate(**NO_FLOORS, max_drop=1)
    assert not check_gate(gate, {}, {LABEL_AUC: 0.6}).passed


@pytest.mark.parametrize("split", ["train", "validation"])
def test_figures_of_another_split_than_test_fail_however_good(split: str) -> None:
    outcome = check_gate(GATE, GOOD, split=split)
    assert not outcome.passed
    assert outcome.failures == (
        f"the figures are of split {split}, on which bundles are trained and tuned; score it on split test",
    )
