"""A GPU says what a CPU says: regions, boxes, logits, sentences; the same twice, alone and among many.

``pytest tests/gpu --device cpu`` runs the same bodies on the CPU, where products are then summed in another order.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from crrg.config.running import DecodingSettings
from crrg.inference import slots
from crrg.inference.decoding import DecodedPhrase, decode_hypotheses
from crrg.inference.regions import RegionReadings, read_regions
from crrg.models.detector import RegionDetector
from crrg.models.products import torch_products
from crrg.models.report_generator import ReportGenerator
from tests.support.random_stages import (
    CLIPS,
    DETECTORS,
    copy_on,
    films,
    random_clip,
    random_detector,
    random_generator,
    random_pipeline,
    random_selector,
    read_films,
)

pytestmark = pytest.mark.gpu
CPU = torch.device("cpu")
PIXELS = 0.02
LOGITS = 1e-3
ALONE = 1e-5
FAST_LOGPROB = 0.1
"""How far log-probabilities of a sentence lie apart at most where bfloat16 rounds logits to about 0.03."""
MOSTLY = 0.8
"""Share of sentences that stay the same where logits are rounded otherwise; of random weights some nine in ten."""
NEARLY_EQUAL = 1e-4
"""Two hypotheses of one phrase whose scores lie nearer than this may change places."""
FEW_SLOTS = 16


@contextmanager
def summed_otherwise(device: torch.device) -> Iterator[None]:
    """Make the CPU sum in another order where it stands for a GPU, so that last digits differ as they do there."""
    with torch_products() if device.type == "cpu" else nullcontext():
        yield


@pytest.fixture(params=[FEW_SLOTS, slots.MOST_SLOTS], ids=["refilled", "at-once"])
def most_slots(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a GPU, too, compute so few phrases at once that slots are refilled; and as many as wait."""
    monkeypatch.setattr(slots, "MOST_SLOTS", request.param)


class Numbers:
    end_id = 0
    placeholder_id = 1

    def decode(self, ids: tuple[int, ...]) -> str:
        return " ".join(str(i) for i in ids)


def given(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(96, 16))[:number], rng.integers(0, 29, 96)[:number], rng.random((96, 15))[:number]


def hypotheses(model: ReportGenerator, number: int, **changes: object) -> list[list[DecodedPhrase]]:
    settings = DecodingSettings.model_validate({"num_beams": 4, "num_slots": FEW_SLOTS, **changes})
    return decode_hypotheses(model, Numbers(), *given(number), settings)


def test_a_gpu_multiplies_in_all_digits(device: torch.device) -> None:
    torch.manual_seed(0)
    layers: list[tuple[nn.Module, Tensor]] = [
        (nn.Conv2d(64, 64, 3), torch.randn(2, 64, 32, 32)),
        (nn.Linear(1024, 256), torch.randn(64, 1024)),
    ]
    for layer, inputs in layers:
        with torch.no_grad():
            wanted = layer.double()(inputs.double())
            found = layer.float().to(device)(inputs.to(device)).cpu().double()
        error = float((found - wanted).abs().max() / wanted.abs().max())
        assert error < 1e-5, "TF32 leaves three digits"
    if device.type == "cuda":
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize("exact_roi", [False, True])
@pytest.mark.parametrize("name", DETECTORS)
def test_boxes_and_regions(device: torch.device, name: str, exact_roi: bool) -> None:
    detector = random_detector(DETECTORS[name])
    images = torch.from_numpy(films(8, DETECTORS[name].input_size))[:, None]
    wanted = detector.detect(images)
    there: RegionDetector = copy_on(detector, device)
    there.exact_roi = exact_roi
    with summed_otherwise(device):
        found = there.detect(images.to(device))
    assert found.input_boxes_xyxy.device.type == device.type
    assert int(wanted.detected.sum()) > 8
    assert torch.equal(found.detected.cpu(), wanted.detected)
    apart = (found.input_boxes_xyxy.cpu() - wanted.input_boxes_xyxy).abs()
    assert float(apart.max()) <= PIXELS
    assert float((found.scores.cpu() - wanted.scores).abs().max()) <= LOGITS
    if wanted.region_features is not None and found.region_features is not None:
        features = (found.region_features.cpu() - wanted.region_features).abs().amax(dim=-1)
        assert float(features[wanted.detected].max()) <= LOGITS * float(wanted.region_features.abs().max())


def readings(device: torch.device, number: int, precision: str = "exact") -> RegionReadings:
    detector, selector = random_detector().to(device), random_selector().to(device)
    images = films(40)[:number]
    return read_regions(detector, selector, images, images, precision=precision)  # type: ignore[arg-type]


def test_what_is_said_of_regions(device: torch.device) -> None:
    wanted = readings(CPU, 20)
    with summed_otherwise(device):
        found = readings(device, 20)
    assert np.array_equal(found.detected, wanted.detected)
    for name in ("selection_probabilities", "abnormal_probabilities", "finding_probabilities", "features"):
        assert np.abs(getattr(found, name) - getattr(wanted, name)).max() <= LOGITS, name
    assert wanted.selection_probabilities.std() > 0.01, "they differ, so that a mix-up would show"


def test_a_film_is_read_the_same_alone_and_among_many(device: torch.device) -> None:
    many = readings(device, 40)
    alone = readings(device, 1)
    for name, value in vars(alone).items():
        limit = PIXELS / 10 if name == "input_boxes_xyxy" else ALONE
        assert np.abs(value[0].astype(float) - vars(many)[name][0].astype(float)).max() <= limit, name


def test_next_word_logits(device: torch.device) -> None:
    model = random_generator()
    ids = torch.randint(2, 290, (6, 12), generator=torch.Generator().manual_seed(0))
    features, regions, flags = (torch.from_numpy(part).float() for part in given(6))

    def logits(network: ReportGenerator, where: torch.device) -> Tensor:
        condition = network.encode_condition(features.to(where), regions.long().to(where), flags.to(where))
        return network(ids.to(where), condition).cpu()

    with torch.no_grad():
        wanted = logits(model, CPU)
        with summed_otherwise(device):
            found = logits(copy_on(model, device), device)
    assert float((found - wanted).abs().max()) <= LOGITS


@pytest.mark.usefixtures("most_slots")
@pytest.mark.parametrize("changes", [{}, {"num_beams": 1}, {"compat": "rgrg", "no_repeat_ngram": 0}])
def test_sentences(device: torch.device, changes: dict[str, object]) -> None:
    model = random_generator()
    wanted = hypotheses(model, 96, **changes)
    with summed_otherwise(device):
        found = hypotheses(copy_on(model, device), 96, **changes)
    other = [
        row for row, (mine, theirs) in enumerate(zip(found, wanted, strict=True)) if mine[0].text != theirs[0].text
    ]
    near = [row for row in other if len(wanted[row]) > 1 and margin(wanted[row]) < NEARLY_EQUAL]
    assert other == near
    assert len(near) <= 2
    same = [row for row in range(96) if row not in other]
    assert max(abs(found[row][0].logprob - wanted[row][0].logprob) for row in same) <= LOGITS
    assert len({tuple(phrase.text for phrase in each) for each in wanted}) > 32, "so that a mix-up would show"


def margin(found: list[DecodedPhrase]) -> float:
    return found[0].logprob - found[1].logprob


@pytest.mark.usefixtures("most_slots")
def test_a_sentence_is_the_same_alone_and_among_many(device: torch.device) -> None:
    model = copy_on(random_generator(), device)
    many = hypotheses(model, 96)
    for row in (0, 17, 40):
        rows = tuple(part[row : row + 1] for part in given(96))
        (alone,) = decode_hypotheses(model, Numbers(), *rows, DecodingSettings(num_beams=4, num_slots=FEW_SLOTS))
        assert alone[0].text == many[row][0].text
        assert abs(alone[0].logprob - many[row][0].logprob) <= ALONE


def test_fast_sentences_say_how_many_stayed_the_same(device: torch.device, capsys: pytest.CaptureFixture[str]) -> None:
    model = copy_on(random_generator(), device)
    exact, fast = hypotheses(model, 96), hypotheses(model, 96, precision="fast")
    if device.type == "cuda":
        assert model.decoder_for("fast").transformer.wte.weight.dtype == torch.bfloat16
    same = [row for row in range(96) if exact[row][0].text == fast[row][0].text]
    with capsys.disabled():
        sys.stdout.write(f"\nfast: {len(same)} of 96 sentences of random weights as exact ones ")
    assert same
    assert all(np.isfinite(phrase.logprob) for found in fast for phrase in found)
    assert max(abs(exact[row][0].logprob - fast[row][0].logprob) for row in same) < FAST_LOGPROB


def test_recorded_steps_draft_what_computed_ones_do(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    model = copy_on(random_generator(), device)
    numbers = (96, 5, 40)
    recorded = [found for number in numbers for found in hypotheses(model, number, precision="fast")]
    assert (model.step_graphs_for("fast") is not None) == (device.type == "cuda")
    monkeypatch.setattr(ReportGenerator, "step_graphs_for", lambda *_: None)
    computed = [found for number in numbers for found in hypotheses(model, number, precision="fast")]
    both = zip(recorded, computed, strict=True)
    same = [(one[0], other[0]) for one, other in both if one[0].text == other[0].text]
    assert len(same) >= MOSTLY * len(recorded)
    assert max(abs(one.logprob - other.logprob) for one, other in same) < FAST_LOGPROB


@pytest.mark.parametrize("name", CLIPS)
def test_films_and_texts_in_one_space(device: torch.device, name: str) -> None:
    clip = random_clip(**CLIPS[name])
    images = torch.from_numpy(films(12))[:, None]
    ids = torch.randint(2, 400, (12, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(9) < torch.tensor([[3 + row % 7] for row in range(12)])

    def features(where: torch.device) -> tuple[Tensor, ...]:
        network = copy_on(clip, where)
        seen = network.read_films(images.to(where))
        texts = network.encode_text(ids.to(where), mask.long().to(where))
        return seen.image_features.cpu(), seen.label_logits.cpu(), seen.cell_logits.cpu(), texts.cpu()

    with torch.inference_mode():
        wanted = features(CPU)
        with summed_otherwise(device):
            found = features(device)
    for mine, theirs in zip(found, wanted, strict=True):
        assert float((mine - theirs).abs().max()) <= LOGITS


def test_drafts_are_those_of_the_cpu_and_the_same_twice(device: torch.device) -> None:
    films_of_night = read_films(12)
    wanted = random_pipeline(CPU).draft(films_of_night)
    pipeline = random_pipeline(device)
    with summed_otherwise(device):
        first, second = pipeline.draft(films_of_night), pipeline.draft(films_of_night)
        alone = pipeline.draft(films_of_night[4:5])
    assert first == second, "to the last digit"
    assert [draft.findings for draft in first] == [draft.findings for draft in wanted]
    assert len({draft.findings for draft in wanted}) > 6
    for mine, theirs, limit in [
        *((a, b, LOGITS) for a, b in zip(first, wanted, strict=True)),
        (alone[0], first[4], ALONE),
    ]:
        assert mine.labels == theirs.labels or limit > ALONE
        assert mine.probabilities == pytest.approx(theirs.probabilities, abs=limit)
        assert mine.findings == theirs.findings


def test_fast_drafts_are_drafts(device: torch.device) -> None:
    drafts = random_pipeline(device, precision="fast").draft(read_films(5))
    assert all(draft.findings for draft in drafts)
    assert all(np.isfinite(list(draft.probabilities.values())).all() for draft in drafts)
