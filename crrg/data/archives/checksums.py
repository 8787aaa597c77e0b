"""Digests that an archive publishes of its own objects: ``SHA256SUMS.txt``, as ``sha256sum`` writes it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable

from crrg.data.archives.tables import MAX_TABLE_BYTES
from crrg.errors import DataError
from crrg.storage import Storage, StoredObject

SUMS_PATTERN = re.compile(r"(?:^|/)SHA256SUMS\.txt$")
_LINE = re.compile(rb"([0-9a-fA-F]{64}) [ *](.+)")


def read_checksums(storage: Storage, objects: Iterable[StoredObject], wanted: re.Pattern[str]) -> dict[str, str]:
    """Return the published sha256 (lower-case hex) of objects by their key.

    Args:
        storage: Where they lie.
        objects: What lies there; every list among them is read, its paths are relative to its own folder.
        wanted: Found in the keys that matter; others are not kept.

    Raises:
        DataError: A list is too large (``LIMIT.TABLE``).
    """
    sums: dict[str, str] = {}
    for stored in objects:
        if not SUMS_PATTERN.search(stored.key):
            continue
        if stored.size > MAX_TABLE_BYTES:
            raise DataError(f"the list of digests has more than {MAX_TABLE_BYTES} bytes", code="LIMIT.TABLE")
        folder = stored.key[: -len("SHA256SUMS.txt")]
        for line in io.BytesIO(storage.get(stored.key)):
            match = _LINE.fullmatch(line.strip())
            key = folder + match.group(2).decode("utf-8", "replace").removeprefix("./") if match else ""
            if match and wanted.search(key):
                sums[key] = match.group(1).decode().lower()
    return sums
