"""How published systems cut a report into tokens before they score it, which moves every figure.

Only text to tokens; the figures are in ``text``. Known differences from the published code:

- ``rgrg``: METEOR without Java has no paraphrases, and an empty draft scores 0; only the figures ``…_nonempty_only``
  leave it out with its reference, which flatters a system that says nothing.
- ``r2gen``: rare words are kept, where R2Gen replaces them by ``<unk>``.
- ``nltk``: sentences end at . ? ! before a space instead of by the trained Punkt model; Porter2 stems for Porter's; no
  WordNet; CIDEr over the corpus, since one report alone always gives 0.

Source: RGRG (Tanida et al., CVPR 2023); R2Gen (Chen et al., EMNLP 2020); the Penn Treebank tokens of NLTK (Bird et al.,
2009), all by their published descriptions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, TypeAlias

from crrg.evaluation.stemming import stem

Protocol = Literal["rgrg", "r2gen", "nltk"]
Tokens: TypeAlias = list[str]


MAX_TOKENS: Mapping[Protocol, int] = {"rgrg": 0, "r2gen": 99, "nltk": 0}
"""Longest text in tokens by protocol, the rest is cut off; 0 for no limit. R2Gen cuts Open-i at 59 instead."""
PROTOCOLS: tuple[Protocol, ...] = tuple(MAX_TOKENS)

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


def tokenize(text: str, protocol: Protocol, *, max_tokens: int | None = None) -> Tokens:
    """Cut a text into tokens by a protocol; an empty text has none.

    Args:
        text: Report or sentence.
        protocol: Whose rules.
        max_tokens: Longest result, the rest is cut off; the protocol's own by default, 0 for no limit.
    """
    if not text.strip():
        return []
    limit = MAX_TOKENS[protocol] if max_tokens is None else max_tokens
    cut = {"rgrg": _cut_rgrg, "r2gen": _cut_r2gen, "nltk": _cut_nltk}[protocol](text)
    return cut[:limit] if limit else cut


def caption_words(text: str, protocol: Protocol) -> Tokens:
    """Return what the COCO caption evaluation's ROUGE-L compares, which parts words at blanks alone.

    Other white space stays inside a word there, a blank before the first word makes an empty one, and so does an empty
    text: two empty texts are alike.
    """
    if protocol == "rgrg":
        return _prepared(text).split(" ")
    return tokenize(text, protocol) or [""]


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
