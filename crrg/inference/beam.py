"""Beam search over slots, as tensors: which hypotheses live, which are finished, which beam continues which.

Knows log-probabilities only: neither the model that makes them nor the words behind the tokens (see ``decoding``). A
slot holds one phrase; slots are independent of each other and may be at different lengths, so that a finished phrase
can be replaced while the others go on. One beam is greedy search.

Letters: ``N`` slots, ``K`` beams, ``L`` longest phrase, ``V`` vocabulary.

Source: scoring and stopping as in transformers' ``BeamSearchScorer`` 4.19 with early stopping, which RGRG uses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from crrg.device import numbers_on

IMPOSSIBLE = -1e9
"""Score of a beam that does not exist yet (the first step has one beam only)."""
NO_TOKEN = -1
GROUP_SIZE = 64
"""Neighbouring tokens whose maximum is taken first."""


@dataclass(frozen=True)
class FoundPhrase:
    """A hypothesis that was kept.

    Attributes:
        token_ids: Words, without begin and end.
        score: What it is ranked by: the sum of the log-probabilities over the length to the power of the penalty.
        logprob: Mean log-probability per token: the sum over the length (begin counted, end not), whatever the penalty.
        is_finished: Whether it was ended by an end token, not by the length limit.
    """

    token_ids: tuple[int, ...]
    score: float
    logprob: float
    is_finished: bool


class BeamSearch:
    """State of a grid of slots.

    Attributes:
        tokens: Living hypotheses, begin token first, int64 ``[N, K, L]``, -1 beyond their length.
        lengths: Tokens of the living hypotheses, int64 ``[N]``.
        scores: Their summed log-probabilities ``[N, K]``.
        is_done: Whether a slot's search is over, bool ``[N]``; true for empty slots.
        num_tokens: ``lengths`` as far as they are known without asking the device: of a slot that is done it is more.
    """

    def __init__(
        self,
        num_slots: int,
        num_beams: int,
        max_length: int,
        end_id: int,
        *,
        length_penalty: float = 1.0,
        device: torch.device | str = "cpu",
    ) -> None:
        """Build empty slots.

        Args:
            num_slots: Phrases searched at once.
            num_beams: Hypotheses per phrase.
            max_length: Longest hypothesis, begin token included.
            end_id: Token that begins and ends a phrase.
            length_penalty: Power of the length that divides a finished hypothesis' score.
            device: Where the log-probabilities are going to be.
        """
        shape = (num_slots, num_beams, max_length)
        self.num_beams, self.max_length = num_beams, max_length
        self.end_id, self.length_penalty = end_id, length_penalty
        self.tokens = torch.full(shape, NO_TOKEN, dtype=torch.long, device=device)
        self.lengths = torch.ones(num_slots, dtype=torch.long, device=device)
        self.num_tokens = [1] * num_slots
        self.scores = torch.zeros(shape[:2], device=device)
        self.is_done = torch.ones(num_slots, dtype=torch.bool, device=device)
        self._found_tokens = self.tokens.clone()
        self._found_lengths = torch.zeros(shape[:2], dtype=torch.long, device=device)
        self._found_scores = torch.full(shape[:2], -torch.inf, device=device)
        self._found_ended = torch.zeros(shape[:2], dtype=torch.bool, device=device)

    def start(self, slots: range) -> None:
        """Begin new phrases in neighbouring ``slots``."""
        begun = slice(slots.start, slots.stop)
        self.tokens[begun] = NO_TOKEN
        self.tokens[begun, :, 0] = self.end_id
        self.lengths[begun] = 1
        self.num_tokens[begun] = [1] * len(slots)
        self.scores[begun] = IMPOSSIBLE
        self.scores[begun, 0] = 0.0
        self.is_done[begun] = False
        self._found_lengths[begun] = 0
        self._found_scores[begun] = -torch.inf
        self._found_ended[begun] = False

    def choose(self, candidate_scores: Tensor, parents: Tensor, next_tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Choose the next token of every beam of the first slots; the slots behind them must be done.

        Args:
            candidate_scores: Summed log-probabilities of the best continuations (``best_continuations``), best first,
                ``[n, M]`` with ``M`` = 2 ``K``, or all where there are fewer.
            parents: Beam that each continues, int64 ``[n, M]``.
            next_tokens: Token that each adds, int64 ``[n, M]``.

        Returns:
            For each new beam the beam it continues, int64 ``[n, K]``, and its new token, int64 ``[n, K]``. Slots that
            are done keep their beams and get end tokens.
        """
        num_given, num_beams = len(candidate_scores), self.num_beams
        # no slot is asked whether anything is to be done in it: on a GPU all would wait for the answer
        given, longest = slice(num_given), self.longest(num_given)
        living = ~self.is_done[given, None]
        is_end = next_tokens == self.end_id
        ends, scores = is_end[:, :num_beams], candidate_scores[:, :num_beams]
        self._keep(ends & living & (scores > IMPOSSIBLE / 2), parents[:, :num_beams], scores, longest, is_ended=True)
        # the best K candidates that go on, in order of score
        order = is_end.to(torch.int8).argsort(dim=1, stable=True)[:, :num_beams]
        beams = torch.arange(num_beams, device=order.device)
        parents = torch.where(living, parents.gather(1, order), beams)
        next_tokens = next_tokens.gather(1, order).masked_fill(~living, self.end_id)
        self._extend(parents, next_tokens, longest)
        self.scores[given] = torch.where(living, candidate_scores.gather(1, order), self.scores[given])
        is_full = torch.isfinite(self._found_scores[given]).all(dim=1)
        if longest + 1 >= self.max_length:
            scores, is_long = self.scores[given], self.lengths[given] >= self.max_length
            is_at_limit = ~self.is_done[given] & ~is_full & is_long
            is_new = is_at_limit[:, None] & (scores > IMPOSSIBLE / 2)
            self._keep(is_new, beams.expand(num_given, -1), scores, self.max_length, is_ended=False)
            is_full |= is_at_limit
        self.is_done[given] |= is_full
        return parents, next_tokens

    def longest(self, num_slots: int) -> int:
        """Return a length that no living hypothesis of the first slots exceeds."""
        return min(max(self.num_tokens[:num_slots]), self.max_length)

    def move(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Move the phrases of slots into others, replacing what was there; the slots they leave are done."""
        taken, into = (numbers_on(self.is_done.device, each) for each in (sources, targets))
        for state in (
            self.tokens, self.lengths, self.scores, self.is_done,
            self._found_tokens, self._found_lengths, self._found_scores, self._found_ended,
        ):  # fmt: skip
            state[into] = state[taken]
        self.is_done[taken] = True
        for source, target in zip(sources, targets, strict=True):
            self.num_tokens[target] = self.num_tokens[source]

    def found(self, slots: Sequence[int]) -> list[list[FoundPhrase]]:
        """Return the kept hypotheses of slots that are done, the best first; none where scores were no numbers."""
        done, longest = numbers_on(self.is_done.device, slots), max(self.num_tokens[slot] for slot in slots)
        # in two transfers: scores, and whatever is whole numbers
        scores = self._found_scores[done].cpu()
        numbers = (self._found_lengths[..., None], self._found_ended[..., None].long(), self._found_tokens)
        kept = torch.cat([each[done, :, :longest] for each in numbers], dim=2).tolist()
        orders = scores.argsort(dim=1, descending=True, stable=True).tolist()
        return [self._ranked(*found) for found in zip(orders, scores.tolist(), kept, strict=True)]

    def _ranked(self, order: list[int], scores: list[float], kept: list[list[int]]) -> list[FoundPhrase]:
        """Return the hypotheses of one slot in an order; of each are given length, whether it ended, and tokens."""
        phrases = []
        for score, (length, is_ended, *tokens) in ((scores[rank], kept[rank]) for rank in order):
            if score > -math.inf:
                logprob = score * length ** (self.length_penalty - 1)
                phrases.append(FoundPhrase(tuple(tokens[1:length]), score, logprob, is_finished=bool(is_ended)))
        return phrases

    def _keep(self, is_new: Tensor, beams: Tensor, sums: Tensor, longest: int, *, is_ended: bool) -> None:
        """Let new hypotheses, one after the other, take the place of the slot's worst kept one where they are better.

        Args:
            is_new: Which there are, bool ``[n, K]``.
            beams: Beam that each is, int64 ``[n, K]``.
            sums: Its summed log-probabilities ``[n, K]``.
            longest: Tokens that none exceeds.
            is_ended: Whether they ended by themselves.
        """
        given, places = slice(len(is_new)), torch.arange(self.num_beams, device=is_new.device)
        lengths = self.lengths[given, None]
        # of all slots: on a CPU the last digit of a power depends on its place in the tensor and on the tensor's size
        divisors = (self.lengths.to(sums.dtype) ** self.length_penalty)[given, None]
        scores = (sums / divisors).masked_fill(~is_new, -torch.inf)
        kept, taker = self._found_scores[given], torch.full_like(beams, -1)
        for rank in range(self.num_beams):
            worst_scores, worst = kept.min(dim=1, keepdim=True)
            score = scores[:, rank, None]
            is_taken = (places == worst) & (score > worst_scores)
            kept = torch.where(is_taken, score, kept)
            taker.masked_fill_(is_taken, rank)
        is_taken = taker >= 0
        tokens = self.tokens[given, :, :longest]
        taken = beams.gather(1, taker.clamp_min(0))[:, :, None].expand_as(tokens)
        found = self._found_tokens[given, :, :longest]
        found.copy_(torch.where(is_taken[:, :, None], tokens.gather(1, taken), found))
        self._found_lengths[given] = torch.where(is_taken, lengths, self._found_lengths[given])
        self._found_scores[given] = kept
        self._found_ended[given] = self._found_ended[given].masked_fill(is_taken, is_ended)

    def _extend(self, parents: Tensor, next_tokens: Tensor, longest: int) -> None:
        """Add a token to each beam of the first slots; those that are done grow no longer."""
        num_given = len(parents)
        tokens, lengths = self.tokens[:num_given, :, :longest], self.lengths[:num_given]
        tokens.copy_(tokens.gather(1, parents[:, :, None].expand_as(tokens)))
        places = lengths.clamp(max=self.max_length - 1)[:, None, None].expand(-1, self.num_beams, 1)
        self.tokens[:num_given].scatter_(2, places, next_tokens[:, :, None])
        lengths += ~self.is_done[:num_given]
        self.num_tokens[:num_given] = [number + 1 for number in self.num_tokens[:num_given]]


def best_continuations(
    logits: Tensor, scores: Tensor, banned: Sequence[tuple[Tensor | slice | int, ...]] = ()
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the best 2 ``K`` continuations of each slot, without sorting or normalising the whole vocabulary.

    A beam's best tokens lie in the groups of neighbouring tokens with the highest maxima, so only those are looked at.

    Args:
        logits: Of the next token, ``[n, K, V]``, of any scale; overwritten where banned.
        scores: Summed log-probabilities of the living hypotheses ``[n, K]``.
        banned: Places ``(slot, beam, token)`` that may not come next; they still count in the normalisation.

    Returns:
        Summed log-probabilities ``[n, M]``, best first, the beams they continue and the tokens they add, int64.
    """
    num_beams, vocab_size = logits.shape[1:]
    normaliser = logits.logsumexp(dim=-1)
    for places in banned:
        logits[places] = -torch.inf
    per_beam = min(2 * num_beams, vocab_size)
    values, tokens = _largest(logits, per_beam)
    totals = (scores[..., None] + (values - normaliser[..., None])).flatten(1)
    best, chosen = totals.topk(min(2 * num_beams, totals.shape[1]), dim=1)
    return best, chosen // per_beam, tokens.flatten(1).gather(1, chosen)


def _largest(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the ``count`` largest of ``[n, K, V]`` and where they are, ``[n, K, count]``, largest first."""
    vocab_size = logits.shape[-1]
    num_groups = vocab_size // GROUP_SIZE
    if num_groups <= count:
        return logits.topk(count, dim=-1)
    grouped = num_groups * GROUP_SIZE
    groups = logits[..., :grouped].unflatten(-1, (num_groups, GROUP_SIZE)).amax(dim=-1).topk(count, dim=-1).indices
    places = (groups[..., None] * GROUP_SIZE + torch.arange(GROUP_SIZE, device=logits.device)).flatten(2)
    rest = torch.arange(grouped, vocab_size, device=logits.device).expand(*places.shape[:2], -1)
    places = torch.cat([places, rest], dim=-1)
    values, chosen = logits.gather(-1, places).topk(count, dim=-1)
    return values, places.gather(-1, chosen)


def repeated_ngrams(tokens: Tensor, lengths: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return which next tokens would make a run of ``size`` tokens come twice.

    Args:
        tokens: Hypotheses ``[N, K, L]``, -1 beyond their length.
        lengths: Tokens per slot ``[N]``.
        size: Length of the run, at least 1; the begin token is part of none.

    Returns:
        Slots, beams and tokens of the repeats, int64 ``[r]`` each; empty where there is none.
    """
    _, num_beams, max_length = tokens.shape
    if max_length <= size:
        nothing = lengths[:0]
        return nothing, nothing, nothing
    windows = tokens[:, :, 1:].unfold(2, size, 1)
    ends = (lengths[:, None] - size + 1 + torch.arange(size - 1, device=tokens.device)).clamp_min(0)
    suffix = tokens.gather(2, ends[:, None].expand(-1, num_beams, -1))
    # a hypothesis shorter than size - 1 has no suffix of that length yet
    is_long_enough = (lengths >= size)[:, None, None]
    matches = (windows[..., :-1] == suffix[:, :, None]).all(dim=-1) & (windows[..., -1] != NO_TOKEN) & is_long_enough
    slots, beams, places = torch.nonzero(matches, as_tuple=True)
    return slots, beams, windows[slots, beams, places, -1]
