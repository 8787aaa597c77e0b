"""Intervals by resampling patients, since films of one patient are not independent.

Knows no figure itself: it is given a statistic over rows, or per-row sums and how to combine them.

Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993 (percentile interval, cluster resampling); Davison
and Hinkley, Bootstrap Methods and their Application, 1997 (basic interval).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
"""Share of samples inside an interval."""
MIN_PATIENTS = 6
"""A figure made of fewer has no interval: not even the span of their values would hold the median of all patients as
often as ``LEVEL`` promises (of five, 1 - 2 / 2 ** 5 = 0.94), and that of one patient would have no width at all."""
_SAMPLES_AT_ONCE = 50
"""Samples whose rows are weighed together, which bounds memory."""


@dataclass(frozen=True)
class Statistic:
    """A figure made of sums over rows, so that any part of the rows and any sample of patients has it at once.

    Attributes:
        counts: What each row adds ``[B, K]``.
        combine: The figure from summed counts ``[K]``; NaN where they have none. Such samples do not count.
        empty: The value of rows that have none, where a figure is published as a number nevertheless.
    """

    counts: NDArray[np.float64]
    combine: Callable[[NDArray[np.float64]], float]
    empty: float = float("nan")

    def value(self, rows: NDArray[np.int64] | None = None) -> float:
        """Return the figure of all rows, or of those given by number ``[n]``."""
        counts = self.counts if rows is None else self.counts[rows]
        value = self.combine(counts.sum(axis=0))
        return self.empty if math.isnan(value) else value

    def interval(
        self,
        patient_ids: Sequence[str],
        rows: NDArray[np.int64] | None = None,
        *,
        num_samples: int = 500,
        seed: int = 0,
    ) -> tuple[float, float]:
        """Return the percentile interval over patients, of all rows or of those given ``[n]`` (``bootstrap_sums``)."""
        chosen = np.arange(len(self.counts)) if rows is None else rows
        patients = [patient_ids[row] for row in chosen]
        return bootstrap_sums(self.counts[chosen], self.combine, patients, num_samples=num_samples, seed=seed)


class Resampling:
    """Samples of patients, drawn once, on which any number of figures get their intervals."""

    def __init__(self, patient_ids: Sequence[str], *, num_samples: int = 500, seed: int = 0) -> None:
        """Draw the samples.

        Args:
            patient_ids: Patient of each row; patients are drawn with replacement, each with all its rows.
            num_samples: Number of samples.
            seed: Same seed, same samples.
        """
        numbers = {patient_id: number for number, patient_id in enumerate(dict.fromkeys(patient_ids))}
        self._patients = np.array([numbers[patient_id] for patient_id in patient_ids], dtype=np.int64)
        num = len(numbers)
        rng = np.random.default_rng(seed)
        is_enough = num >= MIN_PATIENTS
        self._times = rng.multinomial(num, np.full(num, 1 / num), size=num_samples) if is_enough else None

    def interval(self, statistic: Statistic) -> tuple[float, float]:
        """Return the percentile interval of a figure of all rows; NaN where too few patients alone have a value."""
        if self._times is None:
            return float("nan"), float("nan")
        per_patient = np.zeros((self._times.shape[1], statistic.counts.shape[1]))
        np.add.at(per_patient, self._patients, statistic.counts)
        own = (sums for sums in per_patient if sums.any() and not math.isnan(statistic.combine(sums)))
        if len(list(islice(own, MIN_PATIENTS))) < MIN_PATIENTS:
            return float("nan"), float("nan")
        return _percentiles(np.array([statistic.combine(total) for total in self._times @ per_patient]))

    def weighted_interval(
        self, figure: Callable[[NDArray[np.float64]], NDArray[np.float64]], known: NDArray[np.bool_]
    ) -> tuple[float, float]:
        """Return the percentile interval of a figure that is no sum.

        Args:
            figure: Values ``[S]`` of samples, given how often each row is in them ``[S, B]``.
            known: Which rows ``[B]``, or entries of rows ``[B, K]``, the figure is made of.

        Returns:
            Low and high end; NaN where too few patients have such a row.
        """
        if self._times is None or len(np.unique(self._patients[np.nonzero(known)[0]])) < MIN_PATIENTS:
            return float("nan"), float("nan")
        parts = np.array_split(self._times.astype(float), -(-len(self._times) // _SAMPLES_AT_ONCE))
        return _percentiles(np.concatenate([figure(part[:, self._patients]) for part in parts]))


def mean_statistic(values: NDArray[np.float64]) -> Statistic:
    """Return the mean of row values ``[B]`` as a statistic; NaN values are left out."""
    known = ~np.isnan(values)
    return Statistic(np.stack([np.where(known, values, 0.0), known.astype(float)], axis=1), ratio)


def bootstrap_interval(
    statistic: Callable[[NDArray[np.int64]], float],
    patient_ids: Sequence[str],
    *,
    known: NDArray[np.bool_] | None = None,
    num_samples: int = 500,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the percentile interval of any statistic.

    Args:
        statistic: Value of a sample, given the row numbers ``[B']`` in it (with repeats).
        patient_ids: Patient of each row; patients are drawn with replacement, each with all its rows.
        known: Which rows ``[B]``, or entries of rows ``[B, K]``, the statistic is made of; all by default.
        num_samples: Number of samples.
        seed: Same seed, same interval.

    Returns:
        Low and high end; NaN where fewer than ``MIN_PATIENTS`` patients have a known row or no sample has a value.
    """
    if not _is_enough(patient_ids, known):
        return float("nan"), float("nan")
    rows = _rows_by_patient(patient_ids)
    rng = np.random.default_rng(seed)
    values = np.empty(num_samples)
    for i in range(num_samples):
        drawn = rng.integers(len(rows), size=len(rows))
        values[i] = statistic(np.concatenate([rows[j] for j in drawn]))
    return _percentiles(values)


def bootstrap_figures(
    statistics: Callable[[NDArray[np.int64]], dict[str, float]],
    patient_ids: Sequence[str],
    *,
    known: NDArray[np.bool_] | None = None,
    num_samples: int = 200,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Return the percentile intervals of several figures of the same samples.

    Args:
        statistics: Values of a sample by name, given the row numbers ``[B']`` in it; always the same names.
        patient_ids: Patient of each row.
        known: Which rows ``[B]``, or entries of rows ``[B, K]``, the figures are made of; all by default.
        num_samples: Number of samples.
        seed: Same seed, same intervals.

    Returns:
        Low and high end by name; NaN where fewer than ``MIN_PATIENTS`` patients have a known row.
    """
    if not _is_enough(patient_ids, known):
        return dict.fromkeys(statistics(np.arange(len(patient_ids))), (float("nan"), float("nan")))
    rows = _rows_by_patient(patient_ids)
    rng = np.random.default_rng(seed)
    draws = [rng.integers(len(rows), size=len(rows)) for _ in range(num_samples)]
    samples = [statistics(np.concatenate([rows[j] for j in drawn])) for drawn in draws]
    return {name: _percentiles(np.array([sample[name] for sample in samples])) for name in samples[0]}


def bootstrap_sums(
    counts: NDArray[np.float64],
    combine: Callable[[NDArray[np.float64]], float],
    patient_ids: Sequence[str],
    *,
    num_samples: int = 500,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the percentile interval of a figure made of sums, much faster than ``bootstrap_interval``.

    Args:
        counts: What each row adds ``[B, K]``, e.g. ``text.bleu_counts`` or ``clinical.micro_f1_counts``.
        combine: The figure from summed counts ``[K]``.
        patient_ids: Patient of each row.
        num_samples: Number of samples.
        seed: Same seed, same interval.

    Returns:
        Low and high end; NaN where fewer than ``MIN_PATIENTS`` patients have a value of their own.
    """
    samples = Resampling(patient_ids, num_samples=num_samples, seed=seed)
    return samples.interval(Statistic(counts, combine))


def bootstrap_mean(
    values: NDArray[np.float64], patient_ids: Sequence[str], *, num_samples: int = 500, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % interval of the mean of row values ``[B]``; NaN values are left out."""
    return mean_statistic(values).interval(patient_ids, num_samples=num_samples, seed=seed)


def error_interval(value: float, percentiles: tuple[float, float]) -> tuple[float, float]:
    """Return the interval of a mean of gaps, such as a calibration error, which any sample makes larger.

    Chance alone opens gaps, so the value itself is too high, and resampled rows, which repeat themselves, lie higher
    still: percentiles of them are raised twice over. How far they lie from the value tells how far the value lies from
    the truth, so they are turned over it (the basic interval). It ends at 0 below and holds its value.

    Args:
        value: Of all rows, at least 0.
        percentiles: Percentile interval of the same figure.

    Returns:
        Low and high end; NaN where ``percentiles`` are.
    """
    low, high = percentiles
    if math.isnan(low) or math.isnan(high):
        return low, high
    return min(max(2 * value - high, 0.0), value), max(2 * value - low, value)


def ratio(counts: NDArray[np.float64]) -> float:
    """Return the first of two sums ``[2]`` over the second; NaN where that is 0."""
    return float(counts[0] / counts[1]) if counts[1] else float("nan")


def _is_enough(patient_ids: Sequence[str], known: NDArray[np.bool_] | None) -> bool:
    counted = patient_ids if known is None else [patient_ids[row] for row in np.nonzero(known)[0].tolist()]
    return len(set(counted)) >= MIN_PATIENTS


def _rows_by_patient(patient_ids: Sequence[str]) -> list[NDArray[np.int64]]:
    rows: dict[str, list[int]] = {}
    for i, patient_id in enumerate(patient_ids):
        rows.setdefault(patient_id, []).append(i)
    return [np.array(numbers, dtype=np.int64) for numbers in rows.values()]


def _percentiles(values: NDArray[np.float64]) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    if not known.size:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
