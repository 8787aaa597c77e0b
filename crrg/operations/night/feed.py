"""Opens the shards of a night: the next one is read while the last films of one are drafted and its texts written."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType

from crrg.config.base import default_num_workers
from crrg.config.references import NightPlan, ShardRef
from crrg.data.archives.givers import Givers
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.data.privacy.forgotten import ForgottenPatients, read_forgotten
from crrg.ledger.inventory import InboxObject, list_inbox
from crrg.operations.night.plans import listed_inputs
from crrg.operations.night.reading import ReadAhead, ReadInput, read_inputs
from crrg.operations.night.records import ShardInput, record_key
from crrg.storage import Storage


@dataclass(frozen=True)
class OpenShard:
    """A shard that is being read.

    Attributes:
        index: Its place in the plan.
        inputs: What it lists.
        readings: What becomes of each, in the same order; closed by whoever takes it.
    """

    index: int
    inputs: tuple[ShardInput, ...]
    readings: ReadAhead[ReadInput]


class ShardFeed:
    """Opens shards of one night, for one thread or several; lists the inbox, and who was forgotten, once."""

    def __init__(self, plan: NightPlan, storage: Storage, pseudonyms: Pseudonyms) -> None:
        """Prepare; nothing is read before a shard is opened.

        Args:
            plan: The night.
            storage: The root.
            pseudonyms: Makes the ids; the key the plan was made with.
        """
        self._plan = plan
        self._storage = storage
        self._pseudonyms = pseudonyms
        self._inbox = storage.at(plan.inbox).without_names()
        self._located: Mapping[str, InboxObject] | None = None
        self._givers = Givers(self._inbox, ())
        self._forgotten = ForgottenPatients(pseudonyms)
        self._ahead: OpenShard | None = None
        self._begun: set[int] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> ShardFeed:
        """Return the feed itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Stop reading what was opened ahead, and forget the listing."""
        with self._lock:
            self._located = None
            self._givers = Givers(self._inbox, ())
            if self._ahead is not None:
                self._ahead.readings.close()
                self._ahead = None

    def open(self, shard: ShardRef) -> OpenShard:
        """Return a shard that is being read, from now or from ``open_after`` on.

        Raises:
            StorageError: Inbox or root is out of reach.
        """
        with self._lock:
            self._begun.add(shard.index)
            ahead, self._ahead = self._ahead, None
            if ahead is not None and ahead.index == shard.index:
                return ahead
            if ahead is not None:
                ahead.readings.close()
            return self._open(shard)

    def open_after(self, index: int) -> None:
        """Begin to read the shard that follows one, if there is one that nobody has begun or finished."""
        with self._lock:
            following = next((shard for shard in self._plan.shards if shard.index == index + 1), None)
            if following is None or self._ahead is not None or following.index in self._begun:
                return
            if not self._storage.exists(record_key(self._plan, following.index)):
                self._ahead = self._open(following)

    def has_opened(self, shard: ShardRef) -> bool:
        """Return whether a shard is being read ahead; then nobody had finished it."""
        with self._lock:
            return self._ahead is not None and self._ahead.index == shard.index

    def _open(self, shard: ShardRef) -> OpenShard:
        (inputs,) = listed_inputs(self._storage, [shard])
        if self._located is None:
            objects = list_inbox(self._inbox, self._pseudonyms.object_key)
            self._located = {found.key_hmac: found for found in objects}
            self._givers = Givers(self._inbox, objects)
            self._forgotten = read_forgotten(self._storage, self._pseudonyms)
        readings = read_inputs(
            inputs,
            {each.key_hmac: self._located[each.key_hmac] for each in inputs if each.key_hmac in self._located},
            self._inbox,
            self._givers,
            self._pseudonyms,
            self._forgotten,
            image_size=self._plan.config.image_size,
            num_workers=self._plan.config.num_workers or default_num_workers(),
        )
        return OpenShard(shard.index, inputs, readings)
