"""Commands about data: phantom, ingest, demo."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add these commands."""
