"""Decoding many files in child processes, in order, where one bad file costs one file.

A child that crashes, hangs or runs out of memory is replaced; the file it held is tried once more in a fresh child and
then refused. Children get bytes and give pixels: no credentials, no paths, no pickles. Knows no source and no store.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np

import crrg
from crrg.data.decoder_child import JOB, LENGTH
from crrg.data.decoder_isolation import Isolation
from crrg.data.film import DecodedFilm, read_film
from crrg.data.identity import DicomHeader
from crrg.data.images import pixel_digest
from crrg.domain.study import Film, ViewPosition
from crrg.errors import AnnotationError, DataError, DicomError, IdentityError, ImageError, ReportError

DecodeItem: TypeAlias = "bytes | DataError"
"""Bytes of a file, or the reason why there are none; a reason is passed through."""
DecodeOutcome: TypeAlias = "DecodedFilm | DataError"

AHEAD_PER_WORKER = 8
"""Files read ahead of the slowest one, per child: what bounds memory."""
JOBS_PER_CHILD = 2
"""A child decodes one file while the next lies ready, so that it never waits for this process."""
MAX_TRIES = 2
PIPE_BYTES = 2**20
"""Holds the answer to a film, so that a child need not wait until it is read."""
MAX_DESCRIPTION_BYTES = 2**20
"""A child that says more about a film is not believed."""
MAX_KEPT_BYTES = 64 * 2**20
"""A larger file's shared memory is given back before the next one."""
_CHILD_VARIABLES = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    # glibc gives the memory of a film back after each array and gets it anew, zeroed, page by page; kept, a film of
    # 2500 x 2048 takes half the processor time
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(256 * 2**20),
}
_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT")
_ERRORS = {
    error.__name__: error for error in (DataError, DicomError, ImageError, ReportError, AnnotationError, IdentityError)
}


@dataclass(frozen=True)
class DecoderLimits:
    """What one child may use.

    Attributes:
        max_memory_bytes: Address space of a child.
        cpu_limit_s: Processor seconds per file.
        timeout_s: Wall seconds per file, start of the child included.
        files_per_child: Files after which a child is replaced.
    """

    max_memory_bytes: int = 2 * 2**30
    cpu_limit_s: int = 20
    timeout_s: float = 60.0
    files_per_child: int = 500


def decode_many(
    items: Iterable[DecodeItem], image_size: int, num_workers: int, limits: DecoderLimits | None = None
) -> Iterator[DecodeOutcome]:
    """Decode files, in their order, each to a film or to the reason why not.

    Args:
        items: Bytes of each file; read lazily, a bounded number ahead.
        image_size: Longest side of a film, pixels.
        num_workers: Child processes; 0 decodes in this process, without limits, for a handful of trusted files.
        limits: What a child may use.

    Yields:
        One outcome per item.
    """
    if num_workers == 0:
        for item in items:
            yield _decode_here(item, image_size)
        return
    pool = _Pool(image_size, num_workers, limits or DecoderLimits())
    try:
        yield from pool.run(iter(items))
    finally:
        pool.close()


def _decode_here(item: DecodeItem, image_size: int) -> DecodeOutcome:
    if isinstance(item, DataError):
        return item
    try:
        return read_film(item, image_size)
    except DataError as error:
        return error


@dataclass(frozen=True)
class ChildReport:
    """What a decoding process is and can, as it says itself.

    Attributes:
        isolation: Which measures took effect; ``None`` where no child started.
        problems: Transfer syntax UID to why it does not decode in there, empty where it does.
    """

    isolation: Isolation | None
    problems: dict[str, str]


def examine_child(limits: DecoderLimits | None = None) -> ChildReport:
    """Start one child as a run would and ask it what holds there; nothing is raised."""
    child = _Child(limits or DecoderLimits())
    try:
        child.give(_Job(0, b""), 0)
        answer = child.read(0)
        if answer is None:
            return ChildReport(None, {})
        return ChildReport(Isolation(**answer[0]["isolation"]), answer[0]["problems"])
    except (ValueError, KeyError, TypeError):
        return ChildReport(None, {})
    finally:
        child.end()


@dataclass
class _Job:
    index: int
    data: bytes
    tries: int = 0


class _Child:
    """One decoding process, the job it works on, and the one that lies ready for it."""

    def __init__(self, limits: DecoderLimits) -> None:
        self.limits = limits
        self.jobs: deque[_Job] = deque()
        self.deadline_s = 0.0
        self.num_files = 0
        self._shared = tuple(_shared_memory() for _ in range(JOBS_PER_CHILD))
        self._num_shared_bytes = [0] * JOBS_PER_CHILD
        package = str(Path(crrg.__file__).parent.parent)
        kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        arguments = (limits.max_memory_bytes, limits.cpu_limit_s, *self._shared)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "crrg.data.decoder_child", *map(str, arguments)],
            pass_fds=self._shared,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**kept, **_CHILD_VARIABLES, "PYTHONPATH": package},
            bufsize=0,
        )
        with suppress(OSError, AttributeError):
            fcntl.fcntl(self.answers.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    @property
    def job(self) -> _Job | None:
        """The job it works on, or ``None``."""
        return self.jobs[0] if self.jobs else None

    @property
    def has_room(self) -> bool:
        """Whether it can be given another file."""
        return len(self.jobs) < JOBS_PER_CHILD and self.num_files < self.limits.files_per_child

    @property
    def answers(self) -> IO[bytes]:
        if self.process.stdout is None:
            raise AssertionError("unreachable: the child has a pipe")
        return self.process.stdout

    def give(self, job: _Job, image_size: int) -> None:
        """Hand over a job; a child that is gone shows when its answer is awaited."""
        self.jobs.append(job)
        if len(self.jobs) == 1:
            self._begin()
        if self.process.stdin is None:
            raise AssertionError("unreachable: the child has a pipe")
        # the child takes the places in turn, as jobs are given
        self._share(job.data, self.num_files % JOBS_PER_CHILD)
        self.num_files += 1
        with suppress(BrokenPipeError):
            os.write(self.process.stdin.fileno(), JOB.pack(len(job.data), image_size))

    def finish(self) -> None:
        """Note that the first job is answered; the time of the next one begins."""
        self.jobs.popleft()
        if self.jobs:
            self._begin()

    def _begin(self) -> None:
        self.jobs[0].tries += 1
        self.deadline_s = time.monotonic() + self.limits.timeout_s

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
        parts = bytearray()
        while len(parts) < size:
            if not self._waits_for(self.answers.fileno(), select.POLLIN):
                return None
            part = os.read(self.answers.fileno(), min(size - len(parts), 2**20))
            if not part:
                return None
            parts += part
        return bytes(parts)

    def _waits_for(self, pipe: int, event: int) -> bool:
        """Return whether a pipe becomes ready before the job's deadline."""
        poll = select.poll()
        poll.register(pipe, event)
        return bool(poll.poll(1000 * max(0.0, self.deadline_s - time.monotonic())))


class _Pool:
    """Children, their jobs, and outcomes waiting for their turn."""

    def __init__(self, image_size: int, num_workers: int, limits: DecoderLimits) -> None:
        self.image_size = image_size
        self.limits = limits
        self.num_workers = num_workers
        self.selector = selectors.DefaultSelector()
        self.children: list[_Child] = []
        self.again: deque[_Job] = deque()
        self.outcomes: dict[int, DecodeOutcome] = {}

    def run(self, items: Iterator[DecodeItem]) -> Iterator[DecodeOutcome]:
        next_index = num_taken = 0
        waiting = next(items, None)
        while True:
            while waiting is not None and num_taken - next_index < AHEAD_PER_WORKER * self.num_workers:
                if isinstance(waiting, DataError):
                    self.outcomes[num_taken] = waiting
                elif not self.again and (child := self._idle_child()) is not None:
                    child.give(_Job(num_taken, waiting), self.image_size)
                else:
                    break
                num_taken += 1
                waiting = next(items, None)
            while self.again and (child := self._idle_child()) is not None:
                child.give(self.again.popleft(), self.image_size)
            while next_index in self.outcomes:
                yield self.outcomes.pop(next_index)
                next_index += 1
            if any(child.job for child in self.children):
                self._collect()
            elif waiting is None and not self.again and next_index == num_taken:
                return

    def close(self) -> None:
        for child in self.children:
            child.end()
        self.children = []
        self.selector.close()

    def _idle_child(self) -> _Child | None:
        """Return the child that should get the next file: one without work, a new one, one with room, or ``None``."""
        for child in [child for child in self.children if not child.jobs]:
            if child.has_room:
                return child
            self._drop(child)
        if len(self.children) < self.num_workers:
            child = _Child(self.limits)
            self.children.append(child)
            self.selector.register(child.answers, selectors.EVENT_READ, child)
            return child
        return next((child for child in self.children if child.has_room), None)

    def _collect(self) -> None:
        """Wait for an answer, a death or a deadline."""
        deadline_s = min(child.deadline_s for child in self.children if child.job)
        for key, _ in self.selector.select(max(0.0, deadline_s - time.monotonic())):
            child: _Child = key.data
            if child.job is None:
                self._drop(child)
                continue
            outcome = self._outcome_of(child)
            if outcome is None:
                self._bury(child)
            else:
                self.outcomes[child.job.index] = outcome
                child.finish()
        for child in [child for child in self.children if child.job and child.deadline_s <= time.monotonic()]:
            self._refuse(child, f"decoding took longer than {self.limits.timeout_s:g} s", "DECODE.TIMEOUT")

    def _outcome_of(self, child: _Child) -> DecodeOutcome | None:
        """Read an answer; ``None`` where there is none, or none that makes sense."""
        try:
            answer = child.read(self.image_size)
            return None if answer is None else _outcome(*answer)
        except (ValueError, KeyError, TypeError, IndexError):
            return None

    def _bury(self, child: _Child) -> None:
        """Deal with a child that died over its job: once more in a fresh one, then refuse."""
        job = child.job
        is_late = child.deadline_s <= time.monotonic()
        status = child.end()
        if is_late:
            self._refuse(child, f"decoding took longer than {self.limits.timeout_s:g} s", "DECODE.TIMEOUT")
            return
        if status == -signal.SIGXCPU:
            self._refuse(child, f"decoding took more than {self.limits.cpu_limit_s} processor s", "DECODE.TIMEOUT")
        elif job is not None and job.tries < MAX_TRIES:
            self.again.append(child.jobs.popleft())
            self._drop(child)
        else:
            self._refuse(child, "the decoding process crashed on this file", "DECODE.CRASH")

    def _refuse(self, child: _Child, reason: str, code: str) -> None:
        if child.job is not None:
            self.outcomes[child.jobs.popleft().index] = DicomError(reason, code=code)
        self._drop(child)

    def _drop(self, child: _Child) -> None:
        """End a child; what lay ready for it is given to another."""
        self.again.extend(child.jobs)
        self.selector.unregister(child.answers)
        self.children.remove(child)
        child.end()


def _outcome(description: dict[str, Any], pixels: bytes) -> DecodeOutcome:
    if "error" in description:
        return _ERRORS[description["error"]](description["reason"], code=description["code"])
    values = np.frombuffer(pixels, np.uint8).reshape(description["shape"])
    spacing, header = description["pixel_spacing_mm"], description["header"]
    film = Film(
        pixels=values,
        original_width=description["original_size"][0],
        original_height=description["original_size"][1],
        view_position=ViewPosition(description["view_position"]),
        pixel_spacing_mm=None if spacing is None else (spacing[0], spacing[1]),
        polarity_inverted=description["polarity_inverted"],
        pixel_digest=pixel_digest(values),
        flags=tuple(description["flags"]),
    )
    if header is None:
        return DecodedFilm(film=film, header=None)
    patient_id, study_instance_uid, sop_instance_uid, names = header
    return DecodedFilm(film, DicomHeader(patient_id, study_instance_uid, sop_instance_uid, names=tuple(names)))


def _shared_memory() -> int:
    """Return a descriptor of memory that a child can read: no pipe has to carry a film of ten megabytes."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("crrg-film")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
