"""Commands about the installation and what stands in it: doctor, status, check, bootstrap."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Annotated

import typer

from crrg.cli.running import (
    DateOption,
    RootOption,
    absolute,
    execute,
    exits,
    find_program,
    program_of_checkout,
    use_root,
)

if TYPE_CHECKING:
    from crrg.config.base import Settings
    from crrg.operations.night.check_nights import Recount
    from crrg.operations.upkeep.doctor import Finding
    from crrg.storage import Storage

QUEUE_TIMEOUT_S = 60.0


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (doctor, status, check, bootstrap):
        app.command()(command)


def doctor(root: RootOption = "") -> None:
    """Check versions, store, disk, device, secret, registry and decoders; says what is wrong and the way out."""
    from crrg.operations.summaries import table
    from crrg.operations.upkeep.doctor import examine

    def render(found: list[Finding]) -> str:
        rows = [(item.name, "ok" if item.is_good else "NOT OK", item.said) for item in found]
        bad = ", ".join(item.name for item in found if not item.is_good)
        return f"{table(('check', '', 'found'), rows)}\n\n{f'NOT OK: {bad}' if bad else 'All is ok.'}"

    execute(root, examine, render, lambda found: 0 if all(item.is_good for item in found) else 1)


def status(root: RootOption = "") -> None:
    """Show the last nights, which version is champion, and what the orchestrator has not finished."""
    from crrg.operations.upkeep import status as operation

    execute(root, operation.status, lambda nights: f"{nights}\n\n{_queue()}", needs_root=True)


def check(
    date: DateOption = None,
    inbox: Annotated[str, typer.Option("--inbox", help="Also look for every object of this inbox.")] = "",
    root: RootOption = "",
) -> None:
    """Count nights again from what they committed, and verify every object that they name; reads only."""
    from crrg.data.privacy.deidentify import Pseudonyms
    from crrg.operations.night.check_nights import check_nights, recount_markdown

    def recount(storage: Storage, settings: Settings) -> Recount:
        pseudonyms = Pseudonyms(settings.pseudonym_key()) if inbox else None
        return check_nights(storage, date or "", absolute(inbox) if inbox else "", pseudonyms)

    execute(root, recount, recount_markdown, lambda found: 0 if found.is_good else 1, needs_root=True)


def bootstrap(root: RootOption = "") -> None:
    """Create work pools, a limit and automations on the Prefect server of the environment; twice changes nothing."""
    from crrg.config.base import Settings
    from crrg.errors import ConfigError

    use_root(root)
    with exits():
        if not Settings().prefect_api_url:
            reason = "it is not set; set it to the server that runs the deployments (`make up` prints its address)"
            raise ConfigError(reason, "PREFECT_API_URL")
    command, env = program_of_checkout(
        "deployments.bootstrap", "crrg bootstrap runs only from a checkout of the project, and this is not one"
    )
    os.execve(command[0], command, {"PREFECT_CLIENT_MAX_RETRIES": "2", **env})


def _queue() -> str:
    """Return what the orchestrator has not finished, as Markdown; one that does not answer is said, not raised."""
    from crrg.config.base import Settings

    if not Settings().prefect_api_url:
        return "PREFECT_API_URL is not set, so the orchestrator's queue is not shown."
    program = find_program("flows.waiting")
    if program is None:
        return "The orchestrator's queue can be shown only from a checkout of the project, and this is not one."
    command, env = program
    try:
        done = subprocess.run(
            command,
            env={"PREFECT_CLIENT_MAX_RETRIES": "0", **env},
            capture_output=True,
            text=True,
            timeout=QUEUE_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return f"The orchestrator does not answer: nothing for {QUEUE_TIMEOUT_S:.0f} s"
    if done.returncode:
        return f"The orchestrator does not answer: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}"
    return done.stdout.strip()
