"""The paper's stages in which all parts learn together: what reaches which part, and what a batch is made of."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from crrg.config.models import SelectorArchitecture
from crrg.config.paper import narrow_detector, narrow_generator, narrow_selector
from crrg.config.training import Augmentation
from crrg.data.dataset.batches import FilmTable
from crrg.data.tokenizer import train_tokenizer
from crrg.domain.labels import NUM_LABELS
from crrg.domain.regions import NUM_REGIONS, REGIONS
from crrg.domain.report import Report
from crrg.models.detector import RegionDetector
from crrg.models.region_heads import FeatureSelector
from crrg.models.report_generator import ReportGenerator
from crrg.training.paper_together import FoundFilms, WholeBatch, WholeModel, batch_maker, find_proposals, whole_loss
from tests.support.equal_steps import check_equal_steps
from tests.support.kept_proposals import detector_that_keeps_all, film_batch

PHRASES = ("The lung is clear.", "There is a small effusion.", "Heart size is normal.")
TOKENIZER = train_tokenizer(PHRASES * 3, 300)
DETECTOR_LOSSES = ("loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg")


@pytest.fixture(scope="module")
def films() -> FilmTable:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 32, (4, NUM_REGIONS, 2))
    return FilmTable(
        images=rng.integers(0, 256, (4, 64, 64), dtype=np.uint8),
        original_sizes=np.full((4, 2), 64, dtype=np.int32),
        input_boxes_xyxy=np.concatenate([corners, corners + 24], axis=2).astype(np.float32),
        phrases=[{REGIONS[row]: PHRASES[0], REGIONS[7]: PHRASES[1 + row % 2]} for row in range(4)],
        is_abnormal=np.array([[row % 2] * NUM_REGIONS for row in range(4)], dtype=np.int8),
        labels=np.zeros((4, NUM_LABELS), dtype=np.int8),
        reports=[""] * 4,
        texts=[Report()] * 4,
        patient_ids=list("abcd"),
        instance_ids=list("abcd"),
    )


@pytest.fixture
def whole() -> WholeModel:
    torch.manual_seed(0)
    words = narrow_generator(16, 1, 4, 16, TOKENIZER.vocab_size, 32)
    return WholeModel(
        RegionDetector(narrow_detector(1, 64, 16)).eval(),
        FeatureSelector(narrow_selector(1, 64, 16)),
        ReportGenerator(words),
    )


@pytest.fixture
def found(films: FilmTable, whole: WholeModel) -> FoundFilms:
    return find_proposals(whole.detector, films, TOKENIZER, 32)


def test_a_batch_is_made_of_found_regions_alone_and_depends_on_its_step(found: FoundFilms) -> None:
    assert found.proposals.shape == (4, NUM_REGIONS, 4)
    assert [sorted(row) for row in found.tokens] == [[0, 7], [1, 7], [2, 7], [3, 7]]
    proposals = found.films.input_boxes_xyxy.copy()
    proposals[:, 7] = np.nan
    lost = FoundFilms(found.films, proposals, found.targets, found.tokens)
    batch = batch_maker(lost, 4, Augmentation(scale=0, stretch=0, shift=0), 1)(0)
    assert sorted(batch.region_index.tolist()) == [0, 1, 2, 3], "the region that was not found has no words to learn"
    assert torch.isnan(batch.selection[:, 7]).all()
    assert torch.isfinite(batch.selection[:, :7]).all()
    spelled = [TOKENIZER.decode(row.tolist()) for row in batch.token_ids]
    assert [text.strip().lower() for text in spelled] == [PHRASES[0].lower()] * 4
    assert torch.equal(batch.token_ids[:, 1:], batch.next_ids[:, :-1])
    again = batch_maker(lost, 4, Augmentation(scale=0, stretch=0, shift=0), 1)
    assert torch.equal(again(0).images, batch.images)
    assert not torch.equal(again(1).images, batch.images)


def test_words_and_heads_train_the_backbone(found: FoundFilms, whole: WholeModel) -> None:
    batch = batch_maker(found, 4, Augmentation(), 1)(0)
    whole.train()
    loss, parts = whole_loss(whole)(batch)
    assert set(parts) == {*DETECTOR_LOSSES, "selection", "abnormal", "words"}
    assert float(loss.detach()) == pytest.approx(float(sum(parts.values())), rel=1e-5)
    for name in ("words", "selection", "abnormal"):
        gradient = torch.autograd.grad(
            _part(whole, batch, name), whole.detector.backbone.body[0].weight, allow_unused=True
        )[0]
        assert gradient is not None, name
        assert float(gradient.abs().sum()) > 0, name


def test_what_is_known_is_counted_part_by_part(found: FoundFilms, whole: WholeModel) -> None:
    batch = batch_maker(found, 4, Augmentation(scale=0, stretch=0, shift=0), 1)(0)
    batch = whole_loss(whole.train()).prepare(batch)
    counts = whole_loss(whole).counts(batch)
    assert set(counts) == set(whole_loss(whole).parts(batch))
    assert batch.sample is not None
    assert int(counts["loss_objectness"]) == len(batch.sample.anchors.films) > 0
    assert int(counts["loss_classifier"]) == len(batch.sample.rois.labels) > 0
    assert int(counts["selection"]) == int(torch.isfinite(batch.selection).sum()) > 0
    assert int(counts["words"]) == int((batch.next_ids >= 0).sum()) > 0
    nothing = torch.zeros(0, dtype=torch.long)
    silent = replace(
        batch, film_index=nothing, region_index=nothing, token_ids=nothing[:, None], next_ids=nothing[:, None]
    )
    assert float(whole_loss(whole).parts(silent)["words"].detach()) == 0
    assert int(whole_loss(whole).counts(silent)["words"]) == 0


def test_every_anchor_and_proposal_of_a_step_counts_as_much() -> None:
    """As in the detector stage: of a step whose films are annotated unequally, the gradient is that of all as one."""
    finder = detector_that_keeps_all()
    sizes = SelectorArchitecture(backbone="detector", input_size=32, width=16, feature_size=16)
    whole = WholeModel(finder, FeatureSelector(sizes))
    parts = [whole_batch(29, 29), whole_batch(3, 0), whole_batch(0, 0)]
    names = [field.name for field in fields(WholeBatch) if field.name != "sample"]
    joined = WholeBatch(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})
    check_equal_steps(whole, whole_loss(whole), parts, joined)


def whole_batch(*num_annotated: int) -> WholeBatch:
    """Return films of whose regions so many have a box, and judgements of all regions."""
    films, generator = film_batch(*num_annotated), torch.Generator().manual_seed(7)
    known = torch.randint(0, 2, (len(num_annotated), NUM_REGIONS), generator=generator).float()
    corners = torch.rand(len(num_annotated), NUM_REGIONS, 2, generator=generator) * 20
    proposals = torch.cat([corners, corners + 10], dim=-1)
    none = torch.zeros(0, dtype=torch.long)
    words = (none, none, none[:, None], none[:, None])
    return WholeBatch(films.images, films.boxes, proposals, known, 1 - known, *words)


def test_without_a_language_model_there_is_nothing_of_words(found: FoundFilms, whole: WholeModel) -> None:
    second = WholeModel(whole.detector, whole.selector).train()
    _, parts = whole_loss(second)(batch_maker(found, 4, Augmentation(), 1)(0))
    assert set(parts) == {*DETECTOR_LOSSES, "selection", "abnormal"}
    assert find_proposals(whole.detector.eval(), found.films, None, 32).tokens == [{}, {}, {}, {}]


def _part(whole: WholeModel, batch: object, name: str) -> torch.Tensor:
    """Return one part of the loss with its gradient: the whole loss with all other parts' inputs held back."""
    from crrg.training import paper_together

    assert isinstance(batch, paper_together.WholeBatch)
    seen = whole.detector.box_head.mean_features(whole.detector.maps(batch.images), torch.nan_to_num(batch.proposals))
    outputs = whole.selector(seen)
    if name == "words":
        assert whole.generator is not None
        return paper_together.word_loss(whole.generator, outputs.features[batch.film_index, batch.region_index], batch)
    targets = {"selection": batch.selection, "abnormal": batch.abnormal}
    logits = {"selection": outputs.selection_logits, "abnormal": outputs.abnormal_logits}
    return paper_together.masked_bce(logits[name], targets[name], 1.0)
