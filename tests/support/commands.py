"""The commands of ``crrg``, those of its groups too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from crrg.cli import app

GROUP: Any = typer.main.get_command(app)
"""The command ``crrg`` itself; of click's types, whatever copy of click Typer brings."""


def every_command(command: Any = GROUP) -> Iterator[Any]:
    """Yield a command and, where it is a group, all that it leads to."""
    yield command
    for inner in getattr(command, "commands", {}).values():
        yield from every_command(inner)
