"""In which order reports go through a chest: some radiologists begin with the heart, others with the lungs."""

from __future__ import annotations

import numpy as np

from crrg.data.dataset.batches import FilmTable
from crrg.domain.regions import REGION_INDEX, REGIONS
from crrg.domain.sentences import split_sentences

MIN_SENTENCES = 10
"""Below this many sentences of a region it keeps its place behind the one before it."""


def report_order(films: FilmTable) -> tuple[str, ...]:
    """Return the regions by where in the findings of reports their sentences stand on average.

    Args:
        films: Training films with their reports and what those say of each region.

    Returns:
        All 29 regions; in the order of ``REGIONS`` where reports say nothing.
    """
    places: list[list[float]] = [[] for _ in REGIONS]
    for report, phrases in zip(films.reports, films.phrases, strict=True):
        for region, phrase in phrases.items():
            sentences = split_sentences(phrase)
            start = report.find(sentences[0]) if sentences else -1
            if start >= 0:
                places[REGION_INDEX[region]].append(start / len(report))
    means: list[float] = []
    for found in places:
        is_known = len(found) >= MIN_SENTENCES
        means.append(float(np.mean(found)) if is_known else means[-1] if means else 0.0)
    return tuple(REGIONS[index] for index in np.argsort(means, kind="stable"))
