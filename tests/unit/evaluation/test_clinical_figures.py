"""Figures of a labeler's values, beside the claim of every finding."""

from __future__ import annotations

import pytest

from crrg.domain.labels import FINDINGS, LABELS
from crrg.evaluation.baselines import all_positive_labels
from crrg.evaluation.bootstrap import Resampling
from crrg.evaluation.clinical import known_labels, micro_f1_counts, score_labels
from crrg.evaluation.clinical_figures import clinical_figures
from tests.support.labelled_pair import labelled

CANDIDATES = [{"Edema": 1, "Fracture": -1}, {"No Finding": 1}, {"Cardiomegaly": -1}, {}]
PARTS = ("f1", "precision", "recall", "accuracy")
REFERENCES = [{"Edema": 1}, {"No Finding": 1}, {"Cardiomegaly": 1}, {}]
PATIENTS = Resampling([str(row) for row in range(24)])
"""Each label that is there is in six."""


def test_both_families_have_their_own_reading_of_an_uncertain_label() -> None:
    found = clinical_figures("chexbert", CANDIDATES * 6, REFERENCES * 6, PATIENTS, {})
    figures = {figure.name: figure for figure in found}
    # five labels: edema and cardiomegaly are found; the fracture is not among them
    assert figures["chexbert/micro5_f1"].value == figures["chexbert/micro5_accuracy"].value == 1.0
    # 14 labels: three matches, four found, three wanted; the fracture alone is wrong of 56
    assert figures["chexbert/micro14_f1"].value == pytest.approx(6 / 7)
    assert figures["chexbert/micro14_precision"].value == pytest.approx(3 / 4)
    assert figures["chexbert/micro14_recall"].value == 1.0
    assert figures["chexbert/micro14_accuracy"].value == pytest.approx(55 / 56)
    # by report: 1, 1, 0 since uncertain is negative, 0 since there is nothing on either side
    assert figures["chexbert/example14_f1"].value == pytest.approx(0.5)
    # the heart is missed, and nothing else is wrong
    assert figures["chexbert/example14_accuracy"].value == pytest.approx(55 / 56)
    assert figures["chexbert/edema_f1"].is_detail
    assert all(figure.low <= figure.value <= figure.high for figure in figures.values())
    scores = score_labels(CANDIDATES, REFERENCES)
    assert all(scores[f"clinical/{name.split('/')[1]}"] == pytest.approx(figures[name].value) for name in figures)


def test_the_claim_of_every_finding_stands_beside_each_figure() -> None:
    rivals = {"all positive": all_positive_labels(2)}
    found = clinical_figures(
        "chexbert", [{}] * 2, [{"Edema": 1}, dict.fromkeys(LABELS)], Resampling(list("ab")), rivals
    )
    figures = {figure.name: figure for figure in found}
    # 10 and 26 findings are claimed, one is there; one report of two has it among 13
    assert figures["chexbert/micro5_f1"].baseline == pytest.approx(2 / 11)
    assert figures["chexbert/micro14_f1"].baseline == pytest.approx(2 / 27)
    assert figures["chexbert/example14_f1"].baseline == pytest.approx(2 / 14 / 2)
    assert figures["chexbert/micro14_accuracy"].baseline == pytest.approx(3 / 28)
    assert all(figure.value == 0.0 for name, figure in figures.items() if name.endswith("_f1"))
    assert clinical_figures("chexbert", [], [], Resampling([]), rivals) == []


def test_the_rule_labelers_figures_are_those_of_the_scores_beside_each_baseline() -> None:
    rivals = {"all positive": [dict.fromkeys(LABELS, 1)] * 24, "nothing": [{}] * 24}
    figures = clinical_figures("clinical", CANDIDATES * 6, REFERENCES * 6, PATIENTS, rivals)
    scores, claimed = score_labels(CANDIDATES, REFERENCES), score_labels(rivals["all positive"], REFERENCES * 6)
    found = {each.name: each for each in figures if each.baseline_name == "all positive"}
    assert all(each.value == pytest.approx(scores[name]) for name, each in found.items())
    assert all(each.baseline == pytest.approx(claimed[name]) for name, each in found.items())
    families = {f"clinical/{name}_{part}" for name in ("micro", "micro5", "micro14", "example14") for part in PARTS}
    conditions = {f"clinical/{name}_f1" for name in ("macro", "cardiomegaly", "edema", "no_finding")}
    # no film has a fracture, so that nothing is said of finding one
    assert set(found) == families | conditions
    assert len(figures) == 2 * len(found)
    assert all(each.low <= each.high for each in figures)


def test_the_interval_of_drafts_without_a_mistake_is_their_value_however_rare_the_findings() -> None:
    # each finding in one patient of 40, who is in two samples of three
    references = [{FINDINGS[row]: 1} if row < len(FINDINGS) else {} for row in range(40)]
    patients = Resampling([str(row) for row in range(40)])
    figures = {each.name: each for each in clinical_figures("clinical", references, references, patients, {})}
    for figure in (figures[f"clinical/{name}"] for name in ("macro_f1", *(f"micro_{part}" for part in PARTS))):
        assert (figure.low, figure.value, figure.high) == (1.0, 1.0, 1.0), figure.name
    # of one patient, and of five
    for figure in (figures[f"clinical/{name}"] for name in ("edema_f1", "micro5_precision", "micro5_recall")):
        assert (figure.low, figure.value, figure.high) == (None, 1.0, None), figure.name


def test_what_nobody_looked_for_is_neither_right_nor_wrong() -> None:
    # an archive that asked for edema and fracture alone, a film of which nothing is known, and one with a report
    references = [{"Edema": 1, "Fracture": 0}, {}, {"Edema": None}]
    candidates = [{"Edema": 1, "Cardiomegaly": 1, "Fracture": 1}, {"Edema": 1}, {"Pneumonia": 1}]
    texts = ("", "", "The heart is normal.")
    counted = known_labels([labelled(*film) for film in zip(references, texts, strict=True)])
    assert counted.sum(axis=1).tolist() == [2, 0, 14]
    figures = {
        each.name: each
        for each in clinical_figures("clinical", candidates, references, Resampling(list("abc")), {}, counted)
    }
    # edema is right, the fracture wrong, and so is the pneumonia that the report does not mention
    assert figures["clinical/micro_precision"].value == pytest.approx(1 / 3)
    assert figures["clinical/micro_recall"].value == 1.0
    assert figures["clinical/example14_precision"].value == pytest.approx((1 / 2 + 0) / 2)
    assert micro_f1_counts(candidates, references, counted=counted).tolist() == [[1, 2, 1], [0, 0, 0], [0, 1, 0]]
    assert clinical_figures("clinical", [{"Edema": 1}], [{}], Resampling(["a"]), {}, known_labels([labelled({})])) == []
    assert known_labels([]).shape == (0, 14)
    whole = score_labels(candidates, references, counted)
    for name in ("clinical/micro_precision", "clinical/micro_recall", "clinical/example14_precision"):
        assert whole[name] == pytest.approx(figures[name].value)


def test_a_report_that_nobody_here_can_label_denies_nothing() -> None:
    assert known_labels([labelled({}, "Lungenödem.", "none")]).sum() == 0
    assert known_labels([labelled({}, "Pulmonary edema.", "report")]).all()
