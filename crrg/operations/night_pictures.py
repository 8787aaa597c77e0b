"""Pictures of films, named by the film; where two shards draft films of one identifier neither takes the other's place.

The first shard that writes has the name, another writes beside it. Which of the two films is drafted, the commit says,
and then its picture gets the name. What lies beside is named by no manifest and goes with ``crrg gc``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from crrg.errors import Conflict
from crrg.operations.night_records import InputOutcome, ShardRecord
from crrg.storage import Storage

_PICTURE = re.compile(r"(?P<folder>.+/(?:films|evidence))/(?P<instance_id>[^/.]+)(?:\.\d+)?\.png")


def put_picture(storage: Storage, key: str, data: bytes, shard_index: int) -> str:
    """Write a picture under its name, or beside it where another shard's is; return where.

    Args:
        storage: The root.
        key: The picture's name.
        data: PNG.
        shard_index: Number of the shard.
    """
    try:
        storage.put_if_absent(key, data)
    except Conflict:
        key = f"{key.removesuffix('.png')}.{shard_index}.png"
        storage.put(key, data)
    return key


def settled_objects(
    records: Iterable[ShardRecord], settled: Mapping[str, InputOutcome], storage: Storage
) -> dict[str, str]:
    """Return the sha256 of the objects of all shards by key; of an identifier that several drafted, only what counts.

    Args:
        records: The shards.
        settled: What became of every input, by ``key_hmac``.
        storage: The root.
    """
    records = tuple(records)
    drafting = {
        outcome.instance_id: record.index
        for record in records
        for outcome in record.outcomes
        if settled[outcome.key_hmac].is_drafted
    }
    objects: dict[str, str] = {}
    for record in records:
        for key, digest in record.objects.items():
            found = _PICTURE.fullmatch(key)
            if found is None:
                objects[key] = digest
            elif drafting.get(found["instance_id"]) == record.index:
                name = f"{found['folder']}/{found['instance_id']}.png"
                if key == name:
                    objects[key] = digest  # the record's own string, not a second copy for every film
                else:
                    storage.put(name, storage.get_verified(key, digest))
                    objects[name] = digest
            elif found["instance_id"] not in drafting:
                objects[key] = digest
    return objects
