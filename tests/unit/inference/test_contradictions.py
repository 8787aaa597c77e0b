from __future__ import annotations

import numpy as np

from crrg.domain.labels import FINDINGS, LABEL_INDEX, LABELS
from crrg.domain.regions import REGION_INDEX
from crrg.evaluation.labeler import label_report
from crrg.inference.consistency import consistency, side_probabilities
from crrg.inference.contradictions import plant
from crrg.inference.statements import read_statement

TEXT = "There is a small left pleural effusion."


def test_each_kind_is_planted() -> None:
    rng = np.random.default_rng(0)
    swapped = plant(TEXT, "label", [], label_report, rng)
    assert label_report(swapped or "")["Pleural Effusion"] == 0
    assert plant(TEXT, "side", [], label_report, rng) == "There is a small right pleural effusion."
    assert plant(TEXT, "sentence", ["There is a pneumothorax."], label_report, rng) == "There is a pneumothorax."


def test_where_there_is_no_place_nothing_is_planted() -> None:
    rng = np.random.default_rng(0)
    assert plant("", "label", [], label_report, rng) is None
    assert plant("No pleural effusion.", "side", [], label_report, rng) is None
    assert plant(TEXT, "sentence", [TEXT], label_report, rng) is None


def test_a_finding_on_the_other_side_lowers_the_score_and_is_flagged() -> None:
    regions = np.full((29, 14), 0.01)
    regions[REGION_INDEX["left costophrenic angle"], LABEL_INDEX["Pleural Effusion"]] = 0.9
    sides = side_probabilities(regions)
    assert sides["left"]["Pleural Effusion"] == 0.9
    assert sides["right"]["Pleural Effusion"] == 0.01
    probabilities = dict.fromkeys(LABELS, 0.02) | {"Pleural Effusion": 0.9}
    found = {}
    for side in ("left", "right"):
        text = f"There is a small {side} pleural effusion."
        statements = [read_statement(text, label_report)]
        thresholds = dict.fromkeys(LABELS, 0.5)
        found[side] = consistency(
            probabilities, label_report(text), 0.5, thresholds, statements=statements, sides=sides
        )
    assert found["left"][1] == ()
    assert found["right"][1] == ("text_on_other_side:Pleural Effusion",)
    assert found["left"][0] > found["right"][0] + 0.3
    assert len(sides["left"]) == len(FINDINGS)
