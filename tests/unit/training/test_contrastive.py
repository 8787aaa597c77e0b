"""Contrastive losses of the CLIP stage against explicit loops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from crrg.config.contrast import ContrastConfig, SamplingConfig
from crrg.config.models import ClipArchitecture
from crrg.config.paper_clip import PAPER_CLIP_TRAINING
from crrg.config.training import ClipTraining
from crrg.models.clip import MAX_LOGIT_SCALE, ClipModel
from crrg.training.contrastive import (
    StudyFeatures,
    contrast_parts,
    contrastive_loss,
    same_ids,
    sigmoid_loss,
    study_loss,
)

PLAIN = ContrastConfig()
BOTH = ContrastConfig(view_weight=1.0, text_weight=0.5)


def unit_rows(seed: int, num: int = 5, size: int = 4) -> torch.Tensor:
    return functional.normalize(torch.randn(num, size, generator=torch.Generator().manual_seed(seed)), dim=1)


def similarities(first: torch.Tensor, second: torch.Tensor, scale: float) -> list[list[float]]:
    return [
        [scale * sum(a * b for a, b in zip(one, other, strict=True)) for other in second.tolist()]
        for one in first.tolist()
    ]


def looped_cross_entropy(
    queries: torch.Tensor, keys: torch.Tensor, scale: float, right: Sequence[Sequence[int]], smoothing: float = 0.0
) -> float:
    """Mean over queries of minus the mean log-chance of the right keys, written out."""
    total = 0.0
    for i, scores in enumerate(similarities(queries, keys, scale)):
        norm = math.log(sum(math.exp(score) for score in scores))
        for j, score in enumerate(scores):
            share = (1 - smoothing) * (j in right[i]) / len(right[i]) + smoothing / len(scores)
            total -= share * (score - norm)
    return total / len(queries)


def turned(right: Sequence[Sequence[int]]) -> list[list[int]]:
    return [[i for i, row in enumerate(right) if j in row] for j in range(len(right))]


def looped_symmetric(
    first: torch.Tensor,
    second: torch.Tensor,
    scale: float,
    right: Sequence[Sequence[int]] | None = None,
    smoothing: float = 0.0,
) -> float:
    right = right or [[i] for i in range(len(first))]
    forth = looped_cross_entropy(first, second, scale, right, smoothing)
    return (forth + looped_cross_entropy(second, first, scale, turned(right), smoothing)) / 2


def looped_sigmoid(
    first: torch.Tensor, second: torch.Tensor, scale: float, bias: float, right: Sequence[Sequence[int]]
) -> float:
    """Every pair on its own: plus one where it belongs together, minus one where it does not."""
    total = 0.0
    for i, scores in enumerate(similarities(first, second, scale)):
        for j, score in enumerate(scores):
            sign = 1 if j in right[i] else -1
            total += math.log1p(math.exp(-sign * (score + bias)))
    return total / len(first)


def studies(num_views: int, num_texts: int, text_ids: Sequence[int] = (0, 1, 2, 3, 4)) -> StudyFeatures:
    return StudyFeatures(
        views=tuple(unit_rows(seed) for seed in (10, 11)[:num_views]),
        texts=tuple(unit_rows(seed) for seed in (12, 13)[:num_texts]),
        study_ids=torch.arange(5),
        text_ids=torch.tensor([list(text_ids), [10 + i for i in text_ids]])[:num_texts],
        source_ids=torch.arange(100, 105).expand(num_texts, 5),
        has_text=torch.ones(5, dtype=torch.bool),
    )


SCALE = torch.tensor(3.0)


def loss_of(features: StudyFeatures, config: ContrastConfig, bias: float | None = None) -> float:
    return study_loss(features, SCALE, None if bias is None else torch.tensor(bias), config).item()


def test_contrastive_loss_is_the_mean_of_both_directions() -> None:
    first, second = unit_rows(1), unit_rows(2)
    assert contrastive_loss(first, second, torch.tensor(7.0)).item() == pytest.approx(
        looped_symmetric(first, second, 7.0), rel=1e-5
    )


def test_equal_texts_share_the_target() -> None:
    ids = torch.tensor([8, 5, 8, 6, 8])
    right = [[0, 2, 4], [1], [0, 2, 4], [3], [0, 2, 4]]
    images, texts = unit_rows(3), unit_rows(4)
    expected = looped_symmetric(images, texts, 5.0, right)
    assert contrastive_loss(images, texts, torch.tensor(5.0), same_ids(ids, ids)).item() == pytest.approx(
        expected, rel=1e-5
    )


def test_one_sided_matches_are_read_by_column_for_texts() -> None:
    images, texts = unit_rows(5, num=3), unit_rows(6, num=3)
    # text 0 is true of films 0 and 2; text 2 is true of film 2 only
    matches = torch.tensor([[1, 0, 0], [0, 1, 0], [1, 0, 1]])
    expected = looped_symmetric(images, texts, 2.0, [[0], [1], [0, 2]])
    assert contrastive_loss(images, texts, torch.tensor(2.0), matches).item() == pytest.approx(expected, rel=1e-5)


def test_one_view_and_one_text_is_plain_clip() -> None:
    features = studies(1, 1)
    expected = looped_symmetric(features.views[0], features.texts[0], 3.0)
    assert loss_of(features, PLAIN) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_two_views_and_texts_are_mvs_plus_weighted_icl_and_tcl(smoothing: float) -> None:
    features = studies(2, 2)
    (i1, i2), (t1, t2) = features.views, features.texts
    mvs = sum(looped_symmetric(image, text, 3.0, None, smoothing) for image in (i1, i2) for text in (t1, t2)) / 4
    # as in the published code smoothing is in MVS alone
    icl, tcl = looped_symmetric(i1, i2, 3.0), looped_symmetric(t1, t2, 3.0)
    smooth = BOTH.model_copy(update={"label_smoothing": smoothing})
    assert loss_of(features, smooth) == pytest.approx(mvs + icl + 0.5 * tcl, rel=1e-5)
    plain = ContrastConfig(label_smoothing=smoothing)
    assert loss_of(features, plain) == pytest.approx(mvs, rel=1e-5)


def test_the_paper_s_weights_are_one_and_a_half_and_its_targets_the_diagonal() -> None:
    features = studies(2, 2, text_ids=(7, 7, 2, 3, 4))
    (i1, i2), (t1, t2) = features.views, features.texts
    mvs = sum(looped_symmetric(image, text, 3.0) for image in (i1, i2) for text in (t1, t2)) / 4
    expected = mvs + 1.0 * looped_symmetric(i1, i2, 3.0) + 0.5 * looped_symmetric(t1, t2, 3.0)
    assert loss_of(features, PAPER_CLIP_TRAINING.contrast) == pytest.approx(expected, rel=1e-5)


def test_a_text_that_is_another_study_s_other_text_is_right_for_both() -> None:
    features = studies(1, 2)
    # the second text of study 1 is the first text of study 0
    crossed = torch.tensor([[0, 1, 2, 3, 4], [10, 0, 12, 13, 14]])
    features = replace(features, text_ids=crossed)
    mvs = sum(looped_symmetric(features.views[0], text, 3.0) for text in features.texts) / 2
    tcl = looped_symmetric(*features.texts, 3.0, [[0, 1], [1], [2], [3], [4]])
    assert loss_of(features, ContrastConfig(text_weight=0.5)) == pytest.approx(mvs + 0.5 * tcl, rel=1e-5)


def test_excerpts_of_equal_reports_are_right_for_both() -> None:
    features = studies(1, 1)
    equal = replace(features, source_ids=torch.tensor([[7, 1, 7, 3, 4]]))
    right = [[0, 2], [1], [0, 2], [3], [4]]
    expected = looped_symmetric(features.views[0], features.texts[0], 3.0, right)
    assert loss_of(equal, PLAIN) == pytest.approx(expected, rel=1e-5)


def test_a_study_that_is_drawn_twice_is_right_for_itself() -> None:
    features = studies(2, 1)
    twice = replace(features, study_ids=torch.tensor([0, 1, 0, 3, 4]))
    right = [[0, 2], [1], [0, 2], [3], [4]]
    mvs = sum(looped_symmetric(view, features.texts[0], 3.0, right) for view in features.views) / 2
    icl = looped_symmetric(*features.views, 3.0, right)
    assert loss_of(twice, ContrastConfig(view_weight=2.0)) == pytest.approx(mvs + 2 * icl, rel=1e-5)


def test_a_study_without_text_stands_in_icl_only() -> None:
    features = studies(2, 1)
    silent = torch.tensor([True, True, False, True, False])
    (i1, i2), told = features.views, [0, 1, 3]
    some = replace(features, has_text=silent)
    mvs = sum(looped_symmetric(view[told], features.texts[0][told], 3.0) for view in (i1, i2)) / 2
    icl = looped_symmetric(i1, i2, 3.0)
    assert loss_of(some, ContrastConfig(view_weight=1.0)) == pytest.approx(mvs + icl, rel=1e-5)
    nobody = replace(features, has_text=silent & False)
    assert loss_of(nobody, PLAIN) == 0.0


def test_sigmoid_loss_judges_every_pair_on_its_own() -> None:
    ids = (8, 5, 8, 6, 8)
    right = [[0, 2, 4], [1], [0, 2, 4], [3], [0, 2, 4]]
    features = studies(1, 1, text_ids=ids)
    expected = looped_sigmoid(features.views[0], features.texts[0], 3.0, -1.5, right)
    config = ContrastConfig(kind="sigmoid")
    assert loss_of(features, config, bias=-1.5) == pytest.approx(expected, rel=1e-5)
    own = config.model_copy(update={"multi_positive": False})
    alone = looped_sigmoid(features.views[0], features.texts[0], 3.0, -1.5, [[i] for i in range(5)])
    assert loss_of(features, own, bias=-1.5) == pytest.approx(alone, rel=1e-5)


def test_sigmoid_smoothing_moves_every_target_towards_one_half() -> None:
    first, second, bias = unit_rows(1), unit_rows(2), torch.tensor(-1.0)
    yes, no = [[i] for i in range(5)], [[j for j in range(5) if j != i] for i in range(5)]
    expected = 0.9 * looped_sigmoid(first, second, 3.0, -1.0, yes) + 0.1 * looped_sigmoid(first, second, 3.0, -1.0, no)
    found = sigmoid_loss(first, second, SCALE, bias, torch.eye(5), label_smoothing=0.2)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_settings_that_cannot_work_are_refused() -> None:
    for wrong, words in (
        ({"contrast": BOTH}, "num_views"),
        ({"contrast": ContrastConfig(text_weight=0.5), "sampling": SamplingConfig(num_views=2)}, "num_texts"),
        ({"contrast": ContrastConfig(kind="sigmoid")}, "logit_bias"),
        (dict.fromkeys((f"{n}_loss_weight" for n in ("label", "contrastive", "prompt", "place")), 0.0), "above 0"),
    ):
        with pytest.raises(ValidationError, match=words):
            ClipTraining(**wrong)


def test_the_temperature_stops_at_its_limit_and_comes_back() -> None:
    model = ClipModel(ClipArchitecture(input_size=32, image_width=4, text_hidden_size=16, text_layers=1))
    with torch.no_grad():
        model.logit_scale.fill_(MAX_LOGIT_SCALE + 1)
    assert model.scale.item() == pytest.approx(100.0, rel=1e-5)
    model.scale.backward()
    assert model.logit_scale.grad is not None
    assert model.logit_scale.grad.item() == 0.0, "beyond the limit no gradient would bring it back"
    model.hold_scale()
    model.logit_scale.grad = None
    model.scale.backward()
    assert model.logit_scale.grad is not None
    assert model.logit_scale.grad.item() > 0
    free = ClipArchitecture(input_size=32, image_width=4, text_hidden_size=16, text_layers=1, clamp_temperature=False)
    running = ClipModel(free)
    with torch.no_grad():
        running.logit_scale.fill_(MAX_LOGIT_SCALE + 1)
    running.hold_scale()
    assert running.scale.item() == pytest.approx(100.0 * math.e, rel=1e-5)


def test_a_run_whose_every_term_was_smoothed_is_not_taken_for_one_of_now() -> None:
    assert contrast_parts(ContrastConfig()) == {}
    assert contrast_parts(ContrastConfig(label_smoothing=0.1)) == {"smoothed": "mvs"}
