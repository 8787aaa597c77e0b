"""Scores drafted text against reference text: BLEU, ROUGE-L, CIDEr-D and a METEOR without language resources.

Every figure carries the protocol by which the text was cut into tokens, because the protocol moves the figure:
``rgrg`` keeps case and only sets full stops apart, ``r2gen`` lower-cases. Knows nothing of labels: see ``clinical``.

Source: Papineni et al. 2002 (BLEU), Lin 2004 (ROUGE-L), Vedantam et al. 2015 (CIDEr-D), with the constants of the
COCO caption evaluation; token protocol of RGRG (Tanida et al., CVPR 2023).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import LCSseq

Protocol = Literal["rgrg", "r2gen"]
Tokens: TypeAlias = list[str]
NGram: TypeAlias = tuple[str, ...]

_MAX_ORDER = 4
_TINY, _SMALL = 1e-15, 1e-9
_ROUGE_BETA = 1.2
_CIDER_SIGMA = 6.0
_SPACES = re.compile(" +")
_SUFFIXES = ("ations", "ation", "ings", "ing", "edly", "ies", "ed", "es", "ly", "s", "e", "y")


def tokenize(text: str, protocol: Protocol) -> Tokens:
    """Cut a text into tokens by a protocol; an empty text has none."""
    spaced = _SPACES.sub(" ", text.replace(".", " ."))
    return (spaced.lower() if protocol == "r2gen" else spaced).split()


def score_text(
    candidates: Sequence[str],
    references: Sequence[str],
    protocol: Protocol = "rgrg",
    *,
    with_per_report: bool = False,
) -> dict[str, float]:
    """Score drafts against the reports that a radiologist wrote, one reference each.

    Args:
        candidates: Drafts; an empty draft counts as empty, it is not left out.
        references: Reports in the same order.
        protocol: How the texts are cut into tokens.
        with_per_report: Whether to add ``<protocol>/bleu_4_mean`` (mean of smoothed sentence BLEU-4).

    Returns:
        ``<protocol>/bleu_1`` .. ``bleu_4`` (0..1, corpus level), ``rouge_l`` (0..1), ``cider_d`` (0..10) and
        ``meteor_stem`` (0..1, *not* METEOR 1.5: no synonyms or paraphrases). All 0 where there are no reports.
    """
    _check_pairs(candidates, references)
    first = [tokenize(text, protocol) for text in candidates]
    second = [tokenize(text, protocol) for text in references]
    values = {f"bleu_{order}": float(value) for order, value in enumerate(bleu(first, second), start=1)}
    values["rouge_l"] = _mean(rouge_l_per_report(first, second))
    values["cider_d"] = _mean(cider_d_per_report(first, second))
    values["meteor_stem"] = _mean(meteor_stem_per_report(first, second))
    if with_per_report:
        values["bleu_4_mean"] = _mean(sentence_bleu(first, second))
    return {f"{protocol}/{name}": value for name, value in values.items()}


def bleu(candidates: Sequence[Tokens], references: Sequence[Tokens]) -> tuple[float, float, float, float]:
    """Return corpus BLEU-1 to BLEU-4 (0..1) with one reference each, brevity penalty over the whole corpus."""
    counts = bleu_counts(candidates, references).sum(axis=0)
    return bleu_from_counts(counts)


def bleu_counts(candidates: Sequence[Tokens], references: Sequence[Tokens]) -> NDArray[np.float64]:
    """Return per report the sums that corpus BLEU is made of, so that a bootstrap can add them up.

    Returns:
        ``[B, 10]``: 4 matches, 4 possible matches, candidate length, reference length.
    """
    counts = np.zeros((len(candidates), 2 * _MAX_ORDER + 2))
    for row, candidate, reference in zip(counts, candidates, references, strict=True):
        for order in range(1, _MAX_ORDER + 1):
            wanted = _ngrams(reference, order)
            row[order - 1] = sum(
                min(n, wanted[gram]) for gram, n in _ngrams(candidate, order).items() if gram in wanted
            )
            row[_MAX_ORDER + order - 1] = max(0, len(candidate) - order + 1)
        row[-2:] = len(candidate), len(reference)
    return counts


def bleu_from_counts(counts: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Return BLEU-1 to BLEU-4 from summed counts ``[10]`` of ``bleu_counts``; 0 for empty candidates."""
    length, wanted_length = float(counts[-2]), float(counts[-1])
    if length == 0:
        return 0.0, 0.0, 0.0, 0.0
    ratio = (length + _TINY) / (wanted_length + _SMALL)
    penalty = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    product = 1.0
    values = []
    for order in range(_MAX_ORDER):
        product *= (counts[order] + _TINY) / (counts[_MAX_ORDER + order] + _SMALL)
        values.append(product ** (1 / (order + 1)) * penalty)
    return values[0], values[1], values[2], values[3]


def sentence_bleu(candidates: Sequence[Tokens], references: Sequence[Tokens]) -> NDArray[np.float64]:
    """Return BLEU-4 of each report ``[B]``, orders above 1 smoothed by one (Lin and Och 2004)."""
    counts = bleu_counts(candidates, references)
    matches, possible = counts[:, :_MAX_ORDER].copy(), counts[:, _MAX_ORDER : 2 * _MAX_ORDER].copy()
    matches[:, 1:] += 1
    possible[:, 1:] += 1
    lengths, wanted = counts[:, -2], counts[:, -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        penalty = np.where(lengths < wanted, np.exp(1 - wanted / lengths), 1.0)
        value = np.exp(np.log(matches / possible).mean(axis=1)) * penalty
    return np.where((lengths > 0) & (counts[:, 0] > 0), value, 0.0)


def rouge_l_per_report(candidates: Sequence[Tokens], references: Sequence[Tokens]) -> NDArray[np.float64]:
    """Return ROUGE-L F of each report ``[B]`` (beta 1.2, 0..1); 0 where nothing is common."""
    pairs = list(zip(candidates, references, strict=True))
    common = np.array([LCSseq.similarity(candidate, reference) for candidate, reference in pairs], dtype=float)
    lengths = np.array([len(candidate) for candidate, _ in pairs], dtype=float)
    return rouge_l_from_lengths(common, lengths, np.array([len(reference) for _, reference in pairs], dtype=float))


def rouge_l_from_lengths(
    common: NDArray[np.float64], candidate_lengths: NDArray[np.float64], reference_lengths: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return ROUGE-L F ``[B]`` from the lengths of longest common subsequences, candidates and references."""
    precision, recall = common / np.maximum(candidate_lengths, 1), common / np.maximum(reference_lengths, 1)
    weighted = recall + _ROUGE_BETA**2 * precision
    return np.asarray((1 + _ROUGE_BETA**2) * precision * recall / np.where(weighted > 0, weighted, 1.0))


def cider_d_per_report(candidates: Sequence[Tokens], references: Sequence[Tokens]) -> NDArray[np.float64]:
    """Return CIDEr-D of each report ``[B]`` (0..10); document frequencies are those of the references."""
    wanted = [[_ngrams(tokens, order) for order in range(1, _MAX_ORDER + 1)] for tokens in references]
    frequency: Counter[NGram] = Counter(gram for grams in wanted for counter in grams for gram in counter)
    log_size = math.log(max(len(references), 1))
    idf = {gram: log_size - math.log(n) for gram, n in frequency.items()}
    values = np.zeros(len(candidates))
    for i, (candidate, grams) in enumerate(zip(candidates, wanted, strict=True)):
        difference = len(candidate) - len(references[i])
        weight = math.exp(-(difference**2) / (2 * _CIDER_SIGMA**2))
        total = sum(_cider_order(_ngrams(candidate, order), grams[order - 1], idf, log_size) for order in range(1, 5))
        values[i] = 10 * weight * total / _MAX_ORDER
    return values


def _cider_order(found: Counter[NGram], wanted: Counter[NGram], idf: dict[NGram, float], unknown: float) -> float:
    norm_found = math.sqrt(sum((n * idf.get(gram, unknown)) ** 2 for gram, n in found.items()))
    norm_wanted = math.sqrt(sum((n * idf[gram]) ** 2 for gram, n in wanted.items()))
    if norm_found == 0 or norm_wanted == 0:
        return 0.0
    dot = sum(min(n, wanted[gram]) * wanted[gram] * idf[gram] ** 2 for gram, n in found.items() if gram in wanted)
    return dot / (norm_found * norm_wanted)


def meteor_stem_per_report(candidates: Sequence[Tokens], references: Sequence[Tokens]) -> NDArray[np.float64]:
    """Return an offline METEOR of each report ``[B]`` (0..1).

    Words match exactly or by a simple stem (a common ending cut off); each match takes the nearest free word after the
    previous match. Parameters of the first METEOR: F = 10PR/(R+9P), penalty 0.5 (chunks/matches)^3. It is not METEOR
    1.5: no synonyms, no paraphrases, no function-word weights, so it compares only with itself.
    """
    return np.array([_meteor_stem(*pair) for pair in zip(candidates, references, strict=True)])


def _meteor_stem(candidate: Tokens, reference: Tokens) -> float:
    places: dict[str, list[int]] = {}
    for j, token in enumerate(reference):
        places.setdefault(_stem(token), []).append(j)
    matches, chunks, last = 0, 0, -2
    for token in candidate:
        free = places.get(_stem(token))
        if not free:
            last = -2
            continue
        j = next((place for place in free if place > last), free[0]) if last + 1 not in free else last + 1
        free.remove(j)
        matches += 1
        chunks += j != last + 1
        last = j
    if matches == 0:
        return 0.0
    precision, recall = matches / len(candidate), matches / len(reference)
    return 10 * precision * recall / (recall + 9 * precision) * (1 - 0.5 * (chunks / matches) ** 3)


def _stem(token: str) -> str:
    word = token.lower()
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            return word[: -len(suffix)]
    return word


def _ngrams(tokens: Tokens, order: int) -> Counter[NGram]:
    return Counter(zip(*(tokens[i:] for i in range(order)), strict=False))


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else 0.0


def _check_pairs(candidates: Sequence[str], references: Sequence[str]) -> None:
    if len(candidates) != len(references):
        raise ValueError(f"{len(candidates)} candidates but {len(references)} references: give one reference each")
