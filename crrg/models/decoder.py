"""GPT-2 that looks at condition tokens through pseudo self-attention.

In every block the keys and values of the words are preceded by keys and values projected from the condition tokens by
the block's own ``uk`` and ``uv``; queries come from words only. Knows tensors, not what a condition means (see
``report_generator``) nor how words are chosen (see ``crrg.inference.decoding``).

Letters: ``N`` phrases, ``K`` beams of a phrase, ``C`` condition tokens, ``L`` word tokens, ``T`` cached nodes, ``D``
width, ``V`` vocabulary.

Source: Ziegler et al., Encoder-Agnostic Adaptation for Conditional Language Generation, 2019; Tanida et al., CVPR 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad, scaled_dot_product_attention
from transformers.models.gpt2.configuration_gpt2 import GPT2Config
from transformers.models.gpt2.modeling_gpt2 import GPT2Attention, GPT2Model

from crrg.config.models import GeneratorArchitecture
from crrg.device import numbers_on
from crrg.models.products import affine, is_onednn_used, project

NODE_MULTIPLE = 32
"""Attention runs over a multiple of this many cached nodes: a sum then does not depend on how far others have got."""
NODES_ADDED = 32
"""Nodes that a cache has room for at first, and that it grows by: most phrases are far below the longest."""
REFILLED_NODES = 64
"""The same at first where phrases wait for a slot: in all slots together there then always is a long one, and what a
cache had before it grew is not given back to the system at once."""
WORDS_AT_ONCE = 4096
"""Words scored by one product in inference on a CPU: their rows of the word table stay in the cache meanwhile."""


class PseudoSelfAttention(GPT2Attention):
    """GPT-2's attention with two more projections, for the condition tokens."""

    def __init__(self, config: GPT2Config, layer_idx: int) -> None:
        """Build GPT-2's parts (``c_attn``, ``c_proj``) and the condition's (``uk``, ``uv``)."""
        super().__init__(config, layer_idx=layer_idx)
        self.uk = nn.Linear(config.n_embd, config.n_embd)
        self.uv = nn.Linear(config.n_embd, config.n_embd)

    def project_condition(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values ``[N, heads, C, D / heads]`` of condition tokens ``[N, C, D]``."""
        return self._heads(project(self.uk, condition)), self._heads(project(self.uv, condition))

    def project_words(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values ``[N, heads, L, D / heads]`` of words ``[N, L, D]``."""
        query, keys, values = project(self.c_attn, hidden).split(self.split_size, dim=2)
        return self._heads(query), self._heads(keys), self._heads(values)

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, visible: Tensor) -> Tensor:
        """Return what the words ``[N, L, D]`` take from the keys that are visible to them."""
        dropout = self.attn_dropout.p if self.training else 0.0
        length = query.shape[2]
        if length == 1:
            # with several threads a lone query is summed in parts that depend on its place in the batch; a pair is not
            query = query.expand(-1, -1, 2, -1)
            visible = visible.expand(*visible.shape[:-2], 2, -1)
        mixed = scaled_dot_product_attention(query, keys, values, attn_mask=visible, dropout_p=dropout)[:, :, :length]
        return self.resid_dropout(project(self.c_proj, mixed.transpose(1, 2).flatten(2)))

    def _heads(self, projected: Tensor) -> Tensor:
        return projected.view(*projected.shape[:-1], self.num_heads, self.head_dim).transpose(1, 2)


@dataclass
class NodeCache:
    """Keys and values of a fixed number of slots; a slot holds one phrase with all its beams as a tree of nodes.

    Nodes of a slot lie in order: condition tokens, begin token, then ``K`` nodes per step. A beam sees its ancestors
    only, so nothing is copied or reordered when beams change places; what no beam descends from is dropped by ``tidy``.

    Attributes:
        keys: Per block ``[N, heads, T, D / heads]``.
        values: Per block, as ``keys``.
        visible: Which nodes a beam sees, bool ``[N, K, T]``.
        num_nodes: Nodes in use per slot, ``N`` of them; known without asking the device.
        max_nodes: Nodes that the longest phrase needs; the cache grows up to there.
    """

    keys: list[Tensor]
    values: list[Tensor]
    visible: Tensor
    num_nodes: list[int]
    max_nodes: int

    def place(self, slots: range, source: NodeCache, rows: range) -> None:
        """Put prefilled phrases (``rows`` of ``source``) into ``slots``, replacing what was there."""
        into, taken = (slice(each.start, each.stop) for each in (slots, rows))
        width = source.visible.shape[2]
        self.make_room(width, len(self.visible))
        missing = slots.stop - len(self.visible)
        if missing > 0:
            for tensors in (self.keys, self.values):
                for index, tensor in enumerate(tensors):
                    tensors[index] = pad(tensor, (0, 0, 0, 0, 0, 0, 0, missing))
            self.visible = pad(self.visible, (0, 0, 0, 0, 0, missing))
            self.num_nodes += [0] * missing
        for own, other in zip((*self.keys, *self.values), (*source.keys, *source.values), strict=True):
            # no beam sees what an earlier phrase left there, but what is no number would count all the same
            own[into, :, width:] = 0
            own[into, :, :width] = other[taken]
        self.visible[into] = False
        self.visible[into, :, :width] = source.visible[taken].expand(-1, self.visible.shape[1], -1)
        self.num_nodes[into] = source.num_nodes[taken]

    def follow(self, parents: Tensor) -> None:
        """Let each beam of the first slots see what its parent beam saw.

        Args:
            parents: Beam that each beam continues, int64 ``[n, K]``.
        """
        seen = self.visible[: len(parents)]
        self.visible[: len(parents)] = seen.gather(1, parents[:, :, None].expand_as(seen))

    def move(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Move the phrases of slots into others, replacing what was there; no slot is both."""
        device = self.visible.device
        taken, into = numbers_on(device, sources), numbers_on(device, targets)
        for tensor in (*self.keys, *self.values, self.visible):
            tensor[into] = tensor[taken]
        for source, target in zip(sources, targets, strict=True):
            self.num_nodes[target] = self.num_nodes[source]

    def clear(self, num_used: int = 0) -> None:
        """Count the slots behind the first ``num_used`` as empty."""
        self.num_nodes[num_used:] = [0] * (len(self.num_nodes) - num_used)

    def tidy(self, num_slots: int) -> None:
        """Drop the nodes that no beam sees, in slots that another step takes over a multiple of ``NODE_MULTIPLE``.

        When that is depends on the slot's own phrase alone, and so does where its nodes lie.

        Args:
            num_slots: Looked at are the first ones.
        """
        num_beams = self.visible.shape[1]
        full = [
            slot
            for slot, number in enumerate(self.num_nodes[:num_slots])
            if number > 0 and -(-number // NODE_MULTIPLE) * NODE_MULTIPLE < number + num_beams
        ]
        if num_beams == 1 or not full:
            return
        slots = numbers_on(self.visible.device, full)
        seen = self.visible[slots].any(dim=1)
        counts = seen.sum(dim=1)
        kept = counts.tolist()
        order = (~seen).to(torch.int8).argsort(dim=1, stable=True)
        self.visible[slots] = self.visible[slots].gather(2, order[:, None].expand(-1, num_beams, -1))
        sources, targets = order[:, : max(kept)], torch.arange(max(kept), device=slots.device)
        for tensor in (*self.keys, *self.values):
            tensor[slots[:, None], :, targets] = tensor[slots[:, None], :, sources]
        for slot, number in zip(full, kept, strict=True):
            self.num_nodes[slot] = number

    def make_room(self, num_nodes: int, num_slots: int) -> None:
        """Grow so that each of the first ``num_slots`` slots can hold ``num_nodes`` nodes.

        Where that takes more memory, the slots behind are given up until a phrase is placed there: the last phrases are
        the longest, and few.
        """
        room = self.visible.shape[2]
        if num_nodes <= room:
            return
        added = min(-(-(num_nodes - room) // NODES_ADDED) * NODES_ADDED, self.max_nodes - room)
        for tensors in (self.keys, self.values):
            for index, tensor in enumerate(tensors):
                tensors[index] = pad(tensor[:num_slots], (0, 0, 0, added))
        self.visible = pad(self.visible[:num_slots], (0, added))
        self.num_nodes = self.num_nodes[:num_slots]


@dataclass(frozen=True)
class StepInputs:
    """What a step takes beside the cache.

    Attributes:
        token_ids: The beams' last tokens, int64 ``[n, K]``.
        positions: Of those tokens in their phrase, int64 ``[n]``.
        slots: 0 to n - 1, int64 ``[n, 1]``.
        nodes: Where each beam's keys and values go, int64 ``[n, K]``.
        visible: 0 where a beam sees a node, else minus infinity, ``[n, 1, K, T]``.
    """

    token_ids: Tensor
    positions: Tensor
    slots: Tensor
    nodes: Tensor
    visible: Tensor

    def copy_(self, other: StepInputs) -> None:
        """Take over the values of others of the same shapes, in place."""
        for name in ("token_ids", "positions", "slots", "nodes", "visible"):
            getattr(self, name).copy_(getattr(other, name))


class PseudoSelfAttentionDecoder(nn.Module):
    """Language model whose next-word probabilities depend on condition tokens.

    Parameters lie as in GPT-2 (``transformer.wte``, ``transformer.h.0.attn.c_attn``, …) plus ``uk`` and ``uv`` in each
    block's ``attn``; the output projection is the word table.
    """

    def __init__(self, architecture: GeneratorArchitecture) -> None:
        """Build from configuration, with GPT-2's initialisation."""
        super().__init__()
        self.position_table = architecture.position_table
        self.max_length = architecture.max_length
        config = GPT2Config(
            vocab_size=architecture.vocab_size,
            n_positions=architecture.max_length,
            n_embd=architecture.hidden_size,
            n_layer=architecture.num_layers,
            n_head=architecture.num_heads,
            resid_pdrop=architecture.dropout,
            embd_pdrop=architecture.dropout,
            attn_pdrop=architecture.dropout,
            bos_token_id=0,
            eos_token_id=0,
        )
        self.transformer = GPT2Model(config)
        for index, block in enumerate(self.transformer.h):
            attention = PseudoSelfAttention(config, index)
            attention.c_attn, attention.c_proj = block.attn.c_attn, block.attn.c_proj
            block.attn = attention
        self.word_scores: nn.Module | None = None
        if architecture.freeze_language_model:
            for name, parameter in self.named_parameters():
                parameter.requires_grad_(".uk." in name or ".uv." in name)

    def forward(self, token_ids: Tensor, condition: Tensor) -> Tensor:
        """Return the logits of every next token; right padding needs no mask, as no word sees a later one.

        Args:
            token_ids: int64 ``[N, L]``, begin token first.
            condition: ``[N, C, D]``.

        Returns:
            Logits ``[N, L, V]``.
        """
        length, num_conditions = token_ids.shape[1], condition.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=token_ids.device).tril()
        visible = torch.cat([causal.new_ones(length, num_conditions), causal], dim=1)
        hidden = self._embed(token_ids, torch.arange(length, device=token_ids.device))
        for block in self.transformer.h:
            query, keys, values = block.attn.project_words(block.ln_1(hidden))
            condition_keys, condition_values = block.attn.project_condition(condition)
            keys, values = torch.cat([condition_keys, keys], dim=2), torch.cat([condition_values, values], dim=2)
            hidden = hidden + block.attn.attend(query, keys, values, visible)
            hidden = hidden + block.mlp(block.ln_2(hidden))
        return self._logits(hidden)

    def new_cache(
        self, num_slots: int, num_beams: int, num_conditions: int, max_length: int, *, is_refilled: bool = False
    ) -> NodeCache:
        """Return an empty cache for ``num_slots`` phrases of up to ``max_length`` tokens (begin token included).

        Args:
            num_slots: Phrases at once.
            num_beams: Beams of a phrase.
            num_conditions: Condition tokens of a phrase.
            max_length: Longest phrase.
            is_refilled: Whether further phrases take the slots of those that end.
        """
        config, weight = self.transformer.config, self.transformer.wte.weight
        num_nodes = num_conditions + 1 + num_beams * (max_length - 1)
        max_nodes = -(-num_nodes // NODE_MULTIPLE) * NODE_MULTIPLE
        num_nodes = min(max_nodes, REFILLED_NODES if is_refilled else NODES_ADDED)
        shape = (num_slots, config.n_head, num_nodes, config.n_embd // config.n_head)
        return NodeCache(
            keys=[weight.new_zeros(shape) for _ in range(config.n_layer)],
            values=[weight.new_zeros(shape) for _ in range(config.n_layer)],
            visible=torch.zeros(num_slots, num_beams, num_nodes, dtype=torch.bool, device=weight.device),
            num_nodes=[0] * num_slots,
            max_nodes=max_nodes,
        )

    def prefill(self, condition: Tensor, bos_id: int) -> tuple[Tensor, NodeCache]:
        """Read condition and begin token of new phrases, once per phrase and not once per beam.

        Args:
            condition: ``[N, C, D]``.
            bos_id: Begin token.

        Returns:
            Logits of the first word ``[N, V]`` and a one-beam cache of width ``C + 1`` to place into slots.
        """
        num_phrases, num_conditions = condition.shape[:2]
        token_ids = torch.full((num_phrases, 1), bos_id, device=condition.device)
        hidden = self._embed(token_ids, torch.zeros_like(token_ids))
        all_keys, all_values = [], []
        visible = torch.ones(num_phrases, 1, num_conditions + 1, dtype=torch.bool, device=condition.device)
        for block in self.transformer.h:
            query, keys, values = block.attn.project_words(block.ln_1(hidden))
            condition_keys, condition_values = block.attn.project_condition(condition)
            keys, values = torch.cat([condition_keys, keys], dim=2), torch.cat([condition_values, values], dim=2)
            hidden = hidden + block.attn.attend(query, keys, values, visible[:, None])
            hidden = hidden + _feed_forward(block, hidden)
            all_keys.append(keys)
            all_values.append(values)
        num_nodes = num_conditions + 1
        cache = NodeCache(all_keys, all_values, visible, [num_nodes] * num_phrases, max_nodes=num_nodes)
        return self._logits(hidden)[:, 0], cache

    def step(self, token_ids: Tensor, positions: Tensor, cache: NodeCache) -> Tensor:
        """Read one more token per beam of the first slots and return the logits of the next.

        Args:
            token_ids: The beams' last tokens, int64 ``[n, K]``, of the first ``n`` slots of the cache.
            positions: Position of those tokens in their phrase, int64 ``[n]``; the begin token has 0.
            cache: What was read before; it grows by ``K`` nodes per slot, unless some are dropped.

        Returns:
            Logits ``[n, K, V]``.
        """
        return self.take_step(self.make_step(token_ids, positions, cache), cache)

    def make_step(self, token_ids: Tensor, positions: Tensor, cache: NodeCache) -> StepInputs:
        """Make room for a step in the cache and return what it takes; see ``step``."""
        num_slots, num_beams = token_ids.shape
        beams = torch.arange(num_beams, device=token_ids.device)
        slots = torch.arange(num_slots, device=token_ids.device)[:, None]
        cache.tidy(num_slots)
        used = cache.num_nodes[:num_slots]
        most = max(used) + num_beams
        nodes = numbers_on(token_ids.device, used)[:, None] + beams
        cache.num_nodes[:num_slots] = [number + num_beams for number in used]
        cache.make_room(most, num_slots)
        cache.visible[slots, beams, nodes] = True
        width = min(-(-most // NODE_MULTIPLE) * NODE_MULTIPLE, cache.visible.shape[2])
        visible = self.transformer.wte.weight.new_zeros(num_slots, 1, num_beams, width)
        visible.masked_fill_(~cache.visible[:num_slots, None, :, :width], -torch.inf)
        return StepInputs(token_ids, positions, slots, nodes, visible)

    def take_step(self, inputs: StepInputs, cache: NodeCache) -> Tensor:
        """Return the logits of the next tokens ``[n, K, V]``; what is read and written has always the same shapes."""
        slots, nodes = inputs.slots, inputs.nodes
        num_slots, width = len(slots), inputs.visible.shape[-1]
        hidden = self._embed(inputs.token_ids, inputs.positions[:, None])
        for block, keys, values in zip(self.transformer.h, cache.keys, cache.values, strict=True):
            query, new_keys, new_values = block.attn.project_words(block.ln_1(hidden))
            keys[slots, :, nodes] = new_keys.transpose(1, 2)
            values[slots, :, nodes] = new_values.transpose(1, 2)
            seen_keys, seen_values = keys[:num_slots, :, :width], values[:num_slots, :, :width]
            hidden = hidden + block.attn.attend(query, seen_keys, seen_values, inputs.visible)
            hidden = hidden + _feed_forward(block, hidden)
        return self._logits(hidden)

    def _embed(self, token_ids: Tensor, positions: Tensor) -> Tensor:
        table = self.transformer.wpe if self.position_table == "wpe" else self.transformer.wte
        return self.transformer.drop(self.transformer.wte(token_ids) + table(positions))

    def _logits(self, hidden: Tensor) -> Tensor:
        hidden, table = self.transformer.ln_f(hidden), self.transformer.wte.weight
        if self.word_scores is not None:
            scores: Tensor = self.word_scores(hidden)
            return scores
        if is_onednn_used(hidden):
            return affine(hidden, table)
        if torch.is_grad_enabled() or hidden.device.type != "cpu" or len(table) <= WORDS_AT_ONCE:
            return linear(hidden, table)
        rows = hidden.flatten(0, -2)
        logits = rows.new_empty(len(rows), len(table))
        for first in range(0, len(table), WORDS_AT_ONCE):
            torch.mm(rows, table[first : first + WORDS_AT_ONCE].t(), out=logits[:, first : first + WORDS_AT_ONCE])
        return logits.view(*hidden.shape[:-1], -1)


def _feed_forward(block: nn.Module, hidden: Tensor) -> Tensor:
    """Return what a block's feed-forward layers add in inference: GPT-2's own, its activation in one pass."""
    mlp: Any = block.mlp
    norm: Any = block.ln_2
    found: Tensor = project(mlp.c_proj, project(mlp.c_fc, norm(hidden), "gelu"))
    return found
