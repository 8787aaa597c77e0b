"""What the selector is taught about each region, and the thresholds chosen afterwards; values by hand."""

from __future__ import annotations

import numpy as np
import pytest

from crrg.data.dataset.batches import FilmTable
from crrg.domain.labels import LABEL_INDEX, LABELS
from crrg.domain.regions import REGION_INDEX
from crrg.domain.report import Report
from crrg.training.region_targets import phrase_findings, region_targets, study_scores
from crrg.training.thresholds import f1_threshold, micro_f1_thresholds

EFFUSION = LABEL_INDEX["Pleural Effusion"]
NORMAL = LABEL_INDEX["No Finding"]
ANGLE = REGION_INDEX["left costophrenic angle"]
SPINE = REGION_INDEX["spine"]
CARINA = REGION_INDEX["carina"]


def table(phrases: dict[str, str], labels: dict[str, int], *, annotated: bool = True) -> FilmTable:
    boxes = np.full((1, 29, 4), np.nan, dtype=np.float32)
    is_abnormal = np.full((1, 29), -1, dtype=np.int8)
    if annotated:
        boxes[:] = 0, 0, 5, 5
        boxes[0, CARINA] = np.nan
        for region in phrases:
            is_abnormal[0, REGION_INDEX[region]] = region == "left costophrenic angle"
    values = np.full((1, 14), -2, dtype=np.int8)
    for label, value in labels.items():
        values[0, LABEL_INDEX[label]] = value
    return FilmTable(
        np.zeros((1, 8, 8), dtype=np.uint8), np.array([[8, 8]], dtype=np.int32), boxes, [phrases], is_abnormal, values,
        [""], [Report()], ["p"], ["i"],
    )  # fmt: skip


PHRASES = {"left costophrenic angle": "Small left pleural effusion.", "spine": "The spine is intact."}


def test_selection_is_known_for_annotated_regions_only() -> None:
    targets = region_targets(table(PHRASES, {}))
    assert targets.selection[0, ANGLE] == 1
    assert targets.selection[0, 0] == 0
    assert np.isnan(targets.selection[0, CARINA])
    assert targets.selection.dtype == np.float32


def test_film_without_phrases_says_nothing_of_selection() -> None:
    assert np.isnan(region_targets(table({}, {"Edema": 0})).selection).all()


def test_abnormal_is_what_the_phrase_was_marked_as() -> None:
    targets = region_targets(table(PHRASES, {}))
    assert targets.abnormal[0, ANGLE] == 1
    assert targets.abnormal[0, SPINE] == 0
    assert np.isnan(targets.abnormal[0, 0])


def test_findings_come_from_the_phrase_or_from_a_denied_label() -> None:
    labels = {"Pleural Effusion": 1, "Edema": 0, "Pneumonia": -1, "No Finding": 0}
    findings = region_targets(table(PHRASES, labels)).findings[0]
    assert findings[ANGLE, EFFUSION] == 1
    assert findings[SPINE, EFFUSION] == 0, "the phrase of this region does not state it"
    assert np.isnan(findings[0, EFFUSION]), "the film has it, and nobody says where else"
    assert findings[0, LABEL_INDEX["Edema"]] == 0
    assert np.isnan(findings[0, LABEL_INDEX["Pneumonia"]])
    assert np.isnan(findings[0, LABEL_INDEX["Fracture"]]), "unmentioned is unknown"
    assert findings[SPINE, NORMAL] == 1
    assert findings[ANGLE, NORMAL] == 0
    assert np.isnan(findings[0, NORMAL])


def test_normal_film_is_normal_everywhere() -> None:
    findings = region_targets(table({}, {"No Finding": 1})).findings[0]
    assert (findings[:, NORMAL] == 1).all()


def test_a_possible_finding_is_stated_by_a_phrase_and_unknown_of_a_film() -> None:
    assert phrase_findings("Possible pneumonia.")[LABEL_INDEX["Pneumonia"]] == 1
    assert phrase_findings("No pneumonia.")[LABEL_INDEX["Pneumonia"]] == 0
    study = region_targets(table({}, {"Edema": -1, "Fracture": 0})).study[0]
    assert study[LABEL_INDEX["Fracture"]] == 0
    assert np.isnan(study[[LABEL_INDEX["Edema"], EFFUSION]]).all()


def test_film_is_as_sure_as_its_surest_region() -> None:
    regions = np.zeros((1, 29, 14), dtype=np.float32)
    regions[0, 3, EFFUSION] = 0.7
    regions[0, 4, EFFUSION] = 0.2
    regions[0, 5, LABEL_INDEX["Support Devices"]] = 0.9
    regions[0, :, NORMAL] = 0.99
    scores = study_scores(regions)[0]
    assert scores[EFFUSION] == pytest.approx(0.7)
    assert scores[NORMAL] == pytest.approx(0.3), "a device is no finding, whatever the regions say of themselves"
    assert scores.shape == (len(LABELS),)


def test_threshold_with_the_highest_f1() -> None:
    scores = np.array([0.9, 0.8, 0.3, 0.2, 0.1, 0.6])
    wanted = np.array([1.0, 1.0, 1.0, 0.0, 0.0, np.nan])
    assert f1_threshold(scores, wanted) == pytest.approx(0.25)
    assert f1_threshold(scores, np.zeros(6)) == 0.5
    assert f1_threshold(scores, np.full(6, np.nan)) == 0.5
    assert f1_threshold(np.zeros(0), np.zeros(0), default=0.3) == 0.3


def test_equal_scores_are_called_together() -> None:
    threshold = f1_threshold(np.array([0.4, 0.4, 0.4, 0.1]), np.array([1.0, 0.0, 1.0, 0.0]))
    assert threshold == pytest.approx(0.25)


def test_hopeless_label_is_not_called_for_everybody() -> None:
    good = np.concatenate([np.linspace(0.9, 0.8, 20), np.linspace(0.2, 0.1, 80)])
    wanted = np.concatenate([np.ones(20), np.zeros(80)])
    noise = np.random.default_rng(0).permutation(np.linspace(0.4, 0.6, 100))
    rare = np.zeros(100)
    rare[::10] = 1
    first, second, third = micro_f1_thresholds(
        np.stack([good, noise, good], axis=1), np.stack([wanted, rare, np.full(100, np.nan)], axis=1)
    )
    assert ((good >= first) == (wanted == 1)).all()
    assert (noise >= second).sum() <= 10, "its own best F1 would call nearly all films"
    assert (noise >= f1_threshold(noise, rare)).sum() > 10
    assert third == 0.5
