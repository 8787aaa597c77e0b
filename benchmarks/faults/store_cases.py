"""Cases on a real S3 server, most of them behind a proxy that spoils requests."""

from __future__ import annotations

import os
import random
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.faults.cases import DELAY_S, NUM_FILMS, Ending, Finding, judged
from benchmarks.faults.nights import Undisturbed, finish, start_night
from crrg.ledger.manifest import read_manifests
from crrg.storage import Storage
from deployments.services import Service, start_object_store
from tests.support.drawn_night import DATE

BUCKET = "faults"
SHARE = 0.12
READ_TIMEOUT_S = "3"
OUTAGE_S = 60.0
DONE_OR_NOT = frozenset({0, 1})
"""How a night may end whose store is at fault: done, or not done with a message."""


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
        with proxy(self.port, record, "--seed", str(number), "--share", str(SHARE)) as env:
            codes = finish(self.undisturbed.inbox, root, log, env)
        return self._judged_with_faults(root, log, codes, record)

    def restarted(self, number: int) -> Finding:
        """Kill the server at a random moment of a night and start it again."""
        root, log = self.root(f"restarted-{number}"), self.folder / f"restarted-{number}.log"
        rng = random.Random(number)
        child = start_night(self.undisturbed.inbox, root, log, delay_s=DELAY_S)
        time.sleep(rng.uniform(2.0, 8.0))
        self.service.stop(0)
        time.sleep(rng.uniform(0.0, 10.0))
        self.service = self._start(self.port)
        code = child.wait()
        codes = finish(self.undisturbed.inbox, root, log)
        endings = [Ending([code], DONE_OR_NOT, "the night whose store was killed"), Ending(codes)]
        return judged(
            self.undisturbed, root, log, endings, {"store killed": 1}, nights=len(codes), interrupted=int(code != 0)
        )

    def expired(self, number: int) -> Finding:
        """Let the credentials expire in the middle of a night."""
        first = random.Random(f"expired {number}").randint(20, 120)
        return self._refused(f"expired-{number}", "ExpiredToken", ("--first", str(first)), "expired")

    def denied(self, number: int) -> Finding:
        """Run a night that may read but not write: it ends before any work and says what it may not."""
        return self._refused(f"denied-{number}", "AccessDenied", ("--methods", "PUT"), f"PutObject on s3://{BUCKET}")

    def skewed(self, number: int) -> Finding:
        """Let the server say that this machine's clock is wrong."""
        first = random.Random(f"skewed {number}").randint(0, 120)
        return self._refused(f"skewed-{number}", "RequestTimeTooSkewed", ("--first", str(first)), "clock")

    def overloaded(self, number: int) -> Finding:
        """Have every request refused with 503 for a minute: the night waits it out, or ends and goes on later."""
        root, log = self.root(f"overloaded-{number}"), self.folder / f"overloaded-{number}.log"
        record = self.folder / f"overloaded-{number}.faults"
        first = str(random.Random(f"overloaded {number}").randint(0, 120))
        with proxy(self.port, record, "--refuse", "SlowDown", "--first", first, "--seconds", str(OUTAGE_S)) as env:
            codes = finish(self.undisturbed.inbox, root, log, env)
        return self._judged_with_faults(root, log, codes, record)

    def _judged_with_faults(self, root: Storage, log: Path, codes: list[int], record: Path) -> Finding:
        """Judge nights of which each may have ended without a commit."""
        ending = Ending(codes, DONE_OR_NOT, "nights with faults")
        num_failed = sum(code != 0 for code in codes)
        return judged(
            self.undisturbed, root, log, [ending], injected(record), nights=len(codes), interrupted=num_failed
        )

    def _refused(self, name: str, code: str, rule: tuple[str, ...], said: str) -> Finding:
        """Run a night whose requests are refused in a way that lasts, then one whose requests are not."""
        root, log, record = self.root(name), self.folder / f"{name}.log", self.folder / f"{name}.faults"
        with proxy(self.port, record, "--refuse", code, *rule) as env:
            status = start_night(self.undisturbed.inbox, root, log, env=env).wait()
        faults, text = injected(record), log.read_text()
        problems = []
        if faults and (status != 1 or said not in text):
            problems.append(f"ended with {status} and did not say {said!r}")
        if self._keys["secret_key"] in text:
            problems.append("the secret is in the log")
        if faults and read_manifests(root, DATE):
            problems.append("something was committed")
        codes = finish(self.undisturbed.inbox, root, log)
        endings = [Ending([status], DONE_OR_NOT, "the night that was refused"), Ending(codes)]
        return judged(
            self.undisturbed, root, log, endings, faults, nights=len(codes), interrupted=int(status != 0),
            problems=problems,
        )  # fmt: skip

    def close(self) -> None:
        """End the server."""
        self.service.stop(0)

    def _start(self, port: int) -> Service:
        return start_object_store(self.folder / "store", bucket=BUCKET, s3_port=port, **self._keys)


@contextmanager
def proxy(port: int, record: Path, *rule: str) -> Iterator[dict[str, str]]:
    """Run a proxy that spoils requests by a rule; yield the environment of who goes through it."""
    record.write_text("")
    command = [sys.executable, "-m", "benchmarks.faults.proxy", str(port), *rule, "--record", str(record)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None:
            raise AssertionError("unreachable: the proxy has a pipe")
        try:
            own_port = int(process.stdout.readline())
            yield {"CRRG_S3_ENDPOINT": f"http://127.0.0.1:{own_port}", "CRRG_S3_READ_TIMEOUT_S": READ_TIMEOUT_S}
        finally:
            process.terminate()


def injected(record: Path) -> dict[str, int]:
    """Return how often each kind of fault was injected."""
    return dict(Counter(line.split()[0] for line in record.read_text().splitlines()))
