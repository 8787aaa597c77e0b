"""Which part of a dataset a patient belongs to: decided by a hash, so that it never changes when others come."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from crrg.domain.study import Split


@dataclass(frozen=True)
class SplitShares:
    """Shares of patients; what is left of 1 is the test split.

    Attributes:
        train: Share of the train split, 0..1.
        validation: Share of the validation split, 0..1.
    """

    train: float = 0.8
    validation: float = 0.1


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
