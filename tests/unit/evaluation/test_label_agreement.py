from __future__ import annotations

import pytest

from crrg.evaluation.label_agreement import MICRO, Agreement, score_labels

TRUTH = [{"Edema": 1, "Fracture": 0}, {"Edema": -1}, {"Edema": None}]
READ = [{"Edema": 1}, {"Edema": 0}, {"Edema": 1, "Fracture": None}]


def test_counts_by_hand():
    scores = score_labels(TRUTH, READ, ("Edema", "Fracture"))
    assert scores["Edema", "mention"] == Agreement(truth=2, read=3, both=2)
    assert scores["Edema", "present"] == Agreement(truth=1, read=2, both=1)
    assert scores["Edema", "denied"] == Agreement(truth=0, read=1, both=0)
    assert scores["Edema", "uncertain"] == Agreement(truth=1, read=0, both=0)
    assert scores["Fracture", "mention"] == Agreement(truth=1, read=0, both=0)
    assert scores[MICRO, "mention"] == Agreement(truth=3, read=3, both=2)


def test_ratios_by_hand():
    agreement = Agreement(truth=4, read=5, both=2)
    assert (agreement.precision, agreement.recall, agreement.f1) == (0.4, 0.5, pytest.approx(4 / 9))
    assert (Agreement().precision, Agreement().recall, Agreement().f1) == (0, 0, 0)


def test_other_texts_are_refused():
    with pytest.raises(ValueError, match="3 texts"):
        score_labels(TRUTH, READ[:2])
