"""The texts of a scorecard: findings of drafts, of reports and of what needs no model, and METEOR 1.5 of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crrg.evaluation.baselines import NORMAL_REPORT
from crrg.evaluation.bootstrap import Resampling, mean_statistic
from crrg.evaluation.compared import compared
from crrg.evaluation.meteor_jar import JAVA, JavaMeteor
from crrg.evaluation.phrase_figures import phrase_figures
from crrg.evaluation.scorecard import Figure, Scorecard
from crrg.evaluation.text_figures import jar_figures, text_figures
from crrg.operations.scoring.cases import Baselines, Case
from crrg.operations.scoring.regions import region_arrays


@dataclass(frozen=True)
class Texts:
    """Findings sections of the films whose report has one.

    Attributes:
        drafts: Of the drafts.
        references: Of the reports.
        patients: Of the films.
        rivals: Of each baseline, by its name.
    """

    drafts: list[str]
    references: list[str]
    patients: list[str]
    rivals: dict[str, list[str]]

    @property
    def nonempty_rows(self) -> list[int]:
        """Rows of drafts with a word, as RGRG counts; none where every draft has one, and nothing is to be left out."""
        rows = [row for row, draft in enumerate(self.drafts) if draft.strip()]
        return [] if len(rows) == len(self.drafts) else rows

    def of_rows(self, rows: Sequence[int]) -> Texts:
        """Return the texts of some rows."""
        drafts, references, patients, *others = (
            [column[row] for row in rows]
            for column in (self.drafts, self.references, self.patients, *self.rivals.values())
        )
        return Texts(drafts, references, patients, dict(zip(self.rivals, others, strict=True)))


def nonempty_only(figures: Sequence[Figure]) -> list[Figure]:
    """Return figures of ``Texts.nonempty_rows`` by names of their own, which stand beside those of all reports."""
    return [replace(figure, name=f"{figure.name}_nonempty_only") for figure in figures]


def told_texts(cases: Sequence[Case], known: Baselines, neighbours: NDArray[np.int64]) -> Texts:
    """Return the texts of cases whose report has findings.

    Args:
        cases: Drafts and references.
        known: Baselines of the training dataset.
        neighbours: ``[B]``, row of the most similar training film of each case (``Baselines.neighbours``).
    """
    rows = [row for row, case in enumerate(cases) if case.reference.report.findings]
    fitted = {
        "best constant report": [known.constant] * len(rows),
        "nearest neighbour": [known.findings[neighbours[row]] for row in rows if known.is_fitted],
    }
    return Texts(
        drafts=[cases[row].draft.findings for row in rows],
        references=[cases[row].reference.report.findings or "" for row in rows],
        patients=[cases[row].reference.patient_id for row in rows],
        rivals={**(fitted if known.is_fitted else {}), "always normal": [NORMAL_REPORT] * len(rows)},
    )


def wording_figures(texts: Texts, validation: Sequence[str]) -> list[Figure]:
    """Return the figures of texts under every protocol, and the share of drafts without a word.

    An empty draft scores 0; RGRG leaves it out with its report, as the figures ``…_nonempty_only`` do.

    Args:
        texts: Drafts, references and baselines.
        validation: Findings sections of validation reports (``text_figures``).

    Returns:
        None where no report has findings.
    """
    if not texts.drafts:
        return []
    samples = Resampling(texts.patients)
    figures = text_figures(texts.drafts, texts.references, samples, texts.rivals, validation)
    if rows := texts.nonempty_rows:
        rest = texts.of_rows(rows)
        of_rest = Resampling(rest.patients)
        figures += nonempty_only(
            text_figures(rest.drafts, rest.references, of_rest, rest.rivals, validation, protocols=("rgrg",))
        )
    is_empty = mean_statistic(np.array([not draft.strip() for draft in texts.drafts], dtype=float))
    return [*figures, *compared("text/empty_share", is_empty, samples, {})]


def region_phrase_figures(cases: Sequence[Case], known: Baselines, samples: Resampling) -> list[Figure]:
    """Return METEOR of the drafted phrase of each region that its report speaks of, beside the region's usual phrase.

    Args:
        cases: Drafts and references.
        known: Baselines of the training dataset.
        samples: Samples of the cases' patients.

    Returns:
        The figures of ``phrase_figures``; none where no region with a phrase was selected.
    """
    drafts = [{each.region: each.phrase or "" for each in case.draft.regions if each.selected} for case in cases]
    references = [{each.region: each.phrase for each in case.reference.regions if each.phrase} for case in cases]
    usual = [{region: known.usual_phrases.get(region, "") for region in given} for given in drafts]
    rivals = {"usual phrase": usual} if known.is_fitted else {}
    return phrase_figures(drafts, references, region_arrays(cases).is_abnormal, samples, rivals)


def with_meteor(
    scorecard: Scorecard, cases: Sequence[Case], known: Baselines, jar: Path, java: Sequence[str] = JAVA
) -> Scorecard:
    """Add METEOR 1.5 of the drafts, beside the same baselines; where some are empty, also without them, as RGRG does.

    Args:
        scorecard: What was scored without it.
        cases: Drafts and references; those without a findings section are left out.
        known: Baselines of the training dataset.
        jar: Path of ``meteor-1.5.jar``.
        java: Command that runs a jar.

    Raises:
        ConfigError: There is no such jar, no Java, or no answer.
    """
    told = [case for case in cases if case.reference.report.findings]
    if not told:
        return scorecard
    texts = told_texts(told, known, known.neighbours(told))
    with JavaMeteor(jar, java=java) as running:
        figures = jar_figures(running, texts.drafts, texts.references, Resampling(texts.patients), texts.rivals)
        if rows := texts.nonempty_rows:
            rest = texts.of_rows(rows)
            samples = Resampling(rest.patients)
            figures += nonempty_only(
                jar_figures(running, rest.drafts, rest.references, samples, rest.rivals, protocols=("rgrg",))
            )
    return replace(scorecard, figures=(*scorecard.figures, *figures))
