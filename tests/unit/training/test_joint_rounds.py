from __future__ import annotations

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
