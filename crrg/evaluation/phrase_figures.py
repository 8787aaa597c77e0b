"""METEOR of single sentences: of each region's phrase against the reference's, and against those of other regions.

Without Java (``meteor``), so that the figures are not the published ones of METEOR 1.5. A region counts where it was
given a sentence and the reference has one.

Source: RGRG (Tanida et al., CVPR 2023), evaluation of its language model: sentences of all, of normal, of abnormal and
of single regions, and the ratio of matched to mismatched pairs of a film.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from crrg.domain.regions import REGION_INDEX, REGIONS
from crrg.evaluation.bootstrap import Resampling, Statistic
from crrg.evaluation.compared import compared
from crrg.evaluation.meteor import meteor_counts, meteor_from_counts
from crrg.evaluation.protocols import Protocol, tokenize
from crrg.evaluation.scorecard import Figure

PROTOCOL: Protocol = "rgrg"
Phrases = Sequence[Mapping[str, str]]
"""Per film, region to its phrase."""
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class _Pairs:
    """Pairs of phrases: their films, the regions of the drafted one, and what each adds to METEOR ``[P, 8]``."""

    films: NDArray[np.int64]
    regions: NDArray[np.int64]
    counts: FloatArray

    def per_film(self, num_films: int, kept: NDArray[np.bool_]) -> FloatArray:
        """Return the sums of each film ``[B, 8]``, of the pairs ``[P]`` that are kept."""
        sums = np.zeros((num_films, self.counts.shape[1]))
        np.add.at(sums, self.films[kept], self.counts[kept])
        return sums


def phrase_figures(
    drafts: Phrases,
    references: Phrases,
    is_abnormal: FloatArray,
    samples: Resampling,
    rivals: Mapping[str, Phrases],
) -> list[Figure]:
    """Return METEOR of regions' phrases with 95 % intervals over patients, one row per baseline.

    Args:
        drafts: Of each film, the phrases of the regions that were selected; empty where nothing was worded.
        references: Phrases of the same films' reports.
        is_abnormal: ``[B, 29]``: 1, 0, NaN where unknown.
        samples: Samples of the films' patients.
        rivals: What each baseline says of the selected regions in place of the drafts.

    Returns:
        ``rgrg/phrase_meteor_offline``, ``…_normal``, ``…_abnormal`` (of the regions known to be so),
        ``rgrg/phrase_meteor_ratio_offline`` (own reference over those of the film's other regions that count; above 1
        where a phrase speaks of its region) and ``rgrg/phrase_meteor_offline/<region>``. A figure without a pair is
        left out.
    """
    found = _statistics(drafts, references, is_abnormal)
    others = {name: _statistics(given, references, is_abnormal) for name, given in rivals.items()}
    return [
        row
        for name, statistic in found.items()
        for row in compared(
            f"{PROTOCOL}/{name}",
            statistic,
            samples,
            {rival: other[name] for rival, other in others.items()},
            is_detail="/" in name,
        )
    ]


def _statistics(drafts: Phrases, references: Phrases, is_abnormal: FloatArray) -> dict[str, Statistic]:
    regions = [sorted(given.keys() & wanted.keys()) for given, wanted in zip(drafts, references, strict=True)]
    own = _pairs(drafts, references, [[(each, each) for each in counted] for counted in regions])
    others = _pairs(drafts, references, [list(permutations(counted, 2)) for counted in regions])
    abnormality = is_abnormal[own.films, own.regions]
    subsets = {
        "phrase_meteor_offline": np.ones(len(own.films), dtype=np.bool_),
        "phrase_meteor_offline_normal": abnormality == 0,
        "phrase_meteor_offline_abnormal": abnormality == 1,
        **{f"phrase_meteor_offline/{name}": own.regions == place for place, name in enumerate(REGIONS)},
    }
    statistics = {
        name: Statistic(own.per_film(len(drafts), kept), meteor_from_counts)
        for name, kept in subsets.items()
        if kept.any()
    }
    if len(others.films):
        every = np.ones(len(others.films), dtype=np.bool_)
        sums = [own.per_film(len(drafts), subsets["phrase_meteor_offline"]), others.per_film(len(drafts), every)]
        statistics["phrase_meteor_ratio_offline"] = Statistic(np.concatenate(sums, axis=1), _ratio)
    return statistics


def _pairs(drafts: Phrases, references: Phrases, regions: Sequence[Sequence[tuple[str, str]]]) -> _Pairs:
    """Return pairs, given per film the region of the drafted phrase and that of the reference's."""
    places = [(film, first, second) for film, counted in enumerate(regions) for first, second in counted]
    return _Pairs(
        films=np.array([film for film, _, _ in places], dtype=np.int64),
        regions=np.array([REGION_INDEX[first] for _, first, _ in places], dtype=np.int64),
        counts=meteor_counts(
            [tokenize(drafts[film][first], PROTOCOL) for film, first, _ in places],
            [tokenize(references[film][second], PROTOCOL) for film, _, second in places],
        ),
    )


def _ratio(sums: FloatArray) -> float:
    """Return METEOR of summed counts ``[16]``: of matched pairs, over that of mismatched ones; NaN where that is 0."""
    matched, mismatched = (meteor_from_counts(part) for part in np.split(sums, 2))
    return matched / mismatched if mismatched else float("nan")
