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
from torch.nn.functional import pad

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
        self.scores = torch.zeros(shape[:2], device=device)
        self.is_done = torch.ones(num_slots, dtype=torch.bool, device=device)
        self._found_tokens = self.tokens.clone()
        self._found_lengths = torch.zeros(shape[:2], dtype=torch.long, device=device)
        self._found_scores = torch.full(shape[:2], -torch.inf, device=device)
        self._found_ended = torch.zeros(shape[:2], dtype=torch.bool, device=device)

    def start(self, slots: Tensor) -> None:
        """Begin new phrases in ``slots`` (int64 ``[n]``)."""
        self.tokens[slots] = NO_TOKEN
        self.tokens[slots, :, 0] = self.end_id
        self.lengths[slots] = 1
        self.scores[slots] = IMPOSSIBLE
        self.scores[slots, 0] = 0.0
        self.is_done[slots] = False
        self._found_lengths[slots] = 0
        self._found_scores[slots] = -torch.inf
        self._found_ended[slots] = False

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
        behind = (0, 0, 0, len(self.is_done) - num_given)
        candidate_scores, parents, next_tokens = (pad(t, behind) for t in (candidate_scores, parents, next_tokens))
        is_end = next_tokens == self.end_id
        for rank in range(num_beams):
            is_new = is_end[:, rank] & ~self.is_done & (candidate_scores[:, rank] > IMPOSSIBLE / 2)
            self._keep(is_new, parents[:, rank], candidate_scores[:, rank], is_ended=True)
        # the best K candidates that go on, in order of score
        order = is_end.to(torch.int8).argsort(dim=1, stable=True)[:, :num_beams]
        living = ~self.is_done[:, None]
        parents = torch.where(living, parents.gather(1, order), torch.arange(num_beams, device=order.device))
        next_tokens = next_tokens.gather(1, order).masked_fill(~living, self.end_id)
        self._extend(parents, next_tokens, torch.where(living, candidate_scores.gather(1, order), self.scores))
        is_full = torch.isfinite(self._found_scores).all(dim=1)
        is_at_limit = ~self.is_done & ~is_full & (self.lengths >= self.max_length)
        for beam in range(num_beams):
            index = torch.full_like(self.lengths, beam)
            self._keep(
                is_at_limit & (self.scores[:, beam] > IMPOSSIBLE / 2), index, self.scores[:, beam], is_ended=False
            )
        self.is_done |= is_full | is_at_limit
        return parents[:num_given], next_tokens[:num_given]

    def move(self, source: int, target: int) -> None:
        """Move the phrase of one slot into another, replacing what was there; the slot it leaves is done."""
        for state in (
            self.tokens, self.lengths, self.scores, self.is_done,
            self._found_tokens, self._found_lengths, self._found_scores, self._found_ended,
        ):  # fmt: skip
            state[target] = state[source]
        self.is_done[source] = True

    def found(self, slot: int) -> list[FoundPhrase]:
        """Return the kept hypotheses of a slot that is done, the best first; none where its scores were no numbers."""
        order = self._found_scores[slot].argsort(descending=True, stable=True).tolist()
        lengths, scores = self._found_lengths[slot].tolist(), self._found_scores[slot].tolist()
        tokens, ended = self._found_tokens[slot].tolist(), self._found_ended[slot].tolist()
        to_mean = self.length_penalty - 1
        return [
            FoundPhrase(
                tuple(tokens[rank][1 : lengths[rank]]),
                score=scores[rank],
                logprob=scores[rank] * lengths[rank] ** to_mean,
                is_finished=ended[rank],
            )
            for rank in order
            if scores[rank] > -math.inf
        ]

    def _keep(self, is_new: Tensor, beams: Tensor, sums: Tensor, *, is_ended: bool) -> None:
        """Let a hypothesis take the place of the slot's worst kept one where it is better."""
        scores = sums / self.lengths.to(sums.dtype) ** self.length_penalty
        worst_scores, worst = self._found_scores.min(dim=1)
        (slots,) = torch.nonzero(is_new & (scores > worst_scores), as_tuple=True)
        places = worst[slots]
        self._found_tokens[slots, places] = self.tokens[slots, beams[slots]]
        self._found_lengths[slots, places] = self.lengths[slots]
        self._found_scores[slots, places] = scores[slots]
        self._found_ended[slots, places] = is_ended

    def _extend(self, parents: Tensor, next_tokens: Tensor, scores: Tensor) -> None:
        (living,) = torch.nonzero(~self.is_done, as_tuple=True)
        slots = torch.arange(len(parents), device=parents.device)[:, None]
        self.tokens = self.tokens[slots, parents]
        self.tokens[living, :, self.lengths[living]] = next_tokens[living]
        self.lengths[living] += 1
        self.scores = scores


def best_continuations(
    logits: Tensor, scores: Tensor, banned: Sequence[tuple[Tensor | slice, ...]] = ()
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
