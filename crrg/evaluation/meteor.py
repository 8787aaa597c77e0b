"""METEOR without Java: words matched exactly, by stem and, where synonyms are handed in, by meaning.

With the parameters of METEOR 1.5, and these differences from it, which is why a figure is called ``meteor_offline``:

- no paraphrase table, and synonyms only where the caller has some (1.5 has WordNet's): matches are missed, so the
  figure is lower than 1.5's for drafts in other words, and equal for drafts that repeat the reference;
- the list of function words is a short one of our own;
- words are aligned by taking the longest common runs first, where 1.5 searches with a beam for the fewest chunks;
- words with a hyphen or a slash stay whole.

Sums of reports make the figure of a corpus, as in 1.5, so that a bootstrap can add them up. ``meteor_jar`` asks 1.5.
The first form aligns as NLTK does: from the last word back, kind by kind, whatever runs that breaks up.

Source: Denkowski and Lavie, Meteor Universal, WMT 2014; Banerjee and Lavie 2005 (the first form, which NLTK has).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crrg.evaluation.protocols import Tokens
from crrg.evaluation.stemming import stem

Synonyms = Mapping[str, Collection[str]]
"""Groups of meaning by word; two words that share a group are synonyms."""

FUNCTION_WORDS = frozenset((
    "a", "an", "the", "and", "or", "but", "nor", "of", "in", "on", "at", "to", "for", "from", "by", "with",
    "without", "as", "is", "are", "was", "were", "be", "been", "being", "has", "have", "had", "do", "does",
    "did", "will", "would", "can", "could", "may", "might", "should", "must", "not", "no", "that", "this",
    "these", "those", "there", "it", "its", "they", "their", "them", "he", "she", "his", "her", "we", "our",
    "you", "your", "i", "which", "who", "whom", "what", "when", "where", "than", "then", "also", "into", "over",
    "under", "about", "between", "both", "each", "all", "any", "some", "such", "so", "if",
    *".,;:()[]{}-/?!'\"%",
))  # fmt: skip

_WORDS = re.compile(r"\w+(?:['.\-/]\w+)*|[^\w\s]")
_NUM_SUMS = 8


@dataclass(frozen=True)
class MeteorParameters:
    """Weights of METEOR.

    Attributes:
        alpha: Weight of precision in the mean, 0..1; near 1 recall decides.
        beta: Power of the fragmentation.
        gamma: Largest penalty.
        delta: Weight of content words; function words have the rest.
        exact: Weight of an exact match.
        stem: Weight of a match by stem.
        synonym: Weight of a match by meaning.
        prefers_runs: Whether words are cut apart and aligned as above; otherwise they stay as they are, and are aligned
            as by NLTK.
    """

    alpha: float = 0.85
    beta: float = 0.2
    gamma: float = 0.6
    delta: float = 0.75
    exact: float = 1.0
    stem: float = 0.6
    synonym: float = 0.8
    prefers_runs: bool = True


METEOR_1_5 = MeteorParameters()
FIRST_METEOR = MeteorParameters(
    alpha=0.9, beta=3.0, gamma=0.5, delta=0.5, exact=1.0, stem=1.0, synonym=1.0, prefers_runs=False
)
"""The form of 2005, as NLTK has it."""


def meteor_counts(
    candidates: Sequence[Tokens],
    references: Sequence[Tokens],
    parameters: MeteorParameters = METEOR_1_5,
    synonyms: Synonyms | None = None,
) -> NDArray[np.float64]:
    """Return per report the sums that METEOR is made of.

    Args:
        candidates: Tokens of drafts; they are lower-cased here, and punctuation is set apart as the parameters say.
        references: Tokens of reports in the same order.
        parameters: Weights.
        synonyms: Groups of meaning by word in lower case; none by default.

    Returns:
        ``[B, 8]``: weighted matches and weights of the draft, of the reference, chunks, matches, both lengths.
    """
    known: dict[tuple[str, str], NDArray[np.float64]] = {}
    rows = np.zeros((len(candidates), _NUM_SUMS))
    for row, pair in zip(rows, zip(candidates, references, strict=True), strict=True):
        texts = (" ".join(pair[0]).lower(), " ".join(pair[1]).lower())
        if texts not in known:
            words = [_WORDS.findall(text) if parameters.prefers_runs else text.split() for text in texts]
            known[texts] = _count(words[0], words[1], parameters, synonyms or {})
        row[:] = known[texts]
    return rows


def meteor_from_counts(counts: NDArray[np.float64], parameters: MeteorParameters = METEOR_1_5) -> float:
    """Return METEOR (0..1) of summed counts ``[8]``; 0 where nothing matches."""
    found, found_of, wanted, wanted_of, chunks, matches, length, wanted_length = (float(each) for each in counts)
    if not found or not wanted:
        return 0.0
    precision, recall = found / found_of, wanted / wanted_of
    mean = precision * recall / (parameters.alpha * precision + (1 - parameters.alpha) * recall)
    is_whole = chunks == 1 and matches == length == wanted_length and parameters.beta < 1
    fragmentation = 0.0 if is_whole else chunks / matches
    return float((1 - parameters.gamma * fragmentation**parameters.beta) * mean)


def align(
    candidate: Tokens, reference: Tokens, parameters: MeteorParameters = METEOR_1_5, synonyms: Synonyms | None = None
) -> dict[int, tuple[int, float]]:
    """Return for each matched word of a draft its place in the reference and the weight of the match."""
    if not parameters.prefers_runs:
        return _align_from_the_end(candidate, reference, parameters, synonyms or {})
    links = _links(candidate, reference, parameters, synonyms or {})
    free = sorted(links, reverse=True)
    chosen: dict[int, tuple[int, float]] = {}
    while free:
        runs: dict[tuple[int, int], tuple[int, float]] = {}
        for i, j in free:
            length, weight = runs.get((i + 1, j + 1), (0, 0.0))
            runs[i, j] = length + 1, weight + links[i, j]
        start, (length, _) = max(runs.items(), key=lambda item: (item[1], -abs(item[0][0] - item[0][1]), -item[0][0]))
        for step in range(length):
            i, j = start[0] + step, start[1] + step
            chosen[i] = j, links[i, j]
        (i, j), end = start, length
        free = [pair for pair in free if not (i <= pair[0] < i + end or j <= pair[1] < j + end)]
    return chosen


def _align_from_the_end(
    candidate: Tokens, reference: Tokens, parameters: MeteorParameters, synonyms: Synonyms
) -> dict[int, tuple[int, float]]:
    """Match equal words first, then equal stems, then synonyms, each word with the last one that is free."""
    chosen: dict[int, tuple[int, float]] = {}
    free = list(range(len(reference)))[::-1]
    kinds: tuple[tuple[Callable[[str], Collection[str]], float], ...] = (
        (lambda word: {word}, parameters.exact),
        (lambda word: {stem(word)}, parameters.stem),
        (lambda word: {word, *synonyms.get(word, ())}, parameters.synonym),
    )
    for names_of, weight in kinds:
        names = [frozenset(names_of(word)) for word in reference]
        for i in sorted(set(range(len(candidate))) - chosen.keys(), reverse=True):
            own = frozenset(names_of(candidate[i]))
            j = next((j for j in free if own & names[j]), None)
            if j is not None:
                chosen[i] = j, weight
                free.remove(j)
    return chosen


def _links(
    candidate: Tokens, reference: Tokens, parameters: MeteorParameters, synonyms: Synonyms
) -> dict[tuple[int, int], float]:
    by_stem: dict[str, list[int]] = {}
    by_meaning: dict[str, list[int]] = {}
    for j, word in enumerate(reference):
        by_stem.setdefault(stem(word), []).append(j)
        for group in synonyms.get(word, ()):
            by_meaning.setdefault(group, []).append(j)
    links: dict[tuple[int, int], float] = {}
    for i, word in enumerate(candidate):
        for j in by_stem.get(stem(word), ()):
            links[i, j] = parameters.exact if reference[j] == word else parameters.stem
        for group in synonyms.get(word, ()):
            for j in by_meaning.get(group, ()):
                links[i, j] = max(links.get((i, j), 0.0), parameters.synonym)
    return links


def _count(
    candidate: Tokens, reference: Tokens, parameters: MeteorParameters, synonyms: Synonyms
) -> NDArray[np.float64]:
    def weigh(word: str) -> float:
        return 1 - parameters.delta if word in FUNCTION_WORDS else parameters.delta

    matches = align(candidate, reference, parameters, synonyms)
    found = sum(weight * weigh(candidate[i]) for i, (_, weight) in matches.items())
    wanted = sum(weight * weigh(reference[j]) for j, weight in matches.values())
    chunks = sum(matches.get(i - 1, (-2, 0.0))[0] != j - 1 for i, (j, _) in matches.items())
    weights = sum(map(weigh, candidate)), sum(map(weigh, reference))
    sums = (found, weights[0], wanted, weights[1], chunks, len(matches), len(candidate), len(reference))
    return np.array(sums, dtype=float)
