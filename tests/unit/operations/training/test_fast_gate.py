"""Rounded weights go into a bundle only where their drafts are as good as those of exact ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from crrg.config.models import DecodingSettings
from crrg.config.overrides import DecodingOverrides
from crrg.config.references import DatasetRef
from crrg.domain.labels import LABELS
from crrg.domain.regions import REGIONS
from crrg.domain.study import DraftReport, Pair, RegionPrediction
from crrg.errors import ConfigError, GateNotMet
from crrg.operations.training import fast_gate
from crrg.operations.training.fast_gate import IDENTICAL, FastComparison, FastPass, check_fast, compare_drafts
from crrg.registry.bundle import read_bundle
from crrg.registry.composing import with_decoding, with_metrics
from crrg.storage import Storage
from tests.support.labelled_pair import labelled
from tests.support.stand_in_bundle import stand_in_bundle

SENTENCES = ("The left lung is clear.", "There is a right pleural effusion.", "The heart is enlarged.", "No fracture.")
DATASET = DatasetRef(name="d", version="v", manifest_key="", num_rows={})


def draft(*sentences: str) -> DraftReport:
    regions = tuple(
        RegionPrediction(name, (0, 0, 1, 1), True, 0.9, index < len(sentences), 0.1,
                         sentences[index] if index < len(sentences) else None, -0.1)
        for index, name in enumerate(REGIONS)
    )  # fmt: skip
    zeros = dict.fromkeys(LABELS, 0)
    return DraftReport(" ".join(sentences), "", regions, dict.fromkeys(LABELS, 0.1), zeros, 1.0)


def pair(findings: str | None) -> Pair:
    return labelled({"Pleural Effusion": 1}, findings or "")


EXACT = [draft(*SENTENCES)] * 6
REFERENCES = [pair(" ".join(SENTENCES))] * 6


def test_equal_drafts_pass_with_their_figures() -> None:
    found = compare_drafts(EXACT, list(EXACT), REFERENCES)
    assert found.failures == ()
    assert found.num_sentences == 24
    assert found.figures[IDENTICAL] == 1.0
    assert found.figures["fast/rgrg/bleu_4"] == found.figures["exact/rgrg/bleu_4"] > 0.9
    assert found.figures["fast/clinical/micro_f1"] > 0


def test_one_of_twenty_four_sentences_may_differ_and_two_may_not() -> None:
    one = draft(*SENTENCES[:3], "No fractures.")
    allowed = compare_drafts(EXACT, [*EXACT[:5], one], REFERENCES)
    assert allowed.figures[IDENTICAL] == pytest.approx(23 / 24)
    assert not any("sentences are the same" in reason for reason in allowed.failures)
    refused = compare_drafts(EXACT, [*EXACT[:4], one, one], REFERENCES)
    assert "91.7% of 24 sentences are the same, at least 95% are required" in refused.failures


def test_a_sentence_that_one_drafting_leaves_out_differs() -> None:
    found = compare_drafts(EXACT, [draft(*SENTENCES[:3])] * 6, REFERENCES)
    assert (found.num_sentences, found.figures[IDENTICAL]) == (24, 0.75)


def test_a_figure_more_than_half_a_percent_away_is_refused_either_way() -> None:
    films = [draft(*SENTENCES)] * 30
    known = [pair(" ".join(SENTENCES))] * 30
    worse = [*films[:29], draft("The left lung is clear.", "There is no effusion.", *SENTENCES[2:])]
    found = compare_drafts(films, worse, known)
    assert found.figures[IDENTICAL] > 0.99
    assert any(reason.startswith("rgrg/bleu_4 is 0.9") for reason in found.failures)
    better = compare_drafts(worse, films, known)
    assert any("within 0.5% of that is required" in reason for reason in better.failures)


def test_silence_passes_no_gate_and_films_without_reports_have_no_text_figure() -> None:
    assert compare_drafts([draft()], [draft()], [pair(None)]).failures[0].startswith("0.0% of 0 sentences")
    assert "fast/rgrg/bleu_4" not in compare_drafts(EXACT, EXACT, [pair(None)] * 6).figures


def test_reports_that_nobody_could_read_deny_nothing() -> None:
    unread = [labelled({}, "Pleuraerguss rechts.", "none")] * 6
    without, beside = (
        compare_drafts(EXACT, EXACT, REFERENCES),
        compare_drafts(EXACT * 2, EXACT * 2, REFERENCES + unread),
    )
    assert without.figures["exact/clinical/micro_f1"] == beside.figures["exact/clinical/micro_f1"]


def test_a_refusal_carries_the_figures_and_names_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage(str(tmp_path))
    bundle = read_bundle(storage, stand_in_bundle(storage))
    found = FastComparison(10, {IDENTICAL: 0.5})
    monkeypatch.setattr(fast_gate, "_compare", lambda *_: found)
    with pytest.raises(GateNotMet, match=r"50\.0% .*; assemble with decoding.precision = exact") as refused:
        check_fast(bundle, DATASET, "cpu", storage)
    assert refused.value.scorecard == {IDENTICAL: 0.5}
    monkeypatch.setattr(fast_gate, "_compare", lambda *_: pytest.fail("drafted again"))
    with pytest.raises(GateNotMet):
        check_fast(bundle, DATASET, "cpu", storage)


def test_each_kind_of_device_passes_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage(str(tmp_path))
    bundle = read_bundle(storage, stand_in_bundle(storage))
    key = f"models/fast/{bundle.bundle_id}/d-v-cuda.json"
    monkeypatch.setattr(fast_gate, "_compare", lambda *_: FastComparison(10, {IDENTICAL: 0.99}))
    assert check_fast(bundle, DATASET, "cpu", storage) == FastPass({IDENTICAL: 0.99}, ("cpu",))
    storage.put_json(key, {"num_sentences": 10, "figures": {IDENTICAL: 0.5}})
    assert check_fast(bundle, DATASET, "cpu", storage).kinds == ("cpu",)
    storage.put_json(key, {"num_sentences": 10, "figures": {IDENTICAL: 0.97}})
    assert check_fast(bundle, DATASET, "cpu", storage) == FastPass({IDENTICAL: 0.99}, ("cpu", "cuda"))


def test_the_search_is_part_of_the_bundle_and_so_are_the_figures(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    bundle = read_bundle(storage, stand_in_bundle(storage))
    changed = with_decoding(bundle, DecodingOverrides(rerank=True, num_beams=2))
    assert changed.bundle_id != bundle.bundle_id
    found = DecodingSettings.model_validate(changed.spec["decoding"])
    assert found == DecodingSettings().model_copy(update={"rerank": True, "num_beams": 2})
    assert with_decoding(bundle, DecodingOverrides()) is bundle
    with pytest.raises(ConfigError, match=r"decoding\.num_beams: .*less than or equal to 16"):
        with_decoding(bundle, DecodingOverrides(num_beams=99))
    measured = with_metrics(changed, "generator", {IDENTICAL: 0.97})
    assert "| generator | `01` | fast/identical_sentences | 0.97 |" in measured.files["model_card.md"].decode()
