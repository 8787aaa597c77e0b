from __future__ import annotations

import pytest

from crrg.errors import TrainingError
from crrg.training.joint_quality import check_quality
from crrg.training.joint_rounds import improve_until_still


def test_rounds_end_where_nothing_is_gained_and_go_on_from_the_best() -> None:
    scores = {0: 0.5, 1: 0.6, 2: 0.55, 3: 0.9}
    asked: list[tuple[int, int]] = []

    def improve(state: int, number: int) -> int:
        asked.append((state, number))
        return number

    rounds = improve_until_still(0, scores.__getitem__, improve, max_rounds=3)
    assert [found.score for found in rounds] == [0.5, 0.6, 0.55]
    assert asked == [(0, 1), (1, 2)]


def test_collapsed_or_silent_drafts_are_refused() -> None:
    check_quality({str(i): f"report {i % 4}" for i in range(200)})
    check_quality({"0": "", "1": "normal"})
    with pytest.raises(TrainingError, match="differ"):
        check_quality({str(i): f"report {i % 3}" for i in range(200)})
    with pytest.raises(TrainingError, match="say anything"):
        check_quality({str(i): "" if i < 101 else f"report {i}" for i in range(200)})
