"""What commands share: options, addresses, the root, forms from files and flags, exit codes, the way to Prefect.

Exit codes: 0 done; 1 not done, nothing half-published; 2 wrong usage; 3 done, but too much was quarantined;
143 stopped by SIGTERM, resumable.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from crrg.cli.terminal import aligned, log_lines
from crrg.termination import (
    EXIT_NOT_DONE,
    EXIT_SIGTERM,
    EXIT_TOO_MANY_QUARANTINED,
    EXIT_USAGE,
    end_on_sigterm,
    end_within,
)

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from crrg.config.base import FrozenConfig, Settings
    from crrg.config.references import IngestSummary
    from crrg.storage import Storage

logger = logging.getLogger(__name__)
T = TypeVar("T")
F = TypeVar("F", bound="FrozenConfig")

PREFECT_QUIET_ENV = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
"""Prefect reports to nobody, already when it is imported."""
LONG_S = 10.0
"""A command that took longer says how long."""

RootOption = Annotated[str, typer.Option("--root", help="Root URL or folder; $CRRG_ROOT or ./crrg-data if empty.")]
FileOption = Annotated[Path | None, typer.Option("--config", help="TOML or JSON file with settings of the form.")]
InboxOption = Annotated[str, typer.Option("--inbox", help="Folder or URL of the inbox.")]
DateOption = Annotated[str | None, typer.Option("--date", help="The night, YYYY-MM-DD; all nights if not given.")]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="models:/crrg-pipeline@champion, a version like 3, or a bundle folder.",
        show_default="models:/crrg-pipeline@champion",
    ),
]
DirectOption = Annotated[bool, typer.Option("--no-orchestrator", help="Run in this process, without Prefect.")]
RunnerOption = Annotated[
    str | None, typer.Option("--task-runner", help="Where shards run: here, processes, ray or flow.")
]
RayOption = Annotated[str | None, typer.Option("--ray-address", help="A Ray cluster; starts one here if empty.")]


def execute(
    root: str,
    action: Callable[[Storage, Settings], T],
    render: Callable[[T], str],
    exit_code: Callable[[T], int] = lambda _result: 0,
    *,
    needs_root: bool = False,
) -> NoReturn:
    """Run one library call on the root, print what it made, and exit with the code of the contract.

    Args:
        root: Root of the ``--root`` flag; empty takes the environment's.
        action: Gets the storage of the root and the settings of this process.
        render: Result to the text that is printed.
        exit_code: Result to 0, 1 or 3.
        needs_root: Whether the command is about what was written before: without a root it ends with 2.
    """
    use_root(root)
    with exits():
        with log_lines():
            from crrg.operations.root import open_root

            started_s = time.monotonic()
            result = action(*open_root(must_exist=needs_root))
            if (took_s := time.monotonic() - started_s) > LONG_S:
                from crrg.progress import span

                logger.info("done in %s", span(took_s))
        typer.echo(printable(aligned(render(result))))
        raise SystemExit(exit_code(result))


@contextlib.contextmanager
def exits() -> Iterator[None]:
    """Turn errors of the block into exit codes and one line each; SIGTERM ends it with 143."""
    from pydantic import ValidationError

    from crrg.errors import ConfigError, CrrgError
    from crrg.local_files import system_error

    if threading.current_thread() is threading.main_thread():
        end_on_sigterm()
    try:
        yield
    except SystemExit as error:
        if error.code == EXIT_SIGTERM:
            end_within()
        raise
    except ValidationError as error:
        for problem in _told(error.errors()):
            where = ".".join(str(part) for part in problem["loc"]) or error.title
            typer.echo(f"crrg: {where}: {problem['msg'].removeprefix('Value error, ')}", err=True)
        raise SystemExit(EXIT_USAGE) from None
    except BrokenPipeError:
        raise  # whoever reads what is printed has seen enough
    except (CrrgError, OSError) as error:
        known = system_error(error) if isinstance(error, OSError) else error
        typer.echo(f"crrg: {type(known).__name__}: {known}", err=True)
        raise SystemExit(EXIT_USAGE if isinstance(known, ConfigError) else EXIT_NOT_DONE) from None


def _told(problems: list[ErrorDetails]) -> list[ErrorDetails]:
    """Return problems without those of a list that is too short once its wrong entries are left out."""
    places = [problem["loc"] for problem in problems]
    return [
        problem
        for problem, place in zip(problems, places, strict=True)
        if problem["type"] != "too_short" or not any(each[: len(place)] == place != each for each in places)
    ]


def form(config: type[F], file: Path | None = None, **flags: Any) -> F:
    """Build a form from a file and flags; a flag that was not given (``None``) leaves the file's or default value.

    Flags of a block (a mapping) change the fields that they name; the block's other fields stay as the file has them.
    """
    with exits():
        values: dict[str, Any] = _read_form(file, config) if file else {}
        for name, value in flags.items():
            if value is not None:
                values[name] = _over(values.get(name, {}), value) if isinstance(value, dict) else value
        return config.model_validate(values)


def fan_out_of(task_runner: str | None, ray_address: str | None) -> dict[str, str] | None:
    """Return the part of a form that says where shards run; ``None`` where no flag was given."""
    return flags_of(task_runner=task_runner, ray_address=ray_address)


def flags_of(**flags: str | None) -> dict[str, str] | None:
    """Return a part of a form from the flags that were given; ``None`` where none was."""
    return {name: value for name, value in flags.items() if value is not None} or None


def ingest_code(summary: IngestSummary) -> int:
    """Return the exit code of an ingest: 0, or 3 where too much was quarantined."""
    return EXIT_TOO_MANY_QUARANTINED if summary.is_over_limit else 0


def through_prefect(
    flow: str, config: FrozenConfig, root: str, *, needs_root: bool = False, needs_secret: bool = True
) -> NoReturn:
    """Become the process that runs a flow of this checkout: signals and the exit code are the flow's own.

    What is wrong with the root or the secret is said before the orchestrator is started, which takes long.

    Args:
        flow: Its name.
        config: Its form.
        root: Root of the ``--root`` flag; empty takes the environment's.
        needs_root: Whether it can do nothing in a root where nothing lies.
        needs_secret: Whether it makes pseudonyms.
    """
    from crrg.operations.root import check_ready

    use_root(root)
    with exits():
        check_ready(needs_root=needs_root, needs_secret=needs_secret)
    command, env = program_of_checkout(
        "flows", "flows run only from a checkout of the project, and this is not one; use --no-orchestrator"
    )
    with log_lines():
        logger.info("%s: starting the orchestrator, which takes a few seconds", flow)
    command += [flow, json.dumps(config.model_dump(mode="json"))]
    sys.stdout.flush()
    os.execve(sys.executable, command, env)


def program_of_checkout(module: str, else_say: str) -> tuple[list[str], dict[str, str]]:
    """Return command and environment of a program beside the library; ends with 2 where there is no checkout."""
    with exits():
        found = find_program(module)
    if found is None:
        typer.echo(f"crrg: {else_say}", err=True)
        raise SystemExit(EXIT_USAGE)
    return found


def find_program(module: str) -> tuple[list[str], dict[str, str]] | None:
    """Return command and environment of a program beside the library, or ``None`` where there is no checkout."""
    import crrg
    from crrg.config.base import Settings

    checkout = Path(crrg.__file__).resolve().parents[1]
    if not (checkout / module.split(".")[0]).is_dir():
        return None
    paths = [str(checkout), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**PREFECT_QUIET_ENV, **os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    if address := Settings().prefect_api_url:
        env["PREFECT_API_URL"] = address  # Prefect reads no file of ours
    return [sys.executable, "-P", "-m", module], env


def use_root(root: str) -> None:
    """Make a ``--root`` flag the root of this process and its children."""
    from crrg.config.base import FLAG_ROOT

    if root:
        os.environ[FLAG_ROOT] = root if "://" in root else str(Path(root).absolute())


def results_place(out: str) -> str:
    """Return where results go, made absolute; an empty address, or that of a file, ends the command with 2."""
    from crrg.local_files import check_folder

    place = absolute(out)
    with exits():
        check_folder(place, "--out")
    return place


def absolute(url: str) -> str:
    """Return a local path as it will mean the same in another process; an empty one ends the command with 2."""
    from crrg.errors import ConfigError

    if not url.strip():
        with exits():
            raise ConfigError("it is empty (unset variable?); use . for the current folder", "address")
    return url if "://" in url else str(Path(url).absolute())


def printable(text: str) -> str:
    """Return a result as standard output can show it; a file's name may hold what is no text."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _over(block: Any, flags: dict[str, Any]) -> Any:
    """Return a block of a file with flags over it; what is no block is left for the form to refuse."""
    return {**block, **flags} if isinstance(block, dict) else block


def _read_form(file: Path, config: type[FrozenConfig]) -> dict[str, Any]:
    import tomllib
    from difflib import get_close_matches

    from crrg.errors import ConfigError

    kind = "JSON" if file.suffix.lower() == ".json" else "TOML"
    try:
        text = file.read_text(encoding="utf-8")
        values: Any = json.loads(text) if kind == "JSON" else tomllib.loads(text)
    except OSError as error:
        raise ConfigError(
            f"cannot be read ({error.strerror}); --config names a TOML or JSON file", str(file)
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"cannot be read as {kind} ({error}); a form is TOML, or JSON where its name ends with .json", str(file)
        ) from error
    if not isinstance(values, dict):
        raise ConfigError(f"must be an object of settings by name; it is a {type(values).__name__}", str(file))
    for name in values:
        if name not in config.model_fields:
            close = get_close_matches(name, config.model_fields, n=1)
            hint = f"did you mean {close[0]}?" if close else f"this form has {', '.join(config.model_fields)}"
            raise ConfigError(f"there is no setting {name}; {hint}", str(file))
    return values
