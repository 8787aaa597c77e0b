"""Scores drafted text against reference text: BLEU, ROUGE-L, CIDEr-D and a METEOR without Java.

Every figure carries the protocol by which the text was cut into tokens (``protocols``), because the protocol moves the
figure. BLEU, ROUGE-L and CIDEr-D of the same tokens are those of the COCO caption evaluation to 1e-9
(``benchmarks/coco_speed.py`` compares them); METEOR is not 1.5 (``meteor`` says why, ``meteor_jar`` asks 1.5). Knows
nothing of labels: see ``clinical``.

Source: Papineni et al. 2002 (BLEU), Lin 2004 (ROUGE-L), Vedantam et al. 2015 (CIDEr-D), with the constants of the
COCO caption evaluation; Bird et al. 2009 (NLTK's BLEU of a sentence, smoothed by method 1 of Chen and Cherry 2014).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from crrg.evaluation.bootstrap import Statistic, mean_statistic
from crrg.evaluation.meteor import FIRST_METEOR, METEOR_1_5, meteor_counts, meteor_from_counts
from crrg.evaluation.ngrams import MAX_ORDER, NGram, PairCounts, count_pairs
from crrg.evaluation.protocols import Protocol, Tokens, caption_words, stemmed_words, tokenize, wordpunct

_TINY, _SMALL = 1e-15, 1e-9
_ROUGE_BETA = 1.2
_CIDER_SIGMA = 6.0
_NLTK_WEIGHTS = ((1.0,), (0.5, 0.5), (0.33, 0.33, 0.33), (0.25, 0.25, 0.25, 0.25))
_NLTK_SMOOTHING = 0.1


def score_text(
    candidates: Sequence[str],
    references: Sequence[str],
    protocol: Protocol = "rgrg",
    *,
    frequencies: Mapping[NGram, int] | None = None,
    with_per_report: bool = False,
) -> dict[str, float]:
    """Score drafts against the reports that a radiologist wrote, one reference each.

    Args:
        candidates: Drafts.
        references: Reports in the same order.
        protocol: How the texts are cut into tokens.
        frequencies: Document frequencies for ``cider_d_given_idf`` (``rgrg_document_frequencies``).
        with_per_report: Whether to add ``<protocol>/bleu_4_mean`` (mean of smoothed sentence BLEU-4).

    Returns:
        ``<protocol>/bleu_1`` .. ``bleu_4`` (0..1, of the corpus; under ``nltk`` the mean of reports), ``rouge_l``
        (0..1), ``cider_d`` (0..10) and ``meteor_offline`` (0..1, *not* METEOR 1.5). All 0 where there are no reports.
    """
    _check_pairs(candidates, references)
    found = text_statistics(candidates, references, protocol, frequencies=frequencies)
    values = {name: each.value() if len(candidates) else 0.0 for name, each in found.items()}
    if with_per_report:
        first = [tokenize(text, protocol) for text in candidates]
        values["bleu_4_mean"] = _mean(sentence_bleu(first, [tokenize(text, protocol) for text in references]))
    return {f"{protocol}/{name}": value for name, value in values.items()}


def text_statistics(
    candidates: Sequence[str],
    references: Sequence[str],
    protocol: Protocol = "rgrg",
    *,
    frequencies: Mapping[NGram, int] | None = None,
) -> dict[str, Statistic]:
    """Return the figures of ``score_text`` as sums per report, for intervals and subgroups.

    Document frequencies of CIDEr-D are those of all references and stay so in a sample or a subgroup.
    """
    _check_pairs(candidates, references)
    first = [tokenize(text, protocol) for text in candidates]
    second = [tokenize(text, protocol) for text in references]
    pairs = count_pairs(first, second)
    counts = _bleu_counts(pairs)
    if protocol == "nltk":
        smoothed = nltk_bleu_from_counts(counts)
        figures = {f"bleu_{order + 1}": mean_statistic(smoothed[:, order]) for order in range(MAX_ORDER)}
        stems = [stemmed_words(text) for text in candidates], [stemmed_words(text) for text in references]
        figures["rouge_l"] = mean_statistic(rouge_l_per_report(*stems, beta=1.0))
    else:
        figures = {f"bleu_{n + 1}": Statistic(counts, partial(_bleu_of_order, order=n)) for n in range(MAX_ORDER)}
        found, wanted = ([caption_words(text, protocol) for text in texts] for texts in (candidates, references))
        figures["rouge_l"] = mean_statistic(rouge_l_per_report(found, wanted))
    figures["cider_d"] = mean_statistic(_cider_d(pairs))
    if frequencies is not None:
        figures["cider_d_given_idf"] = mean_statistic(_cider_d(pairs, frequencies))
    weights = FIRST_METEOR if protocol == "nltk" else METEOR_1_5
    matches = meteor_counts(first, second, weights)
    if protocol == "nltk":
        figures["meteor_offline"] = mean_statistic(np.array([meteor_from_counts(row, weights) for row in matches]))
    else:
        figures["meteor_offline"] = Statistic(matches, meteor_from_counts)
    return figures


def bleu(candidates: Sequence[Tokens], references: Sequence[Tokens]) -> tuple[float, float, float, float]:
    """Return corpus BLEU-1 to BLEU-4 (0..1) with one reference each, brevity penalty over the whole corpus."""
    counts = bleu_counts(candidates, references).sum(axis=0)
    return bleu_from_counts(counts)


def bleu_counts(candidates: Sequence[Tokens], references: Sequence[Tokens]) -> NDArray[np.float64]:
    """Return per report the sums that corpus BLEU is made of, so that a bootstrap can add them up.

    Returns:
        ``[B, 10]``: 4 matches, 4 possible matches, candidate length, reference length.
    """
    return _bleu_counts(count_pairs(candidates, references))


def caption_counts(
    candidates: Sequence[Tokens], references: Sequence[Tokens]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return ``bleu_counts`` ``[B, 10]`` and ``cider_d_per_report`` ``[B]``, whose runs of tokens are counted once."""
    pairs = count_pairs(candidates, references)
    return _bleu_counts(pairs), _cider_d(pairs)


def _bleu_counts(pairs: PairCounts) -> NDArray[np.float64]:
    num_pairs = len(pairs.candidate_lengths)
    matches = []
    for order in pairs.orders:
        found, wanted = order.shared
        times = np.minimum(order.candidates.counts[found], order.references.counts[wanted])
        matches.append(np.bincount(order.candidates.texts[found], weights=times, minlength=num_pairs))
    possible = [np.maximum(pairs.candidate_lengths - order, 0) for order in range(MAX_ORDER)]
    return np.stack([*matches, *possible, pairs.candidate_lengths, pairs.reference_lengths], axis=1).astype(float)


def bleu_from_counts(counts: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Return BLEU-1 to BLEU-4 from summed counts ``[10]`` of ``bleu_counts``; 0 for empty candidates."""
    length, wanted_length = float(counts[-2]), float(counts[-1])
    if length == 0:
        return 0.0, 0.0, 0.0, 0.0
    ratio = (length + _TINY) / (wanted_length + _SMALL)
    penalty = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    product = 1.0
    values = []
    for order in range(MAX_ORDER):
        product *= (counts[order] + _TINY) / (counts[MAX_ORDER + order] + _SMALL)
        values.append(product ** (1 / (order + 1)) * penalty)
    return values[0], values[1], values[2], values[3]


def nltk_bleu_from_counts(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return NLTK's BLEU-1 to BLEU-4 ``[B, 4]`` of each report from ``bleu_counts``: a missing order counts as 0.1."""
    possible = np.maximum(counts[:, MAX_ORDER : 2 * MAX_ORDER], 1)
    matches = np.where(counts[:, :MAX_ORDER] > 0, counts[:, :MAX_ORDER], _NLTK_SMOOTHING)
    logs = np.log(matches / possible)
    lengths, wanted = counts[:, -2], counts[:, -1]
    penalty = np.exp(np.minimum(0.0, 1 - wanted / np.maximum(lengths, 1)))
    columns = [logs[:, : len(weights)] @ np.array(weights) for weights in _NLTK_WEIGHTS]
    values = np.exp(np.stack(columns, axis=1)) * penalty[:, None]
    return np.where((lengths > 0)[:, None] & (counts[:, :1] > 0), values, 0.0)


def sentence_bleu(candidates: Sequence[Tokens], references: Sequence[Tokens]) -> NDArray[np.float64]:
    """Return BLEU-4 of each report ``[B]``, orders above 1 smoothed by one (Lin and Och 2004)."""
    counts = bleu_counts(candidates, references)
    matches, possible = counts[:, :MAX_ORDER].copy(), counts[:, MAX_ORDER : 2 * MAX_ORDER].copy()
    matches[:, 1:] += 1
    possible[:, 1:] += 1
    lengths, wanted = counts[:, -2], counts[:, -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        penalty = np.where(lengths < wanted, np.exp(1 - wanted / lengths), 1.0)
        value = np.exp(np.log(matches / possible).mean(axis=1)) * penalty
    return np.where((lengths > 0) & (counts[:, 0] > 0), value, 0.0)


def rouge_l_per_report(
    candidates: Sequence[Tokens], references: Sequence[Tokens], beta: float = _ROUGE_BETA
) -> NDArray[np.float64]:
    """Return ROUGE-L F of each report ``[B]`` (0..1); 0 where nothing is common.

    Args:
        candidates: Tokens of drafts.
        references: Tokens of reports in the same order.
        beta: Weight of recall; the COCO caption evaluation has 1.2, the ROUGE of NLTK's users 1.
    """
    from rapidfuzz.distance import LCSseq  # here, as trainings, which import this file, need it for no step

    pairs = list(zip(candidates, references, strict=True))
    common = np.array([LCSseq.similarity(candidate, reference) for candidate, reference in pairs], dtype=float)
    lengths = np.array([len(candidate) for candidate, _ in pairs], dtype=float)
    wanted = np.array([len(reference) for _, reference in pairs], dtype=float)
    return rouge_l_from_lengths(common, lengths, wanted, beta)


def rouge_l_from_lengths(
    common: NDArray[np.float64],
    candidate_lengths: NDArray[np.float64],
    reference_lengths: NDArray[np.float64],
    beta: float = _ROUGE_BETA,
) -> NDArray[np.float64]:
    """Return ROUGE-L F ``[B]`` from the lengths of longest common subsequences, candidates and references."""
    precision, recall = common / np.maximum(candidate_lengths, 1), common / np.maximum(reference_lengths, 1)
    weighted = recall + beta**2 * precision
    return np.asarray((1 + beta**2) * precision * recall / np.where(weighted > 0, weighted, 1.0))


def document_frequencies(references: Sequence[Tokens]) -> Counter[NGram]:
    """Return in how many reports each run of one to four tokens stands."""
    return Counter(
        gram for tokens in references for order in range(1, MAX_ORDER + 1) for gram in _ngrams(tokens, order)
    )


def rgrg_document_frequencies(validation_references: Sequence[str]) -> Counter[NGram]:
    """Return the document frequencies that RGRG's CIDEr-D uses: of validation reports, in lower case and cut elsewhere.

    Runs with a capital letter, a word glued to a comma or of a test report alone are then unknown and weigh most, so
    ``cider_d_given_idf`` compares with RGRG's kind of figure and with no other.
    """
    return document_frequencies([wordpunct(text) for text in validation_references])


def cider_d_per_report(
    candidates: Sequence[Tokens], references: Sequence[Tokens], frequencies: Mapping[NGram, int] | None = None
) -> NDArray[np.float64]:
    """Return CIDEr-D of each report ``[B]`` (0..10).

    Args:
        candidates: Tokens of drafts.
        references: Tokens of reports in the same order; their number is the number of documents.
        frequencies: In how many documents a run of tokens stands; those of the references by default.
    """
    return _cider_d(count_pairs(candidates, references), frequencies)


def _cider_d(pairs: PairCounts, frequencies: Mapping[NGram, int] | None = None) -> NDArray[np.float64]:
    """Return the mean over orders of the cosine of two weighted texts, a draft's weight cut at the reference's."""
    num_pairs = len(pairs.candidate_lengths)
    log_size = math.log(max(num_pairs, 1))
    total = np.zeros(num_pairs)
    for place, order in enumerate(pairs.orders):
        idf = log_size - np.log(np.maximum(pairs.frequencies(place, frequencies), 1))
        sides = order.candidates, order.references
        found, wanted = (side.counts * idf[side.runs] for side in sides)
        squares = [
            np.bincount(side.texts, weights=weights**2, minlength=num_pairs)
            for side, weights in zip(sides, (found, wanted), strict=True)
        ]
        ours, theirs = order.shared
        products = np.minimum(found[ours], wanted[theirs]) * wanted[theirs]
        dot = np.bincount(order.candidates.texts[ours], weights=products, minlength=num_pairs)
        norms = np.sqrt(squares[0]) * np.sqrt(squares[1])
        total += np.divide(dot, norms, out=np.zeros(num_pairs), where=norms > 0)
    gaps = pairs.candidate_lengths - pairs.reference_lengths
    return np.asarray(10 * np.exp(-(gaps**2) / (2 * _CIDER_SIGMA**2)) * total / MAX_ORDER)


def _bleu_of_order(counts: NDArray[np.float64], order: int) -> float:
    return bleu_from_counts(counts)[order]


def _ngrams(tokens: Tokens, order: int) -> Counter[NGram]:
    return Counter(zip(*(tokens[i:] for i in range(order)), strict=False))


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else 0.0


def _check_pairs(candidates: Sequence[str], references: Sequence[str]) -> None:
    if len(candidates) != len(references):
        raise ValueError(f"{len(candidates)} candidates but {len(references)} references: give one reference each")
