"""Pseudo self-attention: agreement with the written-out formula, causality, cached decoding."""

from __future__ import annotations

import math
from copy import deepcopy

import pytest
import torch

from crrg.config.models import GeneratorArchitecture
from crrg.models.decoder import PseudoSelfAttention, PseudoSelfAttentionDecoder


def tiny_decoder(**changes: object) -> PseudoSelfAttentionDecoder:
    settings = {"num_layers": 2, "num_heads": 2, "hidden_size": 16, "vocab_size": 300, "max_length": 12, **changes}
    torch.manual_seed(0)
    decoder = PseudoSelfAttentionDecoder(GeneratorArchitecture.model_validate(settings)).eval()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return decoder


def test_attention_is_the_written_out_formula() -> None:
    attention: PseudoSelfAttention = tiny_decoder().transformer.h[0].attn
    words, condition = torch.randn(1, 3, 16), torch.randn(1, 2, 16)
    query, keys, values = attention.project_words(words)
    condition_keys, condition_values = attention.project_condition(condition)
    visible = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)
    got = attention.attend(
        query, torch.cat([condition_keys, keys], 2), torch.cat([condition_values, values], 2), visible
    )

    projected = words[0] @ attention.c_attn.weight + attention.c_attn.bias
    q, k, v = projected[:, :16], projected[:, 16:32], projected[:, 32:]
    all_k = torch.cat([condition[0] @ attention.uk.weight.T + attention.uk.bias, k])
    all_v = torch.cat([condition[0] @ attention.uv.weight.T + attention.uv.bias, v])
    rows = []
    for i in range(3):
        heads = []
        for h in (slice(0, 8), slice(8, 16)):
            scores = (all_k[: 2 + i + 1, h] @ q[i, h]) / math.sqrt(8)
            heads.append(scores.softmax(0) @ all_v[: 2 + i + 1, h])
        rows.append(torch.cat(heads) @ attention.c_proj.weight + attention.c_proj.bias)
    torch.testing.assert_close(got[0], torch.stack(rows), atol=1e-5, rtol=1e-5)


def test_a_word_sees_the_condition_and_earlier_words_only() -> None:
    decoder = tiny_decoder()
    token_ids, condition = torch.randint(2, 300, (1, 6)), torch.randn(1, 3, 16)
    logits = decoder(token_ids, condition)
    changed = token_ids.clone()
    changed[0, 4] = (changed[0, 4] + 1) % 300
    later = decoder(changed, condition)
    torch.testing.assert_close(later[:, :4], logits[:, :4])
    assert (later[:, 4:] - logits[:, 4:]).abs().max() > 1e-3
    assert (decoder(token_ids, condition + 1.0)[:, 0] - logits[:, 0]).abs().max() > 1e-3


@pytest.mark.parametrize("position_table", ["wpe", "wte"])
@pytest.mark.parametrize("num_conditions", [1, 3])
def test_cached_beams_give_the_logits_of_a_full_pass(position_table: str, num_conditions: int) -> None:
    decoder = tiny_decoder(position_table=position_table)
    condition = torch.randn(2, num_conditions, 16)
    first_logits, prefilled = decoder.prefill(condition, bos_id=0)
    cache = decoder.new_cache(num_slots=2, num_beams=2, num_conditions=num_conditions, max_length=12)
    for slot in range(2):
        cache.place(range(slot, slot + 1), prefilled, range(1 - slot, 2 - slot))
    beams = {(slot, beam): [0] for slot in range(2) for beam in range(2)}
    parents_of_steps = [[[0, 1], [0, 1]], [[1, 0], [0, 0]], [[1, 1], [1, 0]], [[0, 1], [0, 1]]]
    for step, parents in enumerate(parents_of_steps):
        tokens = torch.tensor([[5 + step, 9 + step], [20 + step, 33 + step]])
        beams = {
            (slot, beam): [*beams[slot, parents[slot][beam]], int(tokens[slot, beam])]
            for slot in range(2)
            for beam in range(2)
        }
        cache.follow(torch.tensor(parents))
        logits = decoder.step(tokens, torch.full((2,), step + 1), cache)
    for (slot, beam), ids in beams.items():
        own_condition = condition[[1 - slot]]
        expected = decoder(torch.tensor([ids]), own_condition)
        torch.testing.assert_close(logits[slot, beam], expected[0, -1], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(first_logits[1 - slot], expected[0, 0], atol=1e-5, rtol=1e-5)


def test_nodes_that_no_beam_descends_from_are_dropped_and_change_nothing() -> None:
    decoder, num_beams, num_steps = tiny_decoder(max_length=48), 3, 45
    condition = torch.randn(2, 2, 16)
    _, prefilled = decoder.prefill(condition, bos_id=0)
    cache = decoder.new_cache(num_slots=2, num_beams=num_beams, num_conditions=2, max_length=48)
    cache.place(range(2), prefilled, range(2))
    drawn = torch.Generator().manual_seed(4)
    beams = torch.zeros(2, num_beams, 1, dtype=torch.long)
    for step in range(num_steps):
        # the first slot's beams coalesce now and then; those of the second stay apart, so that it keeps all its nodes
        parents = torch.stack([torch.randint(0, num_beams, (num_beams,), generator=drawn), torch.arange(num_beams)])
        tokens = torch.randint(1, 300, (2, num_beams), generator=drawn)
        beams = torch.cat([beams.gather(1, parents[..., None].expand_as(beams)), tokens[..., None]], dim=2)
        cache.follow(parents)
        logits = decoder.step(tokens, torch.full((2,), step + 1), cache)
        expected = decoder(beams.flatten(0, 1), condition.repeat_interleave(num_beams, dim=0))[:, -1]
        torch.testing.assert_close(logits.flatten(0, 1), expected, atol=2e-5, rtol=1e-5)
    assert cache.num_nodes[1] == 3 + num_beams * num_steps
    assert num_steps < cache.num_nodes[0] < 3 * num_steps


def test_one_phrase_lies_in_its_slot_as_it_would_alone() -> None:
    decoder, drawn = tiny_decoder(max_length=48), torch.Generator().manual_seed(5)
    condition = torch.randn(3, 1, 16)
    _, prefilled = decoder.prefill(condition, bos_id=0)
    alone, among = (decoder.new_cache(number, 4, 1, 48) for number in (1, 3))
    alone.place(range(1), prefilled, range(1, 2))
    among.place(range(3), prefilled, range(3))
    for step in range(30):
        parents, tokens = (torch.randint(low, high, (3, 4), generator=drawn) for low, high in ((0, 4), (1, 300)))
        alone.follow(parents[1:2])
        among.follow(parents)
        decoder.step(tokens[1:2], torch.full((1,), step + 1), alone)
        decoder.step(tokens, torch.full((3,), step + 1), among)
        number = alone.num_nodes[0]
        assert number == among.num_nodes[1]
        assert torch.equal(alone.visible[0, :, :number], among.visible[1, :, :number])


@torch.no_grad()
def test_moved_phrases_go_on_in_their_new_slots_and_a_slot_taken_over_holds_nothing_of_before() -> None:
    decoder = tiny_decoder(max_length=48)
    _, prefilled = decoder.prefill(torch.randn(4, 1, 16), bos_id=0)
    cache = decoder.new_cache(4, 2, 1, 48)
    cache.place(range(4), prefilled, range(4))
    for tensor in (*cache.keys, *cache.values):
        tensor[1:] = torch.nan
    cache.place(range(1, 4), prefilled, range(1, 4))
    assert all(bool(torch.isfinite(tensor).all()) for tensor in (*cache.keys, *cache.values))
    tokens = torch.tensor([[5, 9], [6, 8], [7, 7], [20, 33]])
    decoder.step(tokens, torch.ones(4, dtype=torch.long), cache)
    staying = decoder.step(tokens, torch.full((4,), 2), deepcopy(cache))
    cache.move([2, 3], [1, 0])
    cache.clear(2)
    assert cache.num_nodes == [4, 4, 0, 0]
    moved = decoder.step(tokens[[3, 2]], torch.full((2,), 2), cache)
    torch.testing.assert_close(moved, staying[[3, 2]])


def test_a_cache_has_little_more_room_than_its_longest_phrase_needs() -> None:
    cache = tiny_decoder().new_cache(num_slots=3, num_beams=4, num_conditions=1, max_length=100)
    rooms = []
    for num_nodes in (30, 33, 70, 300, 398):
        cache.make_room(num_nodes, 3)
        rooms.append(cache.keys[0].shape[2])
    # one step of it, then as many as are needed, and never more than the longest phrase
    assert rooms == [32, 64, 96, 320, 416]
    refilled = tiny_decoder().new_cache(3, 4, 1, 100, is_refilled=True)
    assert refilled.keys[0].shape[2] == 64


def test_position_table_wte_looks_positions_up_among_the_words() -> None:
    right, published = tiny_decoder(position_table="wpe"), tiny_decoder(position_table="wte")
    published.transformer.wpe.weight.data.copy_(published.transformer.wte.weight[:12])
    right.load_state_dict(published.state_dict())
    token_ids, condition = torch.randint(0, 300, (1, 5)), torch.randn(1, 1, 16)
    torch.testing.assert_close(right(token_ids, condition), published(token_ids, condition))


def test_freezing_leaves_the_image_branch_trainable() -> None:
    decoder = tiny_decoder(freeze_language_model=True)
    trainable = [name for name, parameter in decoder.named_parameters() if parameter.requires_grad]
    assert len(trainable) == 2 * 4
    assert all(".attn.uk." in name or ".attn.uv." in name for name in trainable)
