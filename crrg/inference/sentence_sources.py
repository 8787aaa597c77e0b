"""Which regions said the sentences of a draft, found again from its text and its regions' phrases.

Tables and documents keep both, but not which sentence came from which phrase: phrases are cut into sentences, repeats
go, and normal sentences lose what others contradict. What became of a phrase is asked of the rules of ``assembly``,
for both ways of assembling since a document does not say which one it was. Only near repeats that a bundle's own
encoder found are not known here: they count where they share their words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache

from crrg.domain.sentences import split_sentences
from crrg.evaluation.labeler import label_report
from crrg.inference.assembly import what_holds, whole_sentences
from crrg.inference.dedup import SIMILARITY_THRESHOLD, lexical_similarity
from crrg.inference.statements import SIDES, Labeler, Statement, read_statement


def sentence_sources(
    findings: str, phrases: Mapping[str, str], labeler: Labeler = label_report
) -> list[tuple[str, list[str]]]:
    """Return the sentences of a draft in their order, each with the regions that said it, in theirs.

    Args:
        findings: The draft.
        phrases: Region to phrase, in the order of ``REGIONS``; regions of which nothing was said are left out.
        labeler: The one that assembled the draft.

    Returns:
        One pair per sentence; its regions are empty where none is known. What is left of "The lungs are clear." is said
        by the lung that it is left for, if that one said so. Empty for an empty draft.
    """
    told = split_sentences(findings)

    @cache
    def read(sentence: str) -> Statement:
        return read_statement(sentence, labeler)

    @cache
    def became(sentence: str) -> frozenset[str]:
        return _became(sentence, told, read, labeler)

    said: dict[str, set[str]] = {region: set() for region in phrases}
    for region, sentence in (*_ours(phrases), *_published(phrases)):
        said[region].add(sentence)
    sources = []
    for sentence in told:
        regions = [region for region in phrases if any(sentence in became(other) for other in said[region])]
        apt = [region for region in regions if sentence in said[region] or not _is_beside(region, read(sentence))]
        sources.append((sentence, apt or regions))
    return sources


def _became(sentence: str, told: Sequence[str], read: Callable[[str], Statement], labeler: Labeler) -> frozenset[str]:
    """Return which sentences of a draft tell what a region said: itself, a near repeat, or what is left of a denial."""
    if sentence in told:
        return frozenset({sentence})
    scores = lexical_similarity([sentence, *told])[0, 1:]
    near = {other for other, score in zip(told, scores.tolist(), strict=True) if score > SIMILARITY_THRESHOLD}
    left = what_holds(read(sentence), [read(other) for other in told], labeler)
    return frozenset(near.union(each for each in left if each in told))


def _is_beside(region: str, statement: Statement) -> bool:
    """Return whether a region lies on the other side than the one that a sentence speaks of."""
    side = region.partition(" ")[0]
    return side in SIDES and side not in statement.sides


def _ours(phrases: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield region and sentence as ``assemble`` cuts phrases."""
    return ((region, sentence) for region, phrase in phrases.items() for sentence in whole_sentences(phrase))


def _published(phrases: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield region and sentence as ``assemble_published`` does, where a phrase that was cut off runs into the next."""
    joined = ""
    places: dict[str, tuple[int, int]] = {}
    for region, phrase in phrases.items():
        text = " ".join(phrase.split())
        if not text:
            continue
        places[region] = len(joined), len(joined) + len(text)
        joined += f"{text} "
    start = 0
    for sentence in split_sentences(joined):
        start = joined.index(sentence, start)
        end = start + len(sentence)
        yield from ((region, sentence) for region, (first, last) in places.items() if first < end and start < last)
        start = end
