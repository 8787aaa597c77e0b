"""Figures of text under every protocol beside baselines, and METEOR 1.5 through a stand-in for its program."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from crrg.evaluation.bootstrap import Resampling
from crrg.evaluation.meteor_jar import JavaMeteor, jar_digest
from crrg.evaluation.protocols import PROTOCOLS
from crrg.evaluation.text import rgrg_document_frequencies, score_text
from crrg.evaluation.text_figures import jar_figures, text_figures
from tests.support.stand_in_meteor import STAND_IN_METEOR

DRAFTS = ["The lungs are clear. No effusion.", "The heart is large.", "There is an effusion."] * 2
REPORTS = ["The lungs are clear. No pneumothorax.", "The heart is not large.", "Right pleural effusion."] * 2
NORMAL = ["The lungs are clear."] * 6
METRICS = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider_d", "meteor_offline")
SAMPLES = Resampling(list("abcdef"))


def test_every_protocol_has_every_metric_with_interval_and_baselines() -> None:
    figures = text_figures(DRAFTS, REPORTS, SAMPLES, {"always normal": NORMAL, "itself": DRAFTS})
    assert {each.name for each in figures} == {f"{protocol}/{name}" for protocol in PROTOCOLS for name in METRICS}
    assert len(figures) == 2 * len(PROTOCOLS) * len(METRICS)
    for protocol in PROTOCOLS:
        own, normal = (score_text(texts, REPORTS, protocol) for texts in (DRAFTS, NORMAL))
        for normal_row, own_row in zip(figures[::2], figures[1::2], strict=True):
            if normal_row.name in own:
                assert normal_row.value == own_row.value == own_row.baseline == pytest.approx(own[normal_row.name])
                assert normal_row.baseline == pytest.approx(normal[normal_row.name])
                assert normal_row.low <= normal_row.high


def test_the_cider_of_rgrg_takes_the_frequencies_of_validation_reports() -> None:
    validation = ["The lungs are clear.", "The heart is large."]
    found = {each.name: each.value for each in text_figures(DRAFTS, REPORTS, SAMPLES, {}, validation)}
    frequencies = rgrg_document_frequencies(validation)
    wanted = score_text(DRAFTS, REPORTS, frequencies=frequencies)["rgrg/cider_d_given_idf"]
    assert found["rgrg/cider_d_given_idf"] == pytest.approx(wanted)
    assert "nltk/cider_d_given_idf" not in found


def test_the_jar_gives_the_corpus_its_mean_and_the_difference(tmp_path: Path) -> None:
    jar = tmp_path / "meteor.jar"
    jar.write_text(STAND_IN_METEOR)
    with JavaMeteor(jar, java=(sys.executable,)) as running:
        figures = jar_figures(running, DRAFTS, REPORTS, SAMPLES, {"always normal": NORMAL})
    found = {each.name: each for each in figures}
    names = ("meteor_1_5", "meteor_1_5_mean", "meteor_offline_difference")
    assert list(found) == [f"{protocol}/{name}" for protocol in ("rgrg", "r2gen") for name in names]
    offline = score_text(DRAFTS, REPORTS)["rgrg/meteor_offline"]
    whole = found["rgrg/meteor_1_5"]
    assert found["rgrg/meteor_offline_difference"].value == pytest.approx(offline - whole.value)
    assert whole.value != whole.baseline
    assert whole.low < whole.value < whole.high
    assert found["rgrg/meteor_1_5_mean"].low <= found["rgrg/meteor_1_5_mean"].value
    assert len(jar_digest(jar)) == 64
