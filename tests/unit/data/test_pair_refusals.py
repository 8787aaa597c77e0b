from __future__ import annotations

import pytest

from crrg.data.archives.sources import SourceItem
from crrg.data.dataset.split import SplitShares
from crrg.data.pairing import PairBuilder, PairingRules
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.domain.report import Report
from crrg.domain.study import Pair
from crrg.errors import ReportError
from crrg.evaluation.labeler import label_report
from tests.support.keys import KEY


def build(report: Report, notes: str = "") -> Pair:
    rules = PairingRules(Pseudonyms(KEY.encode()), lambda text: {}, 0, SplitShares(), False)
    return PairBuilder(rules).build(
        SourceItem(name="row", patient_id="P", study_id="S", report=report, notes=notes), "folder", "site", None, b"d"
    )


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Kein Erguss. Die Lunge ist beidseits frei, kein Nachweis eines Infiltrates.", "LANG.NOT_ENGLISH"),
        ("Очаговых изменений в лёгких не выявлено.", "LANG.SCRIPT"),
        ("Clear lungs. Date of birth: in spring", "PHI.LABELED"),
    ],
)
def test_a_report_is_refused_by_name(text, code):
    with pytest.raises(ReportError) as caught:
        build(Report(findings=text))
    assert caught.value.code == code
    assert text not in str(caught.value)


def test_masks_reach_every_section():
    pair = build(Report("Told to Dr. Quux.", "Unchanged since 03/12/2019.", "Fell on March 12, 2019."))
    assert pair.report == Report("Told to Dr. <deid>.", "Unchanged since <deid>.", "Fell on <deid>.")


def test_a_report_in_a_language_that_is_let_in_gives_no_labels():
    """German negates with other words: read as English, this text would affirm the pneumothorax."""
    text = "Kein Pneumothorax. Die Lunge ist beidseits frei, kein Nachweis eines Infiltrates."
    rules = PairingRules(
        Pseudonyms(KEY.encode()), label_report, 0, SplitShares(), False, "auto", languages=("en", "de")
    )
    item = SourceItem(name="row", patient_id="P", study_id="S", report=Report(findings=text))
    pair = PairBuilder(rules).build(item, "folder", "site", None, b"d")
    assert pair.report.findings == text
    assert (pair.labels, pair.label_source) == ({}, "none")
    assert label_report(text)["Pneumothorax"] == 1


def test_equal_texts_of_two_people_are_two_studies_and_texts_of_one_are_two_rows():
    rows = [("P", "Clear.", b"c"), ("Q", "Clear.", b"c"), ("P", "Effusion.", b"e")]
    rules = PairingRules(Pseudonyms(KEY.encode()), lambda text: {}, 0, SplitShares(), False)
    pairs = [
        PairBuilder(rules).build(
            SourceItem(name="row", patient_id=patient, report=Report(text)), "folder", "site", None, digest
        )
        for patient, text, digest in rows
    ]
    assert len({pair.study_id for pair in pairs}) == 3
    assert len({pair.instance_id for pair in pairs}) == 3
    assert len({pair.patient_id for pair in pairs}) == 2
