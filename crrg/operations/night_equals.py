"""Which of several equal or contradicting images is drafted: the first, by modification time and key.

The same image object with other pixels is a conflict of identity; the same pixels again are a duplicate. A shard asks
for what it can see; the commit asks again for the whole night and against earlier nights.
"""

from __future__ import annotations

from typing import Literal

from crrg.ledger.ledger import Ledger
from crrg.ledger.manifest import Superseded
from crrg.operations.night_records import InputOutcome

RESENT = ("DUPLICATE.RESENT", "the same image, with the same pixels, was drafted already")
PIXELS = ("DUPLICATE.PIXELS", "another image with the same pixels is drafted in this night")
CONFLICT = ("IDENTITY.CONFLICT", "the same image identifier came with other pixels before")


class FirstImages:
    """Remembers which images were accepted, to judge those that follow in order of rank.

    Attributes:
        superseded: Older drafts that accepted images replace.
    """

    def __init__(
        self, ledger: Ledger | None = None, resend_policy: Literal["conflict", "supersede"] = "conflict"
    ) -> None:
        """Begin with what earlier nights drafted.

        Args:
            ledger: Earlier nights; ``None`` leaves them out.
            resend_policy: Whether an image drafted earlier with other pixels is refused or supersedes.
        """
        self._ledger = ledger or Ledger(())
        self._resend_policy = resend_policy
        self._pixels_by_instance: dict[str, str] = {}
        self._seen_pixels: set[str] = set()
        self.superseded: list[Superseded] = []

    def refusal(self, image: InputOutcome) -> tuple[str, str] | None:
        """Return reason code and detail of an image that must not be drafted, or ``None`` and remember it."""
        pixels = self._pixels_by_instance.get(image.instance_id)
        if pixels is not None:
            return RESENT if pixels == image.pixel_digest else CONFLICT
        earlier = self._ledger.find_draft(image.instance_id)
        is_same_object = earlier is not None and image.is_reread and earlier.key_hmac == image.key_hmac
        if earlier is not None and not is_same_object:
            if earlier.pixel_digest.hex() == image.pixel_digest:
                return RESENT
            if self._resend_policy == "conflict":
                return CONFLICT
        if image.pixel_digest in self._seen_pixels:
            return PIXELS
        if earlier is not None:
            self.superseded.append(Superseded(instance_id=image.instance_id, date=earlier.date, run_id=earlier.run_id))
        self._pixels_by_instance[image.instance_id] = image.pixel_digest
        self._seen_pixels.add(image.pixel_digest)
        return None
