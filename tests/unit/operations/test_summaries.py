"""What a person reads at the end of a night."""

from __future__ import annotations

from crrg.config.references import NightSummary
from crrg.operations.summaries import night_markdown


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
