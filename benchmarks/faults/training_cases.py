"""Ingests and trainings that are killed at a random moment: run again, they leave what an undisturbed one leaves.

Real networks of the smallest size over a drawn cohort, a state after every step, no tracking server: what a kill can
spoil is the same as at any size.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.faults.cases import Ending, Finding
from benchmarks.faults.nights import LIMIT_S, Night, start_night
from crrg.config.base import STAGES, Settings, Stage
from crrg.config.training import PresetTraining, TrainStageConfig
from crrg.storage import Storage

DATASET = "drawn"
NUM_STEPS = 40
FROM_THE_START_EVERY = 5
"""One case in so many is killed at any moment; the others once something was written."""
LOOK_EVERY_S = 0.02
Work = Callable[[Storage, Storage, float, int], None]


class TrainingCases:
    """Cases on a folder."""

    def __init__(self, folder: Path) -> None:
        """Begin with nothing; what a case is compared with is made when it is first needed."""
        self.folder = folder
        self.source = Storage(str(folder / "cohort"))
        self.log = folder / "undisturbed.log"
        self.whole = Storage(str(folder / "undisturbed"))
        self.seconds: dict[str, tuple[float, float]] = {}

    def ingest_killed(self, number: int) -> Finding:
        """Kill an ingest at a random moment."""
        self._make_undisturbed("ingest")
        root = Storage(str(self.folder / f"ingest-{number}"))
        return self._killed("ingest", number, root)

    def stage_killed(self, number: int) -> Finding:
        """Kill the training of one of the four stages at a random moment; those it stands on are finished."""
        stage = STAGES[number % len(STAGES)]
        for kind in ("ingest", *STAGES[: STAGES.index(stage) + 1]):
            self._make_undisturbed(kind)
        root = Storage(str(self.folder / f"stage-{number}"))
        shutil.copytree(self.whole.root, root.root)
        for later in STAGES[STAGES.index(stage) :]:
            shutil.rmtree(Path(root.root) / "checkpoints" / later, ignore_errors=True)
        return self._killed(stage, number, root)

    def _make_undisturbed(self, kind: str) -> None:
        """Ingest, or train a stage, undisturbed; its time, whole and from its first object on, sets when others die.

        Raises:
            RuntimeError: It did not end well.
        """
        if kind in self.seconds:
            return
        work, written = work_of(kind)
        started_s = time.monotonic()
        child = start_night(self.source, self.whole, self.log, through=work)
        wait_for_objects(child, self.whole, written)
        began_s = time.monotonic()
        if child.wait() != 0:
            raise RuntimeError(f"the undisturbed {kind} did not end well, see {self.log}")
        self.seconds[kind] = (time.monotonic() - started_s, time.monotonic() - began_s)

    def _killed(self, kind: str, number: int, root: Storage) -> Finding:
        work, written = work_of(kind)
        log, rng = self.folder / f"{kind}-{number}.log", random.Random(f"{kind} {number}")
        child = start_night(self.source, root, log, through=work)
        has_begun = number % FROM_THE_START_EVERY != 0
        if has_begun:
            wait_for_objects(child, root, written)
        problems: list[str] = []
        killed = 0
        try:
            codes = [child.wait(rng.uniform(0.0, self.seconds[kind][has_begun]))]
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)
            codes = [child.wait()]
            killed = int(codes == [-signal.SIGKILL])
        problems += Ending(codes, frozenset({0, -signal.SIGKILL}), f"the {kind}").problems()
        codes.append(start_night(self.source, root, log, through=work).wait())
        problems += Ending(codes[1:], what="run again it").problems()
        if (found := contents(root, written)) != (wanted := contents(self.whole, written)):
            other = sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key))
            problems.append(f"{len(other)} objects differ, the first is {other[0]}")
        shutil.rmtree(root.root)
        return Finding(problems, {f"{kind} killed": killed}, 2, codes=dict(Counter(map(str, codes))))


def work_of(kind: str) -> tuple[Work, str]:
    """Return what runs in the process that is killed, and under which prefix it writes."""
    works: dict[str, Work] = {stage: partial(train, stage) for stage in STAGES}
    return (ingest, "datasets") if kind == "ingest" else (works[kind], f"checkpoints/{kind}")


def wait_for_objects(child: Night, root: Storage, prefix: str) -> None:
    """Return when something lies under a prefix, or the process has ended."""
    deadline_s = time.monotonic() + LIMIT_S
    while child.is_running and not root.list_objects(prefix) and time.monotonic() < deadline_s:
        time.sleep(LOOK_EVERY_S)


def contents(root: Storage, prefix: str) -> dict[str, bytes]:
    """Return what an ingest or a training leaves, without what says when and how long; states must be gone."""
    left = {stored.key: root.get(stored.key) for stored in root.list_objects(prefix)}
    timed = ("result.json", "_manifest.json")
    return {key: b"" if key.endswith(timed) else data for key, data in left.items()}


def ingest(source: Storage, root: Storage, _delay_s: float, _num_workers: int) -> None:
    """Draw the cohort, unless it lies there, and ingest it."""
    from tests.support.drawn_bundle import draw_dataset

    draw_dataset(root, Path(source.root), DATASET, 0.5, 0.3)


def train(stage: Stage, _source: Storage, root: Storage, _delay_s: float, _num_workers: int) -> None:
    """Train a stage in this process, which ends afterwards."""
    from crrg.config import presets
    from crrg.operations.training import train as operation
    from crrg.training import state_timer
    from tests.support.smallest_stages import Unregistered, remembered

    presets.__dict__["_PRESETS"]["tiny"] = with_states
    state_timer.__dict__["TIMES_APART"] = 0
    operation.__dict__.update(open_tracker=remembered, ModelRegistry=Unregistered)
    form = TrainStageConfig(dataset=DATASET, device="cpu")
    operation.train_stage(stage, form, root, Settings(root=root.root))


def with_states() -> PresetTraining:
    """Return the smallest settings, some steps long, with a state after every step."""
    from tests.support.smallest_stages import smallest

    settings = smallest()
    steps = {"num_steps": NUM_STEPS, "checkpoint_every_s": 1e-9}
    stages = {stage: getattr(settings, stage) for stage in STAGES}
    longer = {
        stage: each.model_copy(update={"loop": each.loop.model_copy(update=steps)}) for stage, each in stages.items()
    }
    return settings.model_copy(update=longer)
