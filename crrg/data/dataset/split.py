"""Which part of a dataset a patient belongs to: decided by a hash, so that it never changes when others come.

What belongs together stays together: a patient, patients whom an archive joins, and patients who share an exposure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from crrg.domain.study import Split

HELD_OUT_FIRST = (Split.TEST, Split.VALIDATION, Split.TRAIN)


@dataclass(frozen=True)
class SplitShares:
    """Shares of patients; what is left of 1 is the test split.

    Attributes:
        train: Share of the train split, 0..1.
        validation: Share of the validation split, 0..1.
    """

    train: float = 0.8
    validation: float = 0.1


@dataclass(frozen=True, slots=True)
class SplitWish:
    """Where one row would go, were it alone.

    Attributes:
        patient_id: Its patient.
        group_id: Patients with equal groups stay together; the patient's own id where there is no group.
        split: What the archive published, or what the hash says.
    """

    patient_id: str
    group_id: str
    split: Split


@dataclass(frozen=True)
class LeakReport:
    """What was found and mended between splits.

    Attributes:
        near_duplicate_pairs: Pairs of films of different groups that show the same exposure.
        groups_across_splits: Groups whose rows would have lain in more than one split.
        rows_moved: Rows that went to another split therefore.
    """

    near_duplicate_pairs: int
    groups_across_splits: int
    rows_moved: int


def split_of(group_id: str, seed: int, shares: SplitShares) -> Split:
    """Return the split of a patient, or of a group of patients that belong together.

    Args:
        group_id: Pseudonym of the patient or group.
        seed: Seed of the split.
        shares: How large the splits are.
    """
    digest = hashlib.sha256(f"{seed}:{group_id}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < shares.train:
        return Split.TRAIN
    return Split.VALIDATION if place < shares.train + shares.validation else Split.TEST


def settle_splits(
    wishes: Sequence[SplitWish], same_exposure: Iterable[tuple[int, int]]
) -> tuple[list[Split], LeakReport]:
    """Give every row its split so that no patient, group or exposure lies in two.

    A group that wishes for several splits goes to the most held-out one as a whole, so that published test sets stay
    complete and nothing of them is trained on.

    Args:
        wishes: One per row.
        same_exposure: Pairs of row numbers whose films show the same exposure.

    Returns:
        One split per row, and what was mended.
    """
    groups = _Groups()
    for wish in wishes:
        groups.join(wish.patient_id, wish.group_id)
    num_pairs = 0
    for first, second in same_exposure:
        num_pairs += groups.join(wishes[first].patient_id, wishes[second].patient_id)
    wanted: dict[str, set[Split]] = {}
    for wish in wishes:
        wanted.setdefault(groups.root(wish.patient_id), set()).add(wish.split)
    chosen = {root: next(split for split in HELD_OUT_FIRST if split in splits) for root, splits in wanted.items()}
    settled = [chosen[groups.root(wish.patient_id)] for wish in wishes]
    report = LeakReport(
        near_duplicate_pairs=num_pairs,
        groups_across_splits=sum(len(splits) > 1 for splits in wanted.values()),
        rows_moved=sum(wish.split is not split for wish, split in zip(wishes, settled, strict=True)),
    )
    return settled, report


class _Groups:
    """Ids that belong together (disjoint sets)."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}

    def root(self, name: str) -> str:
        parent = self._parents.setdefault(name, name)
        while parent != name:
            self._parents[name] = self._parents[parent]
            name, parent = parent, self._parents[parent]
        return name

    def join(self, first: str, second: str) -> bool:
        """Put two ids together; return whether they were apart."""
        one, other = sorted((self.root(first), self.root(second)))
        self._parents[other] = one
        return one != other
