"""RadGraph: spans of a report's words to entities, pairs of them to relations.

Knows tensors only; words, labels and graphs are ``crrg.inference.report_annotator``'s concern.

Source: DyGIE++ (Wadden et al., EMNLP 2019) without coreference and events, as RadGraph (Jain et al., 2021) uses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from crrg.config.report_models import ReportGraphArchitecture
from crrg.models.bert import build_bert
from crrg.models.weights import load_network

ROWS = 32
"""Spans whose relations to all others are scored at once, so that a long report needs little memory."""


@dataclass(frozen=True)
class GraphScores:
    """What the network says of one report of W words.

    Attributes:
        spans: First and last word of each of S candidates ``[S, 2]``, by first word, short ones first.
        entities: Score of "none" (always 0) and of each entity label ``[S, 1 + E]``.
        kept: Candidates that may stand in a relation, in their order ``[K]``.
        relations: From the first to the second of two kept candidates, score of "none" (always 0) and of each relation
            label ``[K, K, 1 + R]``.
    """

    spans: Tensor
    entities: Tensor
    kept: Tensor
    relations: Tensor


class Scorer(nn.Module):
    """Hidden layers with ReLU, and a linear one on top."""

    def __init__(self, num_inputs: int, sizes: tuple[int, ...], num_outputs: int) -> None:
        """Build the layers with random weights."""
        super().__init__()
        inputs = (num_inputs, *sizes[:-1])
        self.hidden = nn.ModuleList(nn.Linear(before, after) for before, after in zip(inputs, sizes, strict=True))
        self.out = nn.Linear(sizes[-1], num_outputs)

    def forward(self, values: Tensor) -> Tensor:
        """Return scores ``[…, num_outputs]`` of ``[…, num_inputs]``."""
        for layer in self.hidden:
            values = torch.relu(layer(values))
        scores: Tensor = self.out(values)
        return scores


class ReportGraphNetwork(nn.Module):
    """BERT; a span is its first and last word and its width; heads score spans and pairs of the likeliest.

    Attributes:
        architecture: Sizes and labels.
    """

    def __init__(self, architecture: ReportGraphArchitecture) -> None:
        """Build the network with random weights."""
        super().__init__()
        self.architecture = architecture
        width, sizes = architecture.hidden_size, architecture.scorer_sizes
        self.bert = build_bert(architecture)
        self.width_embedding = nn.Embedding(architecture.max_span_width, architecture.width_size)
        span_size = 2 * width + architecture.width_size
        self.entity_scorer = Scorer(span_size, sizes, len(architecture.entity_labels))
        self.mention_scorer = Scorer(span_size, sizes, 1)
        self.relation_scorer = Scorer(3 * span_size, sizes, len(architecture.relation_labels))

    def forward(self, token_ids: Tensor, attention_mask: Tensor, pieces: Tensor) -> GraphScores:
        """Score the spans of one report, and the relations between the likeliest of them.

        Args:
            token_ids: Its tokens in segments, each between its marks ``[N, L]``.
            attention_mask: 1 on tokens, 0 on padding ``[N, L]``.
            pieces: Of how many tokens each of its words is made ``[W]``, marks not counted; a word may have none.
        """
        words = self._word_states(token_ids, attention_mask, pieces)
        spans = self._candidates(len(words))
        states = torch.cat(
            [words[spans[:, 0]], words[spans[:, 1]], self.width_embedding(spans[:, 1] - spans[:, 0])], dim=1
        )
        mentions = self.mention_scorer(states)[:, 0]
        # the same product in float32 as published, since it decides how many spans are kept
        wanted = int(torch.ceil(torch.tensor(float(len(words))) * self.architecture.spans_per_word))
        kept = mentions.topk(min(max(wanted, 1), len(spans))).indices.sort().values
        relations = self._relations(states[kept], mentions[kept])
        return GraphScores(spans, _with_none(self.entity_scorer(states)), kept, _with_none(relations))

    def _word_states(self, token_ids: Tensor, attention_mask: Tensor, pieces: Tensor) -> Tensor:
        """Return the mean state of each word's tokens ``[W, D]``; 0 for a word without tokens."""
        states = self.bert(input_ids=token_ids, attention_mask=attention_mask).last_hidden_state
        ends = attention_mask.sum(dim=1) - 1
        places = torch.arange(token_ids.shape[1], device=token_ids.device)
        inside = states[(places >= 1) & (places < ends[:, None])]
        steps = torch.arange(int(pieces.max()), device=pieces.device)
        is_own = steps < pieces[:, None]
        own = torch.where(is_own, (pieces.cumsum(0) - pieces)[:, None] + steps, 0)
        # gathered, not scattered: a GPU adds what is scattered in any order
        return (inside[own] * is_own[..., None]).sum(dim=1) / pieces.clamp(min=1)[:, None]

    def _candidates(self, num_words: int) -> Tensor:
        """Return first and last word of every span that is short enough ``[S, 2]``."""
        device = self.width_embedding.weight.device
        firsts = torch.arange(num_words, device=device)[:, None]
        lasts = firsts + torch.arange(self.architecture.max_span_width, device=device)
        spans = torch.stack([firsts.expand_as(lasts), lasts], dim=-1)
        return spans[lasts < num_words]

    def _relations(self, states: Tensor, mentions: Tensor) -> Tensor:
        """Return the score of each relation from each span to each ``[K, K, R]``."""
        rows = []
        for part in states.split(ROWS):
            one, other = part[:, None, :], states[None, :, :]
            shape = (len(part), len(states), states.shape[1])
            rows.append(self.relation_scorer(torch.cat([one.expand(shape), other.expand(shape), one * other], dim=-1)))
        return torch.cat(rows) + (mentions[:, None] + mentions[None, :])[..., None]


def load_report_graph_network(config: Mapping[str, Any], tensors: bytes, device: torch.device) -> ReportGraphNetwork:
    """Build the network from its ``config.json`` and ``model.safetensors``, ready for inference.

    Raises:
        ModelError: The architecture is not valid, or the tensors do not fit it.
    """
    return load_network(ReportGraphNetwork, ReportGraphArchitecture, config, tensors, "radgraph", device)


def _with_none(scores: Tensor) -> Tensor:
    """Put the score 0 of "none" before the others."""
    return torch.cat([scores.new_zeros(*scores.shape[:-1], 1), scores], dim=-1)
