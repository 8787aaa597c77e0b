"""Commands about the installation and what stands in it: doctor, status, check, bootstrap."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crrg.cli.nights import DateOption, absolute
from crrg.cli.running import EXIT_USAGE, RootOption, execute

if TYPE_CHECKING:
    from crrg.config.base import Settings
    from crrg.operations.check_nights import Recount
    from crrg.storage import Storage


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (doctor, status, check, bootstrap):
        app.command()(command)


def doctor(root: RootOption = "") -> None:
    """Check versions, store, secret and registry; says what is wrong and the way out."""
    from crrg.operations.doctor import examine
    from crrg.operations.summaries import table

    execute(
        root,
        examine,
        lambda found: table(
            ("check", "", "found"), [(item.name, "ok" if item.is_good else "NOT OK", item.detail) for item in found]
        ),
        lambda found: 0 if all(item.is_good for item in found) else 1,
    )


def status(root: RootOption = "") -> None:
    """Show the last nights and which version is champion."""
    from crrg.operations import status as operation

    execute(root, operation.status, str)


def check(
    date: DateOption = None,
    inbox: Annotated[str, typer.Option("--inbox", help="Also look for every object of this inbox.")] = "",
    root: RootOption = "",
) -> None:
    """Count nights again from what they committed, and verify every object that they name; reads only."""
    from crrg.data.deidentify import Pseudonyms
    from crrg.operations.check_nights import check_nights, recount_markdown

    def recount(storage: Storage, settings: Settings) -> Recount:
        pseudonyms = Pseudonyms(settings.pseudonym_key()) if inbox else None
        return check_nights(storage, date or "", absolute(inbox) if inbox else "", pseudonyms)

    execute(root, recount, recount_markdown, lambda found: 0 if found.is_good else 1)


def bootstrap() -> None:
    """Create work pool, limits and automations on the Prefect server of the environment; twice changes nothing."""
    import crrg

    checkout = Path(crrg.__file__).resolve().parents[1]
    if not (checkout / "deployments" / "bootstrap.py").exists():
        typer.echo("crrg: the bootstrap runs from a checkout, and there is none here", err=True)
        raise SystemExit(EXIT_USAGE)
    env = {**os.environ, "PYTHONPATH": str(checkout)}
    os.execve(sys.executable, [sys.executable, "-P", "-m", "deployments.bootstrap"], env)
