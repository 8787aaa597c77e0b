"""JSON objects that carry the digest of their own content, so that a damaged one is not believed.

A manifest decides what readers believe, and nothing else holds its digest: one flipped bit of a count or a name still
makes valid JSON. Objects written before they carried a digest are read as they are. It tells damage, not forgery: who
can write an object can write its digest (``crrg audit verify`` compares with what was audited).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

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
        raise ValueError("another content than was written")
    return value


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(content)).hexdigest()
