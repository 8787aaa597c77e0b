"""What became of every object of an inbox (``crrg outcomes``): the one answer that names files, for who owns them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from crrg.data.privacy.deidentify import Pseudonyms
from crrg.errors import ConfigError
from crrg.exports.csv_text import csv_text
from crrg.ledger.inventory import InboxObject, list_inbox
from crrg.ledger.ledger import Ledger, Outcome, Wanted, read_ledger
from crrg.local_files import write_file
from crrg.operations.privacy.secret import check_secret
from crrg.storage import Storage


@dataclass(frozen=True)
class FileOutcome:
    """One object of the inbox.

    Attributes:
        file: Its key in the inbox.
        outcome: As the last night that read it found; ``pending`` where none did, or it was replaced since.
        reason: Reason code of a quarantined object, else empty.
    """

    file: str
    outcome: Literal["accept", "quarantine", "pending"]
    reason: str


def inbox_outcomes(inbox_url: str, storage: Storage, pseudonyms: Pseudonyms) -> list[FileOutcome]:
    """Return one entry per object of an inbox, in key order.

    Args:
        inbox_url: The inbox, spelled in any way.
        storage: The root with the ledger.
        pseudonyms: The key the nights ran with.

    Raises:
        ConfigError: There is no such inbox, or the nights were made with another secret.
    """
    check_secret(storage, pseudonyms)
    inbox = storage.at(inbox_url)
    objects = list_inbox(inbox, pseudonyms.object_key)
    ledger = read_ledger(storage, Wanted(keys=frozenset(found.key_hmac for found in objects)))
    inbox_id = pseudonyms.object_key(inbox.root, "inbox")
    return [_outcome(found, ledger, inbox_id) for found in objects]


def outcomes_csv(outcomes: Iterable[FileOutcome]) -> str:
    """Return outcomes as CSV with the columns file, outcome, reason; no cell can be taken for a formula."""
    return csv_text(("file", "outcome", "reason"), ((entry.file, entry.outcome, entry.reason) for entry in outcomes))


def check_csv(path: Path) -> None:
    """Refuse a file that cannot be written where it is named.

    Raises:
        ConfigError: Its folder does not exist, or it is a folder itself.
    """
    if not path.parent.is_dir() or path.is_dir():
        raise ConfigError("cannot be written; name a file in an existing folder", str(path))


def write_csv(path: Path, text: str) -> None:
    """Write outcomes into a file; an earlier one of that name is replaced as a whole and lets the same people read.

    Args:
        path: The file; what is no regular file, such as a pipe, is written to.
        text: The outcomes; a file system may hold names that are no text.

    Raises:
        StorageError: There is no room, or the file may not be written; an earlier one is left as it was.
    """
    data = text.encode("utf-8", "backslashreplace")
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    target = path.resolve()  # of a link what it points to
    mode = target.stat().st_mode if target.exists() else None
    write_file(target, data, str(path), replace=True)
    if mode is not None:
        target.chmod(mode)


def _outcome(found: InboxObject, ledger: Ledger, inbox_id: str) -> FileOutcome:
    row = ledger.find(found.key_hmac, found.etag)
    if row is None or ledger.is_replaced(row, inbox_id):
        return FileOutcome(found.key, "pending", "")
    if row.outcome is Outcome.ACCEPTED:
        return FileOutcome(found.key, "accept", "")
    return FileOutcome(found.key, "quarantine", row.reason)
