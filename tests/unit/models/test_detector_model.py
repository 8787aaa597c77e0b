"""The detector's network: what it learns from, which box it chooses, what it does when it finds nothing."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork

from crrg.config.models import DetectorArchitecture
from crrg.config.paper import PAPER_DETECTOR
from crrg.config.presets import preset_training
from crrg.errors import ModelError
from crrg.models import detector, proposals
from crrg.models.backbone import build_backbone, normalise_films
from crrg.models.detector import RegionDetector, load_detector
from crrg.models.region_matching import AnchorMatch, TrainingRois, match_anchors, overlap, sample_training_rois
from crrg.models.shape_prior import ShapePrior

NAN = float("nan")
SMALL = DetectorArchitecture(
    input_size=64, width=8, anchor_sizes=(8, 16, 32), anchor_ratios=(0.5, 1.0, 2.0), num_proposals=20,
    num_training_rois=40, representation_size=32, roi_channels=8,
)  # fmt: skip


def films(number: int = 2, size: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (number, 1, size, size), dtype=torch.uint8, generator=generator)


def boxes(number: int = 2) -> torch.Tensor:
    """29 boxes of 12 pixels on a grid."""
    corners = torch.tensor([[8.0 * (i % 6), 10.0 * (i // 6)] for i in range(29)])
    return torch.cat([corners, corners + 12], dim=1).expand(number, -1, -1).clone()


def build(architecture: DetectorArchitecture = SMALL) -> RegionDetector:
    torch.manual_seed(0)
    return RegionDetector(architecture)


def test_grey_values_are_normalised_inside() -> None:
    assert float(normalise_films(torch.full((1, 1, 1, 1), 255, dtype=torch.uint8))) == pytest.approx(0.529 / 0.302)
    model = build().eval()
    first, second = model.detect(films()), model.detect(films().float())
    assert torch.equal(first.input_boxes_xyxy, second.input_boxes_xyxy)


def test_losses_are_those_of_faster_rcnn_and_have_gradients() -> None:
    model = build()
    losses = model(films(), boxes())
    assert sorted(losses) == ["loss_box_reg", "loss_classifier", "loss_objectness", "loss_rpn_box_reg"]
    torch.stack(list(losses.values())).sum().backward()
    missing = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert missing == []


def test_films_without_any_box_teach_nothing_and_break_nothing() -> None:
    model = build()
    losses = model(films(), torch.full((2, 29, 4), NAN))
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    assert torch.isfinite(total)
    assert losses["loss_objectness"].item() == 0
    assert losses["loss_rpn_box_reg"].item() == 0
    missing = [name for name, each in model.named_parameters() if each.requires_grad and each.grad is None]
    assert missing == [], "a rank whose films teach nothing still takes part with every weight"


def test_partly_annotated_film_has_no_background() -> None:
    targets = boxes()
    targets[1, 5:] = NAN
    far_away = torch.tensor([[0.0, 55.0, 4.0, 60.0]])
    is_complete = torch.tensor([True, False])
    rois = sample_training_rois(
        [far_away, far_away], targets, is_complete, None, size=64, num_rois=500, positive_share=0.9,
    )  # fmt: skip
    first, second = rois.labels.split([len(rois.boxes[0]), len(rois.boxes[1])])
    assert int((first == 0).sum()) >= 1, "the complete film's far-away proposal is background"
    assert int((second == 0).sum()) == 0
    assert set(second.tolist()) <= set(range(1, 6)), "only annotated regions are taught"
    assert len(second) >= 5, "each annotated box itself is a positive"


def test_films_are_complete_that_have_every_region_which_training_annotates(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()
    targets = boxes()
    targets[:, 2:] = NAN
    targets[1, 1] = NAN
    model.fit_regions(targets / 64)
    assert model.taught.nonzero()[:, 0].tolist() == [0, 1]
    assert "taught" not in model.state_dict(), "weights of an earlier version still fit"
    model.teach_regions(torch.full((2, 29, 4), NAN))
    assert model.taught.all(), "films without any box say of no region that there is none"
    model.teach_regions(targets)
    seen: list[bool] = []

    def watched(anchors: torch.Tensor, own: torch.Tensor, is_complete: bool) -> AnchorMatch:
        seen.append(is_complete)
        return match_anchors(anchors, own, is_complete)

    monkeypatch.setattr(proposals, "match_anchors", watched)
    model(films(), targets)
    assert seen == [True, False]


def test_only_annotated_regions_propose_their_prior_box_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()
    targets = boxes()
    targets[:, 2:] = NAN
    model.fit_regions(targets / 64)
    seen: list[torch.Tensor | None] = []

    def watched(proposals: list[torch.Tensor], *rest: torch.Tensor | None, **settings: float) -> TrainingRois:
        seen.append(rest[2])
        return sample_training_rois(proposals, *rest, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(detector, "sample_training_rois", watched)
    model(films(), targets)
    assert seen[0] is not None
    assert seen[0].tolist() == model.prior_boxes[:2].tolist(), "the hull that stands for 27 others is no background"


def test_anchors_of_a_partly_annotated_film_are_never_background() -> None:
    anchors = torch.tensor([[0.0, 0.0, 12.0, 12.0], [50.0, 50.0, 60.0, 60.0]])
    box = torch.tensor([[0.0, 0.0, 12.0, 12.0]])
    assert match_anchors(anchors, box, True).labels.tolist() == [1, 0]
    assert match_anchors(anchors, box, False).labels.tolist() == [1, -1]
    assert match_anchors(anchors, box[:0], True).labels.tolist() == [0, 0]
    assert match_anchors(anchors, box[:0], False).labels.tolist() == [-1, -1]


def test_proposals_and_their_losses_are_those_of_torchvision() -> None:
    torch.manual_seed(0)
    model = build()
    features = torch.randn(3, model.backbone.num_channels, 8, 8)
    corners = torch.rand(3, 6, 2) * 40
    targets = torch.cat([corners, corners + 4 + torch.rand(3, 6, 2) * 20], dim=2)
    annotated = [targets[0], targets[1, :2], targets[2, :0]]
    is_complete = torch.ones(3, dtype=torch.bool)
    for mode in (True, False):
        model.rpn.train(mode)
        torch.manual_seed(1)
        found, losses = model.rpn.propose_and_compare([features], 64, annotated, is_complete)
        torch.manual_seed(1)
        films_of = ImageList(torch.zeros(3, 1, 64, 64), [(64, 64)] * 3)
        rows = [{"boxes": boxes} for boxes in annotated]
        wanted, wanted_losses = RegionProposalNetwork.forward(model.rpn, films_of, {"0": features}, rows)
        assert all(torch.equal(own, other) for own, other in zip(found, wanted, strict=True))
        for own, other in zip(model.rpn.propose([features], 64), wanted, strict=True):
            assert torch.equal(own, other)
        for name, loss in wanted_losses.items():
            assert losses[name].item() == pytest.approx(loss.item(), rel=1e-6)


def test_positive_proposal_is_matched_to_the_region_it_overlaps_most() -> None:
    targets = torch.tensor([[[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 20.0, 10.0]]])
    near_second = torch.tensor([[0.0, 0.0, 18.0, 10.0]])
    rois = sample_training_rois(
        [near_second], targets, torch.tensor([True]), None, size=64, num_rois=100, positive_share=0.9
    )
    row = int((rois.boxes[0] == near_second[0]).all(dim=1).nonzero()[0])
    assert int(rois.labels[row]) == 2
    assert rois.matched[row].tolist() == [0, 0, 20, 10]


@pytest.mark.parametrize(("added", "num_added"), [("truth", 1), ("jittered", 3)])
def test_the_paper_adds_the_annotated_boxes_alone(added: str, num_added: int, monkeypatch: pytest.MonkeyPatch) -> None:
    update = {"added_boxes": added, "spatial_prior": False, "num_training_rois": 500, "positive_share": 0.99}
    model = build(SMALL.model_copy(update=update))
    nothing = [torch.zeros(0, 4)] * 2
    monkeypatch.setattr(model.rpn, "propose_and_compare", lambda *_: (nothing, {}))
    seen: list[torch.Tensor] = []
    head = model.box_head.forward
    monkeypatch.setattr(model.box_head, "forward", lambda maps, own: seen.extend(own) or head(maps, own))
    model(films(), boxes())
    assert [len(own) for own in seen] == [num_added * 29] * 2
    assert torch.equal(seen[0][:29], boxes()[0])


@pytest.mark.parametrize("has_priors", [False, True])
def test_where_nothing_is_added_boxes_are_learnt_on_what_is_proposed_in_use(
    has_priors: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = {"added_boxes": "none", "spatial_prior": has_priors, "num_training_rois": 500, "positive_share": 0.99}
    model = build(SMALL.model_copy(update=update))
    proposed = [boxes()[0, :1], boxes()[1, :2] + 1]
    monkeypatch.setattr(model.rpn, "propose_and_compare", lambda *_: (proposed, {}))
    seen: list[torch.Tensor] = []
    head = model.box_head.forward
    monkeypatch.setattr(model.box_head, "forward", lambda maps, own: seen.extend(own) or head(maps, own))
    losses = model(films(), boxes())
    assert all(torch.isfinite(loss) for loss in losses.values())
    priors = [model.prior_boxes] if has_priors else []
    for own, wanted in zip(seen, proposed, strict=True):
        assert torch.equal(own, torch.cat([wanted, *priors]))
    monkeypatch.setattr(model.rpn, "propose_and_compare", lambda *_: ([torch.zeros(0, 4)] * 2, {}))
    assert all(torch.isfinite(loss) for loss in model(films(), boxes()).values()), "nothing proposed is no error"


def test_overlap_by_hand() -> None:
    first = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0], [NAN, NAN, NAN, NAN]])
    second = torch.tensor([[1.0, 0.0, 3.0, 2.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    assert overlap(first, second).tolist() == pytest.approx([1 / 3, 0, 0])


def test_a_region_takes_the_best_proposal_that_speaks_for_it() -> None:
    model = build(SMALL.model_copy(update={"num_regions": 3}))
    scores = torch.tensor([[[0.5, 0.4, 0.0], [0.1, 0.3, 0.0], [0.6, 0.1, 0.2]]])
    # proposal 0 and 2 speak for region 0, proposal 1 for region 1 though proposal 0 gives it more, none for region 2
    candidates = torch.arange(36, dtype=torch.float32).reshape(1, 3, 3, 4)
    chosen, best, winners, is_found = model._one_box_per_region(scores, candidates, [3])
    assert is_found[0].tolist() == [True, True, False]
    assert best[0].tolist() == pytest.approx([0.6, 0.3, 0.0])
    assert chosen[0, 0].tolist() == candidates[0, 2, 0].tolist()
    assert chosen[0, 1].tolist() == candidates[0, 1, 1].tolist()
    assert winners[0, :2].tolist() == [2, 1]


def test_the_paper_finds_a_region_however_low_its_score_is() -> None:
    rules = {"spatial_prior": False, "num_refinements": 0, "score_threshold": 0.0}
    model = build(SMALL.model_copy(update=rules)).eval()
    likely = model.detect(films())
    with torch.no_grad():
        model.box_head.cls_score.bias[0] = 300.0
    found = model.detect(films())
    assert found.scores.max() == 0, "beside such a background every probability is rounded to nothing"
    assert found.detected[:, 0].all(), "then all proposals speak for the first region"
    assert not found.detected[:, 1:].any()
    assert likely.detected.any()
    with torch.no_grad():
        model.box_head.cls_score.bias[0] = 90.0
    assert torch.equal(model.detect(films()).detected, likely.detected)


@pytest.mark.parametrize("counts", [(0, 0), (0, 3)])
def test_a_film_without_any_proposal_shows_nothing(counts: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    rules = {"spatial_prior": False, "num_refinements": 0, "score_threshold": 0.0, "region_features": True}
    model = build(SMALL.model_copy(update=rules)).eval()
    proposed = [torch.tensor([[4.0, 4.0, 30.0, 40.0]]).expand(count, 4) for count in counts]
    monkeypatch.setattr(model.rpn, "propose", lambda *_: proposed)
    found = model.detect(films())
    assert found.detected.any(dim=1).tolist() == [count > 0 for count in counts]
    assert torch.isfinite(found.input_boxes_xyxy).all()
    assert found.region_features is not None
    assert torch.isfinite(found.region_features).all()


def test_undetected_region_gets_the_mean_training_box() -> None:
    model = build().eval()
    model.shape_prior.fit(boxes(4) / 64)
    with torch.no_grad():
        model.box_head.cls_score.bias[0] = 50.0
    found = model.detect(films())
    assert not found.detected.any()
    assert found.scores.abs().sum() == 0
    assert torch.allclose(found.input_boxes_xyxy, boxes(), atol=1e-3)


def test_a_film_is_read_the_same_alone_and_among_others() -> None:
    model = build().eval()
    model.shape_prior.fit(boxes(4) / 64)
    together, alone = model.detect(films(3)), model.detect(films(3)[1:2])
    assert torch.allclose(together.input_boxes_xyxy[1:2], alone.input_boxes_xyxy, atol=1e-2)
    assert together.input_boxes_xyxy.shape == (3, 29, 4)
    assert together.input_boxes_xyxy.min() >= 0
    assert together.input_boxes_xyxy.max() <= 64


def test_weights_come_back_and_foreign_weights_are_refused() -> None:
    model = build().eval()
    data = save(model.state_dict())
    again = load_detector({"architecture": SMALL.model_dump()}, data, torch.device("cpu"))
    assert not again.training
    assert torch.equal(again.detect(films()).input_boxes_xyxy, model.detect(films()).input_boxes_xyxy)
    wider = SMALL.model_copy(update={"width": 16})
    with pytest.raises(ModelError, match="do not fit"):
        load_detector({"architecture": wider.model_dump()}, data, torch.device("cpu"))


def test_input_size_must_fit_the_stride() -> None:
    with pytest.raises(ModelError, match="multiple of 8"):
        build_backbone("conv", 8, 100)


def test_shape_prior_moves_a_missing_box_with_the_found_one() -> None:
    prior = ShapePrior(2)
    shifts = torch.linspace(-0.1, 0.1, 101)[:, None, None]
    base = torch.tensor([[[0.2, 0.2, 0.4, 0.4], [0.5, 0.5, 0.7, 0.7]]])
    prior.fit(base + shifts)
    assert torch.allclose(prior.mean_boxes, base[0], atol=1e-5)
    completed = prior.complete(base + torch.tensor([[[0.08], [9.0]]]), torch.tensor([[1.0, 0.0]]))
    assert torch.allclose(completed, base + 0.08, atol=0.01), "region 1 was not found and follows region 0"


def test_shape_prior_without_complete_films_relates_nothing() -> None:
    prior = ShapePrior(2)
    rows = torch.full((50, 2, 4), NAN)
    rows[:, 0] = torch.tensor([0.1, 0.1, 0.3, 0.5])
    prior.fit(rows)
    assert torch.allclose(prior.mean_boxes, torch.tensor([[0.1, 0.1, 0.3, 0.5]] * 2)), "the unknown one gets the hull"
    found = torch.tensor([[[0.2, 0.2, 0.3, 0.3], [0.6, 0.6, 0.7, 0.7]]])
    completed = prior.complete(found, torch.tensor([[1.0, 0.0]]))
    assert torch.allclose(completed[0, 1], prior.mean_boxes[1], atol=1e-5)


def test_a_region_that_is_annotated_nowhere_leaves_the_others_related() -> None:
    prior, small = ShapePrior(3), ShapePrior(2)
    generator = torch.Generator().manual_seed(0)
    base = torch.tensor([[[0.2, 0.2, 0.4, 0.4], [0.5, 0.5, 0.7, 0.7]]])
    rows = base + 0.05 * torch.randn(60, 1, 1, generator=generator)
    found = rows + 0.01 * torch.randn(60, 2, 4, generator=generator)
    unknown = torch.full((60, 1, 4), NAN)
    prior.fit(torch.cat([rows, unknown], dim=1))
    prior.calibrate(torch.cat([found, unknown.nan_to_num(0.5)], dim=1), torch.cat([rows, unknown], dim=1))
    small.fit(rows)
    small.calibrate(found, rows)
    detected = torch.tensor([[True, True, False]]).expand(60, -1)
    settled = prior.settle(torch.cat([found, torch.zeros(60, 1, 4)], dim=1), detected)
    assert torch.allclose(settled[:, :2], small.settle(found, detected[:, :2]), atol=1e-4)
    assert torch.allclose(settled[:, 2], prior.mean_boxes[2].expand(60, -1), atol=1e-3)


def test_settling_removes_a_known_error() -> None:
    prior = ShapePrior(1)
    generator = torch.Generator().manual_seed(0)
    truth = torch.tensor([0.3, 0.3, 0.6, 0.6]) + 0.1 * torch.randn(200, 1, 4, generator=generator)
    found = truth + 0.05
    prior.fit(truth)
    prior.calibrate(found, truth)
    assert float((prior.settle(found, torch.ones(200, 1, dtype=torch.bool)) - truth).abs().mean()) < 0.005
    untouched = ShapePrior(1)
    untouched.fit(truth)
    untouched.calibrate(found[:5], truth[:5])
    assert torch.allclose(untouched.settle(found, torch.ones(200, 1, dtype=torch.bool)), found, atol=2e-3), (
        "five films are too few to learn an error from"
    )


def test_an_undetected_box_has_no_say() -> None:
    prior = ShapePrior(2)
    shifts = torch.linspace(-0.1, 0.1, 101)[:, None, None]
    base = torch.tensor([[[0.2, 0.2, 0.4, 0.4], [0.5, 0.5, 0.7, 0.7]]])
    prior.fit(base + shifts)
    noise = 0.01 * torch.randn(101, 2, 4, generator=torch.Generator().manual_seed(0))
    prior.calibrate(base + shifts + noise, base + shifts)
    found = base + torch.tensor([[[0.08], [-0.5]]])
    believed = prior.settle(found, torch.tensor([[True, True]]))
    warned = prior.settle(found, torch.tensor([[True, False]]))
    assert torch.allclose(warned[0, 0], found[0, 0], atol=0.01)
    assert float((believed[0, 0] - found[0, 0]).abs().max()) > 0.05


def num_parameters(architecture: DetectorArchitecture) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in RegionDetector(architecture).parameters())


def test_the_papers_detector_has_the_published_size_and_base_a_lighter_head() -> None:
    # the published 200.41 million less its 2.10 million of dim_reduction, which belong to our selector
    assert num_parameters(PAPER_DETECTOR) == 198_313_846
    base = preset_training("base").detector.architecture
    assert len(base.anchor_sizes) * len(base.anchor_ratios) == 160
    assert 0.5 * 198_313_846 < num_parameters(base) < 0.6 * 198_313_846


def test_base_does_one_training_step_and_reads_one_film() -> None:
    architecture = preset_training("base").detector.architecture
    model = RegionDetector(architecture.model_copy(update={"num_training_rois": 16, "num_proposals": 60}))
    image = films(1, 512)
    losses = model(image, boxes(1) * 8)
    torch.stack(list(losses.values())).sum().backward()
    torch.optim.SGD(model.parameters(), lr=1e-4).step()
    model.zero_grad(set_to_none=True)
    assert all(torch.isfinite(value) for value in losses.values())
    found = model.eval().detect(image)
    assert found.input_boxes_xyxy.shape == (1, 29, 4)
    assert torch.isfinite(found.input_boxes_xyxy).all()
