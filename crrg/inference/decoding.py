"""Turns region features into phrases: every phrase of every film in one grid of slots.

A phrase that ends leaves its slot to the next one waiting, so no phrase waits for the slowest. Condition and begin
token are read once per phrase, not once per beam, and only the last position's logits are computed.

**Why a phrase does not depend on its neighbours.** Every step has the same shape (``num_slots`` x ``num_beams`` rows
over a multiple of 32 cached nodes), whatever is waiting; unused slots are padding. On one type of device and one number
of threads a row of a matrix product depends neither on its place nor on the other rows of a product of that shape, so
tokens and log-probabilities are the same alone or among a thousand (``tests/property/test_decoding_batch.py``).

Knows no films and no regions' names: see ``assembly`` for what becomes of the phrases.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crrg.config.running import DecodingSettings
from crrg.domain.labels import FINDINGS, POSITIVE
from crrg.evaluation.labeler import label_report
from crrg.inference.beam import BeamSearch, FoundPhrase, repeated_ngram_mask
from crrg.models.decoder import NodeCache, PseudoSelfAttentionDecoder
from crrg.models.report_generator import ReportGenerator

UNCERTAIN_FLAG = 0.5
"""Flag of a finding that the words leave open; at night flags are 1 or 0, so drafts are worded as definite."""


class TokenSpeller(Protocol):
    """What decoding needs of a tokenizer."""

    end_id: int
    placeholder_id: int

    def decode(self, ids: tuple[int, ...]) -> str:
        """Return the text of token ids."""


@dataclass(frozen=True)
class DecodedPhrase:
    """One drafted phrase.

    Attributes:
        text: Its words; empty if nothing was said.
        logprob: Mean log-probability per token (end token included), at most 0, under a length penalty of 1.
        is_finished: Whether it ended by itself; otherwise it was cut at the longest length.
    """

    text: str
    logprob: float
    is_finished: bool


@torch.inference_mode()
def decode_phrases(
    generator: ReportGenerator,
    tokenizer: TokenSpeller,
    features: NDArray[np.floating] | Tensor,
    region_index: NDArray[np.integer] | Tensor,
    finding_flags: NDArray[np.floating] | Tensor,
    settings: DecodingSettings,
) -> list[DecodedPhrase]:
    """Draft one phrase per row, rows of any number of films together.

    Of a phrase's finished hypotheses the one is taken that states the findings of its flags best, then the likeliest: a
    beam prefers short phrases, and would leave out the second of two findings.

    Args:
        generator: Trained generator in ``eval`` mode; decides the device.
        tokenizer: Spells its tokens.
        features: Region features ``[N, F]``.
        region_index: Which region, ``[N]``, 0..28.
        finding_flags: 14 findings and abnormality, ``[N, 15]`` in 0..1.
        settings: Beams, limits, slots.

    Returns:
        ``N`` phrases in the order of the rows; an empty list for no row.
    """
    hypotheses = decode_hypotheses(generator, tokenizer, features, region_index, finding_flags, settings)
    follows = settings.follow_flags and generator.architecture.condition_on_findings
    flags = torch.as_tensor(finding_flags).tolist()
    return [
        prefer_flagged(found, wanted) if follows else found[0] for found, wanted in zip(hypotheses, flags, strict=True)
    ]


@torch.inference_mode()
def decode_hypotheses(
    generator: ReportGenerator,
    tokenizer: TokenSpeller,
    features: NDArray[np.floating] | Tensor,
    region_index: NDArray[np.integer] | Tensor,
    finding_flags: NDArray[np.floating] | Tensor,
    settings: DecodingSettings,
) -> list[list[DecodedPhrase]]:
    """Draft the finished hypotheses of every row, among which a caller may choose.

    Args:
        generator: Trained generator in ``eval`` mode; decides the device.
        tokenizer: Spells its tokens.
        features: Region features ``[N, F]``.
        region_index: Which region, ``[N]``, 0..28.
        finding_flags: 14 findings and abnormality, ``[N, 15]`` in 0..1.
        settings: Beams, limits, slots.

    Returns:
        Per row one phrase per beam at most and one at least, the likeliest first; an empty list for no row.
    """
    device = generator.feature_mean.device
    grid = _SlotGrid(generator.decoder, tokenizer, settings)
    rows: list[list[DecodedPhrase]] = [[DecodedPhrase("", 0.0, True)] for _ in range(len(features))]
    conditions = _condition_tiles(
        generator,
        torch.as_tensor(features, dtype=torch.float32, device=device),
        torch.as_tensor(region_index, dtype=torch.long, device=device),
        torch.as_tensor(finding_flags, dtype=torch.float32, device=device),
        settings.num_slots,
    )
    for row, found in grid.run(conditions):
        rows[row] = [DecodedPhrase(tokenizer.decode(item.token_ids), item.logprob, item.is_finished) for item in found]
    return rows


def prefer_flagged(hypotheses: Sequence[DecodedPhrase], flags: Sequence[float]) -> DecodedPhrase:
    """Return the hypothesis whose words state the findings of its flags best; of equals the first, the likeliest.

    Args:
        hypotheses: Of one phrase, the likeliest first.
        flags: The 15 flags it was conditioned on, 0..1.
    """
    return min(hypotheses, key=lambda phrase: _num_disagreements(phrase, flags))


def _num_disagreements(phrase: DecodedPhrase, flags: Sequence[float]) -> int:
    """Return how many findings a phrase states without a flag or leaves out in spite of one, plus one if it was cut."""
    values = label_report(phrase.text)
    stated = [values[label] == POSITIVE for label in FINDINGS]
    wrong = sum(
        flag != UNCERTAIN_FLAG and is_stated != (flag > UNCERTAIN_FLAG)
        for is_stated, flag in zip(stated, flags, strict=False)
    )
    return wrong + (not phrase.is_finished)


def _condition_tiles(
    generator: ReportGenerator, features: Tensor, region_index: Tensor, finding_flags: Tensor, tile: int
) -> Iterator[tuple[Tensor, int]]:
    """Yield condition tokens of always ``tile`` rows, the last ones padded, and how many rows are real."""
    for first in range(0, len(features), tile):
        num_real = min(tile, len(features) - first)
        index = torch.arange(first, first + tile, device=features.device).clamp_max(first + num_real - 1)
        yield generator.encode_condition(features[index], region_index[index], finding_flags[index]), num_real


class _SlotGrid:
    """A fixed number of slots that phrases pass through."""

    def __init__(
        self, decoder: PseudoSelfAttentionDecoder, tokenizer: TokenSpeller, settings: DecodingSettings
    ) -> None:
        self.decoder = decoder
        self.end_id = tokenizer.end_id
        self.settings = settings
        self.max_length = min(settings.max_tokens, decoder.max_length)
        self.device = decoder.transformer.wte.weight.device
        self.search = BeamSearch(
            settings.num_slots,
            settings.num_beams,
            self.max_length,
            tokenizer.end_id,
            length_penalty=settings.length_penalty,
            device=self.device,
        )
        self.banned = torch.zeros(decoder.transformer.config.vocab_size, dtype=torch.bool, device=self.device)
        if tokenizer.placeholder_id >= 0:
            self.banned[tokenizer.placeholder_id] = True
        self.row_of_slot = [-1] * settings.num_slots

    def run(self, conditions: Iterator[tuple[Tensor, int]]) -> Iterator[tuple[int, list[FoundPhrase]]]:
        """Yield row and hypotheses of every phrase, as they end, the best hypothesis first."""
        waiting = _Waiting(self.decoder, conditions, self.end_id)
        cache: NodeCache | None = None
        logits = torch.zeros(len(self.row_of_slot), self.settings.num_beams, len(self.banned), device=self.device)
        while True:
            free = [slot for slot, row in enumerate(self.row_of_slot) if row < 0]
            while free and (tile := waiting.take(len(free))) is not None:
                slots = torch.tensor(free[: len(tile.rows)], device=self.device)
                free = free[len(tile.rows) :]
                if cache is None:
                    num_conditions = tile.cache.visible.shape[2] - 1
                    cache = self.decoder.new_cache(
                        len(self.row_of_slot), self.settings.num_beams, num_conditions, self.max_length
                    )
                cache.place(slots, tile.cache, tile.places)
                self.search.start(slots)
                logits[slots] = tile.logits[tile.places][:, None]
                for slot, row in zip(slots.tolist(), tile.rows, strict=True):
                    self.row_of_slot[slot] = row
            if cache is None or all(row < 0 for row in self.row_of_slot):
                return
            parents, tokens = self.search.advance(self._log_probabilities(logits))
            for slot in torch.nonzero(self.search.is_done).flatten().tolist():
                if self.row_of_slot[slot] >= 0:
                    yield self.row_of_slot[slot], self.search.found(slot)
                    self.row_of_slot[slot] = -1
            cache.follow(parents)
            self._rewind_idle(cache)
            logits = self.decoder.step(tokens, self.search.lengths - 1, cache)

    def _rewind_idle(self, cache: NodeCache) -> None:
        """Keep slots that are done from growing beyond their cache."""
        (idle,) = torch.nonzero(self.search.is_done, as_tuple=True)
        cache.num_nodes[idle] = 0
        self.search.lengths[idle] = 1

    def _log_probabilities(self, logits: Tensor) -> Tensor:
        """Return log-probabilities ``[N, K, V]``; what may not come next is at -inf."""
        logprobs = torch.log_softmax(logits.float(), dim=-1).masked_fill(self.banned, -torch.inf)
        # a phrase has at least one word
        is_first = self.search.lengths == 1
        logprobs[:, :, self.end_id] = logprobs[:, :, self.end_id].masked_fill(is_first[:, None], -torch.inf)
        if self.settings.no_repeat_ngram > 1:
            mask = repeated_ngram_mask(
                self.search.tokens, self.search.lengths, self.settings.no_repeat_ngram, logprobs.shape[-1]
            )
            logprobs = logprobs.masked_fill(mask, -torch.inf)
        return logprobs


@dataclass
class _Tile:
    rows: list[int]
    places: Tensor
    logits: Tensor
    cache: NodeCache


class _Waiting:
    """Phrases that were read (condition and begin token) and wait for a slot; one tile is read ahead at most."""

    def __init__(
        self, decoder: PseudoSelfAttentionDecoder, conditions: Iterator[tuple[Tensor, int]], end_id: int
    ) -> None:
        self.decoder = decoder
        self.conditions = conditions
        self.end_id = end_id
        self.num_read = 0
        self.queue: deque[int] = deque()
        self.first_row = 0
        self.logits: Tensor | None = None
        self.cache: NodeCache | None = None

    def take(self, most: int) -> _Tile | None:
        """Return up to ``most`` phrases for free slots, or ``None`` where none is left."""
        if not self.queue:
            condition, num_real = next(self.conditions, (None, 0))
            if condition is None:
                return None
            self.logits, self.cache = self.decoder.prefill(condition, self.end_id)
            self.first_row = self.num_read
            self.num_read += num_real
            self.queue.extend(range(self.first_row, self.num_read))
        if self.logits is None or self.cache is None:
            raise AssertionError("unreachable: the queue is filled together with logits and cache")
        rows = [self.queue.popleft() for _ in range(min(most, len(self.queue)))]
        places = torch.tensor([row - self.first_row for row in rows], device=self.logits.device)
        return _Tile(rows, places, self.logits, self.cache)
