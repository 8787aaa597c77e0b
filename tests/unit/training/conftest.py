"""What the tests of trainings share."""

from __future__ import annotations

import pytest

from crrg.training import state_timer


@pytest.fixture(autouse=True)
def _states_as_often_as_the_loop_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a tiny ``checkpoint_every_s`` mean a state after each step, however long one takes on this disk."""
    monkeypatch.setattr(state_timer, "TIMES_APART", 0.0)
