from __future__ import annotations

import numpy as np
import pytest

from crrg.evaluation.bootstrap import (
    MIN_PATIENTS,
    Resampling,
    bootstrap_figures,
    bootstrap_interval,
    bootstrap_mean,
    bootstrap_sums,
    error_interval,
)
from crrg.evaluation.classification import expected_calibration_error
from crrg.evaluation.clinical import precision_from_counts


def test_the_interval_of_a_mean_is_that_of_theory() -> None:
    values = np.random.default_rng(0).normal(5.0, 2.0, size=400)
    patients = [str(i) for i in range(400)]
    low, high = bootstrap_mean(values, patients, num_samples=2000)
    half = 1.96 * values.std() / np.sqrt(400)
    assert low == pytest.approx(values.mean() - half, abs=0.03)
    assert high == pytest.approx(values.mean() + half, abs=0.03)


def test_patients_are_drawn_whole() -> None:
    # 8 patients, whose 50 films are alike: the interval is that of 8 values, not of 400
    values = np.repeat([0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0], 50)
    patients = np.repeat(list("abcdefgh"), 50).tolist()
    assert bootstrap_mean(values, patients) == (1 / 8, 7 / 8)
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
    assert np.isnan(bootstrap_interval(lambda rows: float("nan"), list("abcdef"))).all()
    assert bootstrap_mean(np.tile([1.0, np.nan], 6), list("aabbccddeeff")) == (1.0, 1.0)


def test_patients_without_a_value_make_no_interval() -> None:
    patients = [str(row) for row in range(30)]
    for num_known, has_interval in ((1, False), (MIN_PATIENTS - 1, False), (MIN_PATIENTS, True)):
        known = np.arange(30) < num_known
        values = np.where(known, 0.7, np.nan)

        def mean(rows: np.ndarray, values: np.ndarray = values) -> float:
            return float(np.nanmean(values[rows])) if np.isfinite(values[rows]).any() else float("nan")

        counts = np.stack([np.zeros(30), known, np.ones(30)], axis=1)
        intervals = [
            bootstrap_mean(values, patients),
            bootstrap_interval(mean, patients, known=known),
            bootstrap_figures(lambda rows, mean=mean: {"mean": mean(rows)}, patients, known=known)["mean"],
            Resampling(patients).weighted_interval(lambda times: np.full(len(times), 0.7), known),
            # a precision: everyone has findings, few are told any
            bootstrap_sums(counts, precision_from_counts, patients),
        ]
        assert np.isfinite(intervals).all(axis=1).tolist() == [has_interval] * 5
        assert not has_interval or intervals[0] == pytest.approx((0.7, 0.7))


def test_the_same_draws_by_hand_have_the_same_interval() -> None:
    values = np.random.default_rng(1).random(16)
    patients = [str(row // 2) for row in range(16)]
    found = bootstrap_figures(lambda rows: {"mean": float(values[rows].mean())}, patients)
    rng, of_patients = np.random.default_rng(0), values.reshape(8, 2).mean(axis=1)
    wanted = np.quantile([of_patients[rng.integers(8, size=8)].mean() for _ in range(200)], [0.025, 0.975])
    assert found["mean"] == pytest.approx(tuple(wanted))


def test_few_patients_have_no_interval_however_many_films_they_have() -> None:
    enough = [str(row % MIN_PATIENTS) for row in range(60)]
    few = [str(row % (MIN_PATIENTS - 1)) for row in range(60)]
    values = np.random.default_rng(0).random(60)

    def mean(rows: np.ndarray) -> float:
        return float(values[rows].mean())

    def tiled(times: np.ndarray) -> np.ndarray:
        return times @ values / times.sum(axis=1)

    for patients, are_few in ((enough, False), (few, True), (["a"] * 60, True)):
        intervals = [
            bootstrap_mean(values, patients),
            bootstrap_interval(mean, patients),
            bootstrap_figures(lambda rows: {"mean": mean(rows)}, patients)["mean"],
            Resampling(patients).weighted_interval(tiled, np.ones(60, dtype=bool)),
        ]
        assert np.isnan(intervals).all(axis=1).tolist() == [are_few] * 4


def test_the_interval_of_an_error_is_turned_over_its_value() -> None:
    assert error_interval(0.10, (0.11, 0.15)) == pytest.approx((0.05, 0.10))
    assert error_interval(0.10, (0.07, 0.12)) == pytest.approx((0.08, 0.13))
    assert error_interval(0.02, (0.02, 0.05)) == (0.0, 0.02)
    assert error_interval(0.10, (0.04, 0.09))[0] == 0.10
    assert np.isnan(error_interval(0.1, (float("nan"), float("nan")))).all()


def test_the_interval_of_a_calibration_error_holds_the_true_one() -> None:
    # what is said lies 0.06 from the truth on average, 20 films in each bin
    rng = np.random.default_rng(0)
    num_held = {"percentiles": 0, "turned over": 0}
    said = np.tile([0.25, 0.35, 0.45, 0.55, 0.65, 0.75], 20)
    for _ in range(60):
        happened = (rng.random(120) < 0.5 + (said - 0.5) * 0.6).astype(float)
        truth = float(np.abs((said - 0.5) * 0.4).mean())
        value = expected_calibration_error(said, happened)
        patients = [str(row) for row in range(120)]
        found = bootstrap_interval(
            lambda rows, y=happened: expected_calibration_error(said[rows], y[rows]), patients, num_samples=100
        )
        for name, (low, high) in {"percentiles": found, "turned over": error_interval(value, found)}.items():
            num_held[name] += low <= truth <= high
    assert num_held["turned over"] >= 50
    assert num_held["percentiles"] <= 40
