"""A step of the decoder, recorded once and replayed: one launch on a GPU in place of those of every layer.

What a recording reads and writes stays where it was in memory. So the slots are always all computed, the cache has room
for the longest phrase from the start, and there is a recording for each number of nodes that attention runs over. Cache
and recordings of a shape are kept for the next films, whose phrases pass through the same slots.

Source: CUDA graphs as torch has them (``torch.cuda.CUDAGraph``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from crrg.models.decoder import NodeCache, PseudoSelfAttentionDecoder, StepInputs

Recorder = Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]]
"""Takes what computes a step; returns what repeats it, and where its result lies then."""

NUM_TRIES_BEFORE = 2
"""Runs before a recording, in which libraries choose their kernels and take their memory."""

logger = logging.getLogger(__name__)


class GpuRecorder:
    """Records computations on this thread's GPU, all in one pool of memory: no two are replayed at once."""

    def __init__(self) -> None:
        """Start with nothing recorded."""
        self._pool: Any = None

    def __call__(self, compute: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """Record a computation, which must find its inputs at the same place whenever it is repeated."""
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(NUM_TRIES_BEFORE):
                compute()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            found = compute()
        self._pool = graph.pool()
        return graph.replay, found


@dataclass
class _Recording:
    inputs: StepInputs
    replay: Callable[[], None]
    logits: Tensor


@dataclass
class _Shape:
    """One cache, and what was recorded on it by the number of nodes that attention runs over."""

    cache: NodeCache
    recordings: dict[int, _Recording] = field(default_factory=dict)


class StepGraphs:
    """Caches and recordings of one decoder, by shape; where nothing can be recorded, steps are computed as ever.

    Attributes:
        is_refused: Whether a recording failed, for want of memory too: from then on nothing is recorded, and who drafts
            does better without, since computed steps are of the slots in use alone.
    """

    def __init__(self, decoder: PseudoSelfAttentionDecoder, record: Recorder | None = None) -> None:
        """Prepare; nothing is recorded yet.

        Args:
            decoder: Its weights may not be replaced by others from now on.
            record: How a step is recorded; on the GPU where not given.
        """
        self.is_refused = False
        self._decoder = decoder
        self._record = record or GpuRecorder()
        self._shapes: dict[tuple[int, ...], _Shape] = {}

    def new_cache(self, num_slots: int, num_beams: int, num_conditions: int, max_length: int) -> NodeCache:
        """Return an empty cache with room for ``num_slots`` of the longest phrases; the last one of its shape is it."""
        key = (num_slots, num_beams, num_conditions, max_length)
        if key not in self._shapes:
            cache = self._decoder.new_cache(*key)
            cache.make_room(cache.max_nodes, num_slots)
            self._shapes[key] = _Shape(cache)
        cache = self._shapes[key].cache
        for tensor in (*cache.keys, *cache.values):
            tensor.zero_()
        cache.clear()
        cache.visible.fill_(False)
        return cache

    def step(self, token_ids: Tensor, positions: Tensor, cache: NodeCache) -> Tensor:
        """Return what ``PseudoSelfAttentionDecoder.step`` does, for the first slots of a cache of ``new_cache``."""
        if self.is_refused:
            return self._decoder.step(token_ids, positions, cache)
        num_used, num_beams = token_ids.shape
        num_slots = len(cache.visible)
        all_ids = token_ids.new_zeros(num_slots, num_beams)
        all_ids[:num_used] = token_ids
        all_positions = positions.new_zeros(num_slots)
        all_positions[:num_used] = positions
        inputs = self._decoder.make_step(all_ids, all_positions, cache)
        shape = next(each for each in self._shapes.values() if each.cache is cache)
        width = inputs.visible.shape[-1]
        recording = shape.recordings.get(width)
        if recording is None:
            try:
                recording = _Recording(inputs, *self._record(lambda: self._decoder.take_step(inputs, cache)))
            except RuntimeError as error:
                self._refuse(error)
                return self._decoder.take_step(inputs, cache)[:num_used]
            shape.recordings[width] = recording
        recording.inputs.copy_(inputs)
        recording.replay()
        return recording.logits[:num_used]

    def _refuse(self, error: RuntimeError) -> None:
        """Record nothing any more, and give back what recordings and their caches took."""
        logger.warning("a step cannot be recorded (%s); steps are computed one by one", type(error).__name__)
        self.is_refused = True
        self._shapes.clear()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
