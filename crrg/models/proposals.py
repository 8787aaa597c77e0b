"""First stage of the detector: where on a film a region may lie, and what that guess is taught.

The network, its anchors, its box coder and its sampler are torchvision's. What differs from it costs less and gives the
same numbers: only likely anchors are decoded, only sampled ones are compared with a box, and overlaps are computed
coordinate by coordinate. One rule is our own: on a film with incomplete annotation no anchor is background.

Source: Ren et al., Faster R-CNN, 2015.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, smooth_l1_loss
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import clip_boxes_to_image, nms, remove_small_boxes

from crrg.config.models import DetectorArchitecture
from crrg.models.region_matching import OTHER_IOU, SAME_IOU, match_anchors, pad_rows

SMOOTH_L1_BETA = 1 / 9
ANCHORS_PER_FILM = 256
"""Anchors of a film that teach the network, half of them positive where there are so many."""


class ProposalNetwork(RegionProposalNetwork):
    """Proposal network of one map; boxes are in input pixels."""

    def propose(self, features: Tensor, size: int) -> list[Tensor]:
        """Return the proposals ``[N_i, 4]`` of each film, the likeliest first.

        Args:
            features: Maps ``[B, C, H, W]``.
            size: Side of the films, pixels.
        """
        objectness, deltas = self._score(features)
        return self._choose(objectness, deltas, self._anchors(features, size), size)

    def propose_and_compare(
        self, features: Tensor, size: int, boxes: Sequence[Tensor], is_complete: Tensor
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Return the proposals of films, and how far the network is from their annotation.

        Args:
            features: Maps ``[B, C, H, W]``.
            size: Side of the films, pixels.
            boxes: Annotated boxes ``[R_i, 4]`` of each film, pixels.
            is_complete: bool ``[B]``, whether what meets none of a film's boxes is background.

        Returns:
            The proposals as of ``propose``, and ``loss_objectness`` and ``loss_rpn_box_reg``.
        """
        objectness, deltas = self._score(features)
        anchors = self._anchors(features, size)
        proposals = self._choose(objectness.detach(), deltas.detach(), anchors, size)
        matched = [match_anchors(anchors, *film) for film in zip(boxes, is_complete.tolist(), strict=True)]
        labels = torch.stack([film.labels for film in matched])
        positive, negative = (torch.stack(chosen).nonzero().unbind(1) for chosen in self.fg_bg_sampler(list(labels)))
        films, places = (torch.cat(both) for both in zip(positive, negative, strict=True))
        if len(films) == 0:
            nothing = objectness.sum() * 0
            return proposals, {"loss_objectness": nothing, "loss_rpn_box_reg": nothing}
        owners = torch.stack([film.owners for film in matched])[positive]
        wanted = self.box_coder.encode_single(pad_rows(list(boxes))[positive[0], owners], anchors[positive[1]])
        distance = smooth_l1_loss(deltas[positive], wanted, beta=SMOOTH_L1_BETA, reduction="sum")
        return proposals, {
            "loss_objectness": binary_cross_entropy_with_logits(objectness[films, places], labels[films, places]),
            "loss_rpn_box_reg": distance / len(films),
        }

    def _score(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return objectness ``[B, A]`` and box codes ``[B, A, 4]`` of all anchors."""
        (objectness,), (deltas,) = self.head([features])
        num_films, num_kinds = objectness.shape[:2]
        deltas = deltas.view(num_films, num_kinds, 4, *deltas.shape[2:]).permute(0, 3, 4, 1, 2)
        return objectness.permute(0, 2, 3, 1).flatten(1), deltas.reshape(num_films, -1, 4)

    def _anchors(self, features: Tensor, size: int) -> Tensor:
        """Return the anchors ``[A, 4]`` of a film."""
        blank = features.new_empty(1, 1, size, size)
        anchors: Tensor = self.anchor_generator(ImageList(blank, [(size, size)]), [features[:1]])[0]
        return anchors

    def _choose(self, objectness: Tensor, deltas: Tensor, anchors: Tensor, size: int) -> list[Tensor]:
        """Return the likeliest boxes of each film that do not cover one another; only those tried are decoded."""
        _, likely = objectness.topk(min(self.pre_nms_top_n(), objectness.shape[1]), dim=1)
        proposals = []
        for film, chosen in enumerate(likely):
            boxes = self.box_coder.decode(deltas[film, chosen], [anchors[chosen]])[:, 0]
            boxes = clip_boxes_to_image(boxes, (size, size))
            is_large = remove_small_boxes(boxes, self.min_size)
            boxes, scores = boxes[is_large], objectness[film, chosen[is_large]].sigmoid()
            kept = nms(boxes, scores, self.nms_thresh)[: self.post_nms_top_n()]
            proposals.append(boxes[kept])
        return proposals


class _FloatHead(RPNHead):
    """Proposal head whose outputs are float32 also under mixed precision: boxes need more than three digits."""

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        objectness, deltas = super().forward(features)
        return [level.float() for level in objectness], [level.float() for level in deltas]


def build_proposal_network(architecture: DetectorArchitecture, num_channels: int) -> ProposalNetwork:
    """Return the network with random weights, for maps of ``num_channels``."""
    anchors = AnchorGenerator((architecture.anchor_sizes,), (architecture.anchor_ratios,))
    num_training = architecture.num_training_proposals
    num_kept = {"training": num_training or architecture.num_proposals, "testing": architecture.num_proposals}
    num_tried = {
        "training": num_training or architecture.num_candidates or 2 * architecture.num_proposals,
        "testing": architecture.num_candidates or 2 * architecture.num_proposals,
    }
    return ProposalNetwork(
        anchors,
        _FloatHead(num_channels, anchors.num_anchors_per_location()[0]),
        fg_iou_thresh=SAME_IOU,
        bg_iou_thresh=OTHER_IOU,
        batch_size_per_image=ANCHORS_PER_FILM,
        positive_fraction=0.5,
        pre_nms_top_n=num_tried,
        post_nms_top_n=num_kept,
        nms_thresh=0.7,
    )
