"""Which of several equal or contradicting images is drafted: the first, by modification time and key.

The same image object with other pixels is a conflict of identity, and so is an image in a study of another patient
(``patients.py``), or one that an earlier night drafted for another; the same pixels again are a duplicate. A
shard asks for what it can see; the commit asks again for the whole night and against earlier nights, and its answer
counts. Of two images with equal pixels a shard drafts both, since the commit may refuse the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from typing import Literal

from crrg.data.refusals import EARLIER_DAMAGED
from crrg.ledger.ledger import DUPLICATE, DUPLICATE_RESENT, Ledger, LedgerRow, Outcome
from crrg.ledger.manifest import Superseded
from crrg.operations.night.patients import CONFLICT_OF_IMAGE, CONFLICT_OF_STUDY, StudyPatients
from crrg.operations.night.records import InputOutcome

RESENT = (DUPLICATE_RESENT, "the same image, with the same pixels, was drafted already")
PIXELS = (DUPLICATE, "another image with the same pixels is drafted in this night")
CONFLICT = ("IDENTITY.CONFLICT", "the same image identifier came with other pixels before")
DAMAGED = (EARLIER_DAMAGED, "an earlier draft of its study is damaged or gone; crrg check names it, restore it")

_REASONS = frozenset(code for code, _ in (RESENT, PIXELS, CONFLICT, CONFLICT_OF_IMAGE, CONFLICT_OF_STUDY))


def is_open(image: InputOutcome) -> bool:
    """Return whether what becomes of an image hangs on others: it was drafted, or refused for another's sake."""
    return image.is_drafted or (image.reason in _REASONS and not image.is_carried)


def freed_duplicates(rows: Iterable[LedgerRow], goes: Callable[[LedgerRow], bool]) -> frozenset[LedgerRow]:
    """Return rows of objects that were refused for the sake of an equal draft that goes: without it they are new again.

    Args:
        rows: Of all committed runs; few of them are held at a time.
        goes: Whether a row goes, with its draft where it has one.
    """
    gone: set[tuple[str, bytes]] = set()
    duplicates: list[LedgerRow] = []
    for row in rows:
        if row.reason == DUPLICATE:
            duplicates.append(row)
        elif row.outcome is Outcome.ACCEPTED and not row.is_carried and goes(row):
            gone.add((row.run_id, row.pixel_digest))
    freed = {row for row in duplicates if not row.is_carried and (row.run_id, row.pixel_digest) in gone}
    # a later night that found the same bytes again only repeated the refusal
    objects = {_object(row) for row in freed}
    return frozenset(freed | {row for row in duplicates if row.is_carried and _object(row) in objects})


class FirstImages:
    """Remembers images, to judge those that follow in order of rank.

    Attributes:
        superseded: Older drafts that accepted images replace.
    """

    def __init__(
        self,
        ledger: Ledger | None = None,
        resend_policy: Literal["conflict", "supersede"] = "conflict",
        damaged: Set[str] = frozenset(),
        images: Iterable[InputOutcome] = (),
    ) -> None:
        """Begin with what earlier nights drafted.

        Args:
            ledger: Earlier nights; ``None`` leaves them out.
            resend_policy: Whether an image drafted earlier with other pixels, or for another patient, is refused or
                supersedes.
            damaged: Studies of which an earlier draft is damaged: their images wait, and keep no equal one from
                being drafted.
            images: Those that will be asked for, in order of rank: an earlier draft that they replace keeps no study.
        """
        self._ledger = ledger or Ledger(())
        self._resend_policy = resend_policy
        self._damaged = damaged
        self._first: dict[str, tuple[InputOutcome, tuple[str, str] | None]] = {}
        firsts: dict[str, InputOutcome] = {}
        for image in images:
            firsts.setdefault(image.instance_id, image)
        replaced = {name for name, image in firsts.items() if self._against_earlier(image) is None}
        self._patients = StudyPatients(self._ledger, replaced)
        self._seen_pixels: set[str] = set()
        self.superseded: list[Superseded] = []

    def has_seen(self, instance_id: str) -> bool:
        """Return whether an image of an identifier came before: others of it are never drafted, whatever it ends as."""
        return instance_id in self._first

    def refusal(self, image: InputOutcome) -> tuple[str, str] | None:
        """Return reason code and detail of an image that must not be drafted, or ``None``; the image is remembered.

        Of the images of one identifier the first decides, also where it is refused itself: what becomes of the others
        must not hang on which of them a shard sees.
        """
        known = self._first.get(image.instance_id)
        if known is None:
            refusal = self._judge(image)
            self._first[image.instance_id] = (image, refusal)
            return refusal
        first, refusal = known
        return (refusal or RESENT) if first.pixel_digest == image.pixel_digest else CONFLICT

    def _judge(self, image: InputOutcome) -> tuple[str, str] | None:
        if (refusal := self._against_earlier(image)) is not None:
            return refusal
        if image.pixel_digest in self._seen_pixels:
            return PIXELS
        if not self._patients.may_have(image):
            return CONFLICT_OF_STUDY
        if image.study_id in self._damaged:
            return DAMAGED
        if (earlier := self._ledger.find_draft(image.instance_id)) is not None:
            self.superseded.append(Superseded(instance_id=image.instance_id, date=earlier.date, run_id=earlier.run_id))
        self._patients.keep(image)
        self._seen_pixels.add(image.pixel_digest)
        return None

    def _against_earlier(self, image: InputOutcome) -> tuple[str, str] | None:
        """Return why earlier nights do not let an image be drafted, or ``None``."""
        earlier = self._ledger.find_draft(image.instance_id)
        if earlier is None:
            duplicate = self._ledger.find_duplicate(image.instance_id) if self._resend_policy == "conflict" else None
            return CONFLICT if duplicate and duplicate.pixel_digest.hex() != image.pixel_digest else None
        if image.is_reread and _is_of(earlier, image):
            return None
        has_its_pixels = earlier.pixel_digest.hex() == image.pixel_digest
        if has_its_pixels and earlier.patient_id == image.patient_id:
            return RESENT
        if self._resend_policy == "conflict":
            return CONFLICT_OF_IMAGE if has_its_pixels else CONFLICT
        return None


def _object(row: LedgerRow) -> tuple[str, bytes]:
    return row.key_hmac, row.source_digest


def _is_of(earlier: LedgerRow, image: InputOutcome) -> bool:
    """Whether a draft is of the same object: of the same bytes, or of the same pixels of the same patient.

    A film may have come again with another header since; the same bytes may decode otherwise with other libraries.
    """
    has_its_bytes = earlier.source_digest.hex() == image.source_digest
    has_its_pixels = (earlier.pixel_digest.hex(), earlier.patient_id) == (image.pixel_digest, image.patient_id)
    return earlier.key_hmac == image.key_hmac and (has_its_bytes or has_its_pixels)
