"""What the measurement on a GPU gives both sides, and what it says of memory."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from benchmarks import gpu_speed
from benchmarks.generation.models import LONGEST, MEDIAN, SHORTEST, draw_inputs
from benchmarks.generation.published import ModelSizes
from benchmarks.gpu_speed import GIB, Clock, Drafting, both_sides, drawn_lengths, weights_gib


def test_lengths_are_drawn_as_in_the_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OurEncoder", "PublishedEncoder", "_films"):
        monkeypatch.setattr(f"benchmarks.generation.models.{name}", lambda *_: None)
    lengths = drawn_lengths(32, LONGEST)
    assert lengths.tolist() == draw_inputs().lengths
    assert abs(int(lengths.median()) - MEDIAN) <= 1
    assert SHORTEST <= int(lengths.min()) < int(lengths.max()) <= LONGEST
    assert int(drawn_lengths(32, 10).max()) == 10


def test_weights_that_are_shared_count_once() -> None:
    first, second = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
    second.weight = first.weight
    assert weights_gib([first, second]) * GIB == 8 * 8 * 4


def test_both_sides_favour_small_anchors_as_the_protocol_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_speed, "_select_a_third", lambda *_: None)
    published, ours = both_sides(ModelSizes())
    bias = ours.detector.rpn.head.cls_logits.bias.detach()
    assert torch.equal(bias, published.object_detector.rpn.head.cls_logits.bias)
    sides = published.object_detector.rpn.anchor_generator.cell_anchors[0]
    areas = (sides[:, 2] - sides[:, 0]) * (sides[:, 3] - sides[:, 1])
    assert float(bias[areas.argmin()] - bias[areas.argmax()]) > 0.5


def test_ours_decodes_with_the_slots_of_its_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, str, list[int]]] = []

    def decode(_generator: object, _words: object, _rows: object, *given: object, num_words: list[int]) -> list[object]:
        settings: object = given[2]
        asked.append((settings.num_slots, settings.precision, num_words))  # type: ignore[attr-defined]
        return [[SimpleNamespace(text="w")] for _ in num_words]

    monkeypatch.setattr(gpu_speed, "_select_a_third", lambda *_: None)
    monkeypatch.setattr(gpu_speed, "decode_hypotheses", decode)
    monkeypatch.setattr(gpu_speed, "SELECTION_LOGIT", -100.0)
    drafting = Drafting(Clock(torch.device("cpu"), until=float("inf")), ModelSizes(), 1, 5)
    monkeypatch.setattr(Clock, "take", lambda _clock, _name, _number, work, _repeats=1: work())
    drafting.measure_ours([1])
    assert {slots for slots, _, _ in asked} == {drafting.ours.decoding.num_slots}
    assert [precision for _, precision, _ in asked] == ["exact", "exact", "fast", "fast"]
    assert all(set(equal) == {5} for _, _, equal in asked[::2])
    assert all(len(set(drawn)) > 1 for _, _, drawn in asked[1::2])
