"""Commands about the audit: ``audit verify``, ``audit show``."""

from __future__ import annotations

from typing import Annotated

import typer

from crrg.cli.running import RootOption, execute


def register(app: typer.Typer) -> None:
    """Add these commands."""
    group = typer.Typer(help="Who did what, when, with which models.", no_args_is_help=True)
    for command in (verify, show):
        group.command()(command)
    app.add_typer(group, name="audit")


def verify(
    head: Annotated[str, typer.Option("--head", help="Last entry of an earlier check, to detect truncation.")] = "",
    root: RootOption = "",
) -> None:
    """Check that no entry was edited, removed or put in between; exit code 1 where one was."""
    from crrg.operations.upkeep.audit import check_markdown, verify_audit

    execute(
        root,
        lambda storage, _settings: verify_audit(storage, head),
        check_markdown,
        lambda check: 1 if check.problems else 0,
        needs_root=True,
    )


def show(
    date: Annotated[str, typer.Option("--date", help="A day, YYYY-MM-DD in UTC; all if not given.")] = "",
    root: RootOption = "",
) -> None:
    """Show the last entries."""
    from crrg.ledger.audit import read_audit
    from crrg.operations.upkeep.audit import entries_markdown

    execute(root, lambda storage, _settings: read_audit(storage, date), entries_markdown, needs_root=True)
