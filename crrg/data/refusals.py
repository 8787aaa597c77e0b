"""What a reason code says of its input: whether somebody failed, and whether another day may judge otherwise."""

from __future__ import annotations

from collections.abc import Mapping

OUT_OF_SCOPE = frozenset({"VIEW", "SOP_CLASS", "MODALITY", "BODY_PART", "DUPLICATE"})
"""Families that are listed and counted, but are nobody's failure (``docs/operations.md``)."""
UNREADABLE = "CHANGED.UNREADABLE"
"""A store lists an object and does not give it out, though it gives others: archived, another owner's, broken."""
EARLIER_DAMAGED = "INTEGRITY.EARLIER"
"""A film came late, and what an earlier night drafted of its study is damaged or gone: it waits for the backup."""
_ABSENT = "CHANGED."
_PASSING = (_ABSENT, "DECODE.TIMEOUT", "DECODE.CRASH", "LIMIT.MEMORY", EARLIER_DAMAGED)


def is_failure(reason: str) -> bool:
    """Return whether a refusal counts in the share behind ``max_failure_rate``."""
    return reason.split(".", 1)[0] not in OUT_OF_SCOPE


def failure_share(reasons: Mapping[str, int], num_accepted: int) -> float:
    """Return which share of the inputs in scope was refused, 0..1: of those accepted and those that are failures.

    Args:
        reasons: Count per reason code, out of scope or not.
        num_accepted: Inputs that were accepted.
    """
    num_failures = sum(count for reason, count in reasons.items() if is_failure(reason))
    return num_failures / max(1, num_accepted + num_failures)


def may_pass(reason: str) -> bool:
    """Return whether the same bytes may be judged otherwise next time: the cause lay outside them."""
    return reason.startswith(_PASSING)


def depends_on_limits(reason: str) -> bool:
    """Return whether the same bytes may be judged otherwise under other limits (``crrg.data.decoding.limits``)."""
    return reason.startswith("LIMIT.")


def was_absent(reason: str) -> bool:
    """Return whether nothing was read at all, since the object was gone or another one."""
    return reason.startswith(_ABSENT) and reason != UNREADABLE
