"""How much a draft should say: selection thresholds chosen where drafts can be compared with reports.

The selector's own thresholds know which regions reports speak of, not how the sentences read together: two regions
often share one sentence, and a wrong sentence costs more than a missing one. So the generator stage words every region
that might be selected on validation films once, and keeps the pair of thresholds under which the drafts are most like
the reports.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from crrg.config.base import Compat
from crrg.domain.regions import REGIONS
from crrg.evaluation.protocols import Protocol, tokenize
from crrg.evaluation.text import bleu_counts, bleu_from_counts, rouge_l_per_report
from crrg.inference.assembly import RegionPhrase, assemble_as
from crrg.inference.regions import RegionReadings, RegionThresholds, select_regions

PROTOCOL: Protocol = "rgrg"
GRID: tuple[float, ...] = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8)
MIN_REPORTS = 20
"""Below this many validation reports the selector's own thresholds stay."""

Phrases = dict[tuple[int, int], str]


def candidate_regions(readings: RegionReadings, thresholds: RegionThresholds) -> NDArray[np.bool_]:
    """Return every region that some threshold of the grid would select, ``[N, 29]``."""
    lowest = replace(thresholds, selection=GRID[0], selection_beside_findings=GRID[0])
    return select_regions(readings.selection_probabilities, readings.finding_probabilities, lowest)


def tune_selection(
    readings: RegionReadings,
    thresholds: RegionThresholds,
    phrases: Phrases,
    references: Sequence[str],
    *,
    shown: NDArray[np.bool_],
    compat: Compat = "none",
    order: Sequence[str] = REGIONS,
) -> RegionThresholds:
    """Choose the two selection thresholds by (BLEU-4 + ROUGE-L) / 2 of the drafts on validation films.

    A film uses one of the two thresholds only, so each is drafted once per value of the grid.

    Args:
        readings: Of ``N`` films.
        thresholds: The selector's.
        phrases: Film and region index to drafted phrase, for all ``candidate_regions`` that are shown.
        references: Findings section of each film; films without one are left out.
        shown: Which regions ``[N, 29]`` the films may show; nothing is said of the others.
        compat: How phrases become a report.
        order: In which order it goes through the regions.

    Returns:
        The thresholds with the best pair; unchanged below ``MIN_REPORTS`` reports.
    """
    known = [film for film, reference in enumerate(references) if reference]
    if len(known) < MIN_REPORTS:
        return thresholds
    is_over: NDArray[np.bool_] = readings.finding_probabilities[known] >= thresholds.findings
    is_flagged = np.asarray(is_over.any(axis=(1, 2)))
    is_abnormal = readings.flags(thresholds)[..., -1] > 0
    wanted = [tokenize(references[film], PROTOCOL) for film in known]
    counts, rouge = [], []
    for limit in GRID:
        trial = replace(thresholds, selection=limit, selection_beside_findings=limit)
        selected = readings.selected(trial) & shown
        drafts = [
            tokenize(_findings(film, selected[film], is_abnormal[film], phrases, compat, order), PROTOCOL)
            for film in known
        ]
        counts.append(bleu_counts(drafts, wanted))
        rouge.append(rouge_l_per_report(drafts, wanted))
    best, chosen = -1.0, (thresholds.selection, thresholds.selection_beside_findings)
    for plain, limit in enumerate(GRID):
        for beside, limit_beside in enumerate(GRID):
            sums = np.where(is_flagged[:, None], counts[beside], counts[plain]).sum(axis=0)
            overlap = float(np.where(is_flagged, rouge[beside], rouge[plain]).mean())
            score = (bleu_from_counts(sums)[3] + overlap) / 2
            if score > best:
                best, chosen = score, (limit, limit_beside)
    return replace(thresholds, selection=chosen[0], selection_beside_findings=chosen[1])


def _findings(
    film: int,
    selected: NDArray[np.bool_],
    is_abnormal: NDArray[np.bool_],
    phrases: Phrases,
    compat: Compat,
    order: Sequence[str],
) -> str:
    drafted = [
        RegionPhrase(REGIONS[region], phrases[film, region], bool(is_abnormal[region]))
        for region in np.flatnonzero(selected).tolist()
        if phrases.get((film, region))
    ]
    return assemble_as(compat, drafted, order=order).findings
