"""Is a night like what its models were trained on? One population stability index per quantity, and whether it counts.

Two samples of one population differ, small ones much. An index counts where it reaches the warning *and* what chance
reaches too rarely: both samples are drawn again, many times, from the reference at their own numbers of patients. All
quantities share one allowance of false alarms (Bonferroni), so that a night of the training population raises any flag
in at most ``false_alarm_rate`` of all cases, whatever its size. A patient's films are alike, so patients are counted.
Makers of devices are many, most of them rare: what neither side has does not count, and the limit allows for what the
reference lacks by chance.

Source: Yurdakul and Naranjo, Statistical properties of the population stability index, J. Risk Model Validation 2020.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from crrg.config.watch import DriftFinding, WatchSettings
from crrg.monitoring.quantities import ALIKE, CHOICES, MAKER, POSITIVE, Values
from crrg.monitoring.reference import Histogram, Reference, repeats

PRIOR = 0.5
"""Added to every bin, so that an empty one gives a finite index."""
NUM_DRAWS = 20_000
MIN_TAIL = 4
"""Draws that must lie above a limit; more are drawn where the allowance is smaller."""
DRAWS_AT_ONCE = 2000
DECIMALS = 4
Counts = NDArray[Any]


def compare(
    reference: Reference, films: Values, drafts: Values, texts: Sequence[str], patients: tuple[int, int, int],
    settings: WatchSettings,
) -> tuple[DriftFinding, ...]:  # fmt: skip
    """Return every quantity of a night beside its reference, the most different first.

    Left out is what the reference does not know, and the maker where it is known of too few of the night's patients.

    Args:
        reference: Of the bundle.
        films: Quantities of the night's films.
        drafts: Quantities of its drafts.
        texts: Its drafts.
        patients: Patients behind films, behind drafts, and behind films of a known maker.
        settings: Thresholds and allowance.
    """
    level = settings.false_alarm_rate / (len(reference.histograms) + 1)
    sides = (("film/", films, reference.num_film_patients, patients[0]),
             ("draft/", drafts, reference.num_draft_patients, patients[1]),
             ("device/", films if patients[2] >= settings.min_patients else {},
              reference.num_device_patients, patients[2]))  # fmt: skip
    findings = [
        _compare_histogram(name, reference.histograms[name], found, (num_reference, num_night), level, settings)
        for prefix, values, num_reference, num_night in sides
        for name, found in values.items()
        if name.startswith(prefix) and name in reference.histograms and len(found)
    ]
    if texts and reference.num_drafts:
        numbers = (reference.num_draft_patients, patients[1])
        findings.append(_compare_repeats(reference, texts, numbers, level, settings))
    return tuple(sorted(findings, key=lambda each: (-_rank(each.level), -each.psi, each.quantity)))


def psi(reference: Counts, night: Counts) -> NDArray[np.float64]:
    """Return the population stability index of counts ``[..., K]``."""
    shares = [_smoothed(counts) for counts in (reference, night)]
    return np.asarray(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum(axis=-1), dtype=np.float64)


def chance_limit(counts: Counts, numbers: tuple[int, int], level: float) -> float:
    """Return the index that two samples of one population exceed with a probability of at most ``level``.

    Args:
        counts: Histogram of the population ``[K]``.
        numbers: Sizes of the samples.
        level: Probability, above 0.
    """
    shares, num_draws = _smoothed(counts), _num_draws(level)
    rng = np.random.default_rng(0)
    drawn = psi(*(rng.multinomial(number, shares, num_draws) for number in numbers))
    return _upper(drawn, level)


def sparse_psi(reference: Counts, night: Counts) -> NDArray[np.float64]:
    """Return the index of a choice of many, most of which never occur: what neither has ``[..., K]`` does not count."""
    occurs = reference + night > 0
    raised = [(counts + PRIOR) * occurs for counts in (reference, night)]
    shares = [counts / counts.sum(axis=-1, keepdims=True) for counts in raised]
    ratio = np.where(occurs, shares[1], 1.0) / np.where(occurs, shares[0], 1.0)
    return np.asarray(((shares[1] - shares[0]) * np.log(ratio)).sum(axis=-1), dtype=np.float64)


def predicted_limit(counts: Counts, number: int, level: float) -> float:
    """Return the ``sparse_psi`` that a night exceeds with a probability of at most ``level``, given its reference.

    A small reference says little of what is rare: a maker that it lacks may still be one of its population. So the
    population of each drawn night is drawn first, from all that may have given this reference.

    Args:
        counts: Histogram of the reference ``[K]``.
        number: Size of the night.
        level: Probability, above 0.
    """
    rng, num_draws = np.random.default_rng(0), _num_draws(level)
    nights = rng.multinomial(number, rng.dirichlet(counts + PRIOR, num_draws))
    return _upper(sparse_psi(counts, nights), level)


def _compare_histogram(
    name: str, histogram: Histogram, values: NDArray[np.float64], numbers: tuple[int, int], level: float,
    settings: WatchSettings,
) -> DriftFinding:  # fmt: skip
    found = histogram.count(values)
    # a reference may be older than the last names of a list
    expected = np.pad(histogram.counts, (0, len(found) - len(histogram.counts)))
    # counts of films as if each patient had one, which is what chance is reckoned for
    samples = [counts * (number / counts.sum()) for counts, number in zip((expected, found), numbers, strict=True)]
    index, is_choice = float((sparse_psi if name == MAKER else psi)(*samples)), name in CHOICES
    steps = np.cumsum(found / found.sum()) - np.cumsum(expected / expected.sum())
    limit = 0.0
    if index >= settings.warn_psi:
        is_maker = name == MAKER
        limit = predicted_limit(samples[0], numbers[1], level) if is_maker else chance_limit(expected, numbers, level)
    # of a label never the negative drafts, whose share rises where that of the positive ones falls
    told = POSITIVE if name.startswith("draft/label/") else int(expected.argmax())
    return DriftFinding(
        quantity=name,
        psi=round(index, DECIMALS),
        ks=0.0 if is_choice else round(float(np.abs(steps).max()), DECIMALS),
        limit=round(limit, DECIMALS),
        level=_level(index, limit, settings),
        reference=round(float(expected[told] / expected.sum()) if is_choice else histogram.mean, DECIMALS),
        night=round(float((values == told).mean() if is_choice else values.mean()), DECIMALS),
        choice=CHOICES[name][told] if is_choice else "",
    )


def _compare_repeats(
    reference: Reference, texts: Sequence[str], numbers: tuple[int, int], level: float, settings: WatchSettings
) -> DriftFinding:
    """Compare how often the most frequent text occurs; that it occurs less often than expected is no finding."""
    expected = max(reference.repeats, default=1) / reference.num_drafts
    found = max(repeats(texts), default=1) / len(texts)
    index = float(psi(*(_split(share, number) for share, number in zip((expected, found), numbers, strict=True))))
    index = index if found > expected else 0.0
    limit = _repeats_limit(reference, numbers, level) if index >= settings.warn_psi else 0.0
    return DriftFinding(
        quantity=ALIKE,
        psi=round(index, DECIMALS),
        ks=0.0,
        limit=round(limit, DECIMALS),
        level=_level(index, limit, settings),
        reference=round(expected, DECIMALS),
        night=round(found, DECIMALS),
    )


def _repeats_limit(reference: Reference, numbers: tuple[int, int], level: float) -> float:
    """Return the index that the most frequent text of two samples exceeds with a probability of at most ``level``."""
    num_single = reference.num_drafts - sum(reference.repeats)
    shares = np.array([*reference.repeats, num_single], dtype=np.float64) / reference.num_drafts
    rng, drawn = np.random.default_rng(0), []
    for _ in range(math.ceil(_num_draws(level) / DRAWS_AT_ONCE)):
        # what occurs once stays out of the maximum, but a sample always has a text that occurs once
        tops = [
            np.maximum(rng.multinomial(number, shares, DRAWS_AT_ONCE)[:, :-1].max(axis=1, initial=1), 1) / number
            for number in numbers
        ]
        index = psi(*(_split(top, number) for top, number in zip(tops, numbers, strict=True)))
        drawn.append(np.where(tops[1] > tops[0], index, 0.0))
    return _upper(np.concatenate(drawn), level)


def _split(share: float | NDArray[np.float64], number: int) -> NDArray[np.float64]:
    return np.stack([np.asarray(share) * number, (1 - np.asarray(share)) * number], axis=-1)


def _smoothed(counts: Counts) -> NDArray[np.float64]:
    raised = np.asarray(counts, dtype=np.float64) + PRIOR
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True), dtype=np.float64)


def _num_draws(level: float) -> int:
    return max(NUM_DRAWS, math.ceil(MIN_TAIL / level))


def _upper(drawn: NDArray[np.float64], level: float) -> float:
    """Return the value that half of ``level`` of the draws exceed; the other half is for what the draws cannot know."""
    return float(np.sort(drawn)[len(drawn) - 1 - int(level * len(drawn)) // 2])


def _level(index: float, limit: float, settings: WatchSettings) -> Literal["ok", "warn", "stop"]:
    if index < settings.warn_psi or index <= limit:
        return "ok"
    return "stop" if index >= settings.stop_psi else "warn"


def _rank(level: str) -> int:
    return ("ok", "warn", "stop").index(level)
