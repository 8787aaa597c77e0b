"""Measurements that are kept as they are finished, so that a long benchmark goes on where it was stopped."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)
IDENTITY = "identity"
"""Row that says what the other rows are of."""


class Table:
    """Finished measurements on disk."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rows: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}

    def fill(self, name: str, measure: Callable[[], dict[str, Any]]) -> None:
        """Measure what is not in the table yet, and write it down."""
        if name not in self.rows:
            start = time.monotonic()
            row = measure()
            logger.info("%s in %.0f s", name, time.monotonic() - start)
            self.note(name, row)

    def note(self, name: str, row: dict[str, Any]) -> None:
        """Write down what was measured elsewhere."""
        self.rows[name] = row
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps(self.rows, indent=1))
        new.replace(self.file)


def table_of(folder: Path, identity: Mapping[str, str]) -> Table:
    """Return the table of a machine and program, ``pieces-<digest>.json``; those of others lie beside it, untouched.

    Args:
        folder: Where tables lie.
        identity: What the rows are of (``benchmarks.resumable.identity``).
    """
    digest = hashlib.sha256(json.dumps(dict(identity), sort_keys=True).encode()).hexdigest()[:8]
    table = Table(folder / f"pieces-{digest}.json")
    for other in sorted(folder.glob("pieces*.json")):
        if other != table.file:
            logger.info("rows of another machine or program, not used: %s", other)
    if IDENTITY not in table.rows:
        table.note(IDENTITY, dict(identity))
    return table
