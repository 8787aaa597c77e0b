"""The gate in front of the joint stage: are drafts worth learning from? Values only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from crrg.domain.labels import FINDINGS, NO_FINDING, POSITIVE, LabelValues
from crrg.errors import PoorDrafts
from crrg.evaluation.baselines import NORMAL_REPORT, best_constant_report
from crrg.evaluation.clinical import f1_from_counts, micro_f1_counts
from crrg.evaluation.labeler import label_report

FEWEST_JUDGED = 200
"""Of fewer drafts nothing is said."""
MIN_DIFFERENT_SHARE = 0.02
"""Share of drafts that must differ from each other; below it the generator has collapsed to a few reports."""
MOST_ALIKE = 0.9
"""Share of drafts that may be one and the same report where nobody knows which films are normal."""
JUDGED_FILMS = 2000
"""Most films, drawn by a seed, whose drafts are read for their clinical F1."""
_WAY_OUT = "train the generator longer, or leave the joint stage out (`crrg train clip` learns from reports alone)"


def check_quality(
    drafts: Mapping[str, str], known: Mapping[str, LabelValues] | None = None, reports: Sequence[str] = ()
) -> None:
    """Check that drafts are worth learning from.

    Most films must have one, they must not have collapsed to a few reports or to one, and must say more of the films'
    findings than the constant report that suits these films best.

    One report may be given to every normal film and to half of the others, no more: a generator that sees nothing gives
    it to nearly all. Of drawn films 0.36 are normal, so that 0.68 of their drafts may be alike; where hardly any film
    has a finding nearly all may, and the findings decide.

    Args:
        drafts: Instance id to draft, empty where it says nothing.
        known: Instance id to the film's known labels.
        reports: Real reports, of which the constant one is chosen; a plain normal one where there is none.

    Raises:
        PoorDrafts: One of these does not hold.
    """
    if len(drafts) < FEWEST_JUDGED:
        return
    texts = [text for text in drafts.values() if text.strip()]
    if len(texts) < len(drafts) / 2:
        raise PoorDrafts(f"only {len(texts)} of {len(drafts)} drafts say anything; {_WAY_OUT}", "joint")
    if len(set(texts)) < MIN_DIFFERENT_SHARE * len(texts):
        raise PoorDrafts(
            f"only {len(set(texts))} of {len(texts)} drafts differ: the generator has collapsed; {_WAY_OUT}", "joint"
        )
    films = {key: known[key] for key in drafts if key in known} if known else {}
    _check_commonest(texts, list(films.values()))
    _check_findings(drafts, films, reports)


def _check_commonest(texts: Sequence[str], known: Sequence[LabelValues]) -> None:
    judged = [labels for labels in known if _is_known(labels)]
    normal = sum(_is_normal(labels) for labels in judged) / len(judged) if judged else 0.0
    most = normal + (1 - normal) / 2 if judged else MOST_ALIKE
    share = Counter(texts).most_common(1)[0][1] / len(texts)
    if share > most:
        raise PoorDrafts(
            f"{share:.0%} of {len(texts)} drafts are one report, at most {most:.0%} may be ({normal:.0%} of the films "
            f"are known to be normal): the generator says the same of nearly every film; {_WAY_OUT}",
            "joint",
        )


def _check_findings(drafts: Mapping[str, str], known: Mapping[str, LabelValues], reports: Sequence[str]) -> None:
    keys = sorted(key for key in drafts if _is_known(known.get(key, {})))
    keys = [keys[row] for row in sorted(np.random.default_rng(0).permutation(len(keys))[:JUDGED_FILMS].tolist())]
    truth = [known[key] for key in keys]
    if not any(labels.get(label) == POSITIVE for labels in truth for label in FINDINGS):
        return
    constant = best_constant_report(reports, reports) or NORMAL_REPORT
    read = {text: label_report(text) for text in {constant, *(drafts[key] for key in keys)}}
    own = _clinical_f1([read[drafts[key]] for key in keys], truth)
    rival = _clinical_f1([read[constant]] * len(keys), truth)
    if own <= rival:
        raise PoorDrafts(
            f"the drafts' clinical F1 on {len(keys)} films is {own:.3f}, that of one report for all of them "
            f"{rival:.3f}: they say nothing about the films; {_WAY_OUT}",
            "joint",
        )


def _clinical_f1(said: Sequence[LabelValues], truth: Sequence[LabelValues]) -> float:
    """Return the micro-F1 over the findings that are known of each film."""
    told = [
        {label: value for label, value in values.items() if labels.get(label) is not None}
        for values, labels in zip(said, truth, strict=True)
    ]
    return f1_from_counts(micro_f1_counts(told, truth).sum(axis=0))


def _is_known(labels: LabelValues) -> bool:
    return any(labels.get(label) is not None for label in FINDINGS)


def _is_normal(labels: LabelValues) -> bool:
    if labels.get(NO_FINDING) is not None:
        return labels[NO_FINDING] == POSITIVE
    return not any(labels.get(label) == POSITIVE for label in FINDINGS)
