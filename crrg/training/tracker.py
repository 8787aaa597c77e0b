"""What a training says of itself while it runs, and to whom: a run on a tracking server, or nobody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Tracker(Protocol):
    """Receives what a run has to say. Never report text of a licensed set, never an identifier of a source."""

    @property
    def run_id(self) -> str:
        """Id of the run; empty where nothing is tracked."""

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record settings; nested mappings are flattened with dots."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record numbers by ``protocol/name``."""

    def log_picture(self, name: str, png: bytes) -> None:
        """Record a PNG under ``name`` (with suffix)."""

    def log_text(self, name: str, text: str) -> None:
        """Record a text or JSON document under ``name`` (with suffix)."""

    def log_table(self, name: str, columns: Mapping[str, Sequence[str | float | None]]) -> None:
        """Record a table under ``name`` (``.json``), its columns by their heads."""


class NullTracker:
    """A tracker that forgets everything."""

    run_id = ""

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Forget settings."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Forget numbers."""

    def log_picture(self, name: str, png: bytes) -> None:
        """Forget a picture."""

    def log_text(self, name: str, text: str) -> None:
        """Forget a document."""

    def log_table(self, name: str, columns: Mapping[str, Sequence[str | float | None]]) -> None:
        """Forget a table."""
