"""Every error the project raises on purpose.

::

    CrrgError(reason, subject, retryable=False)
    ├── ConfigError            a setting is wrong                        -> fix the form
    │   └── NothingHeldOut     a bundle has seen every film it could be scored on
    ├── DataError              the input is at fault                     -> quarantine, with a reason code
    │   ├── DicomError         not readable as a projection radiograph
    │   ├── ImageError         PNG or JPEG that cannot be used
    │   ├── ReportError        no usable report text
    │   ├── AnnotationError    boxes or labels that contradict the film
    │   └── IdentityError      identifier missing, invalid or in conflict
    ├── StorageError           store unreachable (retryable) or denied (not)
    │   ├── Conflict           put-if-absent lost
    │   └── DigestMismatch     bytes are not the ones recorded
    ├── ModelError             checkpoint does not fit its config, alias missing, bundle mixed
    ├── DeviceError            asked for cuda, none visible
    │   └── DeviceMemoryError  its memory does not suffice for one film -> a night goes on with the CPU, if it may
    ├── TrainingError
    │   ├── NonFiniteLoss      NaN or Inf that skipping steps did not cure
    │   └── PoorDrafts         generated reports not worth learning from -> the joint rounds end, the best is kept
    ├── GateNotMet             carries the scorecard and the gate
    ├── TooManyRefused         a night was published, but too much of it was refused; carries its summary
    ├── NightStopped           a night was not published: an operator's stop, or another one in its way; carries its
    │                          summary
    └── DegenerateNight        its drafts are all alike, empty or caught in loops -> nothing published

A message says what, about which subject, what was expected and got, and the way out. A subject is one of our own
ids, a setting or a store key; never patient text, and never a source's file name.
"""

from __future__ import annotations

from typing import Any


class CrrgError(Exception):
    """Something this project understands went wrong.

    Attributes:
        reason: What is wrong, what was expected, and the way out.
        subject: Our own id of the thing it is about, or an empty string.
        retryable: Whether the same call may succeed later.
        code: Reason code ``FAMILY.DETAIL`` (``docs/operations.md``), empty where none applies.
    """

    def __init__(self, reason: str, subject: str = "", *, retryable: bool = False, code: str = "") -> None:
        """Build the error; the message reads ``subject: reason``."""
        super().__init__(f"{subject}: {reason}" if subject else reason)
        self.reason = reason
        self.subject = subject
        self.retryable = retryable
        self.code = code


class ConfigError(CrrgError):
    """A setting is missing or wrong."""


class NothingHeldOut(ConfigError):
    """Every film of a test split was seen in training by a bundle that is to be scored on it."""


class DataError(CrrgError):
    """The input is at fault: it is quarantined under ``code``, the batch goes on."""

    def __init__(self, reason: str, subject: str = "", *, code: str) -> None:
        """Build the error; ``code`` is required, since a refused input must have a named reason."""
        super().__init__(reason, subject, retryable=False, code=code)


class DicomError(DataError):
    """The file cannot be read as a projection radiograph."""


class ImageError(DataError):
    """The PNG or JPEG cannot be used."""


class ReportError(DataError):
    """There is no usable report text."""


class AnnotationError(DataError):
    """Boxes or labels contradict the film."""


class IdentityError(DataError):
    """An identifier is missing, invalid or in conflict."""


class StorageError(CrrgError):
    """The object store is unreachable (retryable) or denies access (not)."""


class Conflict(StorageError):
    """A put-if-absent lost: the object exists already."""


class DigestMismatch(StorageError):
    """The bytes are not the ones recorded."""


class ModelError(CrrgError):
    """A checkpoint does not fit its config, an alias is missing, or a bundle is mixed."""


class DeviceError(CrrgError):
    """CUDA was asked for and none is visible."""


class DeviceMemoryError(DeviceError):
    """The device's memory does not suffice for a single film."""


class TrainingError(CrrgError):
    """Training cannot go on."""


class NonFiniteLoss(TrainingError):
    """The loss stayed NaN or infinite after skipping steps and going back to a good checkpoint."""


class PoorDrafts(TrainingError):
    """Generated reports are silent, have collapsed, or say nothing of their films."""


class DegenerateNight(CrrgError):
    """A night's drafts are all alike, empty, caught in loops or of another length; it is not published."""


class GateNotMet(CrrgError):
    """A candidate did not pass its gate.

    Attributes:
        scorecard: The candidate's metrics by name.
        gate: The gate's conditions as plain values.
    """

    def __init__(self, reason: str, subject: str, *, scorecard: dict[str, float], gate: dict[str, Any]) -> None:
        """Build the error with the numbers that decided."""
        super().__init__(reason, subject)
        self.scorecard = scorecard
        self.gate = gate


class TooManyRefused(CrrgError):
    """A night was published, but a larger share of its inputs was refused than its form allows.

    Attributes:
        summary: The night.
    """

    def __init__(self, reason: str, subject: str, *, summary: Any) -> None:
        """Build the error with the night that it is about."""
        super().__init__(reason, subject)
        self.summary = summary


class NightStopped(CrrgError):
    """A night was not published, by an operator's stop or since another one was in its way; run again, it goes on.

    Attributes:
        summary: The night.
    """

    def __init__(self, reason: str, subject: str, *, summary: Any) -> None:
        """Build the error with the night that it is about."""
        super().__init__(reason, subject)
        self.summary = summary
