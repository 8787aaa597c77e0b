"""What RadGraph says of drafts beside their reports: read by its weights, or read elsewhere and given as files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crrg.domain.report_graph import ReportGraph, graph_from_annotation
from crrg.errors import ConfigError
from crrg.evaluation.radgraph import graph_figures
from crrg.evaluation.scorecard import Scorecard
from crrg.operations.scoring.cases import Baselines, Case
from crrg.operations.scoring.texts import told_texts

if TYPE_CHECKING:
    import torch


def with_radgraph(
    scorecard: Scorecard, cases: Sequence[Case], known: Baselines, folder: Path, device: torch.device
) -> Scorecard:
    """Add RadGraph F1 at its three levels, beside the normal report, the best constant one and the nearest film's.

    Args:
        scorecard: What was scored without it.
        cases: Drafts and references; those without a findings section are left out.
        known: Baselines of the training dataset.
        folder: What ``crrg import radgraph`` wrote to.
        device: Where RadGraph runs.

    Raises:
        ModelError: The folder holds no imported RadGraph with its vocabulary, or it is damaged.
    """
    from crrg.operations.registry.importing import load_report_annotator

    annotator = load_report_annotator(folder, device)
    told = [case for case in cases if case.reference.report.findings]
    if not told:
        return scorecard
    texts = told_texts(told, known, known.neighbours(told))
    figures = graph_figures(
        annotator.annotate(texts.drafts),
        annotator.annotate(texts.references),
        texts.patients,
        {name: annotator.annotate(rival) for name, rival in texts.rivals.items()},
    )
    return replace(scorecard, figures=(*scorecard.figures, *figures))


def score_annotations(drafts: Path, reports: Path, patients: Path | None = None) -> Scorecard:
    """Score annotations that RadGraph made elsewhere.

    Args:
        drafts: JSON in RadGraph's published form, ``{key: {"entities": …}}``.
        reports: The same of the reference reports, under the same keys.
        patients: JSON ``{key: patient}``; without it each report counts as its own patient in the intervals.

    Raises:
        ConfigError: A file cannot be read, has another form, or the keys differ.
    """
    found, wanted = _read(drafts, "drafts"), _read(reports, "reports")
    owners = {key: key for key in wanted} if patients is None else _read(patients, "patients")
    for subject, keys in (("drafts", found), ("patients", owners)):
        if keys.keys() != wanted.keys():
            raise ConfigError(
                f"{len(wanted.keys() - keys.keys())} reports are missing there and {len(keys.keys() - wanted.keys())} "
                "are unknown; give files with the same keys, an empty `entities` where nothing was found",
                subject,
            )
    figures = graph_figures(
        _graphs([found[key] for key in wanted]),
        _graphs(list(wanted.values())),
        [str(owners[key]) for key in wanted],
    )
    return Scorecard(tuple(figures), len(wanted))


def _graphs(annotations: Sequence[Any]) -> list[ReportGraph]:
    return [graph_from_annotation(annotation) for annotation in annotations]


def _read(path: Path, subject: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"there is no JSON file to read at this path ({type(error).__name__})", subject) from error
    if not isinstance(content, dict) or not content:
        raise ConfigError("the file is not a JSON object with a report under each key", subject)
    return content
