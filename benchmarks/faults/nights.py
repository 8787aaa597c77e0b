"""Nights in processes of their own that something happens to, and the judgement of what they leave.

A night drafts with the stand-in of ``tests/support``: faults of stores and processes do not depend on the models. What
is left must equal an undisturbed night over the same inbox, byte by byte: one manifest, each input once, no waste that
a reader could see. How each process ended counts, too, and which shards were begun again.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from crrg.domain.study import DraftReport, Film
from crrg.errors import CrrgError
from crrg.ledger.manifest import read_manifests
from crrg.operations.night import feed as night_feed
from crrg.operations.night.digest import committed_digest
from crrg.operations.night.nightly import EXIT_NOT_DONE, exit_code
from crrg.operations.night.outcomes import inbox_outcomes
from crrg.storage import Storage
from crrg.termination import end_on_sigterm
from tests.support.drawn_night import DATE, PSEUDONYMS, StandInDrafter, fill_inbox, run_test_night

LIMIT_S = 300.0
HELD = 75
"""Exit status of a night that another holder has, for which ``crrg nightly`` ends with 0; no dead one has any."""
UNFORESEEN = 70
"""Exit status of a process that an error ended which is none of the project's: a traceback in place of a message."""
DRAFTED = "FAULTS_DRAFTED"
"""Variable that names the file in which a night writes down what it begins to draft."""


@dataclass(frozen=True)
class Undisturbed:
    """An inbox and what a night makes of it when nothing happens.

    Attributes:
        inbox: The films.
        digest: Of the committed results.
        contents: Bytes of every object that the manifest names.
    """

    inbox: Storage
    digest: str
    contents: Mapping[str, bytes]

    @classmethod
    def of(cls, inbox: Storage, root: Storage, num_films: int) -> Undisturbed:
        """Fill an inbox and run a night over it."""
        fill_inbox(inbox, num_films)
        decode_here(0)
        summary = run_test_night(inbox, root, StandInDrafter(), num_workers=0)
        if summary.status != "committed":
            raise RuntimeError(f"the undisturbed night is {summary.status}")
        return cls(inbox, committed_digest(root), committed(root))

    def problems(self, root: Storage) -> list[str]:
        """Return how a root differs from the undisturbed one; nothing where all is well."""
        manifests = read_manifests(root, DATE)
        if len(manifests) != 1:
            return [f"{len(manifests)} manifests"]
        (manifest,) = manifests
        found = []
        if manifest.num_accepted + manifest.num_quarantined != manifest.num_inputs:
            found.append("inputs are not conserved")
        if committed_digest(root) != self.digest:
            found.append("another digest")
        if committed(root) != self.contents:
            found.append("other bytes")
        pending = sum(entry.outcome == "pending" for entry in inbox_outcomes(self.inbox.root, root, PSEUDONYMS))
        if pending:
            found.append(f"{pending} inputs lost")
        return found


def committed(root: Storage) -> dict[str, bytes]:
    """Return what the night's manifest names: tables, documents, pictures, pages."""
    (manifest,) = read_manifests(root, DATE)
    keys = [file.key for file in manifest.files] + list(root.get_json(manifest.index_key))
    return {key: root.get(key) for key in keys}


class Night:
    """A night in a process of its own."""

    def __init__(self, process: ForkServerProcess) -> None:
        """Take a process that was started."""
        self._process = process

    @property
    def pid(self) -> int:
        """Its number."""
        if self._process.pid is None:
            raise AssertionError("unreachable: the process was started")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.is_alive()

    def wait(self, timeout_s: float = LIMIT_S) -> int:
        """Return its exit status, negative where a signal ended it.

        Raises:
            TimeoutError: It still runs.
        """
        self._process.join(timeout_s)
        if self._process.exitcode is None:
            raise TimeoutError(f"the night still runs after {timeout_s:.0f} s")
        return self._process.exitcode


def start_night(
    inbox: Storage,
    root: Storage,
    log: Path,
    *,
    delay_s: float = 0.0,
    env: Mapping[str, str] | None = None,
    num_workers: int = 0,
    through: Callable[[Storage, Storage, float, int], None] | None = None,
) -> Night:
    """Start a night; its output goes to the end of ``log``.

    The process is forked from one that has imported the library and done nothing else: it is killed like any other and
    costs no import.

    Args:
        inbox: The films.
        root: The root.
        log: Where its output goes.
        delay_s: Time that drafting a window takes at least, seconds.
        env: Further variables.
        num_workers: Decoder processes; 0 decodes in the night's own.
        through: What runs in the process instead of a plain night.
    """
    work = through or run_plain
    process = _forks().Process(
        target=_run, args=(work, inbox.root, root.root, delay_s, num_workers, str(log), dict(env or {}))
    )
    process.start()
    return Night(process)


class NotingDrafter(StandInDrafter):
    """Notes each window of films before it drafts it; of the small shards here each is one window."""

    def draft(self, films: Sequence[Film]) -> list[DraftReport]:
        """Return the stand-in's drafts."""
        window = hashlib.sha256(b"".join(film.pixels.tobytes() for film in films)).hexdigest()
        with Path(os.environ[DRAFTED]).open("a") as file:
            file.write(f"{window}\n")
        return super().draft(films)


def num_redone(log: Path) -> int:
    """Return how often a shard was begun that had been begun before, by all nights that write to a log."""
    file = _drafted(log)
    begun = file.read_text().splitlines() if file.exists() else []
    return len(begun) - len({*begun})


def run_plain(inbox: Storage, root: Storage, delay_s: float, num_workers: int) -> None:
    """Run a night without orchestrator in this process, which ends with its exit code."""
    decode_here(num_workers)
    summary = run_test_night(inbox, root, NotingDrafter(delay_s), num_workers=num_workers)
    sys.exit(HELD if summary.status == "held" else exit_code(summary))


def decode_here(num_workers: int) -> None:
    """Have this process decode its films itself where it is to have no decoder processes; in a form 0 means auto."""
    if not num_workers:
        night_feed.default_num_workers = lambda: 0


@functools.cache
def _forks() -> ForkServerContext:
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.faults.nights", "s3fs"])
    return context


def _run(
    work: Callable[[Storage, Storage, float, int], None],
    inbox: str,
    root: str,
    delay_s: float,
    num_workers: int,
    log: str,
    env: dict[str, str],
) -> None:
    os.environ.update(env)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.environ[DRAFTED] = str(_drafted(Path(log)))
    # as the command does; the first line says that from here on SIGTERM is heard
    end_on_sigterm()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.info("process %d listens", os.getpid())
    try:
        work(Storage(inbox), Storage(root), delay_s, num_workers)
    except CrrgError as error:
        logging.error("%s: %s", type(error).__name__, error)
        sys.exit(EXIT_NOT_DONE)
    except Exception:
        traceback.print_exc()
        sys.exit(UNFORESEEN)


def _drafted(log: Path) -> Path:
    return log.with_name(f"{log.name}.drafted")


def finish(
    inbox: Storage, root: Storage, log: Path, env: Mapping[str, str] | None = None, num_workers: int = 0
) -> list[int]:
    """Run nights until one has committed; return how each ended."""
    deadline_s = time.monotonic() + LIMIT_S
    codes: list[int] = []
    while True:
        codes.append(start_night(inbox, root, log, env=env, num_workers=num_workers).wait())
        if read_manifests(root, DATE):
            return codes
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"no commit after {len(codes)} nights, which ended with {codes}")
        time.sleep(0.5)


def expire_lease(root: Storage) -> None:
    """Let the lease of a dead holder look two hours old, as a local store's clock shows it."""
    for stored in root.list_objects("leases"):
        os.utime(root.url(stored.key), (time.time() - 7200.0,) * 2)
