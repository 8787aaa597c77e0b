"""Turns region features into phrases: every phrase of every film in one grid of slots.

A phrase that ends leaves its slot to the next one waiting, so no phrase waits for the slowest. Condition and begin
token are read once per phrase, not once per beam, and only the last position's logits are computed.

The slots in use are always the first ones: only they are computed, so neither a phrase that has ended nor an empty slot
costs anything, unless steps are recorded (``crrg.models.step_graphs``). With ``precision="fast"`` weights are rounded
(``crrg.models.rounded``), which may change phrases.

**Why a phrase does not depend on its neighbours.** A row of a matrix product depends neither on the other rows nor, on
one type of device and one number of threads, on how many there are (from eight rows on; fewer are padded), attention
runs over a multiple of 32 cached nodes, of which those that no beam needs any more are dropped when the phrase itself
fills such a multiple, and rounding has a scale per row. So tokens are the same and log-probabilities
within 1e-5 alone or among a thousand (``tests/property/test_decoding_batch.py``).

Knows no films and no regions' names: see ``assembly`` for what becomes of the phrases.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crrg.config.running import DecodingSettings
from crrg.data.tokenizer import without_token_spaces
from crrg.device import numbers_on
from crrg.domain.labels import FINDINGS, POSITIVE
from crrg.evaluation.labeler import label_report
from crrg.inference.beam import BeamSearch, FoundPhrase, best_continuations, repeated_ngrams
from crrg.inference.slots import slots_at_once
from crrg.models.decoder import NodeCache, PseudoSelfAttentionDecoder
from crrg.models.report_generator import ReportGenerator
from crrg.models.step_graphs import StepGraphs

LEAST_ROWS = 8
"""Products of fewer rows are computed another way; unused slots fill them up."""
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
        logprob: Mean log-probability per token (end token included), at most 0.
        is_finished: Whether it ended by itself; otherwise it was cut at the longest length.
        score: What the search ranked it by, at most 0; other than ``logprob`` where there is a length penalty.
    """

    text: str
    logprob: float
    is_finished: bool
    score: float = 0.0


@torch.inference_mode()
def decode_phrases(
    generator: ReportGenerator,
    tokenizer: TokenSpeller,
    features: NDArray[np.floating] | Tensor,
    region_index: NDArray[np.integer] | Tensor,
    finding_flags: NDArray[np.floating] | Tensor,
    settings: DecodingSettings,
    *,
    report_flags: NDArray[np.floating] | None = None,
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
        report_flags: As for ``decode_hypotheses``.

    Returns:
        ``N`` phrases in the order of the rows; an empty list for no row.
    """
    hypotheses = decode_hypotheses(
        generator, tokenizer, features, region_index, finding_flags, settings, report_flags=report_flags
    )
    return choose_phrases(generator, hypotheses, finding_flags, settings)


def choose_phrases(
    generator: ReportGenerator,
    hypotheses: Sequence[Sequence[DecodedPhrase]],
    finding_flags: NDArray[np.floating] | Tensor,
    settings: DecodingSettings,
) -> list[DecodedPhrase]:
    """Return each phrase's hypothesis that states its flags best, or the likeliest where the settings say so.

    Args:
        generator: Where it is not conditioned on flags, the likeliest are taken.
        hypotheses: Per phrase at least one, the likeliest first.
        finding_flags: ``[N, 15]`` that the phrases were conditioned on.
        settings: As they were searched.
    """
    if not (settings.follow_flags and generator.architecture.condition_on_findings):
        return [found[0] for found in hypotheses]
    flags = torch.as_tensor(finding_flags).tolist()
    return [prefer_flagged(found, wanted) for found, wanted in zip(hypotheses, flags, strict=True)]


@torch.inference_mode()
def decode_hypotheses(
    generator: ReportGenerator,
    tokenizer: TokenSpeller,
    features: NDArray[np.floating] | Tensor,
    region_index: NDArray[np.integer] | Tensor,
    finding_flags: NDArray[np.floating] | Tensor,
    settings: DecodingSettings,
    *,
    report_flags: NDArray[np.floating] | None = None,
    num_words: Sequence[int] | None = None,
) -> list[list[DecodedPhrase]]:
    """Draft the finished hypotheses of every row, among which a caller may choose.

    Args:
        generator: Trained generator in ``eval`` mode; decides the device.
        tokenizer: Spells its tokens.
        features: Region features ``[N, F]``.
        region_index: Which region, ``[N]``, 0..28.
        finding_flags: 14 findings and abnormality, ``[N, 15]`` in 0..1.
        settings: Beams, limits, slots.
        report_flags: What each row's report says (``crrg.inference.regions.told_flags``), ``[N, 29, 15]``; nothing is
            known of it where not given. Used where the generator is conditioned on it.
        num_words: Tokens that each row's phrase is made to have, end not counted; as many as it wants where not given.

    Returns:
        Per row one phrase per beam at most and one at least, the best score first; an empty list for no row. Of a row
        whose features or scores are no numbers one without words, not finished; the other rows are as without it.
    """
    device = generator.feature_mean.device
    read = (
        torch.as_tensor(features, dtype=torch.float32, device=device),
        torch.as_tensor(region_index, dtype=torch.long, device=device),
        torch.as_tensor(finding_flags, dtype=torch.float32, device=device),
        None if report_flags is None else torch.as_tensor(report_flags, dtype=torch.float32, device=device),
    )
    recorded = generator.step_graphs_for(settings.precision)
    rows: list[list[DecodedPhrase]] = [[DecodedPhrase("", 0.0, True)] for _ in range(len(features))]
    unsaid = [DecodedPhrase("", 0.0, False)]

    def spell(ids: tuple[int, ...]) -> str:
        text = tokenizer.decode(ids)
        return without_token_spaces(text) if settings.compat == "rgrg" else text

    turn: AbstractContextManager[StepGraphs | None] = nullcontext() if recorded is None else recorded.turn()
    with turn as graphs:
        decoder = generator.decoder_for(settings.precision) if graphs is None else graphs.decoder
        num_slots = slots_at_once(decoder, len(features), settings, graphs)
        is_refilled = len(features) > num_slots
        grid = _SlotGrid(decoder, graphs, tokenizer, settings, num_slots, num_words, is_refilled=is_refilled)
        for row, found in grid.run(_condition_tiles(generator, *read, max(num_slots, LEAST_ROWS))):
            rows[row] = [
                DecodedPhrase(spell(item.token_ids), item.logprob, item.is_finished, item.score) for item in found
            ] or unsaid
    return rows


def prefer_flagged(hypotheses: Sequence[DecodedPhrase], flags: Sequence[float]) -> DecodedPhrase:
    """Return the hypothesis whose words state the findings of its flags best; of equals the first, the likeliest.

    Args:
        hypotheses: Of one phrase, the likeliest first.
        flags: The 15 flags it was conditioned on, 0..1.
    """
    return min(hypotheses, key=lambda phrase: num_disagreements(phrase, flags))


def num_disagreements(phrase: DecodedPhrase, flags: Sequence[float]) -> int:
    """Return how many findings a phrase states without a flag or leaves out in spite of one, plus one if it was cut."""
    values = label_report(phrase.text)
    stated = [values[label] == POSITIVE for label in FINDINGS]
    wrong = sum(
        flag != UNCERTAIN_FLAG and is_stated != (flag > UNCERTAIN_FLAG)
        for is_stated, flag in zip(stated, flags, strict=False)
    )
    return wrong + (not phrase.is_finished)


def _condition_tiles(
    generator: ReportGenerator,
    features: Tensor,
    region_index: Tensor,
    finding_flags: Tensor,
    report_flags: Tensor | None,
    tile: int,
) -> Iterator[tuple[Tensor, int]]:
    """Yield condition tokens of always ``tile`` rows, the last ones padded, and how many rows are real."""
    for first in range(0, len(features), tile):
        num_real = min(tile, len(features) - first)
        index = torch.arange(first, first + tile, device=features.device).clamp_max(first + num_real - 1)
        told = None if report_flags is None else report_flags[index]
        condition = generator.encode_condition(
            features[index], region_index[index], finding_flags[index], report_flags=told
        )
        yield condition, num_real


class _SlotGrid:
    """Slots that phrases pass through; those in use come first."""

    def __init__(
        self,
        decoder: PseudoSelfAttentionDecoder,
        graphs: StepGraphs | None,
        tokenizer: TokenSpeller,
        settings: DecodingSettings,
        num_slots: int,
        num_words: Sequence[int] | None,
        *,
        is_refilled: bool,
    ) -> None:
        self.decoder, self.graphs = decoder, graphs
        self.is_refilled = is_refilled
        self.end_id = tokenizer.end_id
        self.settings = settings
        self.max_length = min(settings.max_tokens, decoder.max_length)
        self.device = decoder.transformer.wte.weight.device
        self.least_slots = -(-LEAST_ROWS // settings.num_beams)
        self.num_slots = max(num_slots, self.least_slots)
        self.search = BeamSearch(
            self.num_slots,
            settings.num_beams,
            self.max_length,
            tokenizer.end_id,
            length_penalty=settings.length_penalty,
            device=self.device,
        )
        self.banned_id = tokenizer.placeholder_id if settings.compat == "none" else -1
        self.num_words = num_words
        self.rows: list[int] = []

    def run(self, conditions: Iterator[tuple[Tensor, int]]) -> Iterator[tuple[int, list[FoundPhrase]]]:
        """Yield row and hypotheses of every phrase, as they end, the best hypothesis first."""
        waiting = _Waiting(self.decoder, conditions, self.end_id)
        tile = waiting.take(self.num_slots)
        if tile is None:
            return
        num_conditions = tile.cache.visible.shape[2] - 1
        shape = (self.num_slots, self.settings.num_beams, num_conditions, self.max_length)
        cache = self._new_cache(*shape)
        vocab_size = tile.logits.shape[-1]
        logits = torch.zeros(self.num_slots, self.settings.num_beams, vocab_size, device=self.device)
        while True:
            num_going = len(self.rows)
            while tile is not None:
                self._place(tile, cache, logits)
                tile = waiting.take(self.num_slots - len(self.rows))
            if not self.rows:
                return
            # the slots used to fill up hold phrases that are done, so whatever is chosen there is not kept
            num_used = max(len(self.rows), self.least_slots)
            parents, tokens = self._choose(logits[:num_used], num_going)
            cache.follow(parents)
            yield from self._leave(cache, tokens)
            num_used = max(len(self.rows), self.least_slots)
            cache.clear(len(self.rows))
            if self.rows:
                positions = (self.search.lengths[:num_used] - 1).clamp(max=self.max_length - 1)
                steps = self.graphs or self.decoder
                logits[:num_used] = steps.step(tokens[:num_used], positions, cache)
            tile = waiting.take(self.num_slots - len(self.rows))

    def _new_cache(self, *shape: int) -> NodeCache:
        if self.graphs is not None:
            try:
                return self.graphs.new_cache(*shape)
            except torch.OutOfMemoryError:
                # a cache that grows as phrases do may still fit
                self.graphs = None
        return self.decoder.new_cache(*shape, is_refilled=self.is_refilled)

    def _place(self, tile: _Tile, cache: NodeCache, logits: Tensor) -> None:
        """Put phrases that were read into the slots behind those in use."""
        slots, places = range(len(self.rows), len(self.rows) + len(tile.rows)), tile.places
        cache.place(slots, tile.cache, places)
        self.search.start(slots)
        logits[slots.start : slots.stop] = tile.logits[places.start : places.stop, None].float()
        self.rows += tile.rows

    def _leave(self, cache: NodeCache, tokens: Tensor) -> Iterator[tuple[int, list[FoundPhrase]]]:
        """Yield the phrases that are done; the last ones in use take their slots, their last ``tokens`` with them."""
        is_done = self.search.is_done[: len(self.rows)].tolist()
        done = [slot for slot in range(len(self.rows)) if is_done[slot]]
        if not done:
            return
        yield from zip([self.rows[slot] for slot in done], self.search.found(done), strict=True)
        staying = list(range(len(self.rows)))
        for slot in reversed(done):
            staying[slot] = staying[-1]
            staying.pop()
        self.rows = [self.rows[slot] for slot in staying]
        targets = [target for target, source in enumerate(staying) if target != source]
        if targets:
            sources = [staying[target] for target in targets]
            cache.move(sources, targets)
            self.search.move(sources, targets)
            tokens[numbers_on(self.device, targets)] = tokens[numbers_on(self.device, sources)]

    def _choose(self, logits: Tensor, num_going: int) -> tuple[Tensor, Tensor]:
        """Choose the next token of every beam among those that may come next; ``num_going`` phrases have words yet."""
        search, longest = self.search, self.search.longest(len(logits))
        banned: list[tuple[Tensor | slice | int, ...]] = []
        if self.banned_id >= 0:
            banned.append((slice(None), slice(None), self.banned_id))
        if self.settings.compat == "none":
            # a phrase has at least one word
            banned.append((slice(num_going, None), slice(None), self.end_id))
        if 0 < self.settings.no_repeat_ngram < longest:
            tokens, lengths = search.tokens[: len(logits), :, :longest], search.lengths[: len(logits)]
            banned.append(repeated_ngrams(tokens, lengths, self.settings.no_repeat_ngram))
        if self.num_words is not None:
            num_left = [self.num_words[row] - search.num_tokens[slot] + 1 for slot, row in enumerate(self.rows)]
            going, ending = (
                [i for i, left in enumerate(num_left) if (left > 0) == is_more] for is_more in (True, False)
            )
            words = torch.arange(logits.shape[-1] - 1, device=self.device)
            words += words >= self.end_id
            banned.append((numbers_on(self.device, going), slice(None), self.end_id))
            banned.append((numbers_on(self.device, ending)[:, None], slice(None), words))
        return search.choose(*best_continuations(logits, search.scores[: len(logits)], banned))


@dataclass
class _Tile:
    rows: range
    places: range
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
        self.num_read = self.first_row = 0
        self.left = range(0)
        self.logits: Tensor | None = None
        self.cache: NodeCache | None = None

    def take(self, most: int) -> _Tile | None:
        """Return up to ``most`` phrases for free slots, or ``None`` where none is left."""
        if most == 0:
            return None
        if not self.left:
            condition, num_real = next(self.conditions, (None, 0))
            if condition is None:
                return None
            condition = condition.to(self.decoder.transformer.wte.weight.dtype)
            self.logits, self.cache = self.decoder.prefill(condition, self.end_id)
            self.first_row = self.num_read
            self.num_read += num_real
            self.left = range(self.first_row, self.num_read)
        if self.logits is None or self.cache is None:
            raise AssertionError("unreachable: rows are left together with logits and cache")
        rows, self.left = self.left[:most], self.left[most:]
        places = range(rows.start - self.first_row, rows.stop - self.first_row)
        return _Tile(rows, places, self.logits, self.cache)
