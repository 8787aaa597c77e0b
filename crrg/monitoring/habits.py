"""Nights whose drafts must not be published: all alike, empty, caught in loops, or of another length than reports.

A fault is a share that lies above its limit by more than chance at the night's size. Limits start from what the
training reports themselves do and from what the bundle did on its validation films, so that a night of mostly normal
films, whose drafts are rightly alike, passes: drafts that are alike count only where their labels are not.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from crrg.config.base import FrozenConfig
from crrg.domain.sentences import split_sentences

MIN_DRAFTS = 10
CHANCE = 1e-4
"""Probability that a share at its limit is taken for one above it."""
ALLOWANCE = 0.25
"""How far a share may lie above that of reports and validation drafts."""
EXCUSED = 0.5
"""A share of validation drafts above this excuses no night: such a bundle was degenerate from the beginning."""
ALIKE_LIMIT = 0.97
"""Share of drafts that may read the same where labels are the same, too."""
UNKNOWN_LIMITS = 0.5
"""Limit of the other shares where a bundle is older than the watch."""
LENGTH_FACTOR = 4.0
MAX_GRAM, LOOP_TURNS, SENTENCE_TURNS = 6, 4, 3
_WORD = re.compile(r"[^\W_]+")


class Habits(FrozenConfig):
    """How texts are written, as shares 0..1.

    Attributes:
        num: Texts.
        alike: Texts that read like the most frequent one.
        alike_against_labels: Those of them whose labels differ from what most of them have.
        empty: Texts without a word.
        looped: Texts that say the same over and over.
        mean_words: Words per text that has any.
    """

    num: int = 0
    alike: float = 0.0
    alike_against_labels: float = 0.0
    empty: float = 0.0
    looped: float = 0.0
    mean_words: float = 0.0


def read_habits(texts: Sequence[str], labels: Sequence[tuple[int, ...]]) -> Habits:
    """Return the habits of texts.

    Args:
        texts: One per study.
        labels: Their labels, in any fixed coding.
    """
    if not texts:
        return Habits()
    lengths = [len(_WORD.findall(text)) for text in texts]
    plain = [" ".join(_WORD.findall(text.lower())) for text in texts]
    first, num_alike = Counter(plain).most_common(1)[0]
    among = Counter(label for text, label in zip(plain, labels, strict=True) if text == first)
    spoken = [length for length in lengths if length]
    return Habits(
        num=len(texts),
        alike=num_alike / len(texts),
        alike_against_labels=(num_alike - among.most_common(1)[0][1]) / len(texts),
        empty=lengths.count(0) / len(texts),
        looped=sum(map(is_looped, texts)) / len(texts),
        mean_words=sum(spoken) / len(spoken) if spoken else 0.0,
    )


def is_looped(text: str) -> bool:
    """Return whether a text says up to six words four times in a row, or a sentence of three words three times."""
    words = _WORD.findall(text.lower())
    for size in range(1, MAX_GRAM + 1):
        run = 0
        for earlier, later in zip(words, words[size:], strict=False):
            run = run + 1 if earlier == later else 0
            if run >= size * (LOOP_TURNS - 1):
                return True
    sentences = Counter(sentence.lower() for sentence in split_sentences(text) if len(sentence.split()) >= 3)
    return any(count >= SENTENCE_TURNS for count in sentences.values())


def find_faults(night: Habits, reports: Habits | None, drafts: Habits | None) -> tuple[str, ...]:
    """Return what makes a night's drafts degenerate, as sentences; nothing for a night too small to tell.

    Args:
        night: Habits of the night.
        reports: Habits of the training reports; ``None`` where the bundle does not say.
        drafts: Habits of the bundle on its validation films; ``None`` where the bundle does not say.
    """
    if night.num < MIN_DRAFTS:
        return ()
    known = [habits for habits in (reports, drafts) if habits is not None and habits.num >= MIN_DRAFTS]
    checks = {
        "read the same": (night.alike, ALIKE_LIMIT),
        "are identical although their labels differ": (
            night.alike_against_labels, _limit([each.alike_against_labels for each in known])
        ),
        "say nothing": (night.empty, _limit([each.empty for each in known])),
        "repeat themselves": (night.looped, _limit([each.looped for each in known])),
    }  # fmt: skip
    faults = [
        f"{share:.0%} of {night.num} drafts {what}, at most {limit:.0%} in a normal night"
        for what, (share, limit) in checks.items()
        if _is_above(share, limit, night.num)
    ]
    usual = [habits.mean_words for habits in known if habits.mean_words]
    if usual and night.mean_words:
        low, high = min(usual) / LENGTH_FACTOR, max(usual) * LENGTH_FACTOR
        if not low <= night.mean_words <= high:
            faults.append(f"drafts have {night.mean_words:.0f} words on average, {low:.0f} to {high:.0f} are expected")
    return tuple(faults)


def _limit(known: Iterable[float]) -> float:
    shares = [min(share, EXCUSED) for share in known]
    return max(shares) + ALLOWANCE if shares else UNKNOWN_LIMITS


def _is_above(share: float, limit: float, num: int) -> bool:
    """Whether so high a share is too unlikely under the limit: the binomial's upper tail lies below ``CHANCE``."""
    found = round(share * num)
    if found <= limit * num:
        return False
    logs = [
        math.lgamma(num + 1) - math.lgamma(k + 1) - math.lgamma(num - k + 1)
        + k * math.log(limit) + (num - k) * math.log1p(-limit)
        for k in range(found, num + 1)
    ]  # fmt: skip
    return sum(map(math.exp, logs)) < CHANCE
