"""Losses of the CLIP stage: contrastive terms over films and texts, and the masked label loss.

All features are of length 1. ``matches [B, B]`` says which films and texts belong together: the identity, and more
where texts repeat, so that an equal text is never pushed away.

Source: MVS, ICL and TCL of CXR-CLIP (You et al., MICCAI 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from crrg.domain.labels import NEGATIVE, POSITIVE, UNCERTAIN
from crrg.models.clip_heads import pool_cells

UNMENTIONED_VALUE = -2
"""Number that stands for an unmentioned label in a label array."""


def same_text(text_ids: Tensor) -> Tensor:
    """Return bool ``[B, B]``: which texts of a batch are equal.

    Args:
        text_ids: ``[B]`` integers, equal where the texts are equal.
    """
    return text_ids[:, None] == text_ids[None, :]


def one_way_loss(queries: Tensor, keys: Tensor, scale: Tensor, matches: Tensor) -> Tensor:
    """Return the mean cross-entropy of finding the right keys for each query.

    Args:
        queries: ``[B, D]``.
        keys: ``[B, D]``.
        scale: Inverse temperature.
        matches: ``[B, B]``, nonzero where a key (column) is right for a query (row); every row has at least one. The
            right keys of a query share its target equally.
    """
    shares = matches.float()
    shares = shares / shares.sum(dim=1, keepdim=True)
    log_chances = functional.log_softmax(scale * queries @ keys.T, dim=1)
    return -(shares * log_chances).sum(dim=1).mean()


def contrastive_loss(first: Tensor, second: Tensor, scale: Tensor, matches: Tensor | None = None) -> Tensor:
    """Return the symmetric contrastive loss of paired features.

    Args:
        first: ``[B, D]``.
        second: ``[B, D]``, row i belongs to row i of ``first``.
        scale: Inverse temperature.
        matches: ``[B, B]``, nonzero where row i of ``first`` and row j of ``second`` belong together; the identity
            where not given.

    Returns:
        A scalar; 0 for no pair.
    """
    if not len(first):
        return (first.sum() + second.sum()) * 0.0
    if matches is None:
        matches = torch.eye(len(first), device=first.device)
    return (one_way_loss(first, second, scale, matches) + one_way_loss(second, first, scale, matches.T)) / 2


def multi_view_loss(images: Sequence[Tensor], texts: Sequence[Tensor], scale: Tensor) -> Tensor:
    """Return MVS: the symmetric loss averaged over every pairing of image views and text views.

    Args:
        images: Features ``[B, D]`` of each view of the films.
        texts: Features ``[B, D]`` of each version of the texts.
        scale: Inverse temperature.
    """
    terms = [contrastive_loss(image, text, scale) for image in images for text in texts]
    return torch.stack(terms).mean()


def cxr_clip_loss(
    images: tuple[Tensor, Tensor],
    texts: tuple[Tensor, Tensor],
    scale: Tensor,
    *,
    image_weight: float = 1.0,
    text_weight: float = 0.5,
) -> Tensor:
    """Return MVS + ``image_weight`` ICL + ``text_weight`` TCL for two views and two texts per study.

    ICL is the symmetric loss between the two views, TCL between the two texts; both weights 0 leave plain CLIP over
    four pairings.
    """
    total = multi_view_loss(images, texts, scale)
    if image_weight:
        total = total + image_weight * contrastive_loss(images[0], images[1], scale)
    if text_weight:
        total = total + text_weight * contrastive_loss(texts[0], texts[1], scale)
    return total


def label_loss(
    logits: Tensor,
    labels: Tensor,
    pos_weight: Tensor | None = None,
    *,
    uncertain: Literal["mask", "soft"] = "mask",
) -> Tensor:
    """Return the mean binary cross-entropy over known labels.

    Args:
        logits: ``[B, 14]``.
        labels: ``[B, 14]``: 1 present, 0 absent, -1 uncertain, -2 unmentioned (never counted).
        pos_weight: ``[14]`` weight of present labels.
        uncertain: ``mask`` leaves uncertain labels out, ``soft`` takes them as one half.

    Returns:
        A scalar; 0 with gradient 0 where nothing is known.
    """
    is_known = labels >= 0
    targets = (labels == POSITIVE).float()
    if uncertain == "soft":
        is_known = labels >= UNCERTAIN
        targets = torch.where(labels == UNCERTAIN, torch.full_like(targets, 0.5), targets)
    losses = functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=pos_weight, reduction="none")
    return (losses * is_known).sum() / is_known.sum().clamp(min=1)


def place_loss(cell_logits: Tensor, places: Tensor, labels: Tensor) -> Tensor:
    """Return how far the places of a film are from where its report puts each finding.

    A present finding must show inside its regions and nowhere else; an absent one nowhere. A present finding without a
    region, and an unknown label, are left out.

    Args:
        cell_logits: ``[B, C, h, w]``.
        places: bool ``[B, C, h, w]``, the regions that the report names for a finding.
        labels: ``[B, C]``: 1, 0, -1 uncertain, -2 unmentioned.
    """
    is_placed = (labels == POSITIVE) & places.flatten(2).any(dim=2)
    has_outside = is_placed | (labels == NEGATIVE)
    inside = functional.softplus(-pool_cells(cell_logits, places))
    outside = functional.softplus(pool_cells(cell_logits, ~places))
    total = (inside * is_placed).sum() + (outside * has_outside).sum()
    return total / (is_placed.sum() + has_outside.sum()).clamp(min=1)


def label_weights(labels: Tensor, strongest: float = 4.0) -> Tensor:
    """Return a moderate weight ``[14]`` of present labels: the root of absent over present, in 1..``strongest``.

    Args:
        labels: ``[N, 14]`` training labels (1, 0, -1, -2).
        strongest: Largest weight, also of a label that never is present.
    """
    num_present = (labels == 1).sum(dim=0).float()
    num_absent = (labels == 0).sum(dim=0).float()
    return (num_absent / num_present.clamp(min=1)).sqrt().clamp(1.0, strongest)
