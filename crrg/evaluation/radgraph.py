"""RadGraph F1: are the entities and relations of a draft those of its report?

Knows graphs only; what reads them out of texts is ``crrg.inference.report_annotator``. The rules are the published
code's, to the letter: letters count as they are written, but not where relations are compared.

Source: Delbrouck et al., Findings of EMNLP 2022 (RG_E, RG_ER and RG_ER with a bar: here ``simple``, ``partial`` and
``complete``, as the radgraph package calls them), by its version 0.1.18. No line of its code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from crrg.domain.report_graph import ReportGraph
from crrg.evaluation.bootstrap import mean_statistic
from crrg.evaluation.scorecard import Figure

Claims: TypeAlias = set[tuple[str, ...]]
"""What is compared as a whole or not at all."""
FAMILY = "radgraph"
LEVELS = ("simple", "partial", "complete")
"""Entities with their label; the same with whether a relation leaves them; every relation with both its ends."""


def graph_f1(candidate: ReportGraph, reference: ReportGraph) -> tuple[float, float, float]:
    """Return the F1 of one draft at the three levels, 0..1.

    What occurs several times in a report counts once. A report without an entity, on either side, gives 0.
    """
    if not candidate.entities or not reference.entities:
        return 0.0, 0.0, 0.0
    simple, partial, complete = (
        _set_f1(found, wanted) for found, wanted in zip(_claims(candidate), _claims(reference), strict=True)
    )
    return simple, partial, complete


def graph_f1s(candidates: Sequence[ReportGraph], references: Sequence[ReportGraph]) -> NDArray[np.float64]:
    """Return the F1 of each draft at the three levels ``[B, 3]``, whose means are the figures."""
    scores = [graph_f1(candidate, reference) for candidate, reference in zip(candidates, references, strict=True)]
    return np.array(scores, dtype=np.float64).reshape(len(scores), len(LEVELS))


def graph_figures(
    candidates: Sequence[ReportGraph],
    references: Sequence[ReportGraph],
    patient_ids: Sequence[str],
    rivals: Mapping[str, Sequence[ReportGraph]] | None = None,
) -> list[Figure]:
    """Return ``radgraph/simple_f1``, ``…/partial_f1`` and ``…/complete_f1`` with 95 % intervals over patients.

    Args:
        candidates: Graph of each draft.
        references: Graph of each report.
        patient_ids: Patient of each pair.
        rivals: Per baseline, the graph of its draft for each report; each figure stands once beside every baseline.

    Returns:
        None without a pair.
    """
    if not candidates:
        return []
    scores = graph_f1s(candidates, references)
    baselines = {name: graph_f1s(graphs, references).mean(axis=0) for name, graphs in (rivals or {}).items()}
    figures = []
    for column, level in enumerate(LEVELS):
        found = mean_statistic(scores[:, column])
        plain = Figure(f"{FAMILY}/{level}_f1", found.value(), *found.interval(patient_ids))
        beside = [
            Figure(plain.name, plain.value, plain.low, plain.high, name, float(means[column]))
            for name, means in baselines.items()
        ]
        figures += beside or [plain]
    return figures


def _claims(graph: ReportGraph) -> tuple[Claims, Claims, Claims]:
    """Return what a graph says at each level."""
    simple: Claims = {(entity.words, entity.label) for entity in graph.entities}
    partial: Claims = {(entity.words, entity.label, "related" if entity.relations else "") for entity in graph.entities}
    complete: Claims = set()
    for entity in graph.entities:
        if not entity.relations:
            complete.add((entity.words, entity.label))
        for kind, place in entity.relations:
            complete.add((entity.words.lower(), entity.label, kind, graph.entities[place].words.lower()))
    return simple, partial, complete


def _set_f1(found: Claims, wanted: Claims) -> float:
    hits = len(found & wanted)
    precision = hits / len(found) if found else 0.0
    recall = hits / len(wanted) if wanted else 0.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
