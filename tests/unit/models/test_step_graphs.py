"""Recorded steps draft what computed ones do; here what is recorded is computed again, in the same places."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from crrg.config.models import DecodingSettings
from crrg.inference import slots
from crrg.inference.decoding import DecodedPhrase, decode_phrases
from crrg.models import step_graphs
from crrg.models.decoder import NodeCache, PseudoSelfAttentionDecoder
from crrg.models.report_generator import ReportGenerator
from crrg.models.step_graphs import StepGraphs
from tests.support.random_stages import random_generator

SETTINGS = DecodingSettings(num_beams=3, num_slots=6, precision="fast")
LOTS = 1 << 40


class Numbers:
    end_id, placeholder_id = 0, 1

    def decode(self, ids: tuple[int, ...]) -> str:
        return " ".join(map(str, ids))


class Recorder:
    """Counts recordings; a repetition computes the same in the same places."""

    def __init__(self) -> None:
        self.num_recorded = self.num_replayed = self.num_made = 0

    def __call__(self, compute: Callable[[], object]) -> Callable[[], object]:
        self.num_recorded += 1
        compute()

        def replay() -> None:
            self.num_replayed += 1
            compute()

        return replay

    def make(self) -> Recorder:
        self.num_made += 1
        return self


@pytest.fixture
def generator() -> ReportGenerator:
    return random_generator()


@pytest.fixture(autouse=True)
def small_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device with memory for eight slots of a recorded grid, and no fewer than four."""
    monkeypatch.setattr(slots, "MOST_SLOTS", 8)
    monkeypatch.setattr(slots, "LEAST_RECORDED", 4)
    monkeypatch.setattr(slots, "free_memory", lambda _device: LOTS)


def draft(generator: ReportGenerator, rows: range, *, graphs: StepGraphs | None = None) -> list[DecodedPhrase]:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 16)).astype(np.float32)[rows]
    flags = rng.integers(0, 2, (40, 15)).astype(np.float32)[rows]
    generator.step_graphs_for = lambda _precision: graphs  # type: ignore[method-assign]
    regions = np.arange(40)[rows] % 29
    return decode_phrases(generator, Numbers(), features, regions, flags, SETTINGS)


def same(found: list[DecodedPhrase], wanted: list[DecodedPhrase]) -> bool:
    near = [abs(one.logprob - other.logprob) <= 1e-5 for one, other in zip(found, wanted, strict=True)]
    return [each.text for each in found] == [each.text for each in wanted] and all(near)


def test_replayed_steps_draft_the_same_again_and_again(generator: ReportGenerator) -> None:
    recorder = Recorder()
    graphs = StepGraphs(generator.decoder_for("fast"), recorder.make)
    for rows in (range(40), range(4), range(10, 40), range(1)):
        assert same(draft(generator, rows, graphs=graphs), draft(generator, rows))
    assert len({each.text for each in draft(generator, range(40))}) > 10
    # 4 + 3 * 23 nodes are three multiples of 32 at most; one more if nothing were ever dropped
    assert recorder.num_made == 2, "a grid of eight slots and one of four"
    assert 2 <= recorder.num_recorded <= 6
    assert recorder.num_replayed > 10 * recorder.num_recorded


def test_threads_that_draft_at_once_get_their_own_phrases(generator: ReportGenerator) -> None:
    graphs = StepGraphs(generator.decoder_for("fast"), Recorder)
    parts = [range(20), range(20, 40)]
    wanted = [draft(generator, rows) for rows in parts]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    try:
        with ThreadPoolExecutor(2) as threads:
            found = list(threads.map(lambda rows: draft(generator, rows, graphs=graphs), parts))
    finally:
        sys.setswitchinterval(interval)
    assert same(found[0], wanted[0])
    assert same(found[1], wanted[1])


def test_a_phrase_longer_than_the_room_goes_on_in_a_larger_one(
    generator: ReportGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_graphs, "ROOM_NODES", 32)
    recorder = Recorder()
    graphs = StepGraphs(generator.decoder_for("fast"), recorder.make)
    for rows in (range(40), range(10, 40)):
        assert same(draft(generator, rows, graphs=graphs), draft(generator, rows))
    assert 2 <= recorder.num_made <= 3, "recordings of what lay elsewhere are not replayed"
    assert recorder.num_replayed > 10 * recorder.num_recorded


def test_only_the_last_shapes_are_kept(generator: ReportGenerator) -> None:
    recorder = Recorder()
    graphs = StepGraphs(generator.decoder_for("fast"), recorder.make)

    def make(*sizes: int) -> int:
        for size in sizes:
            graphs.new_cache(size, 3, 3, 24)
        return recorder.num_made

    assert make(8) == 1
    one = graphs.num_bytes
    cache = graphs.new_cache(8, 3, 3, 24)
    assert one == 8 * (4 * cache.keys[0][0].numel() * 4 + 3 * len(graphs.decoder.transformer.wte.weight) * 4)
    assert make(4, 8, 2, 8) == 3
    assert graphs.num_bytes == one * 14 // 8
    assert make(1) == 4
    assert graphs.num_bytes == one * 11 // 8, "the one used longest ago is gone"
    assert make(8, 2) == 4
    assert make(4) == 5


def test_slots_of_a_gpu_are_as_many_as_phrases_wait_and_memory_has_room_for(
    generator: ReportGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    decoder, settings = generator.decoder, DecodingSettings(num_beams=4, num_slots=48)
    graphs = StepGraphs(decoder, Recorder)
    assert [slots.slots_at_once(decoder, number, settings, None) for number in (0, 7, 100)] == [1, 7, 48]
    monkeypatch.setattr(slots, "free_memory", lambda _device: LOTS)
    numbers = (0, 29, 33, 320, 512, 2000)
    found = [slots.slots_at_once(decoder, number, settings, graphs) for number in numbers]
    assert found == [32, 32, 64, 512, 512, 512]
    config = decoder.transformer.config
    one_slot = 256 * 2 * config.n_layer * config.n_embd * 4 + 4 * 4 * config.vocab_size * 4
    for room, number in ((130, 128), (128, 128), (127, 64), (0, 1)):
        monkeypatch.setattr(slots, "free_memory", lambda _device, room=room: 4 * room * one_slot)
        assert slots.slots_at_once(decoder, 320, settings, graphs) == number
    graphs.new_cache(16, 4, 3, 24)
    monkeypatch.setattr(slots, "free_memory", lambda _device: 4 * 128 * one_slot - graphs.num_bytes)
    assert slots.slots_at_once(decoder, 320, settings, graphs) == 128, "what kept caches take can be given up"


def test_where_nothing_can_be_recorded_steps_are_computed(
    generator: ReportGenerator, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_compute: Callable[[], object]) -> Callable[[], object]:
        raise RuntimeError("operation not permitted when stream is capturing")

    graphs = StepGraphs(generator.decoder_for("fast"), lambda: refuse)
    assert same(draft(generator, range(12), graphs=graphs), draft(generator, range(12)))
    assert caplog.text.count("a step cannot be recorded (RuntimeError)") == 1


@pytest.mark.parametrize("num_recorded", [0, 1])
def test_where_memory_is_short_for_a_recording_steps_are_computed_and_what_recordings_took_is_given_back(
    generator: ReportGenerator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, num_recorded: int
) -> None:
    recorder, num_slots, new_cache = Recorder(), list[int](), PseudoSelfAttentionDecoder.new_cache

    def exhausted(compute: Callable[[], object]) -> Callable[[], object]:
        if recorder.num_recorded == num_recorded:
            raise torch.OutOfMemoryError
        return recorder(compute)

    def watched(decoder: PseudoSelfAttentionDecoder, number: int, *shape: int, **how: bool) -> NodeCache:
        num_slots.append(number)
        return new_cache(decoder, number, *shape, **how)

    graphs = StepGraphs(generator.decoder_for("fast"), lambda: exhausted)
    wanted = [draft(generator, rows) for rows in (range(40), range(3))]
    monkeypatch.setattr(PseudoSelfAttentionDecoder, "new_cache", watched)
    assert same(draft(generator, range(40), graphs=graphs), wanted[0])
    assert caplog.text.count("a step cannot be recorded (OutOfMemoryError)") == 1
    assert graphs.num_bytes == 0
    assert same(draft(generator, range(3), graphs=graphs), wanted[1])
    assert num_slots == [8, 3], "of the slots that recordings always compute those in use are left"
    assert recorder.num_recorded == num_recorded


@pytest.mark.parametrize("num_failures", [1, 9])
def test_where_a_cache_does_not_fit_others_are_given_up_and_then_it_grows_as_ever(
    generator: ReportGenerator, monkeypatch: pytest.MonkeyPatch, num_failures: int
) -> None:
    recorder, make_room, failures = Recorder(), NodeCache.make_room, list[int]()
    graphs = StepGraphs(generator.decoder_for("fast"), recorder.make)
    wanted = draft(generator, range(12))
    assert same(draft(generator, range(3), graphs=graphs), wanted[:3])

    def small_device(cache: NodeCache, num_nodes: int, num_slots: int) -> None:
        if num_nodes == cache.max_nodes and len(failures) < num_failures:
            failures.append(num_nodes)
            raise torch.OutOfMemoryError
        make_room(cache, num_nodes, num_slots)

    kept = graphs.num_bytes
    monkeypatch.setattr(NodeCache, "make_room", small_device)
    assert same(draft(generator, range(12), graphs=graphs), wanted)
    assert graphs.num_bytes == (2 * kept if num_failures == 1 else 0)


def test_a_cache_that_could_not_grow_is_not_used_again(
    generator: ReportGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_graphs, "ROOM_NODES", 32)
    graphs, make_room = StepGraphs(generator.decoder_for("fast"), Recorder), NodeCache.make_room

    def small_device(cache: NodeCache, num_nodes: int, num_slots: int) -> None:
        if num_nodes > 32:
            cache.keys[0] = cache.keys[0][:, :, :0]
            raise torch.OutOfMemoryError
        make_room(cache, num_nodes, num_slots)

    with monkeypatch.context() as short:
        short.setattr(NodeCache, "make_room", small_device)
        with pytest.raises(torch.OutOfMemoryError):
            draft(generator, range(12), graphs=graphs)
    assert same(draft(generator, range(12), graphs=graphs), draft(generator, range(12)))


def test_steps_are_recorded_on_a_gpu_and_for_the_fast_decoder_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert random_generator().step_graphs_for("fast") is None
    generator = random_generator()
    on_gpu = SimpleNamespace(device=torch.device("cuda"))
    monkeypatch.setattr(ReportGenerator, "feature_mean", on_gpu, raising=False)
    assert generator.step_graphs_for("exact") is None
    graphs = generator.step_graphs_for("fast")
    assert isinstance(graphs, StepGraphs)
    assert generator.step_graphs_for("fast") is graphs
