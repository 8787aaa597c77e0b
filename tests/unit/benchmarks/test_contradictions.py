from __future__ import annotations

import numpy as np
import pytest

from benchmarks.classification.contradictions import PLANTINGS, Planting, Worded, plant
from crrg.domain.labels import FINDINGS, LABEL_INDEX, LABELS
from crrg.domain.regions import REGION_INDEX
from crrg.evaluation.labeler import label_report
from crrg.inference.assembly import impression_of
from crrg.inference.consistency import consistency, side_probabilities
from crrg.inference.statements import read_statement

FINDINGS_SECTION = (
    "There is a small left pleural effusion. Left basal effusion is unchanged. The heart is enlarged. No pneumothorax."
)
PNEUMOTHORAX = "There is a small right pneumothorax."


def planted(kind: Planting, findings: str = FINDINGS_SECTION, seed: int = 0) -> Worded:
    found = plant(findings, kind, [PNEUMOTHORAX, "The heart is enlarged."], label_report, np.random.default_rng(seed))
    assert found is not None
    return found


def test_both_sections_say_what_was_planted() -> None:
    before = label_report(Worded(FINDINGS_SECTION, impression_of(FINDINGS_SECTION)).text)
    stated = {label for label, value in before.items() if value == 1}
    assert stated == {"Pleural Effusion", "Cardiomegaly"}
    for seed in range(12):
        claimed = label_report(planted("claimed", seed=seed).text)
        assert claimed["Pneumothorax"] == 1
        denied = planted("denied", seed=seed)
        gone = {label for label in stated if label_report(denied.text)[label] != 1}
        assert len(gone) == 1
        assert all(label_report(denied.text)[label] == label_report(denied.findings)[label] == 0 for label in gone)
        omitted = planted("omitted", seed=seed)
        gone = {label for label in stated if label_report(omitted.text)[label] != 1}
        assert len(gone) == 1
        assert all(label_report(omitted.text)[label] is None for label in gone)
        strange = planted("sentence", seed=seed)
        assert label_report(strange.impression)["Pneumothorax"] == 1
        for label in stated:
            assert label_report(strange.text)[label] == label_report(strange.findings)[label], "the impression follows"


def test_a_side_is_swapped_in_both_sections() -> None:
    alone = planted("side", "There is a small left pleural effusion. No pneumothorax.")
    assert alone.findings == "There is a small right pleural effusion. No pneumothorax."
    assert alone.impression == "Small right pleural effusion."


def test_where_there_is_no_place_nothing_is_planted() -> None:
    rng = np.random.default_rng(0)
    effusion = "There is a small left pleural effusion."
    assert all(plant("", kind, [PNEUMOTHORAX], label_report, rng) is None for kind in PLANTINGS)
    assert plant("No pleural effusion.", "side", [], label_report, rng) is None
    assert plant("No pleural effusion.", "denied", [], label_report, rng) is None
    assert plant(effusion, "claimed", [], label_report, rng) is None
    assert plant(effusion, "omitted", [], label_report, rng) is None, "an empty draft is no contradiction"
    assert plant(effusion, "sentence", [effusion], label_report, rng) is None


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


@pytest.mark.parametrize("text", ["Bilateral pleural effusions, left larger.", "Bibasilar atelectasis, worse right."])
def test_the_worse_of_both_sides_is_no_side_of_its_own(text: str) -> None:
    (statement,) = [read_statement(text, label_report)]
    assert statement.sides == {"left", "right"}
    (label,) = statement.certain
    assert read_statement(f"No right {label.lower()}.", label_report).wrong_denials([statement])
    assert read_statement(f"No left {label.lower()}.", label_report).wrong_denials([statement])
