"""Decoding many files in child processes, in order, where one bad file costs one file.

A child that crashes, hangs or runs out of memory is replaced; the file over which it crashed is tried once more in a
fresh child and then refused, one that took too long at once. Children get bytes and give pixels: no credentials, no
paths, no pickles. Knows no source and no store.
"""

from __future__ import annotations

import selectors
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from crrg.data.decoding.isolation import Isolation
from crrg.data.decoding.limits import DecoderLimits, in_force
from crrg.data.decoding.process import LOOK_S, Child, Job, own_clock
from crrg.data.decoding.shared_films import FilmPlaces, PlacedFilm
from crrg.data.film import DecodedFilm, read_film
from crrg.data.identity import DicomHeader
from crrg.data.images import pixel_digest
from crrg.domain.acquisition import Acquisition
from crrg.domain.study import Film, ViewPosition
from crrg.errors import AnnotationError, DataError, DicomError, IdentityError, ImageError, ReportError

DecodeItem: TypeAlias = "bytes | PlacedFilm | DataError"
"""Bytes of a file, the place where they lie, or the reason why there are none; a reason is passed through."""
DecodeOutcome: TypeAlias = "DecodedFilm | DataError"

AHEAD_PER_WORKER = 8
"""Files read ahead of the slowest one, per child: what bounds memory."""
MAX_TRIES = 2
EXAMINATION_S = 300.0
"""Wall seconds in which a child must start and decode its samples; minutes where a machine is very busy."""
_ERRORS = {
    error.__name__: error for error in (DataError, DicomError, ImageError, ReportError, AnnotationError, IdentityError)
}


class IdleDecoders:
    """Children that wait for the next call: to start one takes as long as decoding some sixty films."""

    def __init__(self, limits: Callable[[], DecoderLimits]) -> None:
        """Begin with none.

        Args:
            limits: Says what each child may use; one that may use something else is not given out any more.
        """
        self._limits = limits
        self._children: list[Child] = []
        self._lock = threading.Lock()

    def prepare(self, number: int) -> None:
        """Start children now that will be asked for soon, so that several wait; they load while others work."""
        with self._lock:
            while len(self._children) < number:
                self._children.append(Child(self.limits))

    @property
    def limits(self) -> DecoderLimits:
        """What a child may use that is taken now."""
        return self._limits()

    def take(self) -> Child:
        """Return a child without work, started anew where none waits."""
        limits = self.limits
        with self._lock:
            while self._children:
                child = self._children.pop()
                if child.limits == limits:
                    return child
                child.end()
        return Child(limits)

    def put_by(self, child: Child) -> None:
        """Keep a child for the next call; one that has work, or has done its share, is ended."""
        if child.jobs or not child.has_room:
            child.end()
            return
        with self._lock:
            self._children.append(child)

    def end(self) -> None:
        """End the children that wait."""
        with self._lock:
            children, self._children = self._children, []
        for child in children:
            child.end()


def decode_many(
    items: Iterable[DecodeItem],
    image_size: int,
    num_workers: int,
    limits: DecoderLimits | None = None,
    *,
    places: FilmPlaces | None = None,
    idle: IdleDecoders | None = None,
) -> Generator[DecodeOutcome, None, None]:
    """Decode files, in their order, each to a film or to the reason why not.

    Args:
        items: Bytes of each file; read lazily, a bounded number ahead.
        image_size: Longest side of a film, pixels.
        num_workers: Child processes; 0 decodes in this process, without limits, for a handful of trusted files.
        limits: What a child may use; what is in force here, if not given.
        places: Where placed films lie; each is given back when its outcome is known.
        idle: Where children come from and go back to, with limits of its own; without it they end with the call.

    Yields:
        One outcome per item.
    """
    if num_workers == 0:
        for item in items:
            yield _decode_here(item, image_size)
        return
    own = limits or in_force.decoder
    descriptors = places.descriptors if places else ()
    if idle is None:
        pool = _Pool(image_size, num_workers, own, lambda: Child(own, descriptors), Child.end)
    else:
        pool = _Pool(image_size, num_workers, idle.limits, idle.take, idle.put_by)
    try:
        yield from pool.run(iter(items))
    finally:
        pool.close()


def _decode_here(item: DecodeItem, image_size: int) -> DecodeOutcome:
    if isinstance(item, DataError):
        return item
    job = Job(0, item)
    try:
        return read_film(bytes(item.view()) if isinstance(item, PlacedFilm) else item, image_size)
    except DataError as error:
        return error
    finally:
        job.end()


@dataclass(frozen=True)
class ChildReport:
    """What a decoding process is and can, as it says itself.

    Attributes:
        isolation: Which measures took effect; ``None`` where no child started.
        problems: Transfer syntax UID to why it does not decode in there, empty where it does.
        is_late: Whether it was still at work when its time was over.
    """

    isolation: Isolation | None
    problems: dict[str, str]
    is_late: bool = False


def examine_child(limits: DecoderLimits | None = None, *, within_s: float = EXAMINATION_S) -> ChildReport:
    """Start one child as a run would and ask it what holds there; nothing is raised.

    Args:
        limits: What it may use, but for its time; what is in force here, if not given.
        within_s: Wall seconds in which it must answer.
    """
    child = Child(replace(limits or in_force.decoder, timeout_s=within_s))
    try:
        child.give(Job(0, b""), 0)
        answer = child.read(0)
        if answer is None:
            return ChildReport(None, {}, is_late=child.is_late)
        return ChildReport(Isolation(**answer[0]["isolation"]), answer[0]["problems"])
    except (ValueError, KeyError, TypeError):
        return ChildReport(None, {})
    finally:
        child.end()


class _Pool:
    """Children, their jobs, and outcomes waiting for their turn."""

    def __init__(
        self,
        image_size: int,
        num_workers: int,
        limits: DecoderLimits,
        start: Callable[[], Child],
        part_with: Callable[[Child], object],
    ) -> None:
        self.image_size = image_size
        self.limits = limits
        self.start = start
        self.part_with = part_with
        self.num_workers = num_workers
        self.selector = selectors.DefaultSelector()
        self.children: list[Child] = []
        self.again: deque[Job] = deque()
        self.outcomes: dict[int, DecodeOutcome] = {}

    def run(self, items: Iterator[DecodeItem]) -> Iterator[DecodeOutcome]:
        next_index = num_taken = 0
        waiting = next(items, None)
        while True:
            while waiting is not None and num_taken - next_index < AHEAD_PER_WORKER * self.num_workers:
                if isinstance(waiting, DataError):
                    self.outcomes[num_taken] = waiting
                elif not self.again and (child := self._idle_child()) is not None:
                    child.give(Job(num_taken, waiting), self.image_size)
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
        self.selector.close()
        for child in self.children:
            self.part_with(child)
        self.children = []

    def _idle_child(self) -> Child | None:
        """Return the child that should get the next file: one without work, a new one, one with room, or ``None``."""
        for child in [child for child in self.children if not child.jobs]:
            if child.has_room:
                return child
            self._drop(child)
        if len(self.children) < self.num_workers:
            child = self.start()
            self.children.append(child)
            self.selector.register(child.answers, selectors.EVENT_READ, child)
            return child
        return next((child for child in self.children if child.has_room), None)

    def _collect(self) -> None:
        """Wait for an answer, a death, a deadline or the time to look again."""
        left_s = min(child.deadline_s for child in self.children if child.job) - own_clock.now_s()
        for key, _ in self.selector.select(min(LOOK_S, max(0.0, left_s))):
            child: Child = key.data
            if child.job is None:
                self._drop(child)
                continue
            outcome = self._outcome_of(child)
            if outcome is None:
                self._bury(child)
            else:
                self.outcomes[child.job.index] = outcome
                child.finish().end()
        for child in [child for child in self.children if child.job and child.is_late]:
            self._refuse(child, f"decoding took longer than {self.limits.timeout_s:g} s", "DECODE.TIMEOUT")

    def _outcome_of(self, child: Child) -> DecodeOutcome | None:
        """Read an answer; ``None`` where there is none, or none that makes sense."""
        try:
            answer = child.read(self.image_size)
            return None if answer is None else _outcome(*answer)
        except (ValueError, KeyError, TypeError, IndexError):
            return None

    def _bury(self, child: Child) -> None:
        """Deal with a child that died over its job: once more in a fresh one, then refuse."""
        job = child.job
        is_late = child.is_late
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

    def _refuse(self, child: Child, reason: str, code: str) -> None:
        if child.job is not None:
            job = child.jobs.popleft()
            self.outcomes[job.index] = DicomError(reason, code=code)
            job.end()
        self._drop(child)

    def _drop(self, child: Child) -> None:
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
    # words that are not of our lists are refused here: a child's answer is not believed
    acquisition = Acquisition(**description["acquisition"])
    if header is None:
        return DecodedFilm(film, None, acquisition)
    patient_id, study_instance_uid, sop_instance_uid, names = header
    named = DicomHeader(patient_id, study_instance_uid, sop_instance_uid, names=tuple(names))
    return DecodedFilm(film, named, acquisition)
