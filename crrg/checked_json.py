"""JSON objects that carry the digest of their own content, so that a damaged one is not believed; schema versions.

A manifest decides what readers believe, and nothing else holds its digest: one flipped bit of a count or a name still
makes valid JSON. Objects written before they carried a digest are read as they are. It tells damage, not forgery: who
can write an object can write its digest (``crrg audit verify`` compares with what was audited).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from crrg.errors import ModelError, StorageError
from crrg.storage import canonical_json

DIGEST = "content_sha256"


def checked_json(value: Mapping[str, Any]) -> bytes:
    """Return an object as canonical JSON with the digest of everything else in it."""
    content = {name: each for name, each in value.items() if name != DIGEST}
    return canonical_json({**content, DIGEST: _digest(content)})


def parse_checked(data: bytes, check_version: Callable[[Mapping[str, Any]], object]) -> dict[str, Any]:
    """Return an object without its digest.

    Args:
        data: As ``checked_json`` returned it, also by a later program.
        check_version: Asked first, since a later version may reckon its digest otherwise.

    Raises:
        ValueError: It is no JSON object, or not the one that was written.
    """
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    check_version(value)
    recorded = value.pop(DIGEST, None)
    if recorded is not None and recorded != _digest(value):
        raise ValueError("the content is not what was written")
    return value


def check_schema_version(
    found: object,
    known: Sequence[int],
    subject: str,
    *,
    or_else: str = "",
    error: type[StorageError | ModelError] = StorageError,
) -> None:
    """Check that an object has a schema version that this program reads.

    Args:
        found: Its version; none is no version either.
        known: Versions that are read.
        subject: Key of the object.
        or_else: What else could be done than to use the program that wrote it.
        error: What to raise.

    Raises:
        StorageError: It has another one; or ``error``.
    """
    if found not in known:
        reads = " and ".join(map(str, known))
        way_out = "use the program version that wrote it, or a newer one" + (f", or {or_else}" if or_else else "")
        raise error(f"schema version is {found}, this program reads {reads}; {way_out}", subject)


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(content)).hexdigest()
