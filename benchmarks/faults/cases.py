"""The kinds of cases: each makes one night suffer and returns what was wrong afterwards."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.faults.nights import LIMIT_S, Undisturbed, expire_lease, finish, start_night
from crrg.storage import Storage
from deployments.services import Service, start_object_store

BUCKET = "faults"
NUM_FILMS = 24
SHARE = 0.12
READ_TIMEOUT_S = "3"
GRACE_S = 30.0
DELAY_S = 0.4
DISK_MB = 2


@dataclass(frozen=True)
class Finding:
    """What a case showed.

    Attributes:
        problems: What was wrong; empty where all was well.
        injected: Faults by kind.
        nights: Nights until one had committed.
    """

    problems: list[str]
    injected: dict[str, int] = field(default_factory=dict)
    nights: int = 1


class LocalCases:
    """Cases on a folder."""

    def __init__(self, folder: Path) -> None:
        """Run the undisturbed night first; its time sets when things happen to the others."""
        self.folder = folder
        inbox = Storage(str(folder / "inbox"))
        self.undisturbed = Undisturbed.of(inbox, Storage(str(folder / "undisturbed")), NUM_FILMS)
        started_s = time.monotonic()
        start_night(inbox, self.root("timed"), folder / "timed.log", delay_s=DELAY_S).wait(timeout=LIMIT_S)
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
        codes = Counter(child.wait(timeout=LIMIT_S) for child in children)
        problems = [] if codes == {0: 5} else [f"nights ended with {dict(codes)}"]
        return Finding(problems + self.undisturbed.problems(root), {"race": 1})

    def disk_full(self, number: int) -> Finding:
        """Run a night on a disk too small for it, then give it room."""
        mount = self.folder / f"disk-{number}"
        mount.mkdir(exist_ok=True)
        size_kb = random.Random(number).randint(64, DISK_MB * 1024)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_kb}k", "tmpfs", str(mount)], check=True)
        try:
            root, log = Storage(str(mount / "root")), self.folder / f"disk-{number}.log"
            code = start_night(self.undisturbed.inbox, root, log).wait(timeout=LIMIT_S)
            halves = list(mount.rglob("*.tmp-*"))
            subprocess.run(["mount", "-o", "remount,size=512m", str(mount)], check=True)
            expire_lease(root)
            nights = finish(self.undisturbed.inbox, root, log)
            problems = [f"{len(halves)} half files"] if halves else []
            return Finding(problems + self.undisturbed.problems(root), {"disk_full": int(code != 0)}, nights)
        finally:
            subprocess.run(["umount", str(mount)], check=True)

    def _ended(self, number: int, kind: signal.Signals) -> Finding:
        name = f"{kind.name.lower()}-{number}"
        root, log = self.root(name), self.folder / f"{name}.log"
        child = start_night(self.undisturbed.inbox, root, log, delay_s=DELAY_S)
        problems, injected = [], {}
        try:
            child.wait(timeout=random.Random(f"{kind} {number}").uniform(0.0, self.seconds))
        except subprocess.TimeoutExpired:
            injected = {kind.name: 1}
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, kind)
            code = child.wait(timeout=LIMIT_S if kind is signal.SIGKILL else GRACE_S)
            if kind is signal.SIGTERM and code not in (0, 143, -signal.SIGTERM):
                problems.append(f"ended with {code}")
        expire_lease(root)
        nights = finish(self.undisturbed.inbox, root, log)
        return Finding(problems + self.undisturbed.problems(root), injected, nights)


class StoreCases:
    """Cases on a real S3 server."""

    def __init__(self, folder: Path) -> None:
        """Start the server and run the undisturbed night on it."""
        self.folder = folder
        self._keys = {"access_key": secrets.token_hex(8), "secret_key": secrets.token_hex(16)}
        self.service = self._start(0)
        self.port = int(self.service.url.rsplit(":", 1)[1])
        os.environ.update(self.service.env)
        self._run = secrets.token_hex(4)
        inbox = Storage(f"s3://{BUCKET}/{self._run}/inbox")
        self.undisturbed = Undisturbed.of(inbox, self.root("undisturbed"), NUM_FILMS)

    def root(self, name: str) -> Storage:
        """Return a new root."""
        return Storage(f"s3://{BUCKET}/{self._run}/{name}")

    def spoilt(self, number: int) -> Finding:
        """Spoil a share of all requests of a night."""
        root, log = self.root(f"spoilt-{number}"), self.folder / f"spoilt-{number}.log"
        record = self.folder / f"spoilt-{number}.faults"
        record.write_text("")
        with proxy(self.port, number, record) as port:
            env = {"CRRG_S3_ENDPOINT": f"http://127.0.0.1:{port}", "CRRG_S3_READ_TIMEOUT_S": READ_TIMEOUT_S}
            nights = finish(self.undisturbed.inbox, root, log, env)
        injected = Counter(line.split()[0] for line in record.read_text().splitlines())
        return Finding(self.undisturbed.problems(root), dict(injected), nights)

    def restarted(self, number: int) -> Finding:
        """Kill the server at a random moment of a night and start it again."""
        root, log = self.root(f"restarted-{number}"), self.folder / f"restarted-{number}.log"
        rng = random.Random(number)
        child = start_night(self.undisturbed.inbox, root, log, delay_s=DELAY_S)
        time.sleep(rng.uniform(2.0, 8.0))
        self.service.stop(0)
        time.sleep(rng.uniform(0.0, 10.0))
        self.service = self._start(self.port)
        child.wait(timeout=LIMIT_S)
        nights = finish(self.undisturbed.inbox, root, log)
        return Finding(self.undisturbed.problems(root), {"store killed": 1}, nights)

    def close(self) -> None:
        """End the server."""
        self.service.stop(0)

    def _start(self, port: int) -> Service:
        return start_object_store(self.folder / "store", bucket=BUCKET, s3_port=port, **self._keys)


@contextmanager
def proxy(port: int, seed: int, record: Path) -> Iterator[int]:
    """Run a proxy that spoils requests; yield its port."""
    command = [sys.executable, "-m", "benchmarks.faults.proxy", str(port), "--seed", str(seed), "--share", str(SHARE)]
    with subprocess.Popen([*command, "--record", str(record)], stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None:
            raise AssertionError("unreachable: the proxy has a pipe")
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()
