"""The audit: who did what to which things, when, and with which models; one chained object per entry, never changed.

``audit/<number>.json``: entries are numbered without a gap, each names the sha256 of the one before, and each is put
where none is, so that none can be overwritten by this program; a policy on the store denies the rest. What was edited,
removed or put in between is told by ``check_chain``; what was cut off at the end, by who remembers an entry: manifests
of nights name theirs (``crrg.operations.upkeep.audit``). Entries hold pseudonyms, digests and counts, never an
identifier or a source's name, because they lie in the pseudonymous zone.

Source: DICOM PS3.15 A.5 (who, what, when), in a plain form of our own.
"""

from __future__ import annotations

import getpass
import hashlib
import random
import re
import socket
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import Field, ValidationError

from crrg.config.base import FrozenConfig
from crrg.config.dates import check_date
from crrg.errors import Conflict, StorageError
from crrg.storage import Storage, canonical_json

PREFIX = "audit"
NIGHT, REWRITE, SUPERSEDE, ADOPT = "nightly", "rewrite", "supersede", "adopt"
"""Actions that commit a run of a night, or take one up that was committed before nights were audited. Their subject is
date and run, and with what else they write is the run's manifest."""
RESTORE = "restore"
SEAL = "seal"
"""Action that takes a number out of use: what another entry says was about to be committed under it was not."""
BEGINNING = "0" * 64
"""Stands for the entry before the first."""
MAX_TRIES = 50
PAUSE_S = 0.05
PROBE = f"{PREFIX}/probe"
"""Written and removed by a night to see that it may write entries; left behind where it may remove nothing."""
_NAME = re.compile(r"(\d{8})\.json")
_heads: dict[str, EntryRef] = {}


class EntryRef(FrozenConfig):
    """One entry as others name it.

    Attributes:
        number: Its number, 1-based; 0 for the beginning of the chain.
        sha256: Digest of its bytes.
    """

    number: int = 0
    sha256: str = BEGINNING

    @property
    def key(self) -> str:
        """Key of the entry."""
        return f"{PREFIX}/{self.number:08d}.json"


class AuditEntry(FrozenConfig):
    """One thing that was done.

    Attributes:
        number: Its place in the chain, 1-based.
        previous: Digest of the entry before it.
        nonce: Tells two writers of the same thing apart.
        action: What, e.g. ``deliver``.
        actor: Who: ``CRRG_PRINCIPAL``, or the account of the process that did it.
        host: Machine it ran on.
        at_utc: When, ISO 8601.
        subject: Our own id of what it was done to; empty where that itself must not be told.
        bundle_id: Models that had a part in it, empty if none.
        inputs: Digests or pseudonyms of what went in.
        outputs: Keys or identifiers of our own of what came out.
        writes: Key to sha256 of what was written, through an index where it is much.
        counts: Figures, e.g. how many documents.
    """

    number: int
    previous: str
    nonce: str
    action: str
    actor: str
    host: str
    at_utc: str
    subject: str = ""
    bundle_id: str = ""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    writes: dict[str, str] = Field(default_factory=dict)
    counts: dict[str, int] = Field(default_factory=dict)


@dataclass(frozen=True)
class Chain:
    """The whole audit as it was found.

    Attributes:
        entries: Readable entries by number.
        digests: Digest of every entry by number.
        problems: What is wrong, as sentences; empty for an unbroken chain.
    """

    entries: dict[int, AuditEntry]
    digests: dict[int, str]
    problems: tuple[str, ...]

    @property
    def head(self) -> EntryRef:
        """The last entry."""
        number = max(self.digests, default=0)
        return EntryRef(number=number, sha256=self.digests.get(number, BEGINNING))


def write_audit(
    storage: Storage,
    action: str,
    *,
    subject: str = "",
    bundle_id: str = "",
    inputs: tuple[str, ...] = (),
    outputs: tuple[str, ...] = (),
    writes: Mapping[str, str] | None = None,
    counts: Mapping[str, int] | None = None,
) -> EntryRef:
    """Append an entry and return how others name it.

    Args:
        storage: The root; it knows whom this process works for.
        action: What was done.
        subject: As of ``AuditEntry``, like what follows.
        bundle_id: Models that had a part in it.
        inputs: What went in.
        outputs: What came out.
        writes: What was written.
        counts: Figures.

    Raises:
        StorageError: The entry could not be written; what it is about must then not be called done.
    """
    head = _heads.get(storage.root) or _find_head(storage)
    for _ in range(MAX_TRIES):
        entry = AuditEntry(
            number=head.number + 1,
            previous=head.sha256,
            nonce=uuid.uuid4().hex[:16],
            action=action,
            actor=storage.principal or _account(),
            host=socket.gethostname(),
            at_utc=datetime.now(UTC).isoformat(timespec="microseconds"),
            subject=subject,
            bundle_id=bundle_id,
            inputs=inputs,
            outputs=outputs,
            writes=dict(writes or {}),
            counts=dict(counts or {}),
        )
        data = canonical_json(entry.model_dump(mode="json"))
        written = EntryRef(number=entry.number, sha256=hashlib.sha256(data).hexdigest())
        try:
            storage.put_if_absent(written.key, data)
        except Conflict:
            time.sleep(random.uniform(0, PAUSE_S))
            head = _find_head(storage)
            continue
        _heads[storage.root] = written
        return written
    raise StorageError(f"another writer won all {MAX_TRIES} attempts; run again later", PREFIX, retryable=True)


def read_audit(storage: Storage, date: str = "") -> list[AuditEntry]:
    """Return the entries of a day (UTC, ``YYYY-MM-DD``), or all, in the order in which they were written.

    Raises:
        ConfigError: There is no such day.
    """
    check_date(date, "date")
    entries = [_read(storage, name) for name in _names(storage)]
    return [entry for entry in entries if entry.at_utc.startswith(date)]


def has_action(storage: Storage, action: str) -> bool:
    """Return whether the audit has an entry of an action."""
    return any(_read(storage, name).action == action for name in _names(storage))


def last_number(storage: Storage) -> int:
    """Return the number of the last entry, 0 where there is none."""
    return max((int(name.removesuffix(".json")) for name in _names(storage)), default=0)


def check_chain(storage: Storage) -> Chain:
    """Read the whole audit and say where it was changed, cut or added to."""
    problems: list[str] = []
    entries: dict[int, AuditEntry] = {}
    digests: dict[int, str] = {}
    for stored in storage.list_objects(PREFIX):
        if stored.key == PROBE:
            continue
        name = _NAME.fullmatch(stored.key.removeprefix(f"{PREFIX}/"))
        if name is None:
            problems.append(f"{stored.key} is not an audit entry; something else put it there")
            continue
        number, data = int(name[1]), storage.get(stored.key)
        digests[number] = hashlib.sha256(data).hexdigest()
        try:
            entries[number] = AuditEntry.model_validate_json(data, extra="ignore")
        except ValidationError:
            problems.append(f"entry {number} cannot be read; it was changed")
    for number in range(1, max(digests, default=0) + 1):
        if number not in digests:
            problems.append(f"entry {number} is missing; it was removed")
            continue
        entry = entries.get(number)
        if entry is not None and entry.number != number:
            problems.append(f"entry {number} says it is entry {entry.number}; it was inserted")
        before = BEGINNING if number == 1 else digests.get(number - 1)
        if entry is not None and before is not None and entry.previous != before:
            problems.append(f"entry {number} does not follow entry {number - 1}; one of the two was changed")
    return Chain(entries, digests, tuple(problems))


def _read(storage: Storage, name: str) -> AuditEntry:
    return AuditEntry.model_validate_json(storage.get(f"{PREFIX}/{name}"), extra="ignore")


def _find_head(storage: Storage) -> EntryRef:
    names = _names(storage)
    if not names:
        return EntryRef()
    return EntryRef(number=int(names[-1].removesuffix(".json")), sha256=storage.sha256(f"{PREFIX}/{names[-1]}"))


def _names(storage: Storage) -> list[str]:
    return [name for name in storage.list_folder(PREFIX) if _NAME.fullmatch(name)]


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
