from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from crrg.data.phantom import grammar_closing, grammar_phrases
from crrg.data.phantom.grammar import say, word_report
from crrg.data.phantom.scene import DrawnFinding, Scene, Side, WordedReport
from crrg.domain.labels import FINDINGS
from crrg.domain.regions import REGION_INDEX
from crrg.domain.sentences import split_sentences
from crrg.domain.study import ViewPosition
from crrg.evaluation.labeler import label_report, label_sentence

ZONES = ("upper lung zone", "mid lung zone", "lower lung zone")
KINDS: tuple[tuple[str, str, str, tuple[str, ...], float], ...] = (
    ("Enlarged Cardiomediastinum", "widened_mediastinum", "midline", ("upper mediastinum", "mediastinum"), 0.08),
    ("Cardiomegaly", "enlarged_heart", "midline", ("cardiac silhouette",), 0.2),
    ("Lung Opacity", "patchy_opacity", "zone", (), 0.2),
    ("Lung Lesion", "nodule", "zone", (), 0.08),
    ("Lung Lesion", "mass", "zone", (), 0.06),
    (
        "Edema",
        "interstitial_edema",
        "bilateral",
        ("right hilar structures", "left hilar structures", "right lung"),
        0.08,
    ),
    ("Edema", "alveolar_edema", "bilateral", ("right hilar structures", "left hilar structures", "left lung"), 0.08),
    ("Consolidation", "lobar_consolidation", "zone", (), 0.1),
    ("Pneumonia", "pneumonia", "zone", (), 0.1),
    ("Atelectasis", "linear_atelectasis", "sided", ("lower lung zone",), 0.1),
    ("Atelectasis", "basal_atelectasis", "sided", ("lower lung zone", "hemidiaphragm"), 0.1),
    ("Pneumothorax", "apical_pneumothorax", "sided", ("apical zone", "upper lung zone"), 0.1),
    ("Pleural Effusion", "pleural_effusion", "sided", ("costophrenic angle", "lower lung zone", "hemidiaphragm"), 0.2),
    ("Pleural Other", "pleural_thickening", "sided", ("apical zone",), 0.06),
    ("Pleural Other", "pleural_plaque", "sided", ("mid lung zone",), 0.06),
    ("Fracture", "rib_fracture", "zone", (), 0.1),
    ("Fracture", "clavicle_fracture", "sided", ("clavicle",), 0.06),
    ("Support Devices", "endotracheal_tube", "midline", ("trachea", "carina"), 0.08),
    ("Support Devices", "central_line", "midline", ("svc", "cavoatrial junction"), 0.08),
    ("Support Devices", "pacemaker", "sided", ("upper lung zone",), 0.06),
    ("Support Devices", "chest_tube", "sided", ("lung", "lower lung zone"), 0.06),
    ("Support Devices", "sternal_wires", "midline", ("mediastinum",), 0.06),
    ("Support Devices", "enteric_tube", "midline", ("abdomen", "mediastinum"), 0.06),
)


def make_finding(label: str, kind: str, where: str, places: tuple[str, ...], rng: np.random.Generator) -> DrawnFinding:
    side: Side = "right" if rng.random() < 0.5 else "left"
    regions = places
    if where == "zone":
        regions = (f"{side} {ZONES[rng.integers(3)]}",)
    elif where == "sided":
        regions = tuple(f"{side} {place}" for place in places)
    elif where == "bilateral":
        side = "bilateral"
    elif kind != "central_line":
        side = "midline"
    return DrawnFinding(label, kind, side, regions, float(rng.random()))


def make_scene(index: int, findings: tuple[DrawnFinding, ...] | None = None) -> Scene:
    rng = np.random.default_rng([20, index])
    if findings is None:
        drawn = [] if rng.random() < 0.3 else [kind for kind in KINDS if rng.random() < kind[4]]
        findings = tuple(make_finding(*kind[:4], rng) for kind in drawn)
    view = ViewPosition.AP if rng.random() < 0.5 else ViewPosition.PA
    return Scene(index, index, view, int(rng.integers(20, 95)), "F" if rng.random() < 0.5 else "M", findings)


@pytest.fixture(scope="module")
def cohort() -> list[tuple[Scene, WordedReport]]:
    return [(make_scene(i), word_report(make_scene(i), np.random.default_rng([1, i]))) for i in range(1000)]


def test_labels_read_from_the_report_are_those_drawn(cohort: list[tuple[Scene, WordedReport]]) -> None:
    true_positives = false_positives = missed = uncertain = 0
    for scene, report in cohort[:300]:
        read = label_report(f"{report.findings} {report.impression}")
        for label in FINDINGS:
            true_positives += read[label] == 1 and scene.labels[label] == 1
            false_positives += read[label] in (1, -1) and scene.labels[label] == 0
            missed += read[label] not in (1, -1) and scene.labels[label] == 1
            uncertain += read[label] == -1
    assert true_positives > 300
    assert 10 < uncertain < 0.2 * true_positives
    assert true_positives / (true_positives + false_positives) >= 0.97
    assert true_positives / (true_positives + missed) >= 0.97


@pytest.mark.parametrize("kind", sorted(grammar_phrases.DEFINITE))
def test_every_phrase_names_its_own_label_and_no_other(kind: str) -> None:
    label, _, where, places, _ = next(row for row in KINDS if row[1] == kind)
    for seed in range(60):
        rng = np.random.default_rng([3, seed])
        finding = make_finding(label, kind, where, places, rng)
        report = word_report(make_scene(seed, (finding,)), rng)
        phrase = split_sentences(report.phrases[finding.regions[0]])[0]
        read = label_sentence(phrase)
        assert read[label] in (1, -1), phrase
        assert [name for name, value in read.items() if value != 0] == [label], phrase
        impression = label_report(report.impression)
        assert all(impression[name] in (None, 0) for name in FINDINGS if name != label), report.impression


def test_every_wording_of_the_lists_is_well_formed() -> None:
    slots = {
        name: name
        for name in [
            "side",
            "grade",
            "size",
            "ly",
            "place",
            "spot",
            "rib",
            "cm",
            "mm",
            "mass_cm",
            "displacement",
            "level",
        ]
    }
    lists = [*grammar_phrases.DEFINITE.values(), *grammar_phrases.UNCERTAIN.values()]
    lists += [*grammar_closing.IMPRESSION.values(), *grammar_closing.NORMAL.values()]
    lists += [wordings for pair in grammar_phrases.MERGED.values() for wordings in pair]
    rng = np.random.default_rng(0)
    for template in (template for wordings in lists for template in wordings):
        text = say(template, slots, rng)
        assert text.endswith(".")
        assert not set("[]{}|") & set(text)
        assert "  " not in text
    assert set(grammar_phrases.DEFINITE) == set(grammar_closing.IMPRESSION) == {row[1] for row in KINDS}


def normal_sentences() -> frozenset[str]:
    """Return every normal sentence that a report may hold, as it stands there."""
    templates = [template for options in grammar_closing.NORMAL.values() for template in options] + list(
        grammar_closing.NORMAL_IMPRESSION
    )
    filled = {
        template.format(side=side, level=level)
        for template in templates
        for side in ("right", "left")
        for level in ("upper", "mid", "lower")
    }
    return frozenset(sentence[0].upper() + sentence[1:] for sentence in filled)


def test_no_abnormal_sentence_is_common(cohort: list[tuple[Scene, WordedReport]]) -> None:
    counts: Counter[str] = Counter()
    for _, report in cohort:
        counts.update(set(split_sentences(f"{report.findings} {report.impression}")))
    normal = normal_sentences()
    assert [sentence for sentence, n in counts.items() if n > 30 and sentence not in normal] == []
    assert sum(n <= 30 for n in counts.values()) > 500


def test_about_a_third_of_the_regions_is_mentioned_and_all_abnormal_ones(
    cohort: list[tuple[Scene, WordedReport]],
) -> None:
    shares = [len(report.phrases) / 29 for _, report in cohort]
    assert 0.30 <= float(np.mean(shares)) <= 0.45
    for scene, report in cohort:
        assert report.abnormal_regions <= set(report.phrases)
        for finding in scene.findings:
            assert finding.regions[0] in report.phrases
            if finding.label != "Support Devices":
                assert finding.regions[0] in report.abnormal_regions


def test_region_identity_tells_more_than_selecting_everything(cohort: list[tuple[Scene, WordedReport]]) -> None:
    mentioned = Counter(region for _, report in cohort for region in report.phrases)
    assert mentioned["cardiac silhouette"] > 900
    assert mentioned["right costophrenic angle"] > 800
    assert mentioned["carina"] < 200


def test_findings_follow_region_order_and_name_each_sentence_once(cohort: list[tuple[Scene, WordedReport]]) -> None:
    for _, report in cohort[:200]:
        assert list(report.phrases) == sorted(report.phrases, key=lambda region: REGION_INDEX[region])
        sentences = split_sentences(report.findings)
        assert len(sentences) == len(set(sentences))
        expected = {s for phrase in report.phrases.values() for s in split_sentences(phrase)}
        assert set(sentences) == expected


def test_a_normal_film_has_a_normal_report() -> None:
    report = word_report(make_scene(1, ()), np.random.default_rng(1))
    assert report.abnormal_regions == frozenset()
    assert report.impression in grammar_closing.NORMAL_IMPRESSION
    assert set(split_sentences(report.findings)) <= normal_sentences()
    assert label_report(report.findings)["No Finding"] == 1


def test_the_same_state_gives_the_same_report() -> None:
    scene = make_scene(5)
    assert word_report(scene, np.random.default_rng(4)) == word_report(scene, np.random.default_rng(4))
    assert word_report(scene, np.random.default_rng(4)) != word_report(scene, np.random.default_rng(5))


def test_a_bilateral_effusion_is_worded_side_by_side() -> None:
    regions = ("right costophrenic angle", "left costophrenic angle")
    finding = DrawnFinding("Pleural Effusion", "pleural_effusion", "bilateral", regions, 0.5)
    report = word_report(make_scene(2, (finding,)), np.random.default_rng(0))
    assert "right" in report.phrases["right costophrenic angle"].lower()
    assert "left" in report.phrases["left costophrenic angle"].lower()
