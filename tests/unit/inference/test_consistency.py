"""Flags and score of the film-against-text check."""

from __future__ import annotations

import pytest

from crrg.domain.labels import LABELS
from crrg.inference.consistency import SimilarityCurve, consistency

THRESHOLDS = dict.fromkeys(LABELS, 0.4)
NORMAL = {**dict.fromkeys(LABELS, 0.05), "No Finding": 0.9}


def flags(probabilities: dict[str, float], said: dict[str, int | None]) -> tuple[str, ...]:
    return consistency({**NORMAL, **probabilities}, said, 0.5, THRESHOLDS)[1]


def test_a_claim_without_a_label_is_flagged_only_outside_the_margin() -> None:
    assert flags({"Edema": 0.19}, {"Edema": 1}) == ("text_without_label:Edema",)
    assert flags({"Edema": 0.21}, {"Edema": 1}) == ()


def test_a_label_without_a_claim_is_flagged_for_silence_and_denial() -> None:
    # margin: 0.4 + half of 0.6 = 0.7
    assert flags({"Pleural Effusion": 0.71}, {}) == ("label_without_text:Pleural Effusion",)
    assert flags({"Pleural Effusion": 0.71}, {"Pleural Effusion": 0}) == ("label_without_text:Pleural Effusion",)
    assert flags({"Pleural Effusion": 0.69}, {}) == ()
    assert flags({"Pleural Effusion": 0.95}, {"Pleural Effusion": 1}) == ()


def test_uncertain_statements_contradict_nothing() -> None:
    assert flags({"Pneumonia": 0.95, "Fracture": 0.01}, {"Pneumonia": -1, "Fracture": -1}) == ()


def test_a_normal_text_on_an_abnormal_film_is_flagged() -> None:
    raised = flags({"No Finding": 0.1, "Pneumothorax": 0.9}, {"No Finding": 1})
    assert raised == ("label_without_text:Pneumothorax", "text_without_label:No Finding")
    assert flags({"No Finding": 0.95}, {"No Finding": 0}) == ()


def test_the_score_falls_with_contradiction_and_with_disagreement() -> None:
    film = {**NORMAL, "Edema": 0.9}
    right = consistency(film, {"Edema": 1}, 0.9, THRESHOLDS)[0]
    silent = consistency(film, {}, 0.9, THRESHOLDS)[0]
    strange = consistency(film, {"Edema": 1}, 0.1, THRESHOLDS)[0]
    assert 0 <= silent < right <= 1
    # the agreement carries a tenth of the score
    assert right - strange == pytest.approx(0.08)


def test_the_similarity_curve_is_a_logistic_of_the_cosine() -> None:
    curve = SimilarityCurve(slope=10.0, bias=-2.0)
    assert curve.agreement(0.2) == pytest.approx(0.5)
    assert curve.agreement(0.3) == pytest.approx(0.7310586)
