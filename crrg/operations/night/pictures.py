"""Pictures of a night's films: of an identifier that several objects bear, only the one that is drafted counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from crrg.exports.page_pictures import film_of
from crrg.operations.night.records import InputOutcome, ShardRecord


def settled_pictures(records: Iterable[ShardRecord], settled: Mapping[str, InputOutcome]) -> dict[str, str]:
    """Return the sha256 of the pictures that count, by key; what is left out no manifest names.

    Args:
        records: The shards; each knows its own pictures, wherever they had to lie.
        settled: What became of every input, by ``key_hmac``.
    """
    pictures: dict[str, str] = {}
    for record in records:
        drafted = {each.instance_id for each in record.outcomes if settled[each.key_hmac].is_drafted}
        pictures.update((key, digest) for key, digest in record.objects.items() if film_of(key) in drafted)
    return pictures
