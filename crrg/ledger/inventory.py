"""What lies in an inbox, and what of it is new.

New is what the ledger does not know in this version (key and etag), what an earlier night refused for a cause that may
have passed, and what came back after another version of the same object had replaced its draft; time decides nothing
but whether an object has settled. Hidden objects (a name in the path begins with a dot) are nobody's input. Contents
are not read here.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from crrg.data.refusals import may_pass, was_absent
from crrg.errors import ConfigError
from crrg.ledger.ledger import Ledger, LedgerRow, Outcome
from crrg.local_files import check_folder
from crrg.storage import Storage, canonical_json

logger = logging.getLogger(__name__)

FURTHER_NIGHTS = 2
"""Nights that try again what crashed, took too long or was denied: a machine short of memory or a right that is missing
is mended within a day or two; a poisoned film costs each of them a decoder and 20 s."""
_ESCAPE = re.compile(r"\\ud[89a-f][0-9a-f]{2}")


@dataclass(frozen=True, slots=True)
class InboxObject:
    """One object of an inbox.

    Attributes:
        key: Key in the inbox: the source's own name, which is never stored, logged or shown.
        key_hmac: Its pseudonym.
        etag: The store's version mark.
        size: Bytes.
        modified_s: Store's modification time, seconds since the epoch.
    """

    key: str
    key_hmac: str
    etag: str
    size: int
    modified_s: float


@dataclass(frozen=True)
class Inventory:
    """An inbox against a ledger; every object is in exactly one part.

    Attributes:
        new: Unknown or to be tried again, and settled, in key order.
        pending: Unknown, but too young to be read, of a study that waits, or beyond the night's limit.
        num_known: How many objects the ledger knows in this version.
    """

    new: tuple[InboxObject, ...]
    pending: tuple[InboxObject, ...]
    num_known: int

    @property
    def digest(self) -> str:
        """Digest over the new objects and their versions."""
        return inputs_digest(self.new)

    def taking(self, objects: Iterable[InboxObject]) -> Inventory:
        """Return the same inventory with only these objects new; the other new ones are pending."""
        taken = {found.key_hmac for found in objects}
        left = tuple(found for found in self.new if found.key_hmac not in taken)
        new = tuple(found for found in self.new if found.key_hmac in taken)
        return Inventory(new, (*self.pending, *left), self.num_known)


def list_inbox(inbox: Storage, hmac_of: Callable[[str], str], *, says_hidden: bool = False) -> list[InboxObject]:
    """Return the objects of an inbox in key order, hidden ones left out.

    Args:
        inbox: The inbox; its keys are the source's names.
        hmac_of: Turns a key into its pseudonym.
        says_hidden: Whether it is logged how many hidden ones there are, since no count holds them.

    Raises:
        ConfigError: There is no such inbox, or it is a file; an empty one is fine.
    """
    check_folder(inbox.root, "inbox")
    found = inbox.list_objects()
    if not found and not inbox.is_reachable():
        raise ConfigError("the inbox does not exist; check its address", "inbox")
    inputs = [stored for stored in found if not any(part.startswith(".") for part in stored.key.split("/"))]
    if says_hidden and (num_hidden := len(found) - len(inputs)):
        logger.info("%d hidden objects of the inbox are no inputs", num_hidden)
    return [
        InboxObject(stored.key, hmac_of(_text_of(stored.key)), stored.etag, stored.size, stored.modified_s)
        for stored in inputs
    ]


def take_inventory(
    objects: Sequence[InboxObject], ledger: Ledger, *, date: str, now_s: float, settle_s: float, inbox_id: str = ""
) -> Inventory:
    """Sort an inbox's objects into new, pending and known.

    Args:
        objects: What lies in the inbox.
        ledger: What earlier nights did.
        date: The night; what it refused itself it does not try again, so that it can be run again.
        now_s: Present time by the store's clock, seconds since the epoch.
        settle_s: Age from which an object counts as completely written, seconds.
        inbox_id: Pseudonym of the inbox's address: what lies in another one under the same key is another object.
    """
    unknown = [found for found in objects if not _is_known(found, ledger, date, inbox_id)]
    new = tuple(found for found in unknown if not is_young(found, now_s, settle_s))
    young = tuple(found for found in unknown if is_young(found, now_s, settle_s))
    if num_ahead := sum(1 for found in new if found.modified_s > now_s):
        logger.warning("%d objects of the inbox are dated in the future; they count as settled", num_ahead)
    return Inventory(new, young, len(objects) - len(unknown))


def is_young(found: InboxObject, now_s: float, settle_s: float) -> bool:
    """Return whether an object may still be being written; one whose time is yet to come would wait until then.

    Args:
        found: The object.
        now_s: Present time by the store's clock, seconds since the epoch.
        settle_s: Age from which an object counts as completely written, seconds.
    """
    return abs(now_s - found.modified_s) < settle_s


def is_to_try_again(row: LedgerRow, ledger: Ledger) -> bool:
    """Return whether another night tries an object again that one refused for a cause outside its bytes."""
    if row.outcome is Outcome.ACCEPTED or not may_pass(row.reason):
        return False
    return was_absent(row.reason) or ledger.num_tries(row.key_hmac, row.etag) <= FURTHER_NIGHTS


def _is_known(found: InboxObject, ledger: Ledger, date: str, inbox_id: str) -> bool:
    row = ledger.find(found.key_hmac, found.etag)
    if row is None:
        return False
    if is_to_try_again(row, ledger):
        return row.date == date and not was_absent(row.reason)
    return not ledger.is_replaced(row, inbox_id)


def inputs_digest(objects: Iterable[InboxObject]) -> str:
    """Return a digest over objects and their versions, independent of their order."""
    versions = sorted([found.key_hmac, found.etag] for found in objects)
    return hashlib.sha256(canonical_json(versions)).hexdigest()


def cut_shards(objects: Iterable[InboxObject], shard_size: int) -> list[list[InboxObject]]:
    """Cut objects into shards in key order, keeping a folder together as long as it fits into one shard.

    A folder is usually a study, and a study that lies in one shard needs no second look at the commit.
    """
    folders: dict[str, list[InboxObject]] = {}
    for found in sorted(objects, key=lambda each: each.key):
        folders.setdefault(found.key.rpartition("/")[0], []).append(found)
    shards: list[list[InboxObject]] = []
    for members in folders.values():
        fits = bool(shards) and len(shards[-1]) + len(members) <= shard_size
        if fits:
            shards[-1].extend(members)
            continue
        room = shard_size - len(shards[-1]) if shards and len(members) > shard_size else 0
        if room:
            shards[-1].extend(members[:room])
        rest = members[room:]
        shards.extend(rest[start : start + shard_size] for start in range(0, len(rest), shard_size))
    return shards


def _text_of(key: str) -> str:
    """Return a key as text that can be encoded, no two keys as the same; file systems also hold names that are no text.

    What is no text is escaped, and where escapes are, be it that a name only looks so, backslashes are doubled before.
    """
    if _ESCAPE.search(_escaped(key)):
        return _escaped(key.replace("\\", "\\\\"))
    return key


def _escaped(key: str) -> str:
    return key.encode("utf-8", "backslashreplace").decode()
