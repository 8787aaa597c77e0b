"""Where a training of the comparison of architectures ends, and which weights it leaves."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.generation_quality import budget
from benchmarks.generation_quality.budget import CpuClock, Limit, fit_within
from crrg.config.training import LoopConfig


class Line(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))


def fit_line(limit: Limit, **changes: Any) -> tuple[Line, budget.Effort, list[int]]:
    line, steps = Line(), []

    def make_batch(step: int) -> torch.Tensor:
        return torch.full((300, 300), float(step))

    def loss(batch: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        steps.append(int(batch[0, 0]))
        return (line.weight - (batch @ batch).mean()).abs(), {}

    loop = LoopConfig(learning_rate=0.1, warmup_share=0.0, schedule="constant", **changes)
    effort = fit_within(line, make_batch, loss, loop, limit, CpuClock())
    return line, effort, steps


def test_a_training_ends_with_its_steps_or_with_its_cpu_seconds() -> None:
    line, effort, steps = fit_line(Limit(num_steps=4))
    assert (effort.num_steps, effort.num_planned, steps) == (4, 4, [0, 1, 2, 3])
    assert not line.training
    line, effort, steps = fit_line(Limit(cpu_s=0.3))
    assert 0.1 < effort.cpu_s < 0.6
    assert effort.num_steps <= effort.num_planned
    assert len(steps) == budget.NUM_PROBED + effort.num_steps, "the steps of the estimate are undone and not counted"
    assert float(line.weight.detach()) == pytest.approx(0.1 * (effort.num_steps - 1), abs=0.11)


def test_averaged_weights_are_those_of_the_loop_where_a_training_ends_with_its_steps() -> None:
    here, _, _ = fit_line(Limit(num_steps=4), ema_decay=0.99)
    last, _, _ = fit_line(Limit(num_steps=4))
    plain = Line()

    def loss(batch: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return (plain.weight - (batch @ batch).mean()).abs(), {}

    loop = LoopConfig(learning_rate=0.1, warmup_share=0.0, schedule="constant", ema_decay=0.99, num_steps=4)
    budget._fit(plain, lambda step: torch.full((300, 300), float(step)), loss, loop)
    assert float(here.weight.detach()) == float(plain.weight.detach()) < float(last.weight.detach())


def test_averaged_weights_are_left_where_a_training_ends_with_its_cpu_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "_pace", lambda *_: 1e-6)
    line, effort, _ = fit_line(Limit(cpu_s=0.1), ema_decay=0.99, weight_decay=0.0)
    assert 1 <= effort.num_steps < effort.num_planned
    last = 0.1 * (effort.num_steps - 1)
    assert float(line.weight.detach()) < 0.95 * last, "the last weights alone would be there"


def test_a_budget_that_is_used_up_ends_the_training_before_its_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "_pace", lambda *_: 1e-6)
    _, effort, steps = fit_line(Limit(cpu_s=0.1))
    assert effort.num_planned > 10_000
    assert 1 <= effort.num_steps == len(steps) < effort.num_planned
    assert 0.1 <= effort.cpu_s < 0.5
