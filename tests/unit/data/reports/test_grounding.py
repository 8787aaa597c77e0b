"""Sentences to regions: sides, scopes and what a report says of a region; values by hand."""

from __future__ import annotations

import pytest

from crrg.data.reports.grounding import GroundedPhrase, SentenceContext, ground_report, ground_sentence
from crrg.data.reports.grounding_tone import is_phrase_abnormal
from crrg.domain.report import Report
from crrg.evaluation.labeler import label_report

LUNGS = ("right lung", "left lung")
BASES = ("right lower lung zone", "left lower lung zone")


@pytest.mark.parametrize(
    ("sentence", "regions"),
    [
        ("Patchy opacity in the right and left lower lobes.", BASES),
        ("Atelectasis at both bases, left greater than right.", BASES),
        ("Right upper and left lower lobe opacities.", ("right upper lung zone", "left lower lung zone")),
        ("Right upper and lower lobe opacities.", ("right upper lung zone", "right lower lung zone")),
        ("Small effusion on the left.", ("left costophrenic angle",)),
        ("Opacity in the mid portion of the right lung.", ("right mid lung zone",)),
        ("Moderate basilar atelectasis is seen on the left.", ("left lower lung zone",)),
        ("Left internal jugular line in the SVC.", ("svc",)),
        ("Fractures of the left fourth through seventh ribs.",
         ("left upper lung zone", "left mid lung zone", "left lower lung zone")),
    ],
)  # fmt: skip
def test_sides_reach_as_far_as_they_are_meant(sentence: str, regions: tuple[str, ...]) -> None:
    assert ground_sentence(sentence) == regions


def test_a_denied_finding_does_not_take_the_side_before_it() -> None:
    found = ground_sentence("Right basilar opacity, no pleural effusion.")
    assert found == ("right lower lung zone", "right costophrenic angle", "left costophrenic angle")


def test_a_clear_lung_lends_its_side_to_what_is_denied() -> None:
    assert ground_sentence("The left lung is clear without pneumothorax.") == ("left lung", "left apical zone")


def test_a_place_holds_the_finding_and_a_finding_without_place_has_one() -> None:
    assert ground_sentence("Mass in the left upper lobe.") == ("left upper lung zone",)
    assert ground_sentence("There is a mass.") == LUNGS
    assert ground_sentence("A mediastinal mass.") == ("mediastinum",)


@pytest.mark.parametrize("sentence", ["", "Normal chest.", "CT of the abdomen is recommended.", "AP view."])
def test_sentences_about_no_region(sentence: str) -> None:
    assert ground_sentence(sentence) == ()


def test_a_sentence_about_it_goes_on_about_the_same_region() -> None:
    before = SentenceContext(("left upper lung zone",))
    assert ground_sentence("It measures 9 mm.", before) == ("left upper lung zone",)
    assert ground_sentence("It reaches the apex.", before) == ("left apical zone",)
    assert ground_sentence("Nothing else is seen.", before) == ()
    assert ground_sentence("This could be followed up in 6 months.", before) == ()


def test_a_report_gives_each_region_its_sentences_in_order() -> None:
    report = Report(
        findings="The heart is enlarged. Small left pleural effusion. The lungs are clear. They are well inflated. "
        "No right pleural effusion. The carina is seen. Lungs remain clear.",
        impression="Right pneumothorax.",
    )
    grounded = ground_report(report, label_report)
    assert list(grounded) == [
        "right lung", "right costophrenic angle", "left lung", "left costophrenic angle", "cardiac silhouette",
        "carina",
    ]  # fmt: skip
    lungs = "The lungs are clear. They are well inflated. Lungs remain clear."
    assert grounded["left lung"] == GroundedPhrase(lungs, False)
    assert grounded["cardiac silhouette"] == GroundedPhrase("The heart is enlarged.", True)
    assert grounded["left costophrenic angle"] == GroundedPhrase("Small left pleural effusion.", True)
    assert grounded["right costophrenic angle"] == GroundedPhrase("No right pleural effusion.", False)
    assert grounded["carina"] == GroundedPhrase("The carina is seen.", None)


def test_the_impression_is_read_only_where_there_are_no_findings() -> None:
    assert set(ground_report(Report(impression="Right pneumothorax."), label_report)) == {"right apical zone"}
    assert ground_report(Report(), label_report) == {}


def test_abnormal_beyond_the_labels_and_denied() -> None:
    grounded = ground_report(Report(findings="The aorta is tortuous. No scoliosis."), label_report)
    assert grounded["aortic arch"].is_abnormal is True
    assert grounded["spine"].is_abnormal is False
    assert is_phrase_abnormal("Free air under the right hemidiaphragm.", label_report) is True
    assert is_phrase_abnormal("Small pneumomediastinum.", label_report) is True
    assert is_phrase_abnormal("No free air under the right hemidiaphragm.", label_report) is False
