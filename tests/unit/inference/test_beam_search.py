"""Beam search against an exhaustive search and against a slow, written-out scorer."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch

from crrg.inference.beam import BeamSearch, FoundPhrase, best_continuations, repeated_ngrams

Table = Callable[[tuple[int, ...]], torch.Tensor]
END = 0


def language(seed: int, vocab_size: int) -> Table:
    """A language in which every prefix has its own random next-token log-probabilities."""

    def next_logprobs(prefix: tuple[int, ...]) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed + sum((i + 1) * 7919 * (t + 1) for i, t in enumerate(prefix)))
        return torch.log_softmax(2 * torch.randn(vocab_size, generator=generator, dtype=torch.float64), 0)

    return next_logprobs


def advance(beams: BeamSearch, logprobs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """One step as decoding does it, of log-probabilities ``[n, K, V]`` of the next token."""
    return beams.choose(*best_continuations(logprobs, beams.scores[: len(logprobs)]))


def search(tables: list[Table], num_beams: int, max_length: int, penalty: float = 1.0) -> list[FoundPhrase]:
    beams = BeamSearch(len(tables), num_beams, max_length, END, length_penalty=penalty)
    beams.scores = beams.scores.double()
    beams._found_scores = beams._found_scores.double()
    beams.start(range(len(tables)))
    while not bool(beams.is_done.all()):
        rows = [
            [table(tuple(int(t) for t in beams.tokens[slot, beam] if t >= 0)) for beam in range(num_beams)]
            for slot, table in enumerate(tables)
        ]
        advance(beams, torch.stack([torch.stack(row) for row in rows]))
    return [found[0] for found in beams.found(range(len(tables)))]


def slow_beam_search(table: Table, num_beams: int, max_length: int) -> tuple[tuple[int, ...], float]:
    """The published scorer with early stopping, hypothesis by hypothesis."""
    living: list[tuple[tuple[int, ...], float]] = [((END,), 0.0)]
    found: list[tuple[float, tuple[int, ...]]] = []

    def add(ids: tuple[int, ...], total: float) -> None:
        score = total / len(ids)
        if len(found) < num_beams or score > min(found)[0]:
            found.append((score, ids))
            if len(found) > num_beams:
                found.remove(min(found))

    while len(living[0][0]) < max_length:
        scored = [(total + float(value), ids, token) for ids, total in living for token, value in enumerate(table(ids))]
        scored = sorted(scored, key=lambda item: -item[0])[: 2 * num_beams]
        following: list[tuple[tuple[int, ...], float]] = []
        for rank, (total, ids, token) in enumerate(scored):
            if token == END:
                if rank < num_beams:
                    add(ids, total)
            elif len(following) < num_beams:
                following.append(((*ids, token), total))
        living = following
        if len(found) >= num_beams:
            break
    else:
        for ids, total in living:
            add(ids, total)
    score, ids = max(found)
    return ids[1:], score


@pytest.mark.parametrize("seed", range(8))
def test_enough_beams_find_the_best_of_all_phrases(seed: int) -> None:
    table, max_length = language(seed, 3), 4
    scores: dict[tuple[int, ...], float] = {}
    for length in range(max_length):
        for words in itertools.product((1, 2), repeat=length):
            ids = (END, *words)
            total = sum(float(table(ids[:i])[ids[i]]) for i in range(1, len(ids)))
            if len(ids) < max_length:
                total += float(table(ids)[END])
            scores[words] = total / len(ids)
    best = max(scores, key=lambda words: scores[words])
    (found,) = search([table], num_beams=16, max_length=max_length)
    assert found.token_ids == best
    assert found.logprob == pytest.approx(scores[best], abs=1e-9)
    assert found.is_finished == (len(best) + 1 < max_length)


@pytest.mark.parametrize("num_beams", [1, 2, 3, 4])
def test_slots_agree_with_the_written_out_scorer(num_beams: int) -> None:
    tables = [language(seed, 7) for seed in range(100, 112)]
    for found, table in zip(search(tables, num_beams, 9), tables, strict=True):
        ids, score = slow_beam_search(table, num_beams, 9)
        assert found.token_ids == ids
        assert found.logprob == pytest.approx(score, abs=1e-9)


def test_one_beam_takes_the_likeliest_token_each_time() -> None:
    table = language(3, 6)
    ids: tuple[int, ...] = (END,)
    while len(ids) < 10 and (len(ids) == 1 or ids[-1] != END):
        ids = (*ids, int(table(ids).argmax()))
    (found,) = search([table], num_beams=1, max_length=10)
    assert found.token_ids == tuple(token for token in ids[1:] if token != END)


def test_a_slot_can_be_used_again() -> None:
    beams = BeamSearch(2, 1, 4, END)
    beams.start(range(1))
    assert beams.is_done.tolist() == [False, True]
    advance(beams, torch.log_softmax(torch.tensor([[[0.0, 9.0, 0.0]], [[0.0, 9.0, 0.0]]]), -1))
    advance(beams, torch.log_softmax(torch.tensor([[[9.0, 0.0, 0.0]], [[0.0, 9.0, 0.0]]]), -1))
    assert beams.found([0])[0][0].token_ids == (1,)
    beams.start(range(1))
    advance(beams, torch.log_softmax(torch.tensor([[[0.0, 0.0, 9.0]], [[0.0, 9.0, 0.0]]]), -1))
    advance(beams, torch.log_softmax(torch.tensor([[[9.0, 0.0, 0.0]], [[0.0, 9.0, 0.0]]]), -1))
    assert beams.found([0])[0][0].token_ids == (2,)


def test_only_the_token_that_would_complete_a_repeat_is_banned() -> None:
    tokens = torch.full((2, 1, 8), -1)
    tokens[0, 0, :6] = torch.tensor([0, 4, 5, 6, 4, 5])
    tokens[1, 0, :2] = torch.tensor([0, 4])
    found = repeated_ngrams(tokens, torch.tensor([6, 2]), 3)
    assert [place.tolist() for place in found] == [[0], [0], [6]]
    assert all(len(place) == 0 for place in repeated_ngrams(tokens, torch.tensor([6, 2]), 4))


def test_a_run_of_one_bans_every_word_there_was_and_not_the_token_that_begins_and_ends() -> None:
    tokens = torch.full((3, 1, 4), -1)
    tokens[0, 0] = torch.tensor([END, 4, 5, -1])
    tokens[1, 0] = torch.tensor([END, -1, -1, -1])
    tokens[2, 0] = torch.tensor([END, 4, 5, 6])
    slots, _, words = repeated_ngrams(tokens, torch.tensor([3, 1, 4]), 1)
    assert sorted(zip(slots.tolist(), words.tolist(), strict=True)) == [(0, 4), (0, 5), (2, 4), (2, 5), (2, 6)]


@pytest.mark.parametrize("vocab_size", [5, 200, 1000])
def test_best_continuations_are_those_of_the_whole_sorted_vocabulary(vocab_size: int) -> None:
    logits = torch.randn(3, 4, vocab_size, generator=torch.Generator().manual_seed(vocab_size), dtype=torch.float64)
    scores = torch.tensor([[-1.0, -1.5, -2.0, -9.0]] * 3, dtype=torch.float64)
    wanted = torch.log_softmax(logits, -1)
    wanted[:, :, 3] = -torch.inf
    wanted[1, 2, 4] = -torch.inf
    totals, places = (scores[..., None] + wanted).flatten(1).topk(8, dim=1)
    banned = [(slice(None), slice(None), torch.tensor([3])), (torch.tensor([1]), torch.tensor([2]), torch.tensor([4]))]
    found, parents, tokens = best_continuations(logits, scores, banned)
    torch.testing.assert_close(found, totals)
    assert torch.equal(parents * vocab_size + tokens, places)


def test_a_phrase_goes_on_in_the_slot_it_is_moved_to() -> None:
    beams = BeamSearch(3, 2, 6, END)
    beams.start(range(3))
    table = language(5, 6)
    first = table((END,)).float().expand(3, 2, 6)
    advance(beams, first)
    beams.move([2], [0])
    assert beams.is_done.tolist() == [False, False, True]
    assert beams.tokens[0].tolist() == beams.tokens[1].tolist()
    parents, _ = advance(beams, first[:2])
    assert parents.shape == (2, 2)
    assert beams.lengths.tolist() == [3, 3, 2]


def test_how_long_hypotheses_are_is_known_without_asking_the_device() -> None:
    beams, table = BeamSearch(3, 2, 9, END), language(5, 6)
    beams.start(range(3))
    for number in (2, 3):
        advance(beams, table((END,)).float().index_fill(0, torch.tensor([END]), -50.0).expand(3, 2, 6))
        assert beams.num_tokens == beams.lengths.tolist() == [number] * 3
    beams.start(range(1, 3))
    assert (beams.num_tokens, beams.longest(3), beams.longest(1)) == ([3, 1, 1], 3, 3)
    beams.move([2], [0])
    assert (beams.num_tokens, beams.longest(2)) == ([1, 1, 1], 1)


def test_a_step_of_the_search_asks_the_device_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    beams, tables = BeamSearch(4, 3, 6, END), [language(seed, 7) for seed in range(4)]
    beams.start(range(4))
    for name in ("nonzero", "item", "tolist", "cpu", "__bool__", "__int__"):
        monkeypatch.setattr(torch.Tensor, name, lambda *_, name=name, **__: pytest.fail(f"{name} waits for the device"))
    monkeypatch.setattr(torch, "nonzero", lambda *_, **__: pytest.fail("nonzero waits for the device"))
    for _ in range(6):
        advance(beams, torch.stack([table((END,)).float().expand(3, 7) for table in tables]))
    monkeypatch.undo()
    assert bool(beams.is_done.all())
