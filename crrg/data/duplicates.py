"""Which of equal films counts, and whose a study is: the oldest film in the store says it; the others are refused.

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
        patient_id: Pseudonym of its patient; empty, as the study, for a film that was refused before and not read now.
        study_id: Pseudonym of its study.
    """

    modified_s: float
    place: tuple[int, str]
    instance_id: str
    pixel_digest: bytes
    patient_id: str = ""
    study_id: str = ""


@dataclass(frozen=True, slots=True)
class Loss:
    """Why a film does not become a row.

    Attributes:
        error: IDENTITY.CONFLICT or DUPLICATE.PIXELS.
        winner: Number of the claim that came first.
        is_of_study: Whether its study is another patient's, which only reading the film again can tell.
    """

    error: DataError
    winner: int
    is_of_study: bool = False


def judge_claims(claims: Sequence[Claim]) -> dict[int, Loss]:
    """Return the losing claims by their number; of equal films the first by modification time and key wins.

    Of the films of one identifier the first decides what they show, also where it is refused itself. A study is the
    patient's whose film of it is the first that counts: a report that names the study alone is nobody else's.
    """
    by_instance: dict[str, int] = {}
    by_pixels: dict[bytes, int] = {}
    by_study: dict[str, int] = {}
    losses: dict[int, Loss] = {}
    for number in _oldest_first(claims):
        claim = claims[number]
        same_instance = by_instance.setdefault(claim.instance_id, number)
        if claims[same_instance].pixel_digest != claim.pixel_digest:
            reason = "the same instance came before with other pixels"
            losses[number] = Loss(IdentityError(reason, code="IDENTITY.CONFLICT"), same_instance)
        elif claim.pixel_digest in by_pixels:
            equal = DicomError("the same pixels came before", code="DUPLICATE.PIXELS")
            losses[number] = Loss(equal, by_pixels[claim.pixel_digest])
        elif claim.study_id and claims[by_study.setdefault(claim.study_id, number)].patient_id != claim.patient_id:
            reason = "its study came before for another patient; correct the header and send it again"
            error = IdentityError(reason, code="IDENTITY.CONFLICT")
            losses[number] = Loss(error, by_study[claim.study_id], is_of_study=True)
        else:
            by_pixels[claim.pixel_digest] = number
    return losses


def _oldest_first(claims: Sequence[Claim]) -> Iterable[int]:
    return sorted(range(len(claims)), key=lambda number: (claims[number].modified_s, claims[number].place))
