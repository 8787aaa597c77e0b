"""What a model has to beat: constants, neighbours and shuffles that look at nothing or almost nothing.

Works on arrays and texts; the mean box is in ``detection``, the majority value in ``classification``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from crrg.domain.labels import FINDINGS, LABELS, NEGATIVE, NO_FINDING, POSITIVE
from crrg.evaluation.clinical import precision_recall_f1
from crrg.evaluation.protocols import Protocol, Tokens, tokenize
from crrg.evaluation.text import bleu_from_counts, rouge_l_from_lengths

NORMAL_REPORT = (
    "The lungs are clear. No pneumothorax. No pleural effusion. The mediastinal contours are normal. "
    "The heart is normal in size. No acute cardiopulmonary abnormality."
)
"""The report that fits most films, and helps nobody."""

REGRESSION_STRENGTH = 0.01
"""Inverse strength of the L2 penalty (scikit-learn's ``C``) of the classifier to beat."""
_MAX_CANDIDATES = 200
_MAX_REFERENCES = 500


def best_constant_report(
    train_reports: Sequence[str], validation_reports: Sequence[str], *, seed: int = 0, protocol: Protocol = "rgrg"
) -> str:
    """Return the training report that, given to every film, scores highest on validation.

    The score is the mean of corpus BLEU-4 and ROUGE-L. Equal reports are tried once; of more than 200 different ones
    the 50 most frequent and a seeded sample are tried, against at most 500 validation reports.

    Args:
        train_reports: Reports to choose from.
        validation_reports: Reports to score against.
        seed: Seed of both samples.
        protocol: How text is cut into tokens.

    Returns:
        The report; empty where there is no training report.
    """
    frequency = Counter(report for report in train_reports if report.strip())
    rng = np.random.default_rng(seed)
    pool = [report for report, _ in frequency.most_common(_MAX_CANDIDATES // 4)]
    others = sorted(set(frequency) - set(pool))
    if len(others) > _MAX_CANDIDATES - len(pool):
        chosen = rng.choice(len(others), size=_MAX_CANDIDATES - len(pool), replace=False)
        others = [others[i] for i in chosen]
    pool += others
    if not pool or not validation_reports:
        return pool[0] if pool else ""
    references = [tokenize(report, protocol) for report in validation_reports]
    if len(references) > _MAX_REFERENCES:
        references = [references[i] for i in rng.choice(len(references), size=_MAX_REFERENCES, replace=False)]
    scores = constant_scores([tokenize(report, protocol) for report in pool], references)
    return pool[int(np.argmax(scores))]


def constant_scores(candidates: Sequence[Tokens], references: Sequence[Tokens]) -> NDArray[np.float64]:
    """Return for each candidate ``[C]`` its mean of BLEU-4 and ROUGE-L as the draft of every reference."""
    from rapidfuzz.distance import LCSseq

    counts = np.zeros((len(candidates), 10))
    for order in range(1, 5):
        matches = _shared_ngrams(candidates, references, order)
        counts[:, order - 1] = matches
        counts[:, order + 3] = [max(0, len(tokens) - order + 1) * len(references) for tokens in candidates]
    counts[:, 8] = [len(tokens) * len(references) for tokens in candidates]
    counts[:, 9] = sum(len(tokens) for tokens in references)
    lengths = np.array([len(tokens) for tokens in references], dtype=float)
    scores = np.empty(len(candidates))
    for i, tokens in enumerate(candidates):
        common = np.array([LCSseq.similarity(tokens, reference) for reference in references], dtype=float)
        rouge = rouge_l_from_lengths(common, np.full(len(references), float(len(tokens))), lengths).mean()
        scores[i] = (bleu_from_counts(counts[i])[3] + rouge) / 2
    return scores


def nearest_neighbours(train_pixels: NDArray[np.float64], pixels: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return for each film the most similar training film, by correlation of small pictures.

    Args:
        train_pixels: ``[N, 32, 32]``.
        pixels: ``[B, 32, 32]``.

    Returns:
        Row numbers ``[B]`` into the training films, whose reports or labels are then taken over.
    """
    return np.asarray(np.argmax(_standardise(pixels) @ _standardise(train_pixels).T, axis=1), dtype=np.int64)


def all_positive_labels(num_reports: int) -> list[dict[str, int]]:
    """Return labels that claim every finding for every film; "No Finding" is then 0."""
    claimed = {**dict.fromkeys(FINDINGS, POSITIVE), NO_FINDING: NEGATIVE}
    return [{label: claimed[label] for label in LABELS} for _ in range(num_reports)]


def logistic_regression_probabilities(
    train_pixels: NDArray[np.float64],
    train_references: NDArray[np.float64],
    pixels: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return label probabilities of a logistic regression on small pictures, the classifier to beat.

    Args:
        train_pixels: ``[N, 32, 32]``.
        train_references: ``[N, K]``: 1, 0, NaN where unknown.
        pixels: ``[B, 32, 32]``.

    Returns:
        ``[B, K]`` in 0..1; the training prevalence where only one value is known.
    """
    from sklearn.linear_model import LogisticRegression

    features, queries = _standardise(train_pixels), _standardise(pixels)
    scale = np.sqrt(features.shape[1])
    probabilities = np.full((len(pixels), train_references.shape[1]), 0.5)
    for i, wanted in enumerate(train_references.T):
        known = ~np.isnan(wanted)
        if len(set(wanted[known])) < 2:
            probabilities[:, i] = wanted[known].mean() if known.any() else 0.5
            continue
        model = LogisticRegression(C=REGRESSION_STRENGTH, max_iter=200).fit(features[known] * scale, wanted[known])
        probabilities[:, i] = model.predict_proba(queries * scale)[:, 1]
    return probabilities


def usual_regions(has_phrase: NDArray[np.bool_], counted: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """Return the regions ``[R]`` that give the best selection F1 when every film is given the same ones.

    Args:
        has_phrase: Which regions the training reports write about ``[N, R]``.
        counted: Of which regions that is known ``[N, R]``; of all by default.
    """
    if not has_phrase.any():
        return np.zeros(has_phrase.shape[1], dtype=bool)
    by_frequency = np.argsort(-has_phrase.sum(axis=0), kind="stable")
    ranks = np.argsort(by_frequency, kind="stable")
    choices = [ranks < count for count in range(1, len(ranks) + 1)]
    return max(choices, key=lambda chosen: constant_selection_f1(chosen, has_phrase, counted))


def usual_phrases(phrases: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return by region the phrase that most films have, the first in the alphabet of equally frequent ones.

    Args:
        phrases: Per training film, region to phrase.

    Returns:
        Only regions that have a phrase anywhere.
    """
    counts: dict[str, Counter[str]] = {}
    for film in phrases:
        for region, phrase in film.items():
            counts.setdefault(region, Counter())[phrase] += 1
    return {region: min(found, key=lambda text: (-found[text], text)) for region, found in counts.items()}


def constant_selection_f1(
    chosen: NDArray[np.bool_], has_phrase: NDArray[np.bool_], counted: NDArray[np.bool_] | None = None
) -> float:
    """Return the selection F1 of giving the regions ``chosen`` ``[R]`` a sentence on every film ``[B, R]``.

    Args:
        chosen: bool ``[R]``.
        has_phrase: What reports write about ``[B, R]``.
        counted: Of which regions that is known ``[B, R]``; of all by default.
    """
    given = np.broadcast_to(chosen, has_phrase.shape)
    if counted is not None:
        given, has_phrase = given[counted], has_phrase[counted]
    return precision_recall_f1(given, has_phrase)[2]


def permuted_rows(num_rows: int, seed: int = 0) -> NDArray[np.int64]:
    """Return an order ``[B]`` in which no row keeps its place, to give each film another film's draft.

    A figure that survives it does not come from the picture. One row alone stays where it is.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(num_rows)
    cycle = np.empty(num_rows, dtype=np.int64)
    cycle[order] = np.roll(order, 1)
    return cycle


def _standardise(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return pictures as rows of mean 0 and length 1, so that exposure does not decide."""
    rows = np.asarray(pixels, dtype=float).reshape(len(pixels), -1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(norms > 0, norms, 1.0))


def _shared_ngrams(candidates: Sequence[Tokens], references: Sequence[Tokens], order: int) -> NDArray[np.float64]:
    found = [Counter(zip(*(tokens[i:] for i in range(order)), strict=False)) for tokens in candidates]
    columns = {gram: i for i, gram in enumerate(dict.fromkeys(gram for counter in found for gram in counter))}
    wanted = np.zeros((len(references), len(columns)), dtype=np.int16)
    for row, tokens in zip(wanted, references, strict=True):
        for gram in zip(*(tokens[i:] for i in range(order)), strict=False):
            if gram in columns:
                row[columns[gram]] += 1
    shared = np.zeros(len(candidates))
    for i, counter in enumerate(found):
        at = [columns[gram] for gram in counter]
        shared[i] = np.minimum(wanted[:, at], np.array(list(counter.values()), dtype=np.int16)).sum()
    return shared
