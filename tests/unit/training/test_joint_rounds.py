from __future__ import annotations

import pytest

from crrg.errors import NonFiniteLoss, PoorDrafts, TrainingError
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


@pytest.mark.parametrize("failure", [PoorDrafts, NonFiniteLoss])
def test_a_round_that_leads_nowhere_is_the_last_and_the_best_before_it_is_kept(failure: type[TrainingError]) -> None:
    def improve(state: int, number: int) -> int:
        if number == 2:
            raise failure("the generator has collapsed", "joint")
        return number

    rounds = improve_until_still(0, lambda state: 0.5 + state / 10, improve, max_rounds=5)
    assert [found.number for found in rounds] == [0, 1]

    def leak(state: int, number: int) -> int:
        raise TrainingError("a draft belongs to a held-out patient", "joint")

    with pytest.raises(TrainingError, match="held-out"):
        improve_until_still(0, float, leak, max_rounds=5)
