"""What a region that was drafted as abnormal says reaches the impression, label or not. Expected texts by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import pytest

from crrg.config.models import DecodingSettings
from crrg.domain.regions import REGION_INDEX, REGIONS
from crrg.evaluation.labeler import label_report
from crrg.inference.assembly import (
    NORMAL_IMPRESSION,
    AssembledReport,
    RegionPhrase,
    assemble,
    assemble_published,
    impression_of,
)
from crrg.inference.decoding import DecodedPhrase
from crrg.inference.pipeline import ReportPipeline
from crrg.inference.statements import says_abnormal

FREE_AIR = "Free air under the right hemidiaphragm."
CLEAR = "The lungs are clear. Heart size is normal."


def report(*phrases: tuple[str, bool]) -> AssembledReport:
    return assemble([RegionPhrase("right hemidiaphragm", phrase, is_abnormal) for phrase, is_abnormal in phrases])


@pytest.mark.parametrize(
    "sentence",
    [
        FREE_AIR,
        "The aorta is tortuous.",
        "Mild degenerative changes of the spine.",
        "Bullae in the upper lobes.",
        "The left hemidiaphragm remains elevated, unchanged.",
        "The aorta is tortuous without effusion.",
    ],
)
def test_what_a_flagged_region_says_without_a_label_is_the_impression(sentence: str) -> None:
    drafted = report((CLEAR, False), (sentence, True))
    assert drafted == AssembledReport(f"{CLEAR} {sentence}", sentence)
    of_no_flag = report((CLEAR, False), (sentence, False)).impression
    assert of_no_flag == ("" if sentence == FREE_AIR else NORMAL_IMPRESSION), "only free air is never normal"
    assert assemble_published([RegionPhrase("right hemidiaphragm", sentence, True)]) == AssembledReport(sentence, "")


@pytest.mark.parametrize(
    "sentence",
    [
        CLEAR,
        "No pneumothorax.",
        "No free air under the diaphragm.",
        "The trachea is midline.",
        "Heart size is normal.",
        "The mediastinum is stable.",
        "Stable cardiomediastinal silhouette.",
        "The thoracic spine appears intact.",
        "Frontal and lateral views of the chest were obtained.",
        "A pacemaker is in place.",
    ],
)
def test_a_normal_sentence_of_a_flagged_region_is_no_finding(sentence: str) -> None:
    assert not says_abnormal(sentence, label_report)
    assert report((sentence, True)).findings == sentence
    assert report((CLEAR, False), (sentence, True)).impression == NORMAL_IMPRESSION
    assert report((sentence, True), (FREE_AIR, True)).impression == FREE_AIR


def test_a_phrase_is_judged_sentence_by_sentence() -> None:
    drafted = report((f"{CLEAR} {FREE_AIR} No pneumothorax.", True))
    assert drafted == AssembledReport(f"{CLEAR} {FREE_AIR} No pneumothorax.", FREE_AIR)


def test_a_sentence_that_several_regions_say_is_flagged_by_any_of_them() -> None:
    assert report((FREE_AIR, False), (FREE_AIR, True), (FREE_AIR, False)) == AssembledReport(FREE_AIR, FREE_AIR)
    short = "Free air under the right hemidiaphragm and the very dome."
    long = "There is free air under the right hemidiaphragm and the very dome."
    for is_short_flagged in (True, False):
        both = report((short, is_short_flagged), (long, not is_short_flagged))
        assert both == AssembledReport(long, "F" + long[10:]), "of near repeats the longer one stays"


def test_a_flagged_sentence_is_not_dropped_for_a_normal_one_of_its_place() -> None:
    elevated = "The right hemidiaphragm is elevated."
    assert report(("The right hemidiaphragm is normal.", False), (elevated, True)) == AssembledReport(
        elevated, elevated
    )
    displaced = "The pacemaker leads are displaced."
    assert report(("A pacemaker is in place.", False), (displaced, True)) == AssembledReport(displaced, displaced)


def test_all_normal_is_not_said_beside_a_flagged_sentence() -> None:
    assert report((NORMAL_IMPRESSION, False), (FREE_AIR, True)) == AssembledReport(FREE_AIR, FREE_AIR)
    assert report((NORMAL_IMPRESSION, True), (FREE_AIR, False)).findings == f"{NORMAL_IMPRESSION} {FREE_AIR}"


def test_a_labelled_finding_reaches_the_impression_with_and_without_a_flag() -> None:
    effusion = "There is a small left pleural effusion."
    for is_abnormal in (True, False):
        drafted = report((effusion, is_abnormal), ("The aorta is tortuous.", True))
        assert drafted.impression == "Small left pleural effusion. The aorta is tortuous."


def test_findings_alone_have_no_flags() -> None:
    assert impression_of(f"{CLEAR} The aorta is tortuous.") == NORMAL_IMPRESSION
    assert impression_of(FREE_AIR) == impression_of("") == ""


@pytest.mark.parametrize(
    "sentence", [FREE_AIR, "Pneumomediastinum.", "Possible pneumoperitoneum.", "Subcutaneous emphysema on the left."]
)
def test_no_chest_with_free_air_is_called_normal_flag_or_not(sentence: str) -> None:
    # no label stands for it, and a region's flag may miss it; few findings are more urgent
    assert report((CLEAR, False), (sentence, False)) == AssembledReport(f"{CLEAR} {sentence}", "")
    assert impression_of(f"{CLEAR} {sentence}") == ""
    assert report((CLEAR, False), (sentence, True)).impression == sentence


@pytest.mark.parametrize(
    "sentence",
    [
        "Free air under the right hemidiaphragm, no pneumothorax.",
        "There is free air under the diaphragm without pneumothorax.",
        "Subcutaneous emphysema is seen but no pneumothorax.",
        "Pneumomediastinum and no pneumothorax.",
        "No pneumothorax, but free air under the diaphragm.",
        "No pneumothorax; free air under the diaphragm.",
    ],
)
def test_a_denial_of_something_else_leaves_free_air_named(sentence: str) -> None:
    assert report((CLEAR, False), (sentence, False)) == AssembledReport(f"{CLEAR} {sentence}", "")
    assert report((CLEAR, False), (sentence, True)).impression != NORMAL_IMPRESSION


@pytest.mark.parametrize(
    "sentence",
    [
        "No free air under the diaphragm.",
        "The pneumomediastinum has resolved.",
        "No pneumothorax, pneumomediastinum, or subcutaneous emphysema.",
        "Free air and pneumothorax are not seen.",
        "Bowel gas with no free air.",
    ],
)
def test_denied_free_air_leaves_a_chest_normal(sentence: str) -> None:
    assert report((CLEAR, False), (sentence, False)).impression == NORMAL_IMPRESSION


def test_a_flagged_sentence_is_parted_from_a_wrong_denial() -> None:
    drafted = report(("The aorta is tortuous without effusion.", True), ("Small left effusion.", True))
    assert drafted.findings == "The aorta is tortuous. No right pleural effusion. Small left effusion."


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("The aorta is tortuous without effusion.", "The aorta is tortuous. No right pleural effusion."),
        ("Large hiatal hernia, no pleural effusion.", "Large hiatal hernia. No right pleural effusion."),
        (
            "Tortuous aorta without pleural effusion, mild cardiomegaly.",
            "Tortuous aorta without pleural effusion, mild cardiomegaly.",
        ),
        (
            "Large hiatal hernia, no pleural effusion, and mild cardiomegaly.",
            "Large hiatal hernia, no pleural effusion, and mild cardiomegaly.",
        ),
        ("No pleural effusion, mild cardiomegaly.", "Mild cardiomegaly. No right pleural effusion."),
    ],
)
@pytest.mark.parametrize("is_abnormal", [True, False])
def test_what_has_no_label_stays_beside_what_a_wrong_denial_is_parted_from(
    sentence: str, expected: str, is_abnormal: bool
) -> None:
    drafted = report((sentence, is_abnormal), ("Small left pleural effusion.", True))
    assert drafted.findings == f"{expected} Small left pleural effusion."


def test_what_all_normal_denied_besides_is_not_told_one_by_one() -> None:
    drafted = report(("Emphysema, but no acute disease.", True), ("Small left pleural effusion.", True))
    assert drafted.findings == "Emphysema. Small left pleural effusion."


def test_a_pipeline_hands_its_flags_on() -> None:
    parts = {field.name: None for field in fields(ReportPipeline)} | {"order": REGIONS}
    pipeline = ReportPipeline(**{**parts, "decoding": DecodingSettings()})
    place = REGION_INDEX["right hemidiaphragm"]
    phrases = {place: DecodedPhrase(FREE_AIR, -0.1, True)}
    assert pipeline._assemble(phrases, flags([])) == (FREE_AIR, "")
    assert pipeline._assemble(phrases, flags([place])) == (FREE_AIR, FREE_AIR)


def flags(abnormal: Sequence[int]) -> np.ndarray:
    values = np.zeros((29, 15))
    values[list(abnormal), -1] = 1
    return values
