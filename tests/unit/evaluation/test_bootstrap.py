from __future__ import annotations

import numpy as np
import pytest

from crrg.evaluation.bootstrap import bootstrap_interval, bootstrap_mean, bootstrap_sums


def test_the_interval_of_a_mean_is_that_of_theory() -> None:
    values = np.random.default_rng(0).normal(5.0, 2.0, size=400)
    patients = [str(i) for i in range(400)]
    low, high = bootstrap_mean(values, patients, num_samples=2000)
    half = 1.96 * values.std() / np.sqrt(400)
    assert low == pytest.approx(values.mean() - half, abs=0.03)
    assert high == pytest.approx(values.mean() + half, abs=0.03)


def test_patients_are_drawn_whole() -> None:
    # 4 patients, whose 100 films are alike: the interval is that of 4 values, not of 400
    values = np.repeat([0.0, 0.0, 1.0, 1.0], 100)
    patients = np.repeat(["a", "b", "c", "d"], 100).tolist()
    assert bootstrap_mean(values, patients) == (0.0, 1.0)
    low, high = bootstrap_mean(values, [str(i) for i in range(400)])
    assert 0.4 < low < high < 0.6


def test_both_ways_agree_and_a_seed_repeats() -> None:
    rng = np.random.default_rng(1)
    values = rng.random(60)
    patients = [str(i // 2) for i in range(60)]
    slow = bootstrap_interval(lambda rows: float(values[rows].mean()), patients, num_samples=2000, seed=5)
    fast = bootstrap_mean(values, patients, num_samples=2000, seed=6)
    assert slow == pytest.approx(fast, abs=0.02)
    assert slow == bootstrap_interval(lambda rows: float(values[rows].mean()), patients, num_samples=2000, seed=5)


def test_sums_are_combined() -> None:
    counts = np.array([[1.0, 2.0]] * 10)
    low, high = bootstrap_sums(counts, lambda total: float(total[0] / total[1]), [str(i) for i in range(10)])
    assert (low, high) == (0.5, 0.5)


def test_no_rows_and_no_values() -> None:
    assert np.isnan(bootstrap_mean(np.array([]), [])).all()
    assert np.isnan(bootstrap_interval(lambda rows: float("nan"), ["a"])).all()
    assert bootstrap_mean(np.array([1.0, np.nan]), ["a", "a"]) == (1.0, 1.0)
