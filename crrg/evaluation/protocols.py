"""How published systems cut a report into tokens before they score it, which moves every figure.

Only text to tokens; the figures are in ``text``. What each protocol does is data (``PROTOCOLS``), so that a scorecard
can say it.

Source: RGRG (Tanida et al., CVPR 2023); R2Gen (Chen et al., EMNLP 2020); the Penn Treebank tokens of NLTK (Bird et al.,
2009), all by their published descriptions.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from crrg.evaluation.stemming import stem

Protocol = Literal["rgrg", "r2gen", "nltk"]
Tokens: TypeAlias = list[str]
UNKNOWN = "<unk>"


@dataclass(frozen=True)
class ProtocolRules:
    """What a protocol does to a text, for a reader of its figures.

    Attributes:
        case: What becomes of capital letters.
        punctuation: What becomes of punctuation.
        empty_candidates: What the published code does with an empty draft; here it scores 0 unless asked otherwise.
        max_tokens: Longest text in tokens, the rest is cut off; 0 for no limit.
        bleu: How BLEU is averaged.
        differs: Where this implementation is known to give other figures than the published code.
    """

    case: str
    punctuation: str
    empty_candidates: str
    max_tokens: int
    bleu: str
    differs: str


PROTOCOLS: Mapping[Protocol, ProtocolRules] = {
    "rgrg": ProtocolRules(
        "kept", "full stops stand alone, all else stays glued to its word", "left out with the reference", 0, "corpus",
        "METEOR without Java has no paraphrases",
    ),
    "r2gen": ProtocolRules(
        "lower", "removed, except hyphens; each sentence ends in a full stop of its own", "scored", 99, "corpus",
        "rare words become <unk> only where a vocabulary is given; 99 words for MIMIC-CXR, 59 for Open-i",
    ),
    "nltk": ProtocolRules(
        "lower", "Penn Treebank", "scored as 0", 0, "mean of reports, smoothed by 0.1",
        "sentences end at . ? ! before a space instead of by the trained Punkt model; Porter2 stems for Porter's; "
        "no WordNet unless synonyms are given; CIDEr over the corpus, since one report alone always gives 0",
    ),
}  # fmt: skip
"""What each protocol does."""

_SPACES = re.compile(" +")
_R2GEN_REMOVED = re.compile(r"""[.,?;*!%^&_+():<=>@\[\]{}"/\\']""")
_R2GEN_DOTS = re.compile(r"\.{2,}")
_R2GEN_UNDERSCORES = re.compile(r"_{2,}")
_R2GEN_NUMBERS = "2345"
"""Of items of a list; each ends the sentence before it. The first item's is taken away wherever it stands."""
_WORDPUNCT = re.compile(r"\w+|[^\w\s]+")
_SENTENCE_END = re.compile(r"(?<=[.?!])\s+")
_NOT_ALPHANUMERIC = re.compile(r"[^a-z0-9]+")
_TREEBANK: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), into)
    for pattern, into in (
        (r'^"', "`` "),
        (r"(``)", r" \1 "),
        (r"([ (\[{<])(\"|'{2})", r"\1 `` "),
        (r"([^.])(\.)([\])}>\"' ]*)\s*$", r"\1 \2 \3 "),
        (r"([:,])([^\d])", r" \1 \2"),
        (r"([:,])$", r" \1 "),
        (r"\.{2,}", r" \g<0> "),
        (r"[;@#$%&]", r" \g<0> "),
        (r"[?!]", r" \g<0> "),
        (r"([^'])' ", r"\1 ' "),
        (r"[*]", r" \g<0> "),
        (r"[\]\[(){}<>]", r" \g<0> "),
        (r"--", " -- "),
        (r"$", " "),
        (r"^", " "),
        (r"''", " '' "),
        (r'"', " '' "),
        (r"([^' ])('s|'m|'d|') ", r"\1 \2 "),
        (r"([^' ])('ll|'re|'ve|n't) ", r"\1 \2 "),
        (r"\b(can)(not)\b", r" \1 \2 "),
    )
)


def tokenize(
    text: str, protocol: Protocol, *, max_tokens: int | None = None, vocabulary: Collection[str] | None = None
) -> Tokens:
    """Cut a text into tokens by a protocol; an empty text has none.

    Args:
        text: Report or sentence.
        protocol: Whose rules.
        max_tokens: Longest result, the rest is cut off; the protocol's own by default, 0 for no limit.
        vocabulary: Words that stay, all others become ``<unk>`` (``frequent_words``; R2Gen's rule for rare words).
    """
    if not text.strip():
        return []
    limit = PROTOCOLS[protocol].max_tokens if max_tokens is None else max_tokens
    cut = {"rgrg": _cut_rgrg, "r2gen": _cut_r2gen, "nltk": _cut_nltk}[protocol](text)
    tokens = cut[:limit] if limit else cut
    return tokens if vocabulary is None else [token if token in vocabulary else UNKNOWN for token in tokens]


def caption_words(text: str, protocol: Protocol) -> Tokens:
    """Return what the COCO caption evaluation's ROUGE-L compares, which parts words at blanks alone.

    Other white space stays inside a word there, a blank before the first word makes an empty one, and so does an empty
    text: two empty texts are alike.
    """
    if protocol == "rgrg":
        return _prepared(text).split(" ")
    return tokenize(text, protocol) or [""]


def frequent_words(reports: Iterable[str], minimum: int = 10, protocol: Protocol = "r2gen") -> frozenset[str]:
    """Return the words that stand at least ``minimum`` times in training reports (R2Gen: 10, Open-i 3)."""
    counts = Counter(token for report in reports for token in tokenize(report, protocol, max_tokens=0))
    return frozenset(word for word, count in counts.items() if count >= minimum)


def wordpunct(text: str) -> Tokens:
    """Return words and runs of punctuation in lower case, as RGRG cuts reports for document frequencies."""
    return _WORDPUNCT.findall(text.lower())


def stemmed_words(text: str) -> Tokens:
    """Return letters and digits only, in lower case, longer words stemmed, as the stemmed ROUGE-L."""
    return [stem(word) if len(word) > 3 else word for word in _NOT_ALPHANUMERIC.sub(" ", text.lower()).split()]


def _prepared(text: str) -> str:
    return _SPACES.sub(" ", text.replace(".", " ."))


def _cut_rgrg(text: str) -> Tokens:
    return _prepared(text).split()


def _cut_r2gen(text: str) -> Tokens:
    text = _R2GEN_UNDERSCORES.sub("_", text.replace("\n", " "))
    text = _R2GEN_DOTS.sub(".", _SPACES.sub(" ", text)).replace("1. ", "")
    for before in (". ", " "):
        for number in _R2GEN_NUMBERS:
            text = text.replace(f"{before}{number}. ", ". ")
    sentences = (_R2GEN_REMOVED.sub("", sentence) for sentence in text.strip().lower().split(". "))
    return " ".join(f"{sentence} ." for sentence in sentences).split()


def _cut_nltk(text: str) -> Tokens:
    tokens: Tokens = []
    for sentence in _SENTENCE_END.split(text.strip().lower()):
        for pattern, into in _TREEBANK:
            sentence = pattern.sub(into, sentence)
        tokens += sentence.split()
    return tokens
