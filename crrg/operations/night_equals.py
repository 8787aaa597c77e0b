"""Which of several equal or contradicting images is drafted: the first, by modification time and key.

The same image object with other pixels is a conflict of identity; the same pixels again are a duplicate. A shard asks
for what it can see; the commit asks again for the whole night and against earlier nights, and its answer counts. Of two
images with equal pixels a shard drafts both, since the commit may refuse the first.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Literal

from crrg.data.refusals import EARLIER_DAMAGED
from crrg.ledger.ledger import DUPLICATE, Ledger, LedgerRow
from crrg.ledger.manifest import Superseded
from crrg.operations.night_records import InputOutcome

RESENT = ("DUPLICATE.RESENT", "the same image, with the same pixels, was drafted already")
PIXELS = (DUPLICATE, "another image with the same pixels is drafted in this night")
CONFLICT = ("IDENTITY.CONFLICT", "the same image identifier came with other pixels before")
DAMAGED = (EARLIER_DAMAGED, "an earlier draft of its study is damaged or gone; crrg check names it, restore it")

REASONS = frozenset(code for code, _ in (RESENT, PIXELS, CONFLICT))


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
    ) -> None:
        """Begin with what earlier nights drafted.

        Args:
            ledger: Earlier nights; ``None`` leaves them out.
            resend_policy: Whether an image drafted earlier with other pixels is refused or supersedes.
            damaged: Studies of which an earlier draft is damaged: their images wait, and keep no equal one from
                being drafted.
        """
        self._ledger = ledger or Ledger(())
        self._resend_policy = resend_policy
        self._damaged = damaged
        self._first: dict[str, tuple[str, tuple[str, str] | None]] = {}
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
        first = self._first.get(image.instance_id)
        if first is None:
            refusal = self._judge(image)
            self._first[image.instance_id] = (image.pixel_digest, refusal)
            return refusal
        pixels, refusal = first
        return CONFLICT if pixels != image.pixel_digest else refusal or RESENT

    def _judge(self, image: InputOutcome) -> tuple[str, str] | None:
        earlier = self._ledger.find_draft(image.instance_id)
        is_same_object = earlier is not None and image.is_reread and _is_of(earlier, image)
        if earlier is not None and not is_same_object:
            if earlier.pixel_digest.hex() == image.pixel_digest:
                return RESENT
            if self._resend_policy == "conflict":
                return CONFLICT
        elif earlier is None and self._resend_policy == "conflict":
            duplicate = self._ledger.find_duplicate(image.instance_id)
            if duplicate is not None and duplicate.pixel_digest.hex() != image.pixel_digest:
                return CONFLICT
        if image.pixel_digest in self._seen_pixels:
            return PIXELS
        if image.study_id in self._damaged:
            return DAMAGED
        if earlier is not None:
            self.superseded.append(Superseded(instance_id=image.instance_id, date=earlier.date, run_id=earlier.run_id))
        self._seen_pixels.add(image.pixel_digest)
        return None


def _is_of(earlier: LedgerRow, image: InputOutcome) -> bool:
    """Whether a draft is of the same object and the same bytes."""
    return (earlier.key_hmac, earlier.source_digest.hex()) == (image.key_hmac, image.source_digest)
