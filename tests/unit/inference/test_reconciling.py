"""Which findings a draft states: the regions' own, as far as film and regions together bear them out."""

from __future__ import annotations

import numpy as np

from crrg.domain.labels import LABEL_INDEX, NO_FINDING
from crrg.inference.consistency import region_contradictions
from crrg.inference.fusion import SIGNALS
from crrg.inference.reconciling import film_signals, reconcile_flags, shown_findings


def test_flags_follow_the_film() -> None:
    edema, mass = LABEL_INDEX["Edema"], LABEL_INDEX["Lung Lesion"]
    flags = np.zeros((1, 29, 15))
    flags[0, 4, [edema, 14]] = 1
    regions = np.zeros((1, 29, 14))
    regions[0, 7, mass] = 0.4
    labels = np.full((1, 14), 0.3)
    labels[0, edema], labels[0, mass] = 0.1, 0.8
    changed = reconcile_flags(flags, regions, labels, np.full(14, 0.5))
    assert changed[0, 4].sum() == 0
    assert changed[0, 7].nonzero()[0].tolist() == [mass, 14]
    assert changed.sum() == 2


def test_a_finding_that_no_region_can_show_is_given_to_none() -> None:
    labels = np.zeros((1, 14))
    labels[0, LABEL_INDEX["Lung Lesion"]] = 0.8
    assert not reconcile_flags(np.zeros((1, 29, 15)), np.zeros((1, 29, 14)), labels, np.full(14, 0.5)).any()


def test_signals_of_a_film_without_a_draft_are_those_of_film_and_regions() -> None:
    logits, findings, abnormal = np.full((1, 14), 2.0), np.full((1, 29, 14), 0.5), np.full((1, 29), 0.5)
    findings[0, 7, LABEL_INDEX["Edema"]] = 0.9
    signals = film_signals(logits, findings, abnormal)
    assert signals.shape == (1, 14, len(SIGNALS))
    assert signals[0, LABEL_INDEX["Edema"]].tolist() == [2.0, 0.0, 0.0, np.log(0.9 / (1 - 0.9)), 0.0]
    assert signals[0, LABEL_INDEX[NO_FINDING], 3] == -np.log(0.9 / (1 - 0.9))


def test_a_finding_is_shown_where_any_region_shows_it() -> None:
    flags = np.zeros((2, 29, 15))
    flags[1, [3, 8], LABEL_INDEX["Edema"]] = 1
    flags[0, 5, 14] = 1
    assert np.argwhere(shown_findings(flags)).tolist() == [[1, LABEL_INDEX["Edema"]]], "abnormality is no finding"
    assert shown_findings(flags[1]).shape == (14,)


def test_a_draft_that_departs_from_the_regions_is_flagged() -> None:
    said = {"Edema": 1, "Pneumonia": -1, "Fracture": 0, "Atelectasis": None, "Lung Lesion": 1, NO_FINDING: None}
    shown = ["Lung Lesion", "Pneumonia", "Fracture", "Atelectasis", NO_FINDING]
    flags = region_contradictions(said, shown)
    assert set(flags) == {
        "text_without_regions:Edema",
        "regions_without_text:Fracture",
        "regions_without_text:Atelectasis",
    }
    assert region_contradictions({"Edema": 1}, ["Edema"]) == ()
    assert region_contradictions({"Pneumonia": -1}, []) == (), "what is left open contradicts nothing"
