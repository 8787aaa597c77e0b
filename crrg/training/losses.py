"""Losses over labels of which only some are known: of films, of regions, and of the places where findings show.

The contrastive losses are in ``contrastive``, that of words in ``phrase_loss``.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from crrg.domain.labels import NEGATIVE, POSITIVE, UNCERTAIN
from crrg.models.clip_heads import pool_cells


def label_loss(
    logits: Tensor,
    labels: Tensor,
    pos_weight: Tensor | None = None,
    *,
    uncertain: Literal["mask", "soft"] = "mask",
) -> Tensor:
    """Return the mean binary cross-entropy over known labels (``crrg.evaluation.classification.known_values``).

    Args:
        logits: ``[B, 14]``.
        labels: ``[B, 14]``: 1 present, 0 absent, -1 uncertain, -2 unmentioned (never counted).
        pos_weight: ``[14]`` weight of present labels.
        uncertain: ``mask`` leaves uncertain labels out, ``soft`` takes them as one half.

    Returns:
        A scalar; 0 with gradient 0 where nothing is known.
    """
    is_known = _is_known(labels, uncertain)
    targets = (labels == POSITIVE).float()
    if uncertain == "soft":
        targets = torch.where(labels == UNCERTAIN, torch.full_like(targets, 0.5), targets)
    losses = functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=pos_weight, reduction="none")
    return (losses * is_known).sum() / is_known.sum().clamp(min=1)


def num_known(labels: Tensor, *, uncertain: Literal["mask", "soft"] = "mask") -> Tensor:
    """Return over how many of the labels ``[B, 14]`` ``label_loss`` is a mean, a scalar."""
    return _is_known(labels, uncertain).sum()


def _is_known(labels: Tensor, uncertain: Literal["mask", "soft"]) -> Tensor:
    return labels >= (UNCERTAIN if uncertain == "soft" else NEGATIVE)


def prompt_loss(
    image_features: Tensor,
    prompt_features: Tensor,
    scale: Tensor,
    labels: Tensor,
    weights: Tensor,
    *,
    uncertain: Literal["mask", "soft"] = "mask",
) -> Tensor:
    """Return the label loss of each finding's affirming prompt against its denying one.

    Args:
        image_features: ``[B, D]``.
        prompt_features: ``[26, D]``: denying, then affirming.
        scale: Inverse temperature.
        labels: ``[B, 14]``.
        weights: ``[14]``, of present labels.
        uncertain: As of ``label_loss``.
    """
    denying, affirming = prompt_features.chunk(2)
    answers = scale * image_features @ (affirming - denying).T
    num_findings = answers.shape[1]
    return label_loss(answers, labels[:, :num_findings], weights[:num_findings], uncertain=uncertain)


def masked_bce(logits: Tensor, targets: Tensor, pos_weight: float) -> Tensor:
    """Return the mean binary cross-entropy over known targets; 0, with a gradient, where none is known.

    Args:
        logits: Any shape.
        targets: Same shape: 1, 0, or NaN where unknown.
        pos_weight: Weight of targets that are 1.

    Returns:
        A scalar.
    """
    known = torch.isfinite(targets)
    weight = torch.as_tensor(pos_weight, device=logits.device)
    losses = functional.binary_cross_entropy_with_logits(
        logits.float(), torch.nan_to_num(targets), pos_weight=weight, reduction="none"
    )
    return torch.where(known, losses, 0.0).sum() / known.sum().clamp(min=1)


def place_loss(cell_logits: Tensor, places: Tensor, labels: Tensor) -> Tensor:
    """Return how far the places of a film are from where its report puts each finding.

    A present finding must show inside its regions and nowhere else; an absent one nowhere. A present finding without a
    region, and an unknown label, are left out.

    Args:
        cell_logits: ``[B, C, h, w]``.
        places: bool ``[B, C, h, w]``, the regions that the report names for a finding.
        labels: ``[B, C]``: 1, 0, -1 uncertain, -2 unmentioned.
    """
    is_placed, has_outside = _placed(places, labels)
    inside = functional.softplus(-pool_cells(cell_logits, places))
    outside = functional.softplus(pool_cells(cell_logits, ~places))
    total = (inside * is_placed).sum() + (outside * has_outside).sum()
    return total / num_placed(places, labels).clamp(min=1)


def num_placed(places: Tensor, labels: Tensor) -> Tensor:
    """Return over how many insides and outsides ``place_loss`` is a mean, a scalar.

    Args:
        places: bool ``[B, C, h, w]``; a map of a single place ``[B, C, 1, 1]`` says the same.
        labels: ``[B, C]``: 1, 0, -1 uncertain, -2 unmentioned.
    """
    is_placed, has_outside = _placed(places, labels)
    return is_placed.sum() + has_outside.sum()


def _placed(places: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return which findings ``[B, C]`` have an inside, and which an outside."""
    is_placed = (labels == POSITIVE) & places.flatten(2).any(dim=2)
    return is_placed, is_placed | (labels == NEGATIVE)


def label_weights(labels: Tensor, strongest: float = 4.0) -> Tensor:
    """Return a moderate weight ``[14]`` of present labels: the root of absent over present, in 1..``strongest``.

    Args:
        labels: ``[N, 14]`` training labels (1, 0, -1, -2).
        strongest: Largest weight, also of a label that never is present.
    """
    num_present = (labels == 1).sum(dim=0).float()
    num_absent = (labels == 0).sum(dim=0).float()
    return (num_absent / num_present.clamp(min=1)).sqrt().clamp(1.0, strongest)
