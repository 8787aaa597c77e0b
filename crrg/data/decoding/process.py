"""One decoding process as its parent sees it: how it is started, handed files, read, and ended.

Knows one child and the jobs it holds; who gets which file, and what a lost child costs, is ``decoding.pool``'s.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import crrg
from crrg.data.decoding.child import JOB, LENGTH
from crrg.data.decoding.limits import DecoderLimits
from crrg.data.decoding.shared_films import PlacedFilm, shared_memory

JOBS_PER_CHILD = 2
"""A child decodes one file while the next lies ready, so that it never waits for this process."""
PIPE_BYTES = 2**20
"""Holds the answer to a film, so that a child need not wait until it is read."""
MAX_DESCRIPTION_BYTES = 2**20
"""A child that says more about a film is not believed."""
MAX_KEPT_BYTES = 64 * 2**20
"""A larger file's shared memory is given back before the next one."""
LOOK_S = 1.0
"""Whoever waits for a child looks at the clock that often."""
LONGEST_STEP_S = 2 * LOOK_S
_CHILD_VARIABLES = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    # glibc gives the memory of a film back after each array and gets it anew, zeroed, page by page; kept, a film of
    # 2500 x 2048 takes half the processor time
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(256 * 2**20),
}
_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT")


class OwnClock:
    """Seconds in which this process ran: one that is stopped as a whole, as with a container, has its children stopped.

    Of a time without a look at it, be it for that or since nobody waited, no more than ``LONGEST_STEP_S`` counts.
    """

    def __init__(self) -> None:
        """Start."""
        self._looked_s = self._now_s = time.monotonic()
        self._lock = threading.Lock()

    def now_s(self) -> float:
        """Return the seconds since any start."""
        with self._lock:
            looked_s = time.monotonic()
            self._now_s += min(LONGEST_STEP_S, looked_s - self._looked_s)
            self._looked_s = looked_s
            return self._now_s


own_clock = OwnClock()


@dataclass
class Job:
    """A file on its way through a child.

    Attributes:
        index: Its place among the files.
        data: Its bytes, or where they lie.
        tries: How many children began it.
    """

    index: int
    data: bytes | PlacedFilm
    tries: int = 0

    def end(self) -> None:
        """Give back the place of a film whose outcome is known."""
        if isinstance(self.data, PlacedFilm):
            self.data.give_back()


class Child:
    """One decoding process, the job it works on, and the one that lies ready for it."""

    def __init__(self, limits: DecoderLimits, places: tuple[int, ...] = ()) -> None:
        """Start a process.

        Args:
            limits: What it may use.
            places: Descriptors of the memory that placed films lie in.
        """
        self.limits = limits
        self.jobs: deque[Job] = deque()
        self.deadline_s = 0.0
        self.num_files = 0
        self._shared = tuple(shared_memory() for _ in range(JOBS_PER_CHILD))
        self._num_shared_bytes = [0] * JOBS_PER_CHILD
        package = str(Path(crrg.__file__).parent.parent)
        kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        inputs = json.dumps(asdict(limits.inputs))
        arguments = (limits.max_memory_bytes, limits.cpu_limit_s, inputs, *self._shared, *places)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "crrg.data.decoding.child", *map(str, arguments)],
            pass_fds=(*self._shared, *places),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**kept, **_CHILD_VARIABLES, "PYTHONPATH": package},
            bufsize=0,
        )
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, self.process.pid, os.getpriority(os.PRIO_PROCESS, 0) + limits.niceness)
        with suppress(OSError, AttributeError):
            fcntl.fcntl(self.answers.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    @property
    def job(self) -> Job | None:
        """The job it works on, or ``None``."""
        return self.jobs[0] if self.jobs else None

    @property
    def is_late(self) -> bool:
        """Whether the job's time is over."""
        return self.deadline_s <= own_clock.now_s()

    @property
    def has_room(self) -> bool:
        """Whether it can be given another file."""
        return len(self.jobs) < JOBS_PER_CHILD and self.num_files < self.limits.files_per_child

    @property
    def answers(self) -> IO[bytes]:
        """Where answers come from."""
        if self.process.stdout is None:
            raise AssertionError("unreachable: the child has a pipe")
        return self.process.stdout

    def give(self, job: Job, image_size: int) -> None:
        """Hand over a job; a child that is gone shows when its answer is awaited."""
        self.jobs.append(job)
        if len(self.jobs) == 1:
            self._begin()
        if self.process.stdin is None:
            raise AssertionError("unreachable: the child has a pipe")
        if isinstance(job.data, PlacedFilm):
            place, num_bytes = JOBS_PER_CHILD + job.data.number, job.data.num_bytes
        else:
            place, num_bytes = self.num_files % JOBS_PER_CHILD, len(job.data)
            self._share(job.data, place)
        self.num_files += 1
        with suppress(BrokenPipeError):
            os.write(self.process.stdin.fileno(), JOB.pack(num_bytes, image_size, place))

    def finish(self) -> Job:
        """Take off the first job, which is answered; the time of the next one begins."""
        finished = self.jobs.popleft()
        if self.jobs:
            self._begin()
        return finished

    def _begin(self) -> None:
        self.jobs[0].tries += 1
        self.deadline_s = own_clock.now_s() + self.limits.timeout_s

    def read(self, image_size: int) -> tuple[dict[str, Any], bytes] | None:
        """Return description and pixels, or ``None`` where the child died or stopped in its answer."""
        description = self._block(MAX_DESCRIPTION_BYTES)
        pixels = None if description is None else self._block(image_size * image_size)
        if description is None or pixels is None:
            return None
        return json.loads(description), pixels

    def end(self) -> int:
        """Kill the process and return its exit status."""
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        for shared in self._shared:
            with suppress(OSError):
                os.close(shared)
        return self.process.wait()

    def _share(self, data: bytes, place: int) -> None:
        """Lay a file's bytes where the child finds them: written once, without waiting for it."""
        if self._num_shared_bytes[place] > MAX_KEPT_BYTES:
            os.ftruncate(self._shared[place], 0)
        self._num_shared_bytes[place] = len(data)
        view, offset = memoryview(data), 0
        while offset < len(data):
            offset += os.pwrite(self._shared[place], view[offset:], offset)

    def _block(self, most: int) -> bytes | None:
        head = self._exactly(LENGTH.size)
        size = most + 1 if head is None else LENGTH.unpack(head)[0]
        return None if size > most else self._exactly(size)

    def _exactly(self, size: int) -> bytes | None:
        parts: list[bytes] = []
        while size > 0:
            if not self._waits_for(self.answers.fileno(), select.POLLIN):
                return None
            part = os.read(self.answers.fileno(), min(size, 2**20))
            if not part:
                return None
            parts.append(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _waits_for(self, pipe: int, event: int) -> bool:
        """Return whether a pipe becomes ready before the job's deadline."""
        poll = select.poll()
        poll.register(pipe, event)
        while not poll.poll(1000 * min(LOOK_S, max(0.0, self.deadline_s - own_clock.now_s()))):
            if self.is_late:
                return False
        return True
