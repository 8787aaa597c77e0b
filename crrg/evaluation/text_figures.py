"""The figures of text under every protocol, with intervals and beside baselines; METEOR 1.5 where its jar runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from crrg.evaluation.bootstrap import Resampling, mean_statistic
from crrg.evaluation.compared import compared
from crrg.evaluation.meteor_jar import JavaMeteor
from crrg.evaluation.protocols import PROTOCOLS, Protocol, tokenize
from crrg.evaluation.scorecard import Figure
from crrg.evaluation.text import rgrg_document_frequencies, text_statistics

JAR_PROTOCOLS: tuple[Protocol, ...] = ("rgrg", "r2gen")
"""Whose published figures are METEOR 1.5; the users of NLTK have NLTK's."""


def text_figures(
    drafts: Sequence[str],
    references: Sequence[str],
    samples: Resampling,
    rivals: Mapping[str, Sequence[str]],
    validation: Sequence[str] = (),
    protocols: Sequence[Protocol] = PROTOCOLS,
) -> list[Figure]:
    """Return BLEU-1 to BLEU-4, ROUGE-L, CIDEr-D and METEOR without Java.

    Args:
        drafts: Findings sections.
        references: Findings sections of the reports, in the same order.
        samples: Samples of the patients of these reports.
        rivals: What each baseline gives in place of the drafts.
        validation: Findings sections whose document frequencies RGRG's own CIDEr-D takes; left out where none is given.
        protocols: Under which texts are cut; all three where not said.

    Returns:
        ``<protocol>/<metric>`` (``text.score_text``) with 95 % intervals over patients, one row per baseline.
    """
    return [
        figure
        for protocol in protocols
        for figure in _protocol_figures(protocol, drafts, references, samples, rivals, validation)
    ]


def _protocol_figures(
    protocol: Protocol,
    drafts: Sequence[str],
    references: Sequence[str],
    samples: Resampling,
    rivals: Mapping[str, Sequence[str]],
    validation: Sequence[str],
) -> list[Figure]:
    idf = rgrg_document_frequencies(validation) if protocol == "rgrg" and validation else None
    found = text_statistics(drafts, references, protocol, frequencies=idf)
    others = {name: text_statistics(texts, references, protocol, frequencies=idf) for name, texts in rivals.items()}
    return [
        figure
        for metric, statistic in found.items()
        for figure in compared(
            f"{protocol}/{metric}", statistic, samples, {name: other[metric] for name, other in others.items()}
        )
    ]


def jar_figures(
    running: JavaMeteor,
    drafts: Sequence[str],
    references: Sequence[str],
    samples: Resampling,
    rivals: Mapping[str, Sequence[str]],
    protocols: Sequence[Protocol] = JAR_PROTOCOLS,
) -> list[Figure]:
    """Return METEOR 1.5 of the whole set and its mean over reports, with 95 % intervals over patients.

    Args:
        running: METEOR's program.
        drafts: Findings sections.
        references: Findings sections of the reports, in the same order.
        samples: Samples of the patients of these reports.
        rivals: What each baseline gives in place of the drafts.
        protocols: Under which texts are cut.

    Returns:
        ``<protocol>/meteor_1_5``, ``<protocol>/meteor_1_5_mean`` and ``<protocol>/meteor_offline_difference`` (without
        Java minus 1.5, of the whole set).
    """
    figures: list[Figure] = []
    for protocol in protocols:
        wanted = [" ".join(tokenize(text, protocol)) for text in references]
        given = {"": drafts, **rivals}
        cut = {name: [" ".join(tokenize(text, protocol)) for text in texts] for name, texts in given.items()}
        whole = {name: running.statistic(texts, wanted) for name, texts in cut.items()}
        means = {name: mean_statistic(np.array(running.score(texts, wanted)[1])) for name, texts in cut.items()}
        for metric, of_each in (("meteor_1_5", whole), ("meteor_1_5_mean", means)):
            others = {name: statistic for name, statistic in of_each.items() if name}
            figures += compared(f"{protocol}/{metric}", of_each[""], samples, others)
        offline = text_statistics(drafts, references, protocol)["meteor_offline"].value()
        figures.append(Figure(f"{protocol}/meteor_offline_difference", offline - whole[""].value()))
    return figures
