"""Nights whose drafts must not be published: all alike, empty, caught in loops, or of another length than reports.

A fault is a share that lies above its limit by more than chance at the night's size: a night whose population is at
the limit is refused by each share in at most ``CHANCE`` of all cases, whatever its size. Limits start from what the
training reports themselves do and from what the bundle did on its validation films. Drafts may be alike where
validation drafts were, and for half of the others; more may where texts follow labels, which a generator that sees
nothing cannot do: so a quiet night of mostly normal films passes.

One text for all is noticed from 15 drafts on where hardly any validation drafts were alike, from 26 where 40 % were,
42 where 60 % were, 88 where 80 % or more were or nobody knows; empty drafts and loops from 5 where there were none in
validation, 14 where nobody knows, at the latest 22; another length from 10. Smaller nights cannot be told from chance.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from crrg.config.base import FrozenConfig
from crrg.domain.sentences import split_sentences

MIN_DRAFTS = 10
"""Of fewer texts the mean length means nothing, nor do their shares say what is usual."""
CHANCE = 1e-4
"""Probability that a share at its limit is taken for one above it."""
ALLOWANCE, LABEL_ALLOWANCE = 0.15, 0.25
"""How far a share may lie above that of reports and validation drafts; labels shift with a site's patients, too."""
EXCUSED = 0.5
"""A share of validation drafts above this excuses no night: such a bundle was degenerate from the beginning."""
MOST_ALIKE = 0.8
"""A share of alike validation drafts above this excuses no more than this does."""
FOLLOWED = 0.01
"""Probability that texts which have nothing to do with their labels are taken to follow them."""
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
        against_labels: All texts whose labels differ from that.
        empty: Texts without a word.
        looped: Texts that say the same over and over.
        mean_words: Words per text that has any.
    """

    num: int = 0
    alike: float = 0.0
    alike_against_labels: float = 0.0
    against_labels: float = 0.0
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
    usual, num_usual = among.most_common(1)[0]
    spoken = [length for length in lengths if length]
    return Habits(
        num=len(texts),
        alike=num_alike / len(texts),
        alike_against_labels=(num_alike - num_usual) / len(texts),
        against_labels=sum(label != usual for label in labels) / len(texts),
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
    known = [habits for habits in (reports, drafts) if habits is not None and habits.num >= MIN_DRAFTS]
    checks = {
        "read the same": (0.0 if _follow_labels(night) else night.alike, _alike_limit(known)),
        "are identical although their labels differ": (
            night.alike_against_labels, _limit([each.alike_against_labels for each in known], LABEL_ALLOWANCE)
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
    if usual and night.mean_words and night.num >= MIN_DRAFTS:
        low, high = min(usual) / LENGTH_FACTOR, max(usual) * LENGTH_FACTOR
        if not low <= night.mean_words <= high:
            faults.append(f"drafts have {night.mean_words:.0f} words on average, {low:.0f} to {high:.0f} are expected")
    return tuple(faults)


def _limit(known: Iterable[float], allowance: float = ALLOWANCE) -> float:
    shares = [min(share, EXCUSED) for share in known]
    return max(shares) + allowance if shares else UNKNOWN_LIMITS


def _alike_limit(known: Iterable[Habits]) -> float:
    share = min(max((each.alike for each in known), default=MOST_ALIKE), MOST_ALIKE)
    return share + (1 - share) / 2


def _is_above(share: float, limit: float, num: int) -> bool:
    """Whether so high a share is too unlikely under the limit: the binomial's upper tail lies below ``CHANCE``."""
    found = round(share * num)
    if found <= limit * num:
        return False
    logs = (_log_choices(num, k) + k * math.log(limit) + (num - k) * math.log1p(-limit) for k in range(found, num + 1))
    return sum(map(math.exp, logs)) < CHANCE


def _follow_labels(night: Habits) -> bool:
    """Whether texts that are not alike have other labels, too: Fisher's exact test, at ``FOLLOWED``."""
    num_other_texts = night.num - round(night.alike * night.num)
    num_other_labels = round(night.against_labels * night.num)
    num_both = num_other_labels - round(night.alike_against_labels * night.num)
    logs = (
        _log_choices(num_other_labels, k) + _log_choices(night.num - num_other_labels, num_other_texts - k)
        - _log_choices(night.num, num_other_texts)
        for k in range(
            max(num_both, num_other_texts + num_other_labels - night.num), min(num_other_texts, num_other_labels) + 1
        )
    )  # fmt: skip
    return sum(map(math.exp, logs)) < FOLLOWED


def _log_choices(num: int, chosen: int) -> float:
    return math.lgamma(num + 1) - math.lgamma(chosen + 1) - math.lgamma(num - chosen + 1)
