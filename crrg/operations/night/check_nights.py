"""Count again what nights committed (``crrg check``): from manifests and the files they name alone, by anyone.

Every input is accepted, quarantined or pending, every draft has its row, its regions and its documents, and every
object is the one that was recorded. With an inbox, each of its objects is also looked for in the ledger. Reads only;
needs no model, and a secret only for the inbox.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from crrg.config.dates import check_date
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.data.refusals import is_failure
from crrg.domain.regions import NUM_REGIONS
from crrg.errors import StorageError
from crrg.exports.parquet import REGIONS_SCHEMA, REPORTS_SCHEMA
from crrg.ledger.digest import NightDigest
from crrg.ledger.ledger import Outcome, in_commit_order
from crrg.ledger.manifest import Manifest, committed_manifests, current_manifests
from crrg.ledger.tables import read_table
from crrg.operations.night.outcomes import inbox_outcomes
from crrg.operations.night.page_marks import Marks, find_marks, is_told
from crrg.operations.summaries import table
from crrg.progress import count_progress
from crrg.storage import Storage

READERS = 16
OBJECTS_AT_ONCE = 256


@dataclass(frozen=True)
class NightCount:
    """One commit, counted again.

    Attributes:
        date: The night.
        fencing: Number of the commit.
        num_inputs: Inputs by its manifest.
        num_accepted: Accepted by its ledger.
        num_quarantined: Quarantined by its ledger.
        num_pending: Pending by its manifest.
        problems: What does not add up or is not what was recorded; empty where all is well.
    """

    date: str
    fencing: int
    num_inputs: int
    num_accepted: int
    num_quarantined: int
    num_pending: int
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Recount:
    """All commits that were asked for, counted again.

    Attributes:
        nights: One per commit.
        problems: What is wrong between commits, or between them and the inbox.
        inbox: Objects of the inbox per outcome; empty where none was given.
        date: The night that was asked for; empty where all were.
    """

    nights: tuple[NightCount, ...]
    problems: tuple[str, ...]
    inbox: dict[str, int]
    date: str = ""

    @property
    def is_good(self) -> bool:
        """Whether everything adds up and is what was recorded."""
        return not self.problems and not any(night.problems for night in self.nights)


def check_nights(
    storage: Storage, date: str = "", inbox_url: str = "", pseudonyms: Pseudonyms | None = None
) -> Recount:
    """Count commits again and verify every object that they name.

    Args:
        storage: The root.
        date: One night, ``YYYY-MM-DD``; empty takes all.
        inbox_url: Inbox whose objects are looked for; empty for none.
        pseudonyms: The key the nights ran with; only for the inbox.

    Raises:
        ConfigError: There is no such day.
        StorageError: The root is out of reach.
    """
    check_date(date, "date")
    nights: dict[tuple[str, str], NightCount] = {}
    committed = committed_manifests(storage)
    manifests, num_commits = current_manifests(committed), Counter((each.date, each.run_id) for each in committed)
    ordered = in_commit_order(manifests)
    marks = find_marks(ordered)
    readings, twice = _Readings(), 0
    asked = [manifest for manifest in ordered if not date or manifest.date == date]
    look = _Look(storage, len(asked))
    for manifest in asked:
        run = (manifest.date, manifest.run_id)
        nights[run], rows = _count(manifest, marks.get(run, {}), look, is_open=num_commits[run] > 1)
        twice += readings.add(rows, manifest.inbox_id)
    if date and twice:
        # a night of another date may have read them in between, with another bundle
        readings = _Readings()
        found = [(each.date, readings.add(_rows(each, "ledger", storage, []), each.inbox_id)) for each in ordered]
        twice = sum(number for of_date, number in found if of_date == date)
    problems = [f"{twice} inputs were read twice in the same version by the same bundle"] if twice else []
    outcomes: Counter[str] = Counter()
    if inbox_url and pseudonyms is not None:
        outcomes.update(entry.outcome for entry in inbox_outcomes(inbox_url, storage, pseudonyms))
    counted = (nights.get((each.date, each.run_id)) for each in manifests)
    return Recount(tuple(filter(None, counted)), tuple(problems), dict(sorted(outcomes.items())), date)


def recount_markdown(recount: Recount) -> str:
    """Return the counts of each commit, and what is wrong."""
    header = ("night", "commit", "inputs", "accepted", "quarantined", "pending", "")
    rows = [
        (
            night.date,
            night.fencing,
            night.num_inputs,
            night.num_accepted,
            night.num_quarantined,
            night.num_pending,
            "; ".join(night.problems) or "adds up",
        )
        for night in recount.nights
    ]
    nothing = f"No night of {recount.date} was committed." if recount.date else "No night yet."
    parts = [table(header, rows) if rows else nothing]
    if recount.inbox:
        parts.append("Inbox: " + ", ".join(f"{number} {outcome}" for outcome, number in recount.inbox.items()))
    parts += [f"NOT OK: {problem}" for problem in recount.problems]
    return "\n\n".join(parts)


class _Look:
    """Reads what manifests name, and says how far it is."""

    def __init__(self, storage: Storage, num_nights: int) -> None:
        """Begin with the first of some commits."""
        self.storage = storage
        self._num_nights, self._num_done, self._num_objects = num_nights, 0, 0
        self._say = count_progress("check", "nights")

    def objects_read(self, number: int) -> None:
        """Count documents and pictures."""
        self._num_objects += number
        self._tell()

    def night_done(self) -> None:
        """Count a commit."""
        self._num_done += 1
        self._tell()

    def _tell(self) -> None:
        self._say(self._num_done, self._num_nights, f"{self._num_objects} documents and pictures")


class _Readings:
    """Which bundle read each input last, in the order of commits.

    A bundle may read an input again after another one did, as after a rollback, and after another version of the same
    object, when the earlier one was sent back; twice in a row it may not, but for what was refused as somebody's
    failure, which a later night tries again.
    """

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], str] = {}
        self._versions: dict[tuple[str, str], str] = {}

    def add(self, rows: Iterable[Mapping[str, str]], inbox_id: str) -> int:
        """Take the ledger of the next commit; return how many of its inputs the same bundle read right before.

        Args:
            rows: The ledger.
            inbox_id: Which inbox its night read.
        """
        num_twice = 0
        for row in rows:
            key, is_final = (row["key_hmac"], row["etag"]), _is_final(row)
            place = (inbox_id, row["key_hmac"])
            is_same = self._last.get(key) == row["bundle_id"]
            is_same &= self._versions.get(place, row["etag"]) == row["etag"]
            self._versions[place] = row["etag"]
            num_twice += is_same and is_final
            if is_final or not is_same:
                self._last[key] = row["bundle_id"] if is_final else ""
        return num_twice


def _is_final(row: Mapping[str, str]) -> bool:
    return row["outcome"] == Outcome.ACCEPTED or not is_failure(row["reason"])


def _count(manifest: Manifest, marks: Marks, look: _Look, *, is_open: bool) -> tuple[NightCount, list[dict[str, str]]]:
    """Return a commit counted again, and its ledger; of one that is open, an older one of its run counts still."""
    storage = look.storage
    problems: list[str] = []
    rows = list(_rows(manifest, "ledger", storage, problems))
    outcomes = Counter(Outcome(row["outcome"]) for row in rows)
    accepted, quarantined = outcomes[Outcome.ACCEPTED], outcomes[Outcome.QUARANTINED]
    if (accepted, quarantined) != (manifest.num_accepted, manifest.num_quarantined):
        problems.append(f"the ledger has {accepted} accepted and {quarantined} quarantined, the manifest other counts")
    if manifest.num_inputs != manifest.num_accepted + manifest.num_quarantined + manifest.num_pending:
        problems.append("inputs are not accepted + quarantined + pending")
    refused = Counter(row["key_hmac"] for row in _rows(manifest, "quarantine", storage, problems))
    if refused != Counter(row["key_hmac"] for row in rows if row["outcome"] == Outcome.QUARANTINED):
        problems.append("the quarantine holds other objects than the ledger")
    if Counter(row["reason"] for row in rows if row["reason"] and row["outcome"] != "accepted") != manifest.reasons:
        problems.append("the reasons are not the manifest's")
    drafted = {row["instance_id"] for row in rows if row["outcome"] == Outcome.ACCEPTED and not row["is_carried"]}
    problems += _check_drafts(manifest, drafted, rows, storage)
    problems += _check_objects(manifest, look)
    if not is_told(storage, manifest, marks, is_open=is_open):
        problems.append("the page's note of replaced drafts is not what nights committed")
    count = NightCount(
        date=manifest.date,
        fencing=manifest.fencing,
        num_inputs=manifest.num_inputs,
        num_accepted=accepted,
        num_quarantined=quarantined,
        num_pending=manifest.num_pending,
        problems=tuple(problems),
    )
    look.night_done()
    return count, rows


def _check_drafts(
    manifest: Manifest, drafted: set[str], rows: Sequence[dict[str, str]], storage: Storage
) -> Iterator[str]:
    """Yield what is wrong with the tables of drafts, read one after the other."""
    digest, num_regions, found = NightDigest(), Counter[str](), Counter[str]()
    for file in manifest.files:
        if file.kind not in ("reports", "regions"):
            continue
        try:
            held = read_table(storage, file).cast(REPORTS_SCHEMA if file.kind == "reports" else REGIONS_SCHEMA)
        except (StorageError, pa.ArrowInvalid):
            yield f"a table of {file.kind} is not the recorded one"
            return
        digest.add_table(file.kind, held)
        (found if file.kind == "reports" else num_regions).update(held["instance_id"].to_pylist())
    digest.add_outcomes(rows)
    if any(number > 1 for number in found.values()):
        yield "an image has several drafts"
    # a night without page gave its drafts up by age (crrg gc --results-older-than)
    if manifest.review_key and (missing := len(drafted - set(found))):
        yield f"{missing} accepted images have no draft"
    if num_regions != dict.fromkeys(found, NUM_REGIONS):
        yield f"a draft has not exactly {NUM_REGIONS} regions"
    # what was committed before commits were numbered has a digest of another form
    if manifest.sequence and digest.hexdigest() != manifest.digest:
        yield "the digest is not the recorded one"


def _check_objects(manifest: Manifest, look: _Look) -> list[str]:
    """Return what is wrong with documents, pictures and page."""
    storage = look.storage
    try:
        storage.get_verified(manifest.index_key, manifest.index_sha256)
        index: dict[str, str] = storage.get_json(manifest.index_key)
    except StorageError:
        return ["the index of documents is not the recorded one"]
    entries, wrong = list(index.items()), 0
    with ThreadPoolExecutor(READERS, thread_name_prefix="check") as pool:
        for start in range(0, len(entries), OBJECTS_AT_ONCE):
            keys, digests = zip(*entries[start : start + OBJECTS_AT_ONCE], strict=True)
            wrong += list(pool.map(partial(_is_recorded, storage), keys, digests)).count(False)
            look.objects_read(len(keys))
    return [f"{wrong} documents or pictures are not the recorded ones"] if wrong else []


def _is_recorded(storage: Storage, key: str, sha256: str) -> bool:
    try:
        return hashlib.sha256(storage.get(key)).hexdigest() == sha256
    except StorageError as error:
        if error.retryable:
            raise
        return False


def _rows(manifest: Manifest, kind: str, storage: Storage, problems: list[str]) -> Iterator[dict[str, str]]:
    for file in manifest.files:
        if file.kind == kind:
            try:
                yield from read_table(storage, file).to_pylist()
            except (StorageError, pa.ArrowInvalid):
                problems.append(f"a table of kind {kind} is not the recorded one")
