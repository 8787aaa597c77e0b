"""What a person reads at the end of a night, a training or an evaluation."""

from __future__ import annotations

from crrg.config.references import BundleRef, DatasetRef, EvaluationResult, NightPlan, NightSummary, StageResult
from crrg.config.running import NightlyConfig
from crrg.operations.summaries import evaluation_markdown, night_markdown, plan_markdown, stage_markdown


def test_a_night_that_found_only_young_inputs_says_why_they_wait_and_names_no_place() -> None:
    summary = NightSummary(date="2026-01-02", status="nothing_new", bundle_id="b" * 32, num_inputs=13, num_pending=13)
    text = night_markdown(summary)
    assert "| pending | 13 |" in text
    assert "settle_s" in text
    assert "``" not in text
    assert "Manifest" not in text
    assert "settle_s" not in night_markdown(summary.model_copy(update={"num_pending": 0}))
    assert "settle_s" not in night_markdown(summary.model_copy(update={"status": "stopped"}))


def test_a_committed_night_names_its_places_and_its_reasons() -> None:
    summary = NightSummary(
        date="2026-01-02", status="committed", bundle_id="b" * 32, num_inputs=2, num_accepted=1, num_quarantined=1,
        reasons={"DECODE.FAILED": 1}, manifest_key="results/m.json", review_key="results/r.html", digest="d" * 64,
    )  # fmt: skip
    text = night_markdown(summary)
    for place in ("results/m.json", "results/r.html", "d" * 64, "DECODE.FAILED"):
        assert place in text
    assert "settle_s" not in text


def test_figures_stand_beside_the_number_of_studies_that_they_are_of() -> None:
    result = EvaluationResult(
        bundle=BundleRef(bundle_id="b" * 32, prefix="models/bundles/b"),
        dataset=DatasetRef(name="chest", version="v1", manifest_key="m", num_rows={"test": 70}),
        split="test",
        metrics={"classification/mean_auc": 0.45},
        num_studies=5,
        scorecard_key="models/scorecards/s.json",
    )
    assert "on `chest` version `v1`, test: 5 studies." in evaluation_markdown(result)
    assert "studies" not in evaluation_markdown(result.model_copy(update={"num_studies": 0}))


def test_the_plan_of_a_night_says_where_its_inbox_is_empty() -> None:
    bundle = BundleRef(bundle_id="b" * 32, prefix="models/bundles/b")
    empty = NightPlan(
        date="2026-01-02", run_id="", inbox="s3://bucket/inbx", bundle=bundle, fencing=0, shards=(), num_new=0,
        num_done=0, status="nothing_new", config=NightlyConfig(inbox="s3://bucket/inbx"),
    )  # fmt: skip
    assert "The inbox is empty" in plan_markdown(empty)
    assert "The inbox is empty" not in plan_markdown(empty.model_copy(update={"num_done": 3}))
    assert "The inbox is empty" not in plan_markdown(empty.model_copy(update={"status": "held"}))


def test_a_finished_stage_says_what_it_reached() -> None:
    stage = StageResult(
        stage="clip", prefix="checkpoints/clip/c", sha256="5" * 64, config_hash="c", run_id="r", model_version="3",
        metrics={"classification/mean_auc": 0.5639}, duration_s=49.8,
    )  # fmt: skip
    page = stage_markdown(stage)
    assert page.startswith("# Training of the stage clip\n\n| stage |")
    assert "| clip | 3 | 50 s | r | `checkpoints/clip/c` |" in page
    assert page.endswith("| classification/mean_auc | 0.564 |")
    assert "validation" not in stage_markdown(stage.model_copy(update={"metrics": {}}))
