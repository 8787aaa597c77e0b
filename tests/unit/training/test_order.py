"""Rows of a step: every row once per pass, and rare labels as often as common ones where asked for."""

from __future__ import annotations

import numpy as np

from crrg.training.order import balanced_rows_of_step, rows_of_step

RARE, COMMON = 3, np.arange(50, 100)
LABELS = np.zeros((100, 3), dtype=np.float32)
LABELS[RARE, 0] = 1
LABELS[COMMON, 1] = 1
LABELS[:, 2] = np.nan


def test_every_row_comes_once_before_any_comes_again() -> None:
    rows = np.concatenate([rows_of_step(10, 4, 0, step) for step in range(5)])
    assert sorted(rows[:10].tolist()) == list(range(10))
    assert sorted(rows[10:].tolist()) == list(range(10))


def test_without_a_share_the_order_stays() -> None:
    assert np.array_equal(balanced_rows_of_step(LABELS, 16, 0.0, 7, 3), rows_of_step(100, 16, 7, 3))


def test_rare_labels_come_as_often_as_common_ones() -> None:
    rows = np.concatenate([balanced_rows_of_step(LABELS, 16, 1.0, 0, step) for step in range(100)])
    share_rare, share_common = np.mean(rows == RARE), np.mean(np.isin(rows, COMMON))
    assert 0.45 < share_rare < 0.55
    assert abs(share_rare + share_common - 1) < 1e-9


def test_a_step_is_a_function_of_seed_and_number() -> None:
    first, again = (balanced_rows_of_step(LABELS, 16, 0.5, 0, 9) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, balanced_rows_of_step(LABELS, 16, 0.5, 1, 9))


def test_labels_that_no_row_has_leave_the_order() -> None:
    nothing = np.zeros((100, 3), dtype=np.float32)
    assert np.array_equal(balanced_rows_of_step(nothing, 16, 1.0, 0, 2), rows_of_step(100, 16, 0, 2))
