"""The audit: who did what to which things, when, and with which models; one object per entry, never changed.

Entries are put where none is, so that none can be overwritten by this program; a policy on the store denies the rest.
They hold pseudonyms, digests and counts, never an identifier or a source's name, because they lie in the pseudonymous
zone.

Source: DICOM PS3.15 A.5 (who, what, when), in a plain form of our own.
"""

from __future__ import annotations

import getpass
import socket
import uuid
from datetime import UTC, datetime
from typing import Any

from pydantic import Field

from crrg.config.base import FrozenConfig
from crrg.storage import Storage, canonical_json

PREFIX = "audit"


class AuditEntry(FrozenConfig):
    """One thing that was done.

    Attributes:
        action: What, e.g. ``deliver``.
        actor: Account of the process that did it.
        host: Machine it ran on.
        at_utc: When, ISO 8601.
        subject: Our own id of what it was done to; empty where that itself must not be told.
        bundle_id: Models that had a part in it, empty if none.
        inputs: Digests or pseudonyms of what went in.
        outputs: Keys or identifiers of our own of what came out.
        counts: Figures, e.g. how many documents.
    """

    action: str
    actor: str
    host: str
    at_utc: str
    subject: str = ""
    bundle_id: str = ""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    counts: dict[str, int] = Field(default_factory=dict)


def write_audit(storage: Storage, action: str, **values: Any) -> str:
    """Append an entry and return its key.

    Args:
        storage: The root.
        action: What was done.
        values: Further attributes of ``AuditEntry``.

    Raises:
        StorageError: The entry could not be written; what it is about must then not be called done.
    """
    now = datetime.now(UTC)
    entry = AuditEntry(
        action=action,
        actor=_account(),
        host=socket.gethostname(),
        at_utc=now.isoformat(timespec="microseconds"),
        **values,
    )
    key = f"{PREFIX}/date={now:%Y-%m-%d}/{now:%H%M%S%f}-{action}-{uuid.uuid4().hex[:8]}.json"
    storage.put_if_absent(key, canonical_json(entry.model_dump(mode="json")))
    return key


def read_audit(storage: Storage, date: str = "") -> list[AuditEntry]:
    """Return the entries of a day, or all, in the order in which they were written."""
    prefix = f"{PREFIX}/date={date}" if date else PREFIX
    keys = sorted(stored.key for stored in storage.list_objects(prefix) if stored.key.endswith(".json"))
    return [AuditEntry.model_validate_json(storage.get(key)) for key in keys]


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
