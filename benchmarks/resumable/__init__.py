"""Measurements that are kept as they are finished, so that a long benchmark goes on where it was stopped."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


class Table:
    """Finished measurements on disk."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rows: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}

    def fill(self, name: str, measure: Callable[[], dict[str, Any]]) -> None:
        """Measure what is not in the table yet, and write it down."""
        if name not in self.rows:
            self.refill(name, measure)

    def refill(self, name: str, measure: Callable[[], dict[str, Any]]) -> None:
        """Measure and write down, whatever stands in the table: a summary of rows that costs nothing."""
        start = time.monotonic()
        self.rows[name] = measure()
        logger.info("%s in %.0f s", name, time.monotonic() - start)
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps(self.rows, indent=1))
        new.replace(self.file)
