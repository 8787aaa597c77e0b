"""Recorded steps draft what computed ones do; here what is recorded is computed again, in the same places."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from crrg.config.models import DecodingSettings
from crrg.inference.decoding import DecodedPhrase, decode_phrases
from crrg.models.decoder import NodeCache, PseudoSelfAttentionDecoder
from crrg.models.report_generator import ReportGenerator
from crrg.models.step_graphs import StepGraphs
from tests.support.random_stages import random_generator

SETTINGS = DecodingSettings(num_beams=3, num_slots=6, precision="fast")


class Numbers:
    end_id, placeholder_id = 0, 1

    def decode(self, ids: tuple[int, ...]) -> str:
        return " ".join(map(str, ids))


class Recorder:
    """Counts recordings; a repetition leaves its result where the recording's lay."""

    def __init__(self) -> None:
        self.num_recorded = self.num_replayed = 0

    def __call__(self, compute: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        self.num_recorded += 1
        found = compute()

        def replay() -> None:
            self.num_replayed += 1
            found.copy_(compute())

        return replay, found


@pytest.fixture
def generator() -> ReportGenerator:
    return random_generator()


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
    graphs = StepGraphs(generator.decoder_for("fast"), recorder)
    for rows in (range(40), range(4), range(10, 40), range(1)):
        assert same(draft(generator, rows, graphs=graphs), draft(generator, rows))
    assert len({each.text for each in draft(generator, range(40))}) > 10
    # 4 + 3 * 23 nodes are three multiples of 32 at most; one more if nothing were ever dropped
    assert 1 <= recorder.num_recorded <= 3
    assert recorder.num_replayed > 10 * recorder.num_recorded


def test_where_nothing_can_be_recorded_steps_are_computed(
    generator: ReportGenerator, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_compute: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        raise RuntimeError("operation not permitted when stream is capturing")

    graphs = StepGraphs(generator.decoder_for("fast"), refuse)
    assert same(draft(generator, range(12), graphs=graphs), draft(generator, range(12)))
    assert caplog.text.count("a step cannot be recorded (RuntimeError)") == 1


@pytest.mark.parametrize("num_recorded", [0, 1])
def test_where_memory_is_short_for_a_recording_steps_are_computed_and_what_recordings_took_is_given_back(
    generator: ReportGenerator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, num_recorded: int
) -> None:
    recorder, slots, new_cache = Recorder(), list[int](), PseudoSelfAttentionDecoder.new_cache

    def exhausted(compute: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        if recorder.num_recorded == num_recorded:
            raise torch.OutOfMemoryError
        return recorder(compute)

    def watched(decoder: PseudoSelfAttentionDecoder, num_slots: int, *shape: int, **how: bool) -> NodeCache:
        slots.append(num_slots)
        return new_cache(decoder, num_slots, *shape, **how)

    graphs = StepGraphs(generator.decoder_for("fast"), exhausted)
    wanted = [draft(generator, rows) for rows in (range(40), range(3))]
    monkeypatch.setattr(PseudoSelfAttentionDecoder, "new_cache", watched)
    assert same(draft(generator, range(40), graphs=graphs), wanted[0])
    assert caplog.text.count("a step cannot be recorded (OutOfMemoryError)") == 1
    assert graphs.is_refused
    assert same(draft(generator, range(3), graphs=graphs), wanted[1])
    assert slots == [6, 3], "of the slots that recordings always compute those in use are left"
    assert recorder.num_recorded == num_recorded


def test_where_the_longest_phrases_would_not_fit_the_cache_grows_as_ever(
    generator: ReportGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs, make_room = StepGraphs(generator.decoder_for("fast"), Recorder()), NodeCache.make_room

    def small_device(cache: NodeCache, num_nodes: int, num_slots: int) -> None:
        if num_nodes == cache.max_nodes:
            raise torch.OutOfMemoryError
        make_room(cache, num_nodes, num_slots)

    wanted = draft(generator, range(12))
    monkeypatch.setattr(NodeCache, "make_room", small_device)
    assert same(draft(generator, range(12), graphs=graphs), wanted)


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
