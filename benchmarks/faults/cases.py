"""Cases on a folder: each makes one night suffer and returns what was wrong afterwards."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.faults.nights import (
    HELD,
    LIMIT_S,
    Undisturbed,
    committed,
    expire_lease,
    finish,
    num_redone,
    start_night,
)
from crrg.ledger.manifest import fencing_numbers, read_manifests
from crrg.local_files import DISK_FULL
from crrg.storage import Storage
from crrg.termination import EXIT_SIGTERM
from tests.support.drawn_night import DATE

NUM_FILMS = 24
GRACE_S = 30.0
DELAY_S = 0.4
DISK_MB = 1
"""Less than what a night over these films asks for before it begins."""
CHILDREN_EVERY = 4
"""One case in so many decodes in child processes, which a kill leaves behind; the others in the night's own."""


@dataclass(frozen=True)
class Finding:
    """What a case showed.

    Attributes:
        problems: What was wrong; empty where all was well.
        injected: Faults by kind.
        nights: Nights until one had committed.
        redone: Shards that were begun again.
        codes: How often processes ended with which exit status, negative where a signal ended them.
    """

    problems: list[str]
    injected: dict[str, int] = field(default_factory=dict)
    nights: int = 1
    redone: int = 0
    codes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Ending:
    """How processes ended, and how they may.

    Attributes:
        codes: Exit statuses.
        allowed: Those that are legitimate.
        what: Which processes, for the message.
    """

    codes: Sequence[int]
    allowed: frozenset[int] = frozenset({0})
    what: str = "nights without a fault"

    def problems(self) -> list[str]:
        """Return what is wrong with them."""
        wrong = Counter(code for code in self.codes if code not in self.allowed)
        return [f"{self.what} ended with {dict(wrong)}"] if wrong else []


def judged(
    undisturbed: Undisturbed,
    root: Storage,
    log: Path,
    endings: Iterable[Ending],
    injected: dict[str, int],
    *,
    nights: int = 1,
    interrupted: int | None = None,
    problems: Sequence[str] = (),
) -> Finding:
    """Return what a case showed: what lies under the root, how its processes ended, and what was done twice.

    Args:
        undisturbed: What must lie there.
        root: The root.
        log: To which all its nights wrote.
        endings: Of all its processes.
        injected: Faults by kind.
        nights: Nights until one had committed.
        interrupted: Nights that were cut off, each of which may cost one shard; ``None`` where holders overlapped.
        problems: What the case itself saw.
    """
    endings, redone = list(endings), num_redone(log)
    found = [*problems, *(each for ending in endings for each in ending.problems()), *undisturbed.problems(root)]
    if interrupted is not None and redone > interrupted:
        found.append(f"{redone} shards were done again after {interrupted} interruptions")
    codes = Counter(str(code) for ending in endings for code in ending.codes)
    return Finding(found, injected, nights, redone, dict(codes))


class LocalCases:
    """Cases on a folder."""

    def __init__(self, folder: Path) -> None:
        """Run the undisturbed night first; its time sets when things happen to the others."""
        self.folder = folder
        inbox = Storage(str(folder / "inbox"))
        self.undisturbed = Undisturbed.of(inbox, Storage(str(folder / "undisturbed")), NUM_FILMS)
        started_s = time.monotonic()
        code = start_night(inbox, self.root("timed"), folder / "timed.log", delay_s=DELAY_S).wait()
        if code != 0:
            raise RuntimeError(f"a night to which nothing happened ended with {code}, see {folder / 'timed.log'}")
        self.seconds = time.monotonic() - started_s

    def root(self, name: str) -> Storage:
        """Return a new root."""
        return Storage(str(self.folder / name))

    def killed(self, number: int) -> Finding:
        """Kill a night at a random moment."""
        return self._ended(number, signal.SIGKILL)

    def terminated(self, number: int) -> Finding:
        """Ask a night to end at a random moment."""
        return self._ended(number, signal.SIGTERM)

    def raced(self, number: int) -> Finding:
        """Start five nights at once."""
        root, log = self.root(f"raced-{number}"), self.folder / f"raced-{number}.log"
        children = [start_night(self.undisturbed.inbox, root, log, delay_s=0.1) for _ in range(5)]
        codes = [child.wait() for child in children]
        ending = Ending(codes, frozenset({0, HELD}), "racing nights")
        return judged(self.undisturbed, root, log, [ending], {"race": 1}, interrupted=0)

    def disk_full(self, number: int) -> Finding:
        """Run a night on a disk that is too small from the start or fills up meanwhile, then give it room."""
        mount = self.folder / f"disk-{number}"
        mount.mkdir(exist_ok=True)
        rng = random.Random(number)
        fills_up = number % 2 == 1
        size_kb = 1024 * (2 * DISK_MB if fills_up else DISK_MB) - rng.randint(0, 1024 * DISK_MB // 2)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_kb}k", "tmpfs", str(mount)], check=True)
        try:
            root, log = Storage(str(mount / "root")), self.folder / f"disk-{number}.log"
            night = start_night(self.undisturbed.inbox, root, log, delay_s=DELAY_S)
            if fills_up:
                time.sleep(rng.uniform(0.05, 0.4) * self.seconds)
                fill(mount / "filler")
            code = night.wait()
            halves = list(mount.rglob("*.tmp-*"))
            problems = [f"{len(halves)} half files"] if halves else []
            if code and DISK_FULL not in log.read_text():
                problems.append(f"ended with {code} and did not name {DISK_FULL}")
            (mount / "filler").unlink(missing_ok=True)
            subprocess.run(["mount", "-o", "remount,size=512m", str(mount)], check=True)
            codes = finish(self.undisturbed.inbox, root, log)
            endings = [Ending([code], frozenset({0, 1}), "the night without room"), Ending(codes)]
            full = int(code != 0)
            return judged(
                self.undisturbed, root, log, endings, {"disk full": full}, nights=len(codes), interrupted=full,
                problems=problems,
            )  # fmt: skip
        finally:
            subprocess.run(["umount", str(mount)], check=True)

    def asleep(self, number: int) -> Finding:
        """Stop a night's process past the expiry of its lease, let another one commit, and wake it up."""
        root, log = self.root(f"asleep-{number}"), self.folder / f"asleep-{number}.log"
        asleep = start_night(self.undisturbed.inbox, root, log, delay_s=DELAY_S)
        with contextlib.suppress(TimeoutError):
            code = asleep.wait(random.Random(f"asleep {number}").uniform(0.2, 0.7) * self.seconds)
            return judged(self.undisturbed, root, log, [Ending([code])], {"asleep": 0}, interrupted=0)
        os.kill(asleep.pid, signal.SIGSTOP)
        is_over = bool(read_manifests(root, DATE))
        expire_lease(root)
        codes = finish(self.undisturbed.inbox, root, log)
        before = committed(root)
        os.kill(asleep.pid, signal.SIGCONT)
        woken = Ending([asleep.wait()], frozenset({0 if is_over else 1}), "the holder that woke up")
        problems = []
        if committed(root) != before or len(read_manifests(root, DATE)) != 1:
            problems.append("the holder that woke up changed what was committed")
        injected = {"asleep": int(not is_over)}
        return judged(
            self.undisturbed, root, log, [woken, Ending(codes)], injected, nights=len(codes), problems=problems
        )

    def _ended(self, number: int, kind: signal.Signals) -> Finding:
        name = f"{kind.name.lower()}-{number}"
        root, log = self.root(name), self.folder / f"{name}.log"
        num_workers = int(number % CHILDREN_EVERY == 0)
        child = start_night(self.undisturbed.inbox, root, log, delay_s=DELAY_S, num_workers=num_workers)
        injected: dict[str, int] = {}
        started_s = time.monotonic()
        try:
            ended = Ending([child.wait(random.Random(f"{kind} {number}").uniform(0.0, self.seconds))])
            # the machine is less busy than when the time of a whole night was taken
            self.seconds = time.monotonic() - started_s
        except TimeoutError:
            is_listening = has_said(log)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, kind)
            code = child.wait(LIMIT_S if kind is signal.SIGKILL else GRACE_S)
            # a night that was done before the signal came met no fault
            injected = {kind.name: 1} if code else {}
            ended = Ending([code], allowed_codes(kind, is_listening), "that night")
        num_before = len(fencing_numbers(root, DATE))
        codes = finish(self.undisturbed.inbox, root, log, num_workers=num_workers)
        problems = [f"one night used {num_before} fencing numbers"] if num_before > 1 else []
        return judged(
            self.undisturbed, root, log, [ended, Ending(codes)], injected, nights=len(codes),
            interrupted=len(injected), problems=problems,
        )  # fmt: skip


def has_said(log: Path) -> bool:
    """Return whether a night has written its first line, which it does once it listens to SIGTERM."""
    return log.exists() and log.stat().st_size > 0


def allowed_codes(kind: signal.Signals, is_listening: bool) -> frozenset[int]:
    """Return how a night may end that gets a signal; SIGTERM itself ends only one that does not listen yet."""
    if kind is signal.SIGTERM:
        return frozenset({0, EXIT_SIGTERM} if is_listening else {0, EXIT_SIGTERM, -kind})
    return frozenset({0, -kind})


def fill(path: Path) -> None:
    """Take all the room of a disk."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
