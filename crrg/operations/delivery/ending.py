"""How a delivery ends: done, or failed because nothing could be delivered."""

from __future__ import annotations

from crrg.config.references import DeliverySummary
from crrg.data.privacy.forgotten import REASON as FORGOTTEN
from crrg.errors import CrrgError
from crrg.termination import EXIT_NOT_DONE

NO_FAILURES = frozenset({"IDENTITY.NO_DICOM", "WITHHELD.NIGHT", FORGOTTEN})
"""Reasons for which a study is rightly not delivered: what it is, or what somebody decided."""


def has_failed(summary: DeliverySummary) -> bool:
    """Return whether nothing is delivered, now or before, and could not be where it should."""
    num_done = summary.num_delivered + summary.num_unchanged
    return not num_done and not NO_FAILURES.issuperset(summary.reasons)


def exit_code(summary: DeliverySummary) -> int:
    """Return the exit code of a delivery: 0, or 1 where it has failed."""
    return EXIT_NOT_DONE if has_failed(summary) else 0


def check_delivered(summary: DeliverySummary) -> None:
    """Check that a delivery has not failed.

    Raises:
        CrrgError: It has; the message has the reasons.
    """
    if has_failed(summary):
        reasons = ", ".join(f"{reason} {number}" for reason, number in sorted(summary.reasons.items()))
        raise CrrgError(f"nothing was delivered: {reasons}; docs/delivery.md says what to do about each")
