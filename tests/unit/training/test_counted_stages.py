"""Detector and CLIP: the batches of a step give the gradient of all of them as one, however unequally much is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from crrg.config.training import ClipTraining, LoopConfig
from crrg.models.clip import ClipModel
from crrg.training.clip import clip_loss, train_clip_tokenizer
from crrg.training.clip_batches import ClipBatch, ClipBatches
from crrg.training.counted_loss import losses_of_step, step_parts
from crrg.training.detector import DetectorBatch, detector_loss
from tests.support.equal_steps import CPU, check_equal_steps
from tests.support.kept_proposals import detector_that_keeps_all, film_batch
from tests.support.small_clip import REPORTS, clip_architecture, film_table


def clip_batch(training: ClipTraining) -> tuple[ClipModel, Any, ClipBatch]:
    films = film_table(training.architecture.input_size)
    torch.manual_seed(0)
    model = ClipModel(training.architecture).eval()
    batch = ClipBatches(films, train_clip_tokenizer(list(REPORTS), 500), training, seed=0).make(0)
    labels = torch.randint(0, 2, (4, 14), generator=torch.Generator().manual_seed(1))
    labels[0, 1:], labels[1, 3:], labels[2, :2] = -2, -1, -2
    region_labels = torch.zeros(4, 14, 29, dtype=torch.bool)
    region_labels[2:, :5, 14] = True
    return model, clip_loss(model, films, training, CPU), replace(batch, labels=labels, region_labels=region_labels)


def rows_of(batch: ClipBatch, first: int, last: int) -> ClipBatch:
    rows = slice(first, last)
    by_text = ("text_rows", "text_ids", "source_ids")
    by_study = ("labels", "study_ids", "has_text", "input_boxes_xyxy", "region_labels")
    return replace(
        batch,
        images=torch.cat([view[rows] for view in batch.images.split(len(batch.labels))]),
        **{name: getattr(batch, name)[:, rows] for name in by_text},
        **{name: getattr(batch, name)[rows] for name in by_study},
    )


@pytest.mark.parametrize("uncertain", ["mask", "soft"])
def test_every_known_label_prompt_and_place_of_a_step_counts_as_much(uncertain: str) -> None:
    training = ClipTraining(
        architecture=clip_architecture(), loop=LoopConfig(batch_size=4), uncertain=uncertain,
        contrastive_loss_weight=0.0, prompt_loss_weight=0.7, label_loss_weight=1.3, place_loss_weight=0.4,
    )  # fmt: skip
    model, loss_of, whole = clip_batch(training)
    check_equal_steps(model, loss_of, [rows_of(whole, 0, 2), rows_of(whole, 2, 4)], whole)


def test_the_comparison_of_studies_is_the_mean_over_batches() -> None:
    training = ClipTraining(
        architecture=clip_architecture(), loop=LoopConfig(batch_size=4), prompt_loss_weight=0.0, label_loss_weight=0.0,
        place_loss_weight=0.0,
    )  # fmt: skip
    _, loss_of, whole = clip_batch(training)
    parts = [rows_of(whole, 0, 2), rows_of(whole, 2, 4)]
    found = [loss.item() for loss, _ in losses_of_step(loss_of, parts, CPU)]
    assert found == pytest.approx([loss_of(part)[0].item() / 2 for part in parts])


def test_parts_are_logged_as_they_are_and_the_scale_once() -> None:
    training = ClipTraining(architecture=clip_architecture(), loop=LoopConfig(batch_size=4), label_loss_weight=2.0)
    model, loss_of, whole = clip_batch(training)
    for batches in ([whole], [whole, whole]):
        logged: dict[str, float] = {}
        total = 0.0
        for loss, parts in losses_of_step(loss_of, batches, CPU):
            total += loss.item()
            for name, part in parts.items():
                logged[name] = logged.get(name, 0.0) + float(part)
        assert logged.pop("scale") == pytest.approx(model.scale.item())
        weights = {name: getattr(training, f"{name}_loss_weight") for name in logged}
        assert total == pytest.approx(sum(weights[name] * value for name, value in logged.items()), rel=1e-5)


def joined(parts: list[DetectorBatch]) -> DetectorBatch:
    return DetectorBatch(*(torch.cat([getattr(part, name) for part in parts]) for name in ("images", "boxes")))


def test_every_anchor_and_proposal_of_a_step_counts_as_much() -> None:
    model, parts = detector_that_keeps_all(), [film_batch(29, 29), film_batch(3, 0), film_batch(0, 0)]
    check_equal_steps(model, detector_loss(model), parts, joined(parts))


def test_looking_at_batches_twice_moves_no_statistics_and_draws_the_same_once() -> None:
    model = detector_that_keeps_all().train()
    loss_of, batch = detector_loss(model), film_batch(29, 5)
    before: dict[str, Tensor] = {name: value.clone() for name, value in model.named_buffers()}
    prepared = loss_of.prepare(batch)
    moved = [name for name, value in model.named_buffers() if not torch.equal(value, before[name])]
    assert all(name.endswith("num_batches_tracked") for name in moved)
    assert torch.equal(loss_of(prepared)[0], loss_of(prepared)[0]), "nothing is left to chance any more"
    counts = loss_of.counts(prepared)
    assert counts["loss_objectness"] == counts["loss_rpn_box_reg"] > 0
    assert counts["loss_classifier"] == counts["loss_box_reg"] == len(prepared.sample.rois.labels)


def test_a_run_whose_batches_were_weighed_as_equals_is_not_taken_for_one_of_now() -> None:
    assert step_parts(LoopConfig(accumulate=1)) == {}
    assert step_parts(LoopConfig(accumulate=4)) == {"step": "counted"}
