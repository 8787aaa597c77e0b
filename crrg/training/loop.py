"""The one training loop: every stage gives it a network, a batch for each step, and a loss.

A batch is a pure function of its number, so a resumed run sees the same batches as an undisturbed one. The loop knows
nothing of films, texts or metrics; a stage may give it a score by which the best weights are kept. Guards
(``docs/operations/training.md``): a step with a non-finite loss or gradient is skipped and leaves no trace; after three
in a row the last good state (the start at first) comes back with half the learning rate; after two such roll-backs
training fails, and nothing is registered. No state is written that is not finite. SIGTERM writes a state and exits with
143.

Where several ranks train together (``ranks``), each gives its own part of the batch, gradients are averaged before they
are clipped, decisions are taken together, and the first rank alone writes states.
"""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor, nn

from crrg.config.training import LoopConfig
from crrg.device import failures_named
from crrg.errors import NonFiniteLoss, TrainingError
from crrg.termination import EXIT_SIGTERM, end_within
from crrg.training.averaging import WeightAverage
from crrg.training.best_weights import BestWeights
from crrg.training.checkpoint import (
    StageFolder,
    TrainingState,
    load_optimizer_tensors,
    non_finite,
    optimizer_tensors,
)
from crrg.training.counted_loss import CountedLoss, LossOf, losses_of_step
from crrg.training.loss_log import LossLog
from crrg.training.optim import build_optimizer, learning_rate_at, set_learning_rate
from crrg.training.prefetch import prefetched
from crrg.training.ranks import any_rank, average_gradients, mean_over_ranks, rank, seed_step, share_buffers
from crrg.training.running_statistics import RunningStatistics
from crrg.training.state_timer import StateTimer
from crrg.training.tracker import Tracker

logger = logging.getLogger(__name__)
Batch = TypeVar("Batch")

MAX_SKIPPED_IN_A_ROW = 3
MAX_ROLLBACKS = 2


@dataclass(frozen=True)
class FitOutcome:
    """What a finished loop reports.

    Attributes:
        num_steps: Steps done in all, fewer than asked for where training was stopped early.
        duration_s: Wall time of the training, seconds: of this call, and of those before it up to the states that were
            gone on with.
        best_step: Steps after which the weights were best that the network has now; ``num_steps`` without a score.
    """

    num_steps: int
    duration_s: float
    best_step: int


def fit(
    module: nn.Module,
    make_batch: Callable[[int], Batch],
    loss_of: LossOf[Batch] | CountedLoss[Batch],
    config: LoopConfig,
    *,
    device: torch.device,
    folder: StageFolder,
    tracker: Tracker,
    score: Callable[[], float] | None = None,
    slower: Sequence[tuple[nn.Module, float]] = (),
) -> FitOutcome:
    """Train a network for ``config.num_steps`` steps, taking up a stored state if there is one.

    Args:
        module: Network, already on ``device``; trained in place, left in ``train`` mode with its last weights, the
            averaged ones where ``config.ema_decay`` asks for them, or the best where it was scored.
        make_batch: Number of a batch to the batch, pure; called ahead of time in one background thread. A step takes
            ``config.accumulate`` of them.
        loss_of: Batch to scalar loss and its named parts for the log. One that leaves out what is not known is a
            ``CountedLoss``, so that the batches of a step count by how much they know.
        config: Length, rates, clipping, checkpointing.
        device: Where the network is.
        folder: Where states go.
        tracker: Receives ``train/loss``, the parts and the learning rate.
        score: Validation score of the network in ``eval`` mode, higher is better; asked for every
            ``config.validate_every`` steps and after the last one.
        slower: Parts of the network, and the share of the learning rate that each takes.

    Raises:
        DeviceError: The device has failed, or its memory does not suffice for a batch.
        NonFiniteLoss: Skipping steps and rolling back did not help.
        StorageError: The disk has no room for the states that are kept (``DISK.FULL``), or the store cannot be reached.
        SystemExit: SIGTERM arrived; a state was written, the code is 143.
    """
    # around all of it: a device that fails says so wherever it is asked next, not where it failed
    with failures_named(_memory_reason(config, folder.stage)):
        if config.freeze_normalisation:
            freeze_normalisation(module)
        run = _Run(module, config, device, folder, slower, LossLog(tracker, folder.stage, config))
        first = run.restore(is_scored=score is not None and config.validate_every > 0)
        run.start_training()
        done = first
        with _stop_flag() as stop, prefetched(make_batch, first, config) as steps:
            for step, batches in steps:
                if run.best.is_exhausted:  # asked before a step, since SIGTERM may have come where patience ran out
                    logger.info("stage %s: stopped at step %d, best at %d", folder.stage, done, run.best.step)
                    break
                loss, parts = run.step(step, batches, loss_of)
                done = step + 1
                run.log.add(step, loss, parts, run.learning_rate(step))
                if score is not None and _is_scored_after(done, config):
                    tracker.log_metrics({"validation/score": run.validate(score, done)}, step=done)
                if any_rank(stop.is_set(), device):
                    run.terminate(done)
                if run.timer.is_due:
                    run.save(done)
        return FitOutcome(done, run.trained_s, run.finish(done))


def freeze_normalisation(module: nn.Module) -> None:
    """Fix statistics and weights of every batch normalisation: with few films per step they are mostly noise."""
    for part in _normalisations(module):
        part.requires_grad_(False)


class _Run:
    """Network, optimiser and guards of one call of ``fit``."""

    def __init__(
        self,
        module: nn.Module,
        config: LoopConfig,
        device: torch.device,
        folder: StageFolder,
        slower: Sequence[tuple[nn.Module, float]],
        log: LossLog,
    ) -> None:
        self.module = module
        self.config = config
        self.device = device
        self.folder = folder
        self.log = log
        self.optimizer = build_optimizer(module.parameters(), config, slower)
        self.average = WeightAverage(module, config.ema_decay) if config.ema_decay else None
        self.best = BestWeights(config.patience)
        self.statistics = RunningStatistics(module)
        self.timer = StateTimer(config.checkpoint_every_s, time.monotonic)
        self.began_s, self.trained_before_s = time.monotonic(), 0.0
        self.seed = torch.initial_seed()
        self.rate_factor = 1.0
        self.num_skipped = 0
        self.num_rollbacks = 0

    @property
    def trained_s(self) -> float:
        """Seconds trained so far, those of earlier calls included."""
        return self.trained_before_s + time.monotonic() - self.began_s

    @property
    def scoring_reason(self) -> str:
        """What to say where the memory does not suffice for a score."""
        return (
            f"its memory does not suffice to score stage {self.folder.stage} on validation films; halve its "
            "loop.batch_size (of a generator on a CPU decoding.num_slots, too), or take a device with more memory"
        )

    def restore(self, *, is_scored: bool) -> int:
        """Take up the newest stored state, or store the start; return the step to go on with.

        Raises:
            DeviceError: The device has failed, or its memory does not suffice for the state.
            StorageError: There is no room for states.
            TrainingError: The state does not fit the network.
        """
        self.folder.check_room(self._state_bytes(is_scored))
        state = self.folder.latest_state()
        if state is None:
            self.save(0)
            return 0
        try:
            with failures_named(_memory_reason(self.config, self.folder.stage)):
                self._load(state)
        except (RuntimeError, KeyError, ValueError) as error:
            raise TrainingError(
                f"the state of step {state.step} is of another network ({type(error).__name__}); go on with the "
                "version of the program that wrote it, or remove the folder's states to start again",
                self.folder.prefix,
            ) from error
        self.rate_factor = state.values.get("rate_factor", 1.0)
        self.num_rollbacks = int(state.values.get("num_rollbacks", 0))
        self.trained_before_s = state.values.get("trained_s", 0.0)
        self.log.load(state.step, state.values)
        logger.info("stage %s: resumed at step %d", self.folder.stage, state.step)
        return state.step

    def terminate(self, num_done: int) -> NoReturn:
        """Write a state and end the process, as SIGTERM asks."""
        self.save(num_done)
        logger.warning("stage %s: SIGTERM at step %d; run again to resume", self.folder.stage, num_done - 1)
        raise SystemExit(EXIT_SIGTERM)

    def save(self, step: int) -> None:
        """Write a state after ``step`` steps; not while steps are being skipped, nor one that is not finite."""
        if self.num_skipped or rank() > 0:
            return
        with self.timer.saving():
            self._write_state(step)

    def start_training(self) -> None:
        """Put the network into ``train`` mode; frozen normalisation stays as in use."""
        self.module.train()
        if self.config.freeze_normalisation:
            for part in _normalisations(self.module):
                part.eval()

    def learning_rate(self, step: int) -> float:
        """Learning rate of a step after roll-backs."""
        return learning_rate_at(step, self.config) * self.rate_factor

    def step(
        self, step: int, batches: Sequence[Batch], loss_of: LossOf[Batch] | CountedLoss[Batch]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Do one optimiser step on the loss of some batches, or skip it where anything in it is not finite."""
        set_learning_rate(self.optimizer, self.learning_rate(step))
        self.optimizer.zero_grad(set_to_none=True)
        self.statistics.keep()
        seed_step(self.seed, step)
        sums: dict[str, Tensor] = {}
        for loss, parts in losses_of_step(loss_of, batches, self.device):
            loss.backward()
            for name, value in {"": loss.detach(), **parts}.items():
                sums[name] = sums[name] + value if name in sums else value
        total = sums.pop("")
        average_gradients(self.module)
        limit = self.config.clip_norm or math.inf
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), limit)
        is_finite = bool(torch.isfinite(norm) & torch.isfinite(total)) and self.statistics.are_finite()
        if not any_rank(not is_finite, self.device):
            self.optimizer.step()
            self.num_skipped = 0
            if self.average is not None:
                self.average.update()
        else:
            self._skip(step)
        return total, sums

    def validate(self, score: Callable[[], float], step: int) -> float:
        """Score the network as it would be used, and keep it where it is the best; random numbers stay as they were."""
        devices = [self.device] if self.device.type == "cuda" else []
        used = self.average.in_use() if self.average is not None else nullcontext()
        self.module.eval()
        with failures_named(self.scoring_reason), torch.random.fork_rng(devices=devices), used:
            share_buffers(self.module)
            value = mean_over_ranks(score(), self.device)
            self.best.offer(self.module, value, step)
        self.start_training()
        return value

    def finish(self, step: int) -> int:
        """Give the network its best or averaged weights; return after how many steps they were reached."""
        if self.best.step:
            self.best.apply(self.module)
            return self.best.step
        if self.average is not None:
            self.average.apply()
        return step

    def _skip(self, step: int) -> None:
        self.num_skipped += 1
        self.statistics.restore()
        logger.warning("stage %s: step %d skipped, loss or gradient not finite", self.folder.stage, step)
        if self.num_skipped <= MAX_SKIPPED_IN_A_ROW:
            return
        state = self.folder.latest_state()
        self.num_rollbacks += 1
        if self.num_rollbacks > MAX_ROLLBACKS or state is None:
            raise NonFiniteLoss(
                f"loss stayed non-finite at step {step} after {self.num_rollbacks - 1} roll-backs; lower the learning "
                "rate or look at the data of this stage",
                self.folder.stage,
            )
        self._load(state)
        self.rate_factor *= 0.5
        self.num_skipped = 0
        self.save(step + 1)

    def _write_state(self, step: int) -> None:
        tensors = self._tensors()
        if bad := non_finite(tensors):
            logger.warning("stage %s: no state at step %d, %d tensors not finite", self.folder.stage, step, len(bad))
            return
        values = {"rate_factor": self.rate_factor, "num_rollbacks": float(self.num_rollbacks)}
        values |= {"trained_s": self.trained_s, **self.best.values(), **self.log.values()}
        self.folder.save_state(TrainingState(step, tensors, values, self.log.run_id))

    def _state_bytes(self, is_scored: bool) -> int:
        """Return how many bytes a state takes, with moments of all gradients and, where scored, best weights."""
        weights = sum(tensor.nbytes for tensor in self.module.state_dict().values())
        moments = 2 * sum(each.nbytes for each in self.module.parameters() if each.requires_grad)
        return weights * (1 + is_scored + (self.average is not None)) + moments

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"model.{name}": tensor for name, tensor in self.module.state_dict().items()}
        tensors |= optimizer_tensors(self.optimizer)
        if self.average is not None:
            tensors |= self.average.tensors()
        # one copy each, wherever they lie: names that share a tensor, as tied weights, are not stored otherwise
        tensors = {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
        tensors |= {**self.best.tensors(), "rng.cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state(self.device)
        return tensors

    def _load(self, state: TrainingState) -> None:
        tensors = state.tensors
        model = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
        self.module.load_state_dict(model, strict=True)
        load_optimizer_tensors(self.optimizer, tensors)
        self.best.load(tensors, state.values)
        if self.average is not None:
            self.average.load(tensors)
        torch.set_rng_state(tensors["rng.cpu"])
        if self.device.type == "cuda" and "rng.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["rng.cuda"], self.device)


def _is_scored_after(num_done: int, config: LoopConfig) -> bool:
    """Return whether the network is scored after so many steps: now and then, and at the end, if at all."""
    return config.validate_every > 0 and (num_done % config.validate_every == 0 or num_done == config.num_steps)


def _memory_reason(config: LoopConfig, stage: str) -> str:
    """Return what to say where the memory does not suffice for a batch."""
    return (
        f"not enough memory for a batch of {config.batch_size} of stage {stage}; halve loop.batch_size of the stage "
        "and double loop.accumulate, or use a device with more memory"
    )


def _normalisations(module: nn.Module) -> list[nn.Module]:
    return [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]


@contextmanager
def _stop_flag() -> Iterator[threading.Event]:
    """Yield a flag that SIGTERM sets; outside the main thread signals belong to somebody else and it stays clear.

    A step that takes longer than whoever stops a process waits ends with it; the last state is gone on with.
    """
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    ends: list[threading.Timer] = []

    def stop(_number: int, _frame: object) -> None:
        if not flag.is_set():
            ends.append(end_within())
            flag.set()

    previous: Any = signal.signal(signal.SIGTERM, stop)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGTERM, previous)
        for end in ends:
            end.cancel()
