"""What a sentence rests on: planted networks whose answers depend on one place of the film."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crrg.config.evidence import EvidenceSettings
from crrg.config.models import DetectorArchitecture, GeneratorArchitecture, SelectorArchitecture
from crrg.domain.boxes import Letterbox
from crrg.domain.evidence import SentenceEvidence
from crrg.domain.labels import LABELS
from crrg.domain.regions import NUM_REGIONS, REGION_INDEX, REGIONS
from crrg.domain.study import DraftReport, RegionPrediction
from crrg.inference.evidence import (
    WordedRegion,
    explain_sentences,
    hidden_copies,
    sentence_logprobs,
    sentences_to_explain,
)
from crrg.inference.regions import judge_at
from crrg.models.detector import RegionDetector
from crrg.models.region_heads import FeatureSelector, RegionOutputs, RegionSelector
from crrg.models.report_generator import ReportGenerator

SIZE = 64
FOUR = EvidenceSettings(max_sentences=3, cells=4, patch=1.0)
LUNG, HEART = "right lung", "cardiac silhouette"


def film(bright: tuple[slice, slice]) -> np.ndarray:
    image = np.full((SIZE, SIZE), 100, np.uint8)
    image[bright] = 250
    return image


def planted(place: tuple[slice, slice], region: str):
    """Return a network that finds a region abnormal, and its feature large, by the grey of one place alone."""

    def judge(images: np.ndarray) -> RegionOutputs:
        seen = torch.from_numpy(images[(slice(None), *place)].astype(np.float32).mean(axis=(1, 2)) / 255)
        logits, features = torch.zeros(len(images), NUM_REGIONS), torch.zeros(len(images), NUM_REGIONS, 2)
        logits[:, REGION_INDEX[region]] = features[:, REGION_INDEX[region], 0] = seen
        nothing = torch.zeros(len(images), NUM_REGIONS, len(LABELS))
        return RegionOutputs(features, torch.zeros_like(logits), logits, nothing)

    return judge


def worded(region: str, is_abnormal: bool = True) -> WordedRegion:
    return WordedRegion(region, (0, 5, 6, 0), np.full(15, float(is_abnormal)))


@pytest.mark.parametrize("cell", [0, 6, 9, 15])
def test_the_cell_that_a_network_depends_on_is_found(cell: int) -> None:
    row, column = divmod(cell, 4)
    place = (slice(16 * row + 4, 16 * row + 12), slice(16 * column + 4, 16 * column + 12))
    copies = hidden_copies(film(place), Letterbox(SIZE, SIZE, SIZE), FOUR)
    (evidence,) = explain_sentences(copies, [worded(HEART)], planted(place, HEART), lambda _, rows: rows[:, 0])
    for falls in (evidence.wording_falls, evidence.abnormality_falls, evidence.heat):
        assert int(falls.argmax()) == cell
        assert np.count_nonzero(falls > 1e-6) == 1
    assert evidence.heat.flat[cell] == 1.0


def test_a_region_that_sees_nothing_of_it_has_no_heat() -> None:
    place = (slice(0, 16), slice(0, 16))
    copies = hidden_copies(film(place), Letterbox(SIZE, SIZE, SIZE), FOUR)
    (evidence,) = explain_sentences(copies, [worded(LUNG)], planted(place, HEART), lambda _, rows: rows[:, 0])
    assert not evidence.heat.any()
    # what becomes more likely when a place is hidden does not rest on it
    words, abnormality = np.array([[-3.0, 1.0], [0.5, 0.0]]), np.array([[2.0, -9.0], [0.0, 1.0]])
    assert SentenceEvidence(LUNG, False, words, abnormality).heat.tolist() == [[0.0, 1.0], [0.5, 0.0]]
    assert SentenceEvidence(LUNG, True, words, abnormality).heat.tolist() == [[1.0, 0.0], [0.0, 0.5]]


def test_hidden_parts_lie_on_the_film_and_not_on_its_padding() -> None:
    box = Letterbox(SIZE, SIZE // 2, SIZE)
    image = np.zeros((SIZE, SIZE), np.uint8)
    image[16:48] = np.arange(SIZE, dtype=np.uint8)
    copies = hidden_copies(image, box, FOUR)
    changed = copies[:-1] != image
    assert copies.shape == (17, SIZE, SIZE)
    assert np.array_equal(copies[-1], image)
    assert not changed[:, :16].any()
    assert not changed[:, 48:].any()
    # the mean grey, 31.5, is rounded to that of one column, which stays as it is
    assert [int(each.sum()) for each in changed[:4]] == [16 * 8, 16 * 8, 15 * 8, 16 * 8]
    wide = hidden_copies(image, box, FOUR.model_copy(update={"patch": 2.0}))
    assert int((wide[5] != image).sum()) == 31 * 16


def test_abnormal_sentences_come_first_and_each_once() -> None:
    said = {
        0: ("The lungs are clear.", 0.1),
        3: ("There is an opacity.", 0.7),
        5: ("There is an opacity.", 0.9),
        8: ("This was left out.", 0.99),
        20: ("The heart is large.", 0.8),
    }
    regions = tuple(
        RegionPrediction(name, (0, 0, 1, 1), True, 1.0, i in said, said.get(i, ("", 0))[1], said.get(i, (None,))[0], -1)
        for i, name in enumerate(REGIONS)
    )
    findings = "The lungs are clear. There is an opacity. The heart is large."
    draft = DraftReport(findings, "", regions, {}, {}, 1.0)
    is_abnormal = [i in (3, 5, 8) for i in range(NUM_REGIONS)]
    assert sentences_to_explain(draft, is_abnormal, 9) == [REGIONS[5], REGIONS[20], REGIONS[0]]
    assert sentences_to_explain(draft, is_abnormal, 1) == [REGIONS[5]]


def test_words_are_scored_as_the_decoder_reads_them() -> None:
    torch.manual_seed(0)
    architecture = GeneratorArchitecture(
        num_layers=1, num_heads=2, hidden_size=16, vocab_size=300, max_length=16, feature_size=8, dropout=0.0
    )
    generator = ReportGenerator(architecture).eval()
    features = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    sentence = WordedRegion(HEART, (0, 7, 9, 11, 0), np.eye(15)[3])
    found = sentence_logprobs(generator, sentence, features)
    index, flags = torch.tensor([REGION_INDEX[HEART]]), torch.eye(15)[3:4]
    with torch.inference_mode():
        for row in (0, 19):
            condition = generator.encode_condition(torch.from_numpy(features[row : row + 1]), index, flags)
            chances = generator(torch.tensor([[0, 7, 9, 11]]), condition).log_softmax(dim=-1)[0]
            by_hand = float(sum(chances[place, word] for place, word in enumerate((7, 9, 11, 0)))) / 4
            assert found[row] == pytest.approx(by_hand, abs=1e-5)


def test_boxes_are_held_and_the_network_in_use_looks() -> None:
    torch.manual_seed(0)
    detector = RegionDetector(DetectorArchitecture(input_size=64, width=8)).eval()
    selector = RegionSelector(
        SelectorArchitecture(input_size=32, width=8, detail_channels=0, roi_size=2, feature_size=16)
    ).eval()
    boxes = np.tile(np.array([8.0, 8.0, 40.0, 40.0], np.float32), (NUM_REGIONS, 1))
    images = np.random.default_rng(0).integers(0, 255, (3, 32, 32), dtype=np.uint8)
    judged = judge_at(detector, selector, images, boxes)
    with torch.inference_mode():
        wanted = selector(torch.from_numpy(images)[:, None], torch.from_numpy(boxes).expand(3, -1, -1) / 2)
    assert torch.allclose(judged.abnormal_logits, wanted.abnormal_logits, atol=1e-5)
    heads = FeatureSelector(
        SelectorArchitecture(backbone="detector", width=detector.backbone.num_channels, feature_size=16)
    ).eval()
    images = np.random.default_rng(1).integers(0, 255, (2, 64, 64), dtype=np.uint8)
    judged = judge_at(detector, heads, images, boxes)
    assert judged.features.shape == (2, NUM_REGIONS, 16)
    changed = images.copy()
    changed[:, 20:30, 20:30] = 255
    assert not torch.allclose(judge_at(detector, heads, changed, boxes).features, judged.features)
