"""The published procedure around the networks, written down straight: its beam search and its de-duplication.

Beams are kept in Python objects, the cache is concatenated and re-indexed every step, sentences that have ended compute
until the longest of the batch ends, and each pair of sentences is encoded in a call of its own. What is measured beside
it must say the same.

Source: RGRG (Tanida et al., CVPR 2023) and its libraries, by what they do; no line of their code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from benchmarks.generation.encoder import PublishedEncoder
from benchmarks.generation.published import LanguageModel

Cache = list[tuple[Tensor, Tensor]]
MASKED = -1e4


@dataclass
class Hypotheses:
    """The finished hypotheses of one sentence, at most as many as beams."""

    num_beams: int
    kept: list[tuple[float, list[int]]] = field(default_factory=list)
    worst: float = 1e9

    def add(self, ids: list[int], total: float) -> None:
        """Keep a hypothesis where it is better than the worst kept one."""
        score = total / len(ids)
        if len(self.kept) < self.num_beams or score > self.worst:
            self.kept.append((score, ids))
            if len(self.kept) > self.num_beams:
                self.kept.remove(min(self.kept, key=lambda item: item[0]))
                self.worst = min(item[0] for item in self.kept)
            else:
                self.worst = min(score, self.worst)

    @property
    def is_done(self) -> bool:
        """Whether there are enough of them, at which the search stops early."""
        return len(self.kept) >= self.num_beams


@torch.no_grad()
def beam_search(
    model: LanguageModel,
    features: Tensor,
    end_id: int,
    *,
    num_beams: int = 4,
    max_length: int = 300,
    num_words: Sequence[int] | None = None,
) -> list[list[tuple[float, list[int]]]]:
    """Return per sentence its hypotheses, best first: score and words.

    Args:
        model: The published language model.
        features: Region features ``[N, F]``.
        end_id: Token that begins and ends a sentence.
        num_beams: Hypotheses per sentence.
        max_length: Longest hypothesis, begin token included.
        num_words: Words that each sentence is made to have; as many as it wants where not given.
    """
    found = [Hypotheses(num_beams) for _ in range(len(features))]
    features = features.repeat_interleave(num_beams, dim=0)
    ids = torch.full((len(features), 1), end_id, device=features.device)
    scores = torch.full((len(found), num_beams), -1e9, device=features.device)
    scores[:, 0] = 0.0
    scores = scores.flatten()
    cache: Cache | None = None
    while True:
        logits, cache = _step(model, ids, features, cache)
        logprobs = logits.log_softmax(dim=-1)
        if num_words is not None:
            _force_lengths(logprobs, ids.shape[1] - 1, num_words, num_beams, end_id)
        vocab_size = logprobs.shape[1]
        totals = (logprobs + scores[:, None]).view(len(found), -1)
        best, places = totals.topk(2 * num_beams, dim=1, largest=True, sorted=True)
        scores, tokens, rows = _advance(found, ids, best, places // vocab_size, places % vocab_size, end_id)
        ids = torch.cat([ids[rows], tokens[:, None]], dim=1)
        cache = [(keys.index_select(0, rows), values.index_select(0, rows)) for keys, values in cache]
        if all(item.is_done for item in found) or ids.shape[1] >= max_length:
            break
    for index, item in enumerate(found):
        if not item.is_done:
            for row in range(index * num_beams, (index + 1) * num_beams):
                item.add(ids[row].tolist(), scores[row].item())
    return [
        [(score, words[1:]) for score, words in sorted(item.kept, key=lambda kept: kept[0], reverse=True)]
        for item in found
    ]


def _advance(
    found: list[Hypotheses], ids: Tensor, scores: Tensor, parents: Tensor, tokens: Tensor, end_id: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Sort each sentence's candidates into finished and living ones; return scores, tokens and rows of the living."""
    num_beams = found[0].num_beams
    shape = (len(found), num_beams)
    new_scores = torch.zeros(shape, device=ids.device)
    new_tokens, new_rows = torch.full(shape, end_id, device=ids.device), torch.zeros_like(new_scores).long()
    for index, item in enumerate(found):
        if item.is_done:
            continue
        living = 0
        for rank in range(2 * num_beams):
            row = index * num_beams + parents[index, rank].item()
            if tokens[index, rank].item() == end_id:
                if rank < num_beams:
                    item.add(ids[int(row)].tolist(), scores[index, rank].item())
                continue
            new_scores[index, living] = scores[index, rank]
            new_tokens[index, living] = tokens[index, rank]
            new_rows[index, living] = row
            living += 1
            if living == num_beams:
                break
    return new_scores.flatten(), new_tokens.flatten(), new_rows.flatten()


def _force_lengths(logprobs: Tensor, num_present: int, num_words: Sequence[int], num_beams: int, end_id: int) -> None:
    for index, wanted in enumerate(num_words):
        rows = logprobs[index * num_beams : (index + 1) * num_beams]
        if num_present < wanted:
            rows[:, end_id] = -torch.inf
        else:
            kept = rows[:, end_id].clone()
            rows[:] = -torch.inf
            rows[:, end_id] = kept


def _step(model: LanguageModel, ids: Tensor, features: Tensor, cache: Cache | None) -> tuple[Tensor, Cache]:
    """Read the last token of every row; return its logits and the longer cache."""
    image = model.feature_space_transformation_nn(features)[:, None]
    position = torch.full((1, 1), ids.shape[1] - 1, device=ids.device)
    hidden = model.wte(ids[:, -1:]) + model.wte(position)
    grown: Cache = []
    for number, (ln_1, attention, ln_2, mlp) in enumerate(model.gpt2_blocks):
        query, key, value = attention.c_attn(ln_1(hidden)).split(hidden.shape[-1], dim=2)
        query, key, value = (_heads(part, attention.num_heads) for part in (query, key, value))
        if cache is None:
            past_key = _heads(attention.uk(image), attention.num_heads)
            past_value = _heads(attention.uv(image), attention.num_heads)
        else:
            past_key, past_value = cache[number]
        key, value = torch.cat([past_key, key], dim=2), torch.cat([past_value, value], dim=2)
        grown.append((key, value))
        weights = torch.matmul(query, key.transpose(-1, -2)) / float(value.shape[-1]) ** 0.5
        seen = attention.causal_mask[:, :, key.shape[2] - 1 : key.shape[2], : key.shape[2]].bool()
        weights = torch.where(seen, weights, torch.tensor(MASKED)).softmax(dim=-1)
        mixed = torch.matmul(weights, value).permute(0, 2, 1, 3).contiguous().flatten(2)
        hidden = hidden + attention.c_proj(mixed)
        hidden = hidden + mlp(ln_2(hidden))
    return model.lm_head(model.final_layernorm(hidden))[:, -1], grown


def _heads(states: Tensor, num_heads: int) -> Tensor:
    return states.view(*states.shape[:2], num_heads, -1).permute(0, 2, 1, 3)


@torch.no_grad()
def deduplicate(sentences: Sequence[str], encoder: PublishedEncoder, threshold: float = 0.9) -> list[str]:
    """Return the sentences without repeats; every pair is encoded and compared in a call of its own."""
    unique = list(dict.fromkeys(sentences))
    dropped: set[int] = set()
    for first in range(len(unique)):
        for second in range(first + 1, len(unique)):
            if first in dropped:
                break
            if second in dropped:
                continue
            if pair_f1(unique[first], unique[second], encoder) > threshold:
                dropped.add(second if len(unique[first]) > len(unique[second]) else first)
    return [sentence for index, sentence in enumerate(unique) if index not in dropped]


@torch.no_grad()
def pair_f1(first: str, second: str, encoder: PublishedEncoder) -> float:
    """Return BERTScore's F1 of one pair."""
    hidden, lengths = encoder.encode([first, second])
    vectors = torch.nn.functional.normalize(hidden, dim=-1)
    cosines = vectors[0, : lengths[0]] @ vectors[1, : lengths[1]].T
    # the tokens that begin and end a sentence are matched with, but do not count
    precision, recall = cosines.max(dim=1).values[1:-1].mean(), cosines.max(dim=0).values[1:-1].mean()
    return float(2 * precision * recall / (precision + recall))
