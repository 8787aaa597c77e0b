"""A step of the decoder, recorded once and replayed: one launch on a GPU in place of those of every layer.

What a recording reads and writes stays where it was in memory. So the slots are always all computed, the cache has room
for long phrases from the start, and there is a recording for each number of nodes that attention runs over. Cache
and recordings of a shape are kept for the next films, whose phrases pass through the same slots.

Source: CUDA graphs as torch has them (``torch.cuda.CUDAGraph``).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from crrg.models.decoder import NodeCache, PseudoSelfAttentionDecoder, StepInputs

Recorder = Callable[[Callable[[], object]], Callable[[], object]]
"""Takes what computes a step and leaves its result in a place of its own; returns what repeats that."""

NUM_TRIES_BEFORE = 2
"""Runs before a recording, in which libraries choose their kernels and take their memory."""
ROOM_NODES = 256
"""Nodes that each slot has room for at first. Those that no beam needs are dropped, so few phrases need as many; where
one does, the cache grows and its steps are recorded anew."""
MOST_SHAPES = 3
"""Caches kept: of a night's windows most are of one shape, and the last ones of a shard smaller."""

logger = logging.getLogger(__name__)
_turns = threading.Lock()
"""Held by the one thread of this process that records and replays: inputs, caches and results lie in fixed places, and
nothing else may be recorded meanwhile."""


class GpuRecorder:
    """Records computations on this thread's GPU, all in one pool of memory: no two are replayed at once."""

    def __init__(self) -> None:
        """Start with nothing recorded."""
        self._pool: Any = None
        self._aside = torch.cuda.Stream()

    def __call__(self, compute: Callable[[], object]) -> Callable[[], object]:
        """Record a computation, which must find its inputs at the same place whenever it is repeated."""
        self._aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._aside):
            for _ in range(NUM_TRIES_BEFORE):
                compute()
        torch.cuda.current_stream().wait_stream(self._aside)
        graph = torch.cuda.CUDAGraph()
        # what other threads do on the GPU meanwhile is no part of the recording, and not forbidden
        with torch.cuda.graph(graph, pool=self._pool, stream=self._aside, capture_error_mode="thread_local"):
            compute()
        self._pool = graph.pool()
        return graph.replay


@dataclass
class _Recording:
    inputs: StepInputs
    replay: Callable[[], object]


@dataclass
class _Shape:
    """One cache, where its steps leave their logits, and what was recorded by the number of nodes of attention."""

    cache: NodeCache
    logits: Tensor
    record: Recorder
    recordings: dict[int, _Recording] = field(default_factory=dict)


class StepGraphs:
    """Caches and recordings of one decoder, by shape; where nothing can be recorded, steps are computed as ever.

    Attributes:
        decoder: Whose steps they are.
    """

    def __init__(
        self, decoder: PseudoSelfAttentionDecoder, make_recorder: Callable[[], Recorder] = GpuRecorder
    ) -> None:
        """Prepare; nothing is recorded yet.

        Args:
            decoder: Its weights may not be replaced by others from now on.
            make_recorder: Makes what records the steps of one cache.
        """
        self.decoder = decoder
        self._is_refused = False
        self._make_recorder = make_recorder
        self._shapes: dict[tuple[int, ...], _Shape] = {}

    @contextmanager
    def turn(self) -> Iterator[StepGraphs | None]:
        """Wait until no other thread drafts with recorded steps, and keep others waiting within the block.

        Yields nothing where a recording failed, for want of memory too: from then on nothing is recorded, and who
        drafts does better without, since computed steps are of the slots in use alone.
        """
        with _turns:
            yield None if self._is_refused else self

    @property
    def num_bytes(self) -> int:
        """What the kept caches take, which is given up where another shape needs it."""
        kept = (
            tensor for each in self._shapes.values() for tensor in (*each.cache.keys, *each.cache.values, each.logits)
        )
        return sum(tensor.numel() * tensor.element_size() for tensor in kept)

    def new_cache(self, num_slots: int, num_beams: int, num_conditions: int, max_length: int) -> NodeCache:
        """Return an empty cache, the last one of its shape if it is kept; to be used within ``turn``."""
        key = (num_slots, num_beams, num_conditions, max_length)
        shape = self._shapes.pop(key, None)
        while len(self._shapes) >= MOST_SHAPES:
            del self._shapes[next(iter(self._shapes))]
        if shape is None:
            shape = self._new_shape(*key)
        self._shapes[key] = shape
        # keys and values stay: a phrase that is placed replaces all of its slot
        shape.cache.clear()
        shape.cache.visible.fill_(False)
        return shape.cache

    def step(self, token_ids: Tensor, positions: Tensor, cache: NodeCache) -> Tensor:
        """Return what ``PseudoSelfAttentionDecoder.step`` does, for the first slots of a cache of ``new_cache``."""
        if self._is_refused:
            return self.decoder.step(token_ids, positions, cache)
        num_used, num_beams = token_ids.shape
        num_slots, room = cache.visible.shape[0], cache.visible.shape[2]
        all_ids = token_ids.new_zeros(num_slots, num_beams)
        all_ids[:num_used] = token_ids
        all_positions = positions.new_zeros(num_slots)
        all_positions[:num_used] = positions
        shape = next(each for each in self._shapes.values() if each.cache is cache)
        try:
            inputs = self.decoder.make_step(all_ids, all_positions, cache)
        except torch.OutOfMemoryError:
            # a part of the cache has grown and the rest has not
            self._shapes.clear()
            raise
        if cache.visible.shape[2] > room:
            # the cache lies elsewhere now; with the recordings goes their memory, so the next ones need another pool
            shape.recordings.clear()
            shape.record = self._make_recorder()
        recording = shape.recordings.get(inputs.visible.shape[-1]) or self._record(shape, inputs)
        if recording is None:
            return self.decoder.take_step(inputs, cache)[:num_used]
        recording.inputs.copy_(inputs)
        recording.replay()
        return shape.logits[:num_used]

    def _record(self, shape: _Shape, inputs: StepInputs) -> _Recording | None:
        """Record the step of a shape with such inputs; nothing where that cannot be."""
        try:
            replay = shape.record(lambda: shape.logits.copy_(self.decoder.take_step(inputs, shape.cache)))
        except RuntimeError as error:
            self._refuse(error)
            return None
        recording = shape.recordings[inputs.visible.shape[-1]] = _Recording(inputs, replay)
        return recording

    def _new_shape(self, *shape: int) -> _Shape:
        try:
            return self._empty_shape(*shape)
        except torch.OutOfMemoryError:
            self._shapes.clear()
        return self._empty_shape(*shape)

    def _empty_shape(self, num_slots: int, num_beams: int, num_conditions: int, max_length: int) -> _Shape:
        cache = self.decoder.new_cache(num_slots, num_beams, num_conditions, max_length)
        cache.make_room(min(ROOM_NODES, cache.max_nodes), num_slots)
        table = self.decoder.transformer.wte.weight
        logits = torch.empty(num_slots, num_beams, len(table), device=table.device)
        return _Shape(cache, logits, self._make_recorder())

    def _refuse(self, error: RuntimeError) -> None:
        """Record nothing any more, and give back what recordings and their caches took."""
        logger.warning("a step cannot be recorded (%s); steps are computed one by one", type(error).__name__)
        self._is_refused = True
        self._shapes.clear()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
