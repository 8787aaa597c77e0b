"""Which of equal films counts: the oldest in the store; the others are refused by name.

Decided when all inputs of an inventory are known, so that neither names nor the order of reading matter. Films that
only look alike are the subject of ``near_duplicates``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from crrg.errors import DataError, DicomError, IdentityError


@dataclass(frozen=True, slots=True)
class Claim:
    """A film that could become a row.

    Attributes:
        modified_s: Store's modification time, seconds since the epoch.
        place: Number of the archive, then the object's key: decides between equal times.
        instance_id: Its pseudonym.
        pixel_digest: sha256 over its shape and pixels.
    """

    modified_s: float
    place: tuple[int, str]
    instance_id: str
    pixel_digest: bytes


@dataclass(frozen=True, slots=True)
class Loss:
    """Why a film does not become a row.

    Attributes:
        error: IDENTITY.CONFLICT or DUPLICATE.PIXELS.
        winner: Number of the claim that came first.
    """

    error: DataError
    winner: int


def judge_claims(claims: Sequence[Claim]) -> dict[int, Loss]:
    """Return the losing claims by their number; of equal films the first by modification time and key wins.

    Of the films of one identifier the first decides what they show, also where it is refused itself.
    """
    by_instance: dict[str, int] = {}
    by_pixels: dict[bytes, int] = {}
    losses: dict[int, Loss] = {}
    for number in _oldest_first(claims):
        claim = claims[number]
        same_instance = by_instance.setdefault(claim.instance_id, number)
        if claims[same_instance].pixel_digest != claim.pixel_digest:
            reason = "the same instance came before with other pixels"
            losses[number] = Loss(IdentityError(reason, code="IDENTITY.CONFLICT"), same_instance)
        elif claim.pixel_digest in by_pixels:
            error = DicomError("the same pixels came before", code="DUPLICATE.PIXELS")
            losses[number] = Loss(error, by_pixels[claim.pixel_digest])
        else:
            by_pixels[claim.pixel_digest] = number
    return losses


def _oldest_first(claims: Sequence[Claim]) -> Iterable[int]:
    return sorted(range(len(claims)), key=lambda number: (claims[number].modified_s, claims[number].place))
