"""What became of every object of an inbox (``crrg outcomes``): the one answer that names files, for who owns them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from crrg.data.privacy.deidentify import Pseudonyms
from crrg.exports.csv_text import csv_text
from crrg.ledger.inventory import InboxObject, list_inbox
from crrg.ledger.ledger import Ledger, Outcome, Wanted, read_ledger
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


def _outcome(found: InboxObject, ledger: Ledger, inbox_id: str) -> FileOutcome:
    row = ledger.find(found.key_hmac, found.etag)
    if row is None or ledger.is_replaced(row, inbox_id):
        return FileOutcome(found.key, "pending", "")
    if row.outcome is Outcome.ACCEPTED:
        return FileOutcome(found.key, "accept", "")
    return FileOutcome(found.key, "quarantine", row.reason)
