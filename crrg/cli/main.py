"""The tree of commands."""

from __future__ import annotations

import typer

from crrg.cli import auditing, cohorts, lifecycle, machine, models, nights

app = typer.Typer(
    name="crrg",
    help="Chest radiographs to draft reports and calibrated finding labels. Drafts are for review by a radiologist.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
for room in (cohorts, models, nights, lifecycle, auditing, machine):
    room.register(app)
