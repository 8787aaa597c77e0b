"""How often states are written: by the interval, and less often where one takes long."""

from __future__ import annotations

import pytest

from crrg.training import state_timer
from crrg.training.state_timer import TIMES_APART, StateTimer


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize(("took_s", "wanted_s"), [(0.5, 60.0), (3.0, 60.0), (20.0, 400.0)])
def test_a_state_comes_after_the_interval_or_twenty_times_what_the_last_one_took(
    monkeypatch: pytest.MonkeyPatch, took_s: float, wanted_s: float
) -> None:
    monkeypatch.setattr(state_timer, "TIMES_APART", TIMES_APART)  # other tests go without
    clock = Clock()
    timer = StateTimer(60.0, clock)
    clock.now_s += 60.0
    assert not timer.is_due
    clock.now_s += 0.1
    assert timer.is_due
    with timer.saving():
        clock.now_s += took_s
    clock.now_s += wanted_s
    assert not timer.is_due
    clock.now_s += 0.1
    assert timer.is_due
