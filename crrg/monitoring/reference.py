"""What a bundle's training population looks like: one histogram per quantity, kept in the bundle as JSON.

Films come from the training and validation splits; drafts from validation films alone, since models draft the films
they were trained on with more certainty than any other. Nothing here reads a dataset: see
``crrg.operations.training.watch_reference``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crrg.config.base import FrozenConfig
from crrg.monitoring.degenerate import Habits
from crrg.monitoring.quantities import CHOICES, Values

SCHEMA_VERSION = 1
MIN_BINS, MAX_BINS = 4, 10
PATIENTS_PER_BIN = 50
"""Fewer would make chance alone move a histogram by more than a warning's worth."""


class Histogram(FrozenConfig):
    """How often a quantity has which value.

    Attributes:
        edges: Where bins meet, ascending; a value equal to an edge lies above it. Empty for a choice.
        counts: Values per bin, or per choice.
        mean: Mean of a number; of a choice, the share of its most frequent one.
    """

    edges: tuple[float, ...] = ()
    counts: tuple[int, ...]
    mean: float

    def count(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return other values' counts in the same bins.

        Results are stored in single precision: a calibrated probability that many films share must stay on its side of
        the edge that it is.
        """
        edges = np.asarray(self.edges, dtype=np.float32)
        places = np.searchsorted(edges, values.astype(np.float32), side="right") if self.edges else values.astype(int)
        return np.bincount(places, minlength=len(self.counts))


class Reference(FrozenConfig):
    """A training population.

    Attributes:
        schema_version: Of this form.
        num_film_patients: Patients behind the quantities of films.
        num_draft_patients: Patients behind the quantities of drafts.
        num_device_patients: Patients whose films' maker is known; 0 in references made before makers were known.
        histograms: By quantity.
        repeats: How often each draft text occurs, the most frequent first, those that occur once left out.
        num_drafts: Drafts.
        reports: Habits of the training reports.
        drafts: Habits of the drafts.
    """

    schema_version: int = SCHEMA_VERSION
    num_film_patients: int
    num_draft_patients: int
    num_device_patients: int = 0
    histograms: dict[str, Histogram]
    repeats: tuple[int, ...]
    num_drafts: int
    reports: Habits
    drafts: Habits


def histograms(values: Values, num_patients: int) -> dict[str, Histogram]:
    """Return the histograms of quantities; one without a value is left out.

    Args:
        values: By quantity.
        num_patients: Patients behind them, by which the number of bins is chosen.
    """
    num_bins = int(np.clip(num_patients // PATIENTS_PER_BIN, MIN_BINS, MAX_BINS))
    return {name: _histogram(name, found, num_bins) for name, found in values.items() if len(found)}


def repeats(texts: Sequence[str]) -> tuple[int, ...]:
    """Return how often each text occurs that occurs more than once, the most frequent first."""
    return tuple(sorted((count for count in Counter(texts).values() if count > 1), reverse=True))


def choice_counts(name: str, values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return how often each choice of a quantity occurs."""
    return np.bincount(values.astype(np.int64), minlength=len(CHOICES[name]))


def _histogram(name: str, values: NDArray[np.float64], num_bins: int) -> Histogram:
    if name in CHOICES:
        counts = choice_counts(name, values)
        return Histogram(counts=tuple(counts.tolist()), mean=float(counts.max() / counts.sum()))
    shares = np.arange(1, num_bins) / num_bins
    edges = tuple(float(edge) for edge in np.unique(np.quantile(values, shares, method="inverted_cdf")))
    empty = Histogram(edges=edges, counts=(0,) * (len(edges) + 1), mean=float(values.mean()))
    return empty.model_copy(update={"counts": tuple(empty.count(values).tolist())})
