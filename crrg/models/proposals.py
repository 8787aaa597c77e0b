"""First stage of the detector: where on a film a region may lie, and what that guess is taught.

The network, its anchors, its box coder and its sampler are torchvision's. What differs from it costs less and gives the
same numbers: only likely anchors are decoded, only sampled ones are compared with a box, and overlaps are computed
coordinate by coordinate. Two rules are our own: on a film with incomplete annotation no anchor is background, and the
levels of a pyramid have heads of their own, since they differ in their anchors, and compete for the proposals together.

Source: Ren et al., Faster R-CNN, 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, smooth_l1_loss
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import clip_boxes_to_image, nms

from crrg.config.models import DetectorArchitecture
from crrg.models.backbone import channels_last
from crrg.models.prepared import Prepared
from crrg.models.products import affine, is_onednn_used, prepared_convolution
from crrg.models.pyramid import anchor_groups
from crrg.models.region_matching import OTHER_IOU, SAME_IOU, match_anchors, pad_rows

SMOOTH_L1_BETA = 1 / 9
ANCHORS_PER_FILM = 256
"""Anchors of a film that teach the network, half of them positive where there are so many."""


@dataclass(frozen=True)
class AnchorSample:
    """The anchors of a batch that teach the network.

    Attributes:
        films: int64 ``[N]``, whose anchors they are; those that stand for a box come first.
        anchors: int64 ``[N]``, which of the film's.
        labels: ``[N]``: 1 for those that stand for a box, else 0.
        codes: What the first ``P`` should say of their boxes, ``[P, 4]``.
    """

    films: Tensor
    anchors: Tensor
    labels: Tensor
    codes: Tensor


class ProposalNetwork(RegionProposalNetwork):
    """Proposal network of one map or of the levels of a pyramid; boxes are in input pixels."""

    def propose(self, levels: Sequence[Tensor], size: int) -> list[Tensor]:
        """Return the proposals ``[N_i, 4]`` of each film, the likeliest first.

        Args:
            levels: Maps ``[B, C, H, W]``, the finest first; one without a pyramid.
            size: Side of the films, pixels.
        """
        objectness, deltas = self._score(levels)
        return self._choose(objectness, deltas, self._anchors(levels, size), size)

    def propose_and_compare(
        self, levels: Sequence[Tensor], size: int, boxes: Sequence[Tensor], is_complete: Tensor
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Return the proposals of films, and how far the network is from their annotation.

        Args:
            levels: Maps ``[B, C, H, W]``, the finest first; one without a pyramid.
            size: Side of the films, pixels.
            boxes: Annotated boxes ``[R_i, 4]`` of each film, pixels.
            is_complete: bool ``[B]``, whether what meets none of a film's boxes is background.

        Returns:
            The proposals as of ``propose``, and ``loss_objectness`` and ``loss_rpn_box_reg``.
        """
        objectness, deltas = self._score(levels)
        proposals, sample = self._propose_and_sample(
            objectness.detach(), deltas.detach(), levels, size, boxes, is_complete
        )
        return proposals, _distances(objectness, deltas, sample)

    def sample(
        self, levels: Sequence[Tensor], size: int, boxes: Sequence[Tensor], is_complete: Tensor
    ) -> tuple[list[Tensor], AnchorSample]:
        """Return the proposals of films, and the anchors to compare with their annotation (``propose_and_compare``)."""
        return self._propose_and_sample(*self._score(levels), levels, size, boxes, is_complete)

    def compare(self, levels: Sequence[Tensor], sample: AnchorSample) -> dict[str, Tensor]:
        """Return how far the network is from what sampled anchors should say (``propose_and_compare``)."""
        return _distances(*self._score(levels), sample)

    def _propose_and_sample(
        self,
        objectness: Tensor,
        deltas: Tensor,
        levels: Sequence[Tensor],
        size: int,
        boxes: Sequence[Tensor],
        is_complete: Tensor,
    ) -> tuple[list[Tensor], AnchorSample]:
        anchors = self._anchors(levels, size)
        proposals = self._choose(objectness, deltas, anchors, size)
        matched = [match_anchors(anchors, *film) for film in zip(boxes, is_complete.tolist(), strict=True)]
        labels = torch.stack([film.labels for film in matched])
        positive, negative = (torch.stack(chosen).nonzero().unbind(1) for chosen in self.fg_bg_sampler(list(labels)))
        films, places = (torch.cat(both) for both in zip(positive, negative, strict=True))
        codes = anchors.new_zeros(0, 4)
        if len(positive[0]):
            owners = torch.stack([film.owners for film in matched])[positive]
            codes = self.box_coder.encode_single(pad_rows(list(boxes))[positive[0], owners], anchors[positive[1]])
        return proposals, AnchorSample(films, places, labels[films, places], codes)

    def _score(self, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return objectness ``[B, A]`` and box codes ``[B, A, 4]`` of all anchors, level by level."""
        objectness, deltas = self.head(list(levels))
        likely = [level.permute(0, 2, 3, 1).flatten(1) for level in objectness]
        return torch.cat(likely, dim=1), torch.cat([_codes(level) for level in deltas], dim=1)

    def _anchors(self, levels: Sequence[Tensor], size: int) -> Tensor:
        """Return the anchors ``[A, 4]`` of a film, level by level."""
        blank = levels[0].new_empty(1, 1, size, size)
        maps = [level[:1] for level in levels]
        anchors: Tensor = self.anchor_generator(ImageList(blank, [(size, size)]), maps)[0]
        return anchors

    def _choose(self, objectness: Tensor, deltas: Tensor, anchors: Tensor, size: int) -> list[Tensor]:
        """Return the likeliest boxes of each film that do not cover one another; only those tried are decoded."""
        likely = objectness.topk(min(self.pre_nms_top_n(), objectness.shape[1]), dim=1).indices
        codes = deltas.gather(1, likely[..., None].expand(-1, -1, 4))
        # all films at once, and their numbers in one answer: a GPU halts for each that it is asked for
        boxes = self.box_coder.decode(codes.flatten(0, 1), [anchors[likely].flatten(0, 1)])[:, 0]
        boxes = clip_boxes_to_image(boxes, (size, size)).view_as(codes)
        is_large = (boxes[..., 2:] - boxes[..., :2] >= self.min_size).all(dim=-1)
        counts = is_large.sum(dim=1).tolist()
        scores = objectness.gather(1, likely)[is_large].sigmoid()
        films = zip(boxes[is_large].split(counts), scores.split(counts), strict=True)
        return [own[nms(own, how_likely, self.nms_thresh)[: self.post_nms_top_n()]] for own, how_likely in films]


def _distances(objectness: Tensor, deltas: Tensor, sample: AnchorSample) -> dict[str, Tensor]:
    """Return the two losses, means over the anchors of a sample; 0, with gradients of 0, where there is none."""
    if len(sample.films) == 0:
        return {"loss_objectness": objectness.sum() * 0, "loss_rpn_box_reg": deltas.sum() * 0}
    chosen, num_positive = (sample.films, sample.anchors), len(sample.codes)
    found = deltas[sample.films[:num_positive], sample.anchors[:num_positive]]
    distance = smooth_l1_loss(found, sample.codes, beta=SMOOTH_L1_BETA, reduction="sum")
    return {
        "loss_objectness": binary_cross_entropy_with_logits(objectness[chosen], sample.labels),
        "loss_rpn_box_reg": distance / len(sample.films),
    }


class _FloatHead(RPNHead):
    """Proposal head whose outputs are float32 also under mixed precision: boxes need more than three digits."""

    def __init__(self, num_channels: int, num_kinds: int) -> None:
        super().__init__(num_channels, num_kinds)
        self._prepared: Prepared[nn.Module] = Prepared()

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        if is_onednn_used(features[0]):
            (convolution,) = (part for part in self.conv.modules() if isinstance(part, nn.Conv2d))
            shared = self._prepared.get(convolution.parameters(), lambda: prepared_convolution(convolution, "relu"))
            cells = [shared(channels_last(level)).permute(0, 2, 3, 1).contiguous() for level in features]
            objectness = [_at_each(self.cls_logits, level) for level in cells]
            return objectness, [_at_each(self.bbox_pred, level) for level in cells]
        objectness, deltas = super().forward(features)
        return [level.float() for level in objectness], [level.float() for level in deltas]


def _at_each(convolution: nn.Conv2d, cells: Tensor) -> Tensor:
    """Return what a convolution of one cell says of cells ``[B, H, W, C]``, as ``[B, C', H, W]``."""
    return affine(cells, convolution.weight.flatten(1), convolution.bias).permute(0, 3, 1, 2)


class _LevelHeads(nn.Module):
    """A proposal head for each level of a pyramid."""

    def __init__(self, num_channels: int, num_kinds: Sequence[int]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(_FloatHead(num_channels, number) for number in num_kinds)

    def forward(self, levels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        scored = [head([level]) for head, level in zip(self.levels, levels, strict=True)]
        return [objectness for (objectness,), _ in scored], [deltas for _, (deltas,) in scored]


def _codes(deltas: Tensor) -> Tensor:
    """Return a level's box codes ``[B, A, 4]`` from the head's ``[B, 4 K, H, W]``."""
    num_films, _, height, width = deltas.shape
    return deltas.view(num_films, -1, 4, height, width).permute(0, 3, 4, 1, 2).reshape(num_films, -1, 4)


def build_proposal_network(architecture: DetectorArchitecture, num_channels: int) -> ProposalNetwork:
    """Return the network with random weights, for maps of ``num_channels``."""
    groups = anchor_groups(architecture)
    anchors = AnchorGenerator(groups, (architecture.anchor_ratios,) * len(groups))
    num_kinds = anchors.num_anchors_per_location()
    num_training = architecture.num_training_proposals
    num_kept = {"training": num_training or architecture.num_proposals, "testing": architecture.num_proposals}
    num_tried = {
        "training": num_training or architecture.num_candidates or 2 * architecture.num_proposals,
        "testing": architecture.num_candidates or 2 * architecture.num_proposals,
    }
    return ProposalNetwork(
        anchors,
        _LevelHeads(num_channels, num_kinds) if len(groups) > 1 else _FloatHead(num_channels, num_kinds[0]),
        fg_iou_thresh=SAME_IOU,
        bg_iou_thresh=OTHER_IOU,
        batch_size_per_image=ANCHORS_PER_FILM,
        positive_fraction=0.5,
        pre_nms_top_n=num_tried,
        post_nms_top_n=num_kept,
        nms_thresh=0.7,
    )
