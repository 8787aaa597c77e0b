"""Faster R-CNN that finds the 29 anatomical regions of a film, one box each.

Proposals come from torchvision's region proposal network, features from its RoIAlign, boxes from its box coder. Two
things are our own: losses that never punish a region nobody annotated, and the rule that gives each region one box.
Knows tensors only; boxes are in model-input pixels. Training is in ``crrg.training.detector``.

Source: Ren et al., Faster R-CNN, 2015; one-box-per-class rule of RGRG (Tanida et al., CVPR 2023).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import fastrcnn_loss

from crrg.config.models import DetectorArchitecture
from crrg.models.backbone import ResNet50Backbone, build_backbone, normalise_films
from crrg.models.box_head import BOX_CODER, BoxHead
from crrg.models.products import torch_products
from crrg.models.proposals import AnchorSample, build_proposal_network
from crrg.models.pyramid import FeaturePyramid
from crrg.models.region_matching import NUM_JITTERED, TrainingRois, pad_rows, sample_training_rois
from crrg.models.shape_prior import ShapePrior
from crrg.models.weights import load_module

SURE_SCORE = 0.5
"""Score from which a found box may say where the other regions are."""


@dataclass(frozen=True)
class Detections:
    """One box per region and film.

    Attributes:
        input_boxes_xyxy: ``[B, R, 4]`` in model-input pixels; where a region was not detected the class-prior box, or
            that of an arbitrary proposal where no mean boxes were learnt.
        scores: ``[B, R]`` in 0..1, 0 where not detected.
        detected: bool ``[B, R]``.
        region_features: Mean feature under each region's winning proposal ``[B, R, C]``, where the architecture hands
            it on; that of an arbitrary proposal where the region was not detected.
        proposals_xyxy: These proposals ``[B, R, 4]`` in model-input pixels, where the architecture hands features on.
    """

    input_boxes_xyxy: Tensor
    scores: Tensor
    detected: Tensor
    region_features: Tensor | None = None
    proposals_xyxy: Tensor | None = None


@dataclass(frozen=True)
class TrainingSample:
    """What a batch of films teaches: anchors to the proposal network, proposals to the box head."""

    anchors: AnchorSample
    rois: TrainingRois

    def counts(self) -> dict[str, Tensor]:
        """Return over how many of them each loss is a mean."""
        num_anchors, num_rois = torch.tensor(len(self.anchors.films)), torch.tensor(len(self.rois.labels))
        return {
            "loss_objectness": num_anchors,
            "loss_rpn_box_reg": num_anchors,
            "loss_classifier": num_rois,
            "loss_box_reg": num_rois,
        }


class RegionDetector(nn.Module):
    """Finds 29 regions on frontal films; a region that is not found gets the mean box of the training films.

    Attributes:
        architecture: Sizes it was built with.
        shape_prior: Mean training box of each region and how regions lie relative to each other.
        taught: bool ``[R]``, which regions any training film annotates; only training looks at it.
    """

    taught: Tensor

    def __init__(self, architecture: DetectorArchitecture) -> None:
        """Build the network with random weights and the whole film as every prior box."""
        super().__init__()
        self.architecture = architecture
        self.backbone = build_backbone(
            architecture.backbone, architecture.width, architecture.input_size, architecture.resnet_width
        )
        has_pyramid = architecture.pyramid_channels > 0
        num_channels = architecture.pyramid_channels or self.backbone.num_channels
        strides = self.backbone.stage_strides if has_pyramid else (self.backbone.stride,)
        cells = architecture.input_size // self.backbone.stride
        self.shape_prior = ShapePrior(architecture.num_regions)
        self.register_buffer("taught", torch.ones(architecture.num_regions, dtype=torch.bool), persistent=False)
        has_place = architecture.spatial_prior and not has_pyramid
        self.place = nn.Parameter(torch.zeros(1, num_channels, cells, cells)) if has_place else None
        self.pyramid = FeaturePyramid(architecture, self.backbone.stage_channels, strides) if has_pyramid else None
        self.rpn = build_proposal_network(architecture, num_channels)
        self.box_head = BoxHead(architecture, num_channels, strides)

    @property
    def exact_roi(self) -> bool:
        """Whether it computes as published code does, slower, so that boxes agree to a thousandth of a pixel."""
        return self.box_head.exact_roi

    @exact_roi.setter
    def exact_roi(self, is_exact: bool) -> None:
        self.box_head.exact_roi = is_exact
        if isinstance(self.backbone, ResNet50Backbone):
            self.backbone.is_folded = not is_exact

    @property
    def prior_boxes(self) -> Tensor:
        """Mean training boxes ``[R, 4]`` in model-input pixels."""
        return self.shape_prior.mean_boxes * self.architecture.input_size

    def fit_regions(self, boxes: Tensor) -> None:
        """Learn from all training boxes, before the first step, which regions there are and where they usually lie.

        Args:
            boxes: ``[N, R, 4]``, relative to the input, rows of NaN where not annotated.
        """
        self.teach_regions(boxes)
        self.shape_prior.fit(boxes)

    def teach_regions(self, boxes: Tensor) -> None:
        """Learn from all training boxes, before the first step of each stage, which regions there are.

        Where none is annotated nothing is known of any: what a detector learnt before is not background then.

        Args:
            boxes: ``[N, R, 4]`` in any unit, rows of NaN where not annotated.
        """
        annotated = torch.isfinite(boxes).all(dim=-1).any(dim=0)
        self.taught.copy_(annotated | ~annotated.any())

    def forward(self, images: Tensor, targets: Tensor, sample: TrainingSample | None = None) -> dict[str, Tensor]:
        """Return the four losses of Faster R-CNN; the module must be in ``train`` mode.

        A film whose boxes are incomplete teaches only by what it has: anchors and proposals that meet none of its boxes
        are left out instead of counting as background, since they may lie on a region nobody annotated. A region that
        no training film annotates is none that could be missed: it is never found, and its place is background.

        Args:
            images: Films ``[B, 1, S, S]``, grey values 0..255.
            targets: Boxes ``[B, R, 4]`` in model-input pixels; rows of NaN where a region is not annotated.
            sample: What ``sample`` chose of the same films; chosen now where not given.

        Returns:
            ``loss_objectness``, ``loss_rpn_box_reg``, ``loss_classifier``, ``loss_box_reg``.
        """
        return self.losses(self.maps(images), targets, sample)

    def losses(
        self, levels: Sequence[Tensor], targets: Tensor, sample: TrainingSample | None = None
    ) -> dict[str, Tensor]:
        """Return what ``forward`` does, for ``maps`` that are there already."""
        if sample is None:
            boxes, is_complete = self._annotated(targets)
            proposals, losses = self.rpn.propose_and_compare(levels, self.architecture.input_size, boxes, is_complete)
            rois = self._sample_rois(proposals, targets, is_complete)
        else:
            losses, rois = self.rpn.compare(levels, sample.anchors), sample.rois
        class_logits, box_deltas = self.box_head(levels, rois.boxes)
        if len(rois.labels) == 0:
            nothing = class_logits.sum() + box_deltas.sum()
            return {**losses, "loss_classifier": nothing, "loss_box_reg": nothing}
        wanted = BOX_CODER.encode_single(rois.matched, torch.cat(rois.boxes))
        loss_classifier, loss_box_reg = fastrcnn_loss(class_logits, box_deltas, [rois.labels], [wanted])
        return {**losses, "loss_classifier": loss_classifier, "loss_box_reg": loss_box_reg}

    @torch.no_grad()
    def sample(self, images: Tensor, targets: Tensor) -> TrainingSample:
        """Return what films teach, so that ``forward`` compares just that; arguments are those of ``forward``."""
        boxes, is_complete = self._annotated(targets)
        proposals, anchors = self.rpn.sample(self.maps(images), self.architecture.input_size, boxes, is_complete)
        return TrainingSample(anchors, self._sample_rois(proposals, targets, is_complete))

    def _annotated(self, targets: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the boxes that each film has, and whether these are all that could be asked of it ``[B]``."""
        known = torch.isfinite(targets).all(dim=-1)
        boxes = [rows[is_known] for rows, is_known in zip(targets, known, strict=True)]
        return boxes, (known | ~self.taught).all(dim=-1)

    def _sample_rois(self, proposals: list[Tensor], targets: Tensor, is_complete: Tensor) -> TrainingRois:
        return sample_training_rois(
            proposals,
            targets,
            is_complete,
            self.prior_boxes[self.taught] if self.architecture.spatial_prior else None,
            size=self.architecture.input_size,
            num_rois=self.architecture.num_training_rois,
            positive_share=self.architecture.positive_share,
            num_jittered=NUM_JITTERED if self.architecture.added_boxes == "jittered" else 0,
            adds_truth=self.architecture.added_boxes != "none",
        )

    @torch.no_grad()
    def detect(self, images: Tensor) -> Detections:
        """Find the regions; no annotation plays a part, so the same film always gives the same boxes.

        Args:
            images: Films ``[B, 1, S, S]``, grey values 0..255. The module must be in ``eval`` mode.
        """
        found = self.find(images)
        if not self.architecture.spatial_prior:
            return found
        size = self.architecture.input_size
        settled = self.shape_prior.settle(found.input_boxes_xyxy / size, found.detected) * size
        return self._with_priors(replace(found, input_boxes_xyxy=settled.clamp(0, size)))

    @torch.no_grad()
    def find(self, images: Tensor) -> Detections:
        """Find the regions as ``detect`` does, without its last step, which weighs the boxes of a film together."""
        if not self.exact_roi:
            return self._find(images)
        with torch_products():
            return self._find(images)

    def _find(self, images: Tensor) -> Detections:
        levels = self.maps(images)
        proposals = self.rpn.propose(levels, self.architecture.input_size)
        if self.architecture.spatial_prior:
            proposals = [torch.cat([boxes, self.prior_boxes]) for boxes in proposals]
        class_logits, box_deltas = self.box_head(levels, proposals)
        counts = [len(boxes) for boxes in proposals]
        scores = pad_rows(class_logits.softmax(dim=-1)[:, 1:].split(counts), least=1)
        decoded = BOX_CODER.decode(box_deltas, proposals).view(*class_logits.shape, 4)[:, 1:]
        boxes, best, winners, is_found = self._one_box_per_region(
            scores, pad_rows(decoded.split(counts), least=1), counts
        )
        pooled, winning = None, None
        if self.architecture.region_features:
            winning = _rows(pad_rows(proposals, least=1), winners)
            pooled = self.box_head.mean_features(levels, winning)
        for _ in range(self.architecture.num_refinements):
            boxes, best = self._look_again(levels, boxes, best)
        detected = (is_found | (best > 0)) & (best >= self.architecture.score_threshold)
        return self._with_priors(Detections(boxes, best * detected, detected, pooled, winning))

    @torch.no_grad()
    def features_at(self, images: Tensor, input_boxes_xyxy: Tensor) -> Tensor:
        """Return the mean feature ``[B, R, C]`` under given boxes ``[B, R, 4]`` of films ``[B, 1, S, S]``."""
        return self.box_head.mean_features(self.maps(images), input_boxes_xyxy)

    def _with_priors(self, found: Detections) -> Detections:
        # an imported detector knows no mean boxes; as published, a region that was not found has an arbitrary one
        keeps = found.detected | ~self.shape_prior.is_fitted()
        boxes = torch.where(keeps[..., None], found.input_boxes_xyxy, self.prior_boxes)
        return replace(found, input_boxes_xyxy=boxes)

    def maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the maps ``[B, C, H, W]`` of films ``[B, 1, S, S]``, grey values 0..255.

        One, or the levels of the pyramid, the finest first.
        """
        films = normalise_films(images)
        if self.pyramid is not None:
            levels: tuple[Tensor, ...] = self.pyramid(self.backbone.stages(films))
            return levels
        features = self.backbone(films).float()
        return (features if self.place is None else features + self.place,)

    def _one_box_per_region(
        self, scores: Tensor, boxes: Tensor, counts: Sequence[int]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Choose each region's box among ``[B, N, R]`` scores and ``[B, N, R, 4]`` boxes, ``counts`` of them real.

        A proposal speaks for the region it likes best, background left aside; a region takes the proposal that speaks
        for it with the highest score. Without such a proposal its score is 0.

        Returns:
            Boxes ``[B, R, 4]``, scores ``[B, R]``, the proposals taken ``[B, R]``, and for which regions one speaks,
            however little it likes them, bool ``[B, R]``.
        """
        speaks = nn.functional.one_hot(scores.argmax(dim=-1), scores.shape[-1])
        numbers = torch.arange(scores.shape[1], device=scores.device)
        is_real = numbers < torch.tensor(counts, device=scores.device)[:, None]
        best, winner = (scores * speaks).max(dim=1)
        chosen = boxes.gather(1, winner[:, None, :, None].expand(-1, 1, -1, 4))[:, 0]
        is_found = (speaks.bool() & is_real[..., None]).any(dim=1)
        return chosen.clamp(0, self.architecture.input_size), best, winner, is_found

    def _look_again(self, levels: Sequence[Tensor], boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Propose to each region the place where all surely found regions together want it.

        The box head judges these proposals like any other, each for its own region alone; a region keeps the higher of
        its two scores ``[B, R]``.
        """
        num_films, num_regions, _ = boxes.shape
        size = self.architecture.input_size
        trust = torch.where(scores >= SURE_SCORE, scores, 0.0)
        likely = (self.shape_prior.complete(boxes / size, trust) * size).clamp(0, size)
        proposals = list(torch.cat([likely[..., :2], torch.maximum(likely[..., 2:], likely[..., :2] + 1)], dim=-1))
        class_logits, box_deltas = self.box_head(levels, proposals)
        own = torch.arange(num_regions, device=boxes.device)
        again = class_logits.softmax(dim=-1).reshape(num_films, num_regions, -1)[:, own, own + 1]
        decoded = BOX_CODER.decode(box_deltas, proposals).reshape(num_films, num_regions, -1, 4)
        return decoded[:, own, own + 1].clamp(0, size), torch.maximum(scores, again)


def _rows(proposals: Tensor, chosen: Tensor) -> Tensor:
    """Return the proposals ``[B, R, 4]`` with the numbers ``[B, R]`` among ``[B, N, 4]``."""
    return proposals.gather(1, chosen[..., None].expand(-1, -1, 4))


def load_detector(config: Mapping[str, Any], tensors: bytes, device: torch.device) -> RegionDetector:
    """Return a trained detector in ``eval`` mode.

    Args:
        config: The stage's ``config.json``; its ``architecture`` decides the sizes.
        tensors: Content of ``model.safetensors``.
        device: Where it is to run.

    Raises:
        ModelError: Names or shapes do not fit the architecture.
    """
    model = RegionDetector(DetectorArchitecture.model_validate(config["architecture"]))
    load_module(model, tensors, "detector")
    return model.to(device).eval()
