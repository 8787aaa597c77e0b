from __future__ import annotations

import numpy as np
import pytest

from crrg.domain.labels import FINDINGS
from crrg.evaluation.clinical import (
    f1_from_counts,
    macro_f1_from_counts,
    micro_f1_counts,
    positive_matrix,
    precision_recall_f1,
    score_clinical,
    score_labels,
)

CANDIDATES = [{"Edema": 1, "Fracture": -1}, {"No Finding": 1}, {"Pneumonia": 1}]
REFERENCES = [{"Edema": 1, "Pneumonia": 1}, {"No Finding": 1}, {"Pneumonia": -1}]


def test_micro_figures_by_hand() -> None:
    figures = score_labels(CANDIDATES, REFERENCES)
    # findings: found Edema, Fracture(?), Pneumonia; wanted Edema, Pneumonia, Pneumonia(?); 2 matches
    assert figures["clinical/micro_precision"] == pytest.approx(2 / 3)
    assert figures["clinical/micro_recall"] == pytest.approx(2 / 3)
    assert figures["clinical/micro_f1"] == pytest.approx(2 / 3)
    assert figures["clinical/micro14_f1"] == pytest.approx(2 * 3 / 8)
    assert figures["clinical/micro5_f1"] == 1.0
    assert figures["clinical/pneumonia_f1"] == pytest.approx(2 / 3)
    assert figures["clinical/fracture_precision"] == 0.0
    # of edema, fracture and pneumonia; the other ten are neither found nor wanted
    assert figures["clinical/macro_f1"] == pytest.approx((1 + 0 + 2 / 3) / 3)


def test_example_figures_take_only_definite_labels_and_nothing_on_both_sides_scores_zero() -> None:
    figures = score_labels(CANDIDATES, REFERENCES)
    # report 1: found {Edema}, wanted {Edema, Pneumonia}: 1, 1/2, 2/3; report 2: 1, 1, 1; report 3: uncertain, so 0
    assert figures["clinical/example14_precision"] == pytest.approx(2 / 3)
    assert figures["clinical/example14_recall"] == pytest.approx(0.5)
    assert figures["clinical/example14_f1"] == pytest.approx((2 / 3 + 1) / 3)
    assert score_labels([{}], [{}])["clinical/example14_f1"] == 0.0


def test_texts_are_read_by_the_labeler() -> None:
    figures = score_clinical(["Possible edema. No pneumonia."], [{"Edema": 1, "Pneumonia": 1}])
    assert figures["clinical/micro_precision"] == 1.0
    assert figures["clinical/micro_recall"] == 0.5


def test_counts_add_up_to_the_main_figure() -> None:
    counts = micro_f1_counts(CANDIDATES, REFERENCES)
    assert counts.tolist() == [[1, 2, 2], [0, 0, 0], [1, 1, 1]]
    assert f1_from_counts(counts.sum(axis=0)) == pytest.approx(2 / 3)
    assert np.isnan([of_counts(np.zeros(3)) for of_counts in (f1_from_counts, macro_f1_from_counts)]).all()


def test_positive_matrix() -> None:
    values = [{"Edema": -1, "Fracture": None, "Pneumonia": 0, "Atelectasis": 1}]
    labels = ("Edema", "Fracture", "Pneumonia", "Atelectasis", "Cardiomegaly")
    assert positive_matrix(values, labels).tolist() == [[True, False, False, True, False]]
    assert positive_matrix(values, labels, uncertain_is_positive=False).tolist() == [[False, False, False, True, False]]
    assert positive_matrix([], FINDINGS).shape == (0, 13)


def test_ratios_without_denominator() -> None:
    nothing = np.zeros((2, 2), dtype=bool)
    assert precision_recall_f1(nothing, nothing) == (0.0, 0.0, 0.0)
    assert score_labels([{}], [{}])["clinical/macro_f1"] == 0.0
    with pytest.raises(ValueError, match="one reference each"):
        score_labels([{}], [])
