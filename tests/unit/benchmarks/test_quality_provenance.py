"""What rows of ``make quality-generation`` are made by, and what is shown of runs beside figures with intervals."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks import quality_generation
from benchmarks.generation_quality import architectures, cohort, contest_report, provenance
from benchmarks.generation_quality.cohort import Cohort
from benchmarks.generation_quality.contest_report import contest_tables
from benchmarks.generation_quality.contest_scores import further_figures, score_baselines
from benchmarks.generation_quality.jury import Jury
from benchmarks.generation_quality.report import markdown
from crrg.config.presets import preset_training
from crrg.domain.regions import NUM_REGIONS, REGIONS
from crrg.domain.report import Report
from crrg.storage import Storage


def iou_sums(first: float) -> dict[str, Any]:
    """Return two films that show the first two regions."""
    hits = [first, 0.5] + [0.0] * (NUM_REGIONS - 2)
    return {"iou": [[*hits, *[1.0, 1.0], *[0.0] * (NUM_REGIONS - 2)]] * 2}


def test_what_a_run_says_besides_figures_with_intervals() -> None:
    found = further_figures({"sums": iou_sums(0.25), "text": {"nltk/meteor": 0.5}, "sentences": {"distinct_2": 0.1}})
    assert (found["nltk/meteor"], found["distinct_2"]) == (0.5, 0.1)
    assert (found[f"IoU of {REGIONS[0]}"], found[f"IoU of {REGIONS[1]}"]) == (0.25, 0.5)
    assert np.isnan(found[f"IoU of {REGIONS[2]}"])


def run(iou: float, meteor: float) -> dict[str, Any]:
    return {"sums": iou_sums(iou), "text": {"nltk/meteor": meteor}, "sentences": {"words_per_sentence": 10 * meteor}}


def test_regions_and_three_protocols_are_shown_of_every_run(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"a/0": run(0.25, 0.5), "a/1": run(0.75, 0.7), "b/0": run(0.5, 0.2)}
    jury = Jury.__new__(Jury)
    jury.arena = SimpleNamespace(table=SimpleNamespace(rows=rows))
    jury.pairs = [SimpleNamespace(report=Report(findings="One two. Three."))]
    monkeypatch.setattr(Jury, "_scored", lambda _, key: key)
    further = jury._further({"crrg": ["a/0", "a/1"], "paper": ["b/0"]}, {"always normal": run(0.125, 0.1)})
    texts, regions = contest_report._further(further)
    assert "| figure | crrg | paper | always normal | references |" in texts
    assert "| nltk/meteor | 0.600 (0.500 0.700) | 0.200 | 0.100 |  |" in texts
    assert "| words_per_sentence | 6.000 (5.000 7.000) | 2.000 | 1.000 | 1.500 |" in texts
    assert "| figure | crrg | paper | mean box |" in regions
    assert f"| IoU of {REGIONS[0]} | 0.500 (0.250 0.750) | 0.500 | 0.125 |" in regions


def test_a_comparison_on_another_processor_is_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    here = provenance.training_within_budget()
    sizes = {"sizes": {}, "budget_s": 1.0, "preset": "tiny", "device": "cpu", "made_by": here}
    assert "preset: tiny. All trained and scored on: cpu." in contest_tables({"architectures/ab/sizes": sizes})[0]
    monkeypatch.setattr(provenance, "processor", lambda: "another")
    there = provenance.training_within_budget()
    assert there != here
    assert contest_tables({"architectures/ab/sizes": sizes}) == []
    monkeypatch.setattr(provenance.selector, "CODE_VERSION", "learns otherwise")
    assert provenance.training_within_budget()["selector"] != here["selector"]
    assert architectures.training_within_budget is provenance.training_within_budget


def test_rows_of_other_code_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    drafts, scores = provenance.drafting_code(), provenance.scoring_code()
    names = [f"drawn/b/1/2/{scores}", f"lungs/drawn-only/b/{drafts}", f"lungs/drawn-only/b/{drafts}/summary"]
    assert all(provenance.is_scored_by_this(name) for name in [*names, "lungs/code-4/1/0/fold0", "architectures/ab"])
    assert not any(map(provenance.is_scored_by_this, ("drawn/b/1/2", "openi/b/1/2/0123abcd", "lungs/drawn-only/b")))
    monkeypatch.setattr(provenance, "scoring_code", lambda: "other")
    assert not provenance.is_scored_by_this(names[0])
    assert markdown({names[0]: {}}).strip() == ""


def test_a_preset_is_told_by_the_sizes_of_its_detector() -> None:
    for preset in ("tiny", "small", "base"):
        assert provenance.preset_of(preset_training(preset).detector.architecture) == preset
    other = preset_training("tiny").detector.architecture.model_copy(update={"input_size": 96})
    assert provenance.preset_of(other) == "none of the present ones (96 px)"


def end_here(*_: object) -> None:
    raise LookupError


def test_drafts_and_films_of_other_code_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, drafted = [], []
    monkeypatch.setattr(cohort, "draw_cohort", lambda _storage, name, *_: drawn.append(name))
    monkeypatch.setattr(cohort, "resolve_dataset", lambda _storage, name, _version: SimpleNamespace(name=name))
    monkeypatch.setattr(cohort, "sampled_films", lambda *_: [])
    monkeypatch.setattr(cohort, "Table", lambda file: drafted.append(file.name) or SimpleNamespace(rows={}))
    monkeypatch.setattr(cohort, "fit_baselines", end_here)
    weights = SimpleNamespace(parameters=lambda: iter([SimpleNamespace(device=SimpleNamespace(type="cuda"))]))
    pipeline = SimpleNamespace(detector=weights, bundle_id="b" * 64)
    for change in ("", "drawing_code", "drafting_code"):
        if change:
            monkeypatch.setattr(cohort, change, lambda: "other")
        with pytest.raises(LookupError):
            cohort.measure_cohort(pipeline, Storage(str(tmp_path)), Cohort("few", False, 3, 7), tmp_path)
    assert drawn[0] == f"few-7-3-{provenance.drawing_code()}"
    assert drawn[1] == drawn[2] == "few-7-3-other"
    assert len(set(drafted)) == 3
    assert all(name.endswith("-cuda.json") for name in drafted)


def test_baselines_have_all_that_a_run_has(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = "benchmarks.generation_quality.contest_scores."
    monkeypatch.setattr(f"{scores}region_arrays", lambda _: SimpleNamespace(sizes=None))
    monkeypatch.setattr(f"{scores}mean_box_candidates", lambda *_: None)
    monkeypatch.setattr(f"{scores}baseline_texts", lambda *_: {"drafts": ["No."], "always normal": ["A b. C."]})
    monkeypatch.setattr(f"{scores}baseline_reports", lambda *_: {"always normal": ["A b. C."]})
    monkeypatch.setattr(f"{scores}text_figures", lambda _, texts: {name: {"rgrg/bleu_1": 1.0} for name in texts})
    monkeypatch.setattr(f"{scores}film_sums", lambda *_: iou_sums(0.5))
    known = SimpleNamespace(mean_boxes=None, usual_regions=np.zeros(NUM_REGIONS, dtype=bool))
    found = score_baselines([None], known)
    assert list(found) == ["always normal"]
    assert found["always normal"]["sentences"]["words_per_sentence"] == 1.5
    assert {"sums", "text", "sentences"} == set(found["always normal"])


def test_the_report_says_how_to_draft_with_the_bundle(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "models/bundles/abc").mkdir(parents=True)
    (root / "models/bundles/abc/bundle.json").write_text("{}")
    options = argparse.Namespace(root=str(root), bundle="abc", folder=None, minutes=1.0, device="cpu")
    bench = quality_generation.Bench(options)
    root = bench.storage.root
    assert bench.how_to_draft().endswith(f"--root {root} --model {root}/models/bundles/abc` drafts with it.")
    assert bench.device.type == "cpu"
