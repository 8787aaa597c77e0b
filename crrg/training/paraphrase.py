"""Says a sentence of a report in other words, so that a text is not learnt by heart.

The paper translates reports to another language and back. That needs two translation models; whoever has them writes
what they made to a file (``clip.paraphrases`` of the form), or gives ``ClipBatches`` a ``Paraphraser`` that asks them.
The default needs nothing: it swaps words for words of the same meaning and turns sentences round by fixed patterns.
Whatever made it, a new wording is taken only where the rule labeler reads the same labels from it, and sides and
numbers are the same; the sentence stays as it is otherwise.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from crrg.errors import ConfigError
from crrg.evaluation.labeler import label_sentence

SYNONYMS: tuple[tuple[str, ...], ...] = (
    ("is seen", "is noted", "is present", "is identified", "is demonstrated"),
    ("are seen", "are noted", "are present", "are identified", "are demonstrated"),
    ("are clear", "remain clear", "appear clear"),
    ("is normal", "is within normal limits", "is unremarkable"),
    ("are normal", "are within normal limits", "are unremarkable"),
    ("unchanged", "stable"),
    ("mild", "slight"),
    ("mildly", "slightly"),
    ("severe", "marked"),
    ("severely", "markedly"),
    ("opacity", "opacification"),
    ("acute cardiopulmonary disease", "acute cardiopulmonary abnormality", "acute cardiopulmonary process"),
    ("cardiac silhouette", "heart silhouette"),
    ("heart size", "size of the heart"),
    ("compatible with", "consistent with"),
    ("may represent", "could represent", "might represent"),
    ("tip terminates", "tip ends"),
    ("projects over", "is projected over"),
    ("pulmonary vasculature", "pulmonary vascularity"),
    ("osseous structures", "bony structures"),
    ("in place", "in position"),
    ("evidence of", "sign of"),
)
"""Words that may stand for each other."""

PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), new)
    for pattern, new in (
        (r"^no (?!evidence|sign|longer)([^,.;]+?)(?: is seen| is present| is identified)?\.$", r"there is no \1."),
        (r"^no (?!evidence|sign|longer)([^,.;]+?)(?: is seen| is present| is identified)?\.$", r"no evidence of \1."),
        (r"^there is no (?:evidence of )?([^,.;]+)\.$", r"no \1 is seen."),
        (r"^there is ((?!no )[^,.;]+)\.$", r"\1 is seen."),
        (r"^the ([^,.;]+)\.$", r"\1."),
        (r"^([^,.;]+) is (?:seen|noted|present|identified)\.$", r"there is \1."),
        (r"^(heart size|cardiac silhouette|mediastinal contour|lung volumes?) ", r"the \1 "),
    )
)
"""Sentences that may be turned round; words that begin one get their capital letter back."""

_SIDE_OR_NUMBER = re.compile(r"\b(?:left|right|bilateral(?:ly)?|\d+(?:\.\d+)?)\b")
_TRIES = 3


def _word(words: str) -> re.Pattern[str]:
    return re.compile(rf"\b{re.escape(words)}\b", re.IGNORECASE)


_KNOWN = tuple((_word(word), tuple(other for other in group if other != word)) for group in SYNONYMS for word in group)


class Paraphraser(Protocol):
    """Words a sentence another way."""

    def paraphrase(self, sentence: str, rng: np.random.Generator) -> str:
        """Return another wording of a sentence, or the sentence itself.

        Args:
            sentence: One sentence of a report.
            rng: The only source of randomness, so that a batch stays a pure function of its step.
        """


class RuleParaphraser:
    """Swaps one or two expressions and turns a sentence round, by the tables above; needs no model and no network."""

    def paraphrase(self, sentence: str, rng: np.random.Generator) -> str:
        """Return a wording by a random pattern and random synonyms; the sentence itself where no rule fits."""
        fitting = [(pattern, new) for pattern, new in PATTERNS if pattern.search(sentence)]
        if fitting and rng.random() < 0.5:
            pattern, new = fitting[rng.integers(len(fitting))]
            sentence = pattern.sub(new, _small_first(sentence))
        known = [(pattern, others) for pattern, others in _KNOWN if pattern.search(sentence)]
        for index in rng.permutation(len(known))[:2]:
            pattern, others = known[index]
            sentence = pattern.sub(others[rng.integers(len(others))], sentence, count=1)
        return sentence[:1].upper() + sentence[1:]


class TableParaphraser:
    """Takes wordings that were made elsewhere; rules word a sentence that the table does not know."""

    def __init__(self, wordings: Mapping[str, Sequence[str]]) -> None:
        """Keep the table of sentence to its other wordings."""
        self._wordings = wordings
        self._rules = RuleParaphraser()

    def paraphrase(self, sentence: str, rng: np.random.Generator) -> str:
        """Return one of the sentence's wordings at random, or one by rules where there is none."""
        found = self._wordings.get(sentence)
        return found[int(rng.integers(len(found)))] if found else self._rules.paraphrase(sentence, rng)


def paraphraser_of(file: str) -> Paraphraser:
    """Return the paraphraser that a form names.

    Args:
        file: JSON of sentence to a list of wordings; empty for the rules.

    Raises:
        ConfigError: The file cannot be read, or is something else.
    """
    if not file:
        return RuleParaphraser()
    try:
        table = json.loads(_bytes_of(file))
    except ValueError as error:
        raise _not_a_table(file) from error
    lists = list(table.values()) if isinstance(table, dict) else [None]
    if not all(isinstance(found, list) and all(isinstance(each, str) for each in found) for found in lists):
        raise _not_a_table(file)
    return TableParaphraser(table)


def paraphrase_parts(file: str) -> dict[str, str]:
    """Return the part of a stage's hash that tells one table of wordings from another; empty for the rules."""
    return {"paraphrases": hashlib.sha256(_bytes_of(file)).hexdigest()} if file else {}


def _bytes_of(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise ConfigError(
            "the file cannot be read on this machine; name another, or none", "clip.paraphrases"
        ) from error


def _not_a_table(file: str) -> ConfigError:
    return ConfigError(
        f'{Path(file).name} is not a table of wordings; write JSON like {{"No effusion.": ["There is no effusion."]}}',
        "clip.paraphrases",
    )


def keep_meaning(paraphraser: Paraphraser, sentence: str, rng: np.random.Generator) -> str:
    """Return a wording that states the same labels, sides and numbers, or the sentence itself.

    Args:
        paraphraser: Makes the wordings; asked three times at most.
        sentence: One sentence of a report.
        rng: Source of randomness.
    """
    for _ in range(_TRIES):
        wording = paraphraser.paraphrase(sentence, rng)
        if wording != sentence and states_the_same(sentence, wording):
            return wording
    return sentence


def states_the_same(sentence: str, wording: str) -> bool:
    """Return whether the labeler reads the same labels from two wordings, and sides and numbers are the same."""
    return label_sentence(sentence) == label_sentence(wording) and _details(sentence) == _details(wording)


def _details(sentence: str) -> list[str]:
    return sorted(word.removesuffix("ly") for word in _SIDE_OR_NUMBER.findall(sentence.lower()))


def _small_first(sentence: str) -> str:
    """Return a sentence that may follow other words; an abbreviation keeps its capitals."""
    return sentence if sentence[1:2].isupper() else sentence[:1].lower() + sentence[1:]
