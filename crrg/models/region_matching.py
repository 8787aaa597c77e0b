"""Which anchor or proposal belongs to which region: overlaps, padding, and what both stages of the detector train on.

A film has at most one box per region, so annotation is a fixed ``[B, R, 4]`` tensor with NaN rows where a region is not
annotated, and everything here works on whole batches. Knows tensors only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

FOREGROUND_IOU = 0.5
BACKGROUND = 0
IGNORED = -1
SAME_IOU = 0.7
"""Overlap from which an anchor stands for a box."""
OTHER_IOU = 0.3
"""Overlap below which it stands for none; in between it teaches nothing."""
NUM_JITTERED = 2
JITTER = 0.12


@dataclass(frozen=True)
class TrainingRois:
    """Sampled proposals of a batch, in film order.

    Attributes:
        boxes: One ``[N_i, 4]`` per film, input pixels.
        labels: int64 ``[N]``: 0 background, region index + 1 otherwise.
        matched: Annotated box ``[N, 4]`` of each proposal's region; the proposal itself for background.
    """

    boxes: list[Tensor]
    labels: Tensor
    matched: Tensor


@dataclass(frozen=True)
class AnchorMatch:
    """What the anchors of one film stand for.

    Attributes:
        labels: ``[A]``: 1 a region, 0 background, -1 neither.
        owners: int64 ``[A]``: which of the film's boxes it is where the label is 1; 0 elsewhere.
    """

    labels: Tensor
    owners: Tensor


def overlap(first: Tensor, second: Tensor) -> Tensor:
    """Return the IoU of boxes ``[..., 4]`` pair by pair after broadcasting; 0 where one is empty or NaN."""
    return torch.nan_to_num(_overlap(first, second), nan=0.0, posinf=0.0)


def match_anchors(anchors: Tensor, boxes: Tensor, is_complete: bool) -> AnchorMatch:
    """Decide what the anchors of a film are taught, by the rule of Faster R-CNN.

    An anchor stands for the box it overlaps most if the IoU is at least 0.7, or if no anchor overlaps that or another
    box more; it is background below 0.3, on a film with complete annotation only.

    Args:
        anchors: ``[A, 4]``.
        boxes: Annotated boxes ``[R, 4]`` of the film, finite; may be none.
        is_complete: Whether what meets none of them is background.
    """
    background = float(BACKGROUND if is_complete else IGNORED)
    owners = torch.zeros(len(anchors), dtype=torch.long, device=anchors.device)
    if len(boxes) == 0:
        return AnchorMatch(anchors.new_full((len(anchors),), background), owners)
    overlaps = _overlap(boxes[:, None], anchors)
    best = overlaps.amax(dim=0)
    is_best_of_box = (overlaps == overlaps.amax(dim=1, keepdim=True)).any(dim=0)
    labels = torch.where(best < OTHER_IOU, background, float(IGNORED))
    labels[is_region := (best >= SAME_IOU) | is_best_of_box] = 1.0
    owners[is_region] = overlaps[:, is_region].argmax(dim=0)
    return AnchorMatch(labels, owners)


def pad_rows(rows: tuple[Tensor, ...] | list[Tensor], *, least: int = 0) -> Tensor:
    """Stack tensors ``[N_i, ...]`` to ``[B, max N, ...]``, filled with zeros to at least ``least`` rows each."""
    padded = nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    missing = least - padded.shape[1]
    return padded if missing <= 0 else torch.cat([padded, padded.new_zeros(len(padded), missing, *padded.shape[2:])], 1)


def sample_training_rois(
    proposals: list[Tensor],
    targets: Tensor,
    is_complete: Tensor,
    priors: Tensor | None,
    *,
    size: int,
    num_rois: int,
    positive_share: float,
    num_jittered: int = NUM_JITTERED,
    adds_truth: bool = True,
) -> TrainingRois:
    """Choose the proposals that train the box head.

    To the network's proposals are added the annotated boxes, jittered copies of them and, where given, the prior boxes.
    A proposal belongs to the region it overlaps most if the IoU is at least 0.5. The others are background only on
    films whose annotation is complete; on a partly annotated film they teach nothing.

    The published code adds the annotated boxes alone. Ours has fewer proposals and starts from random weights, so
    copies give every region positives of all qualities from the first step, not only the perfect box. All this is
    training's alone: in use a film has the network's own proposals and the prior boxes, whatever is annotated. With
    neither boxes nor copies training meets just these, at first hardly any of a small region.

    Args:
        proposals: One ``[N_i, 4]`` per film, input pixels.
        targets: ``[B, R, 4]``, rows of NaN where not annotated.
        is_complete: bool ``[B]``, whether a film has a box wherever it shows a region that is taught.
        priors: Prior boxes ``[P, 4]`` of the regions that are taught, input pixels, or ``None``.
        size: Side of the input, pixels.
        num_rois: Most proposals per film.
        positive_share: Largest share of them that belong to a region.
        num_jittered: Copies of each annotated box; 0 as published.
        adds_truth: Whether the annotated boxes themselves are added.
    """
    candidates, is_real = _candidates(proposals, targets, priors, size, num_jittered, adds_truth)
    best, region = overlap(candidates[:, :, None], targets[:, None]).max(dim=-1)
    positive = is_real & (best >= FOREGROUND_IOU)
    negative = is_real & (best < FOREGROUND_IOU) & is_complete[:, None]
    num_positive = int(num_rois * positive_share)
    kept_positive = _random_rows(positive, torch.full_like(is_complete, num_positive, dtype=torch.long))
    kept = kept_positive | _random_rows(negative, num_rois - kept_positive.sum(dim=1))
    labels = torch.where(positive, region + 1, BACKGROUND)
    own = targets.gather(1, region[..., None].expand(-1, -1, 4))
    matched = torch.where(positive[..., None], own, candidates)
    boxes = [row[is_kept] for row, is_kept in zip(candidates, kept, strict=True)]
    return TrainingRois(boxes, labels[kept], matched[kept])


def _candidates(
    proposals: list[Tensor], targets: Tensor, priors: Tensor | None, size: int, num_jittered: int, adds_truth: bool
) -> tuple[Tensor, Tensor]:
    num_films = len(targets)
    counts = torch.tensor([len(boxes) for boxes in proposals], device=targets.device)
    padded = pad_rows(proposals)
    is_real = torch.arange(padded.shape[1], device=targets.device) < counts[:, None]
    copies = targets.repeat(1, num_jittered, 1)
    sides = (copies[..., 2:] - copies[..., :2]).repeat(1, 1, 2)
    noise = JITTER * torch.randn_like(sides).clamp(-2, 2)
    extra = [targets if adds_truth else targets[:, :0], (copies + noise * sides).clamp(0, size)]
    if priors is not None:
        extra.append(priors.expand(num_films, -1, -1))
    added = torch.cat(extra, dim=1)
    is_usable = torch.isfinite(added).all(dim=-1) & (added[..., 2:] - added[..., :2] >= 1).all(dim=-1)
    return torch.cat([padded, torch.nan_to_num(added)], dim=1), torch.cat([is_real, is_usable], dim=1)


def _random_rows(allowed: Tensor, numbers: Tensor) -> Tensor:
    """Return a mask ``[B, N]`` of at most ``numbers`` ``[B]`` random allowed entries per row."""
    order = torch.where(allowed, torch.rand(allowed.shape, device=allowed.device), 2.0).argsort(dim=1)
    rank = torch.empty_like(order).scatter_(
        1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    )
    return allowed & (rank < numbers[:, None])


def _overlap(first: Tensor, second: Tensor) -> Tensor:
    """Return the IoU coordinate by coordinate, so that the innermost axis is long; NaN where both are empty."""
    x1, y1, x2, y2 = first.unbind(-1)
    left, top, right, bottom = second.unbind(-1)
    inter = (torch.minimum(x2, right) - torch.maximum(x1, left)).clamp_(min=0)
    inter = inter * (torch.minimum(y2, bottom) - torch.maximum(y1, top)).clamp_(min=0)
    return inter / (_area(first) + _area(second) - inter)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(dim=-1)
