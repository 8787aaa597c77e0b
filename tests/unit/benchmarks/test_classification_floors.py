"""The promises of ``make quality-classification``: which hold, which do not, and which are not judged."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from benchmarks import quality_classification
from benchmarks.classification.floors import partial, unmet

GOOD: dict[str, dict[str, Any]] = {
    "fused": {"fused": {"auc": 0.92, "ece": 0.05}},
    "ablation-real": {"zero_shot": {"auc": 0.80}},
    "ablation-generated": {"zero_shot": {"auc": 0.76}},
    "consistency": {"all_but_omitted": {"auc": 0.85}, "all": {"auc": 0.7}},
}


def run(found: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> int:
    class Bench:
        def __init__(self, _: object) -> None:
            pass

        def run(self, piece: str) -> dict[str, Any]:
            return found[piece]

    monkeypatch.setattr(quality_classification, "Bench", Bench)
    monkeypatch.setattr(sys, "argv", ["bench", "--root", "r", "--pieces", ",".join(found)])
    return quality_classification.main()


def test_figures_at_the_floors_end_well(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(GOOD, monkeypatch) == 0
    shown = capsys.readouterr()
    assert [json.loads(line) for line in shown.out.splitlines()] == [{name: row} for name, row in GOOD.items()]
    assert not shown.err


@pytest.mark.parametrize(
    ("piece", "found", "said"),
    [
        ("fused", {"fused": {"auc": 0.915, "ece": 0.036}}, "mean AUC over findings: 0.915, at least 0.92 is promised"),
        ("fused", {"fused": {"auc": 0.95, "ece": 0.06}}, "mean ECE: 0.060, at most 0.05 is promised"),
        ("ablation-generated", {"zero_shot": {"auc": 0.74}}, "cost: 0.060, less than 0.05 is promised"),
        ("consistency", {"all_but_omitted": {"auc": 0.84}}, "sides: 0.840, at least 0.85 is promised"),
        ("consistency", {"all_but_omitted": {"auc": float("nan")}}, "sides: nan, at least 0.85 is promised"),
    ],
)
def test_a_floor_that_is_missed_fails_and_is_named(
    piece: str,
    found: dict[str, Any],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run({**GOOD, piece: found}, monkeypatch) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("does not hold: ")
    assert line.endswith(said)


def test_a_piece_that_was_not_measured_is_partial_and_fails_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    some = {name: GOOD[name] for name in ("fused", "ablation-real")}
    assert unmet(some) == []
    assert len(partial(some)) == 2
    assert run(some, monkeypatch) == 0
    said = capsys.readouterr().err
    assert "partial: zero-shot AUC that drafts in the place of reports cost: ablation-generated not measured" in said
    assert "consistency not measured" in said
