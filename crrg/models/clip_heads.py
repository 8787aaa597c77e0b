"""What stands on the towers of CLIP: label heads, and projections to the shared space.

Knows tensors only; the model they are parts of is ``crrg.models.clip``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from crrg.config.models import ClipArchitecture
from crrg.models.towers import ImageFeatures

PROJECTION_DROPOUT = 0.1
FIRST_CELL_LOGIT = -7.0
NO_PLACE_LOGIT = -30.0
EVIDENCE_CELLS = 4
EVIDENCE_SCALE = 2.0


class LabelHead(nn.Module, ABC):
    """Reads labels from what an image tower has seen."""

    @abstractmethod
    def forward(self, seen: ImageFeatures) -> tuple[Tensor, Tensor]:
        """Return label logits ``[B, K]`` and cell logits ``[B, K, h, w]``, both float32."""


class PlacesHead(LabelHead):
    """14 logits per film: what its places say together, plus what the whole film says."""

    def __init__(self, feature_size: int, num_channels: int, architecture: ClipArchitecture) -> None:
        """Build the head; at first every place says "rather not", so that many quiet places do not add up."""
        super().__init__()
        self.whole = nn.Sequential(
            nn.Dropout(architecture.head_dropout), nn.Linear(feature_size, architecture.num_labels)
        )
        self.places = nn.Conv2d(num_channels, architecture.num_labels, 1)
        self.places.bias = nn.Parameter(torch.full((architecture.num_labels,), FIRST_CELL_LOGIT))

    def forward(self, seen: ImageFeatures) -> tuple[Tensor, Tensor]:
        """Return label logits ``[B, 14]`` and cell logits ``[B, 14, h, w]``, both float32."""
        cell_logits = self.places(seen.cells).float()
        return pool_cells(cell_logits) + self.whole(seen.raw).float(), cell_logits


class LinearHead(LabelHead):
    """One linear layer over the film's feature; asked about each place, it gives the class activation map."""

    def __init__(self, feature_size: int, architecture: ClipArchitecture) -> None:
        """Build the head with random weights."""
        super().__init__()
        self.dropout = nn.Dropout(architecture.head_dropout)
        self.whole = nn.Linear(feature_size, architecture.num_labels)

    def forward(self, seen: ImageFeatures) -> tuple[Tensor, Tensor]:
        """Return label logits ``[B, K]`` and cell logits ``[B, K, h, w]``, both float32."""
        cell_logits = functional.conv2d(seen.cells, self.whole.weight[:, :, None, None], self.whole.bias)
        return self.whole(self.dropout(seen.raw)).float(), cell_logits.float()


class NoHead(LabelHead):
    """Stands where no labels are read."""

    def forward(self, seen: ImageFeatures) -> tuple[Tensor, Tensor]:
        """Return no logits: ``[B, 0]`` and ``[B, 0, h, w]``."""
        num, _, height, width = seen.cells.shape
        return seen.raw.new_zeros(num, 0), seen.raw.new_zeros(num, 0, height, width)


class MlpProjection(nn.Module):
    """Two layers with a residual, dropout and normalisation.

    Source: the alternative projection of CXR-CLIP (You et al., MICCAI 2023).
    """

    def __init__(self, feature_size: int, projection_size: int) -> None:
        """Build the projection with random weights."""
        super().__init__()
        self.projection = nn.Linear(feature_size, projection_size)
        self.fc = nn.Linear(projection_size, projection_size)
        self.dropout = nn.Dropout(PROJECTION_DROPOUT)
        self.layer_norm = nn.LayerNorm(projection_size)

    def forward(self, raw: Tensor) -> Tensor:
        """Return ``[B, D]`` of raw features ``[B, F]``."""
        first = self.projection(raw)
        projected: Tensor = self.layer_norm(first + self.dropout(self.fc(functional.gelu(first))))
        return projected


def pool_cells(cell_logits: Tensor, is_counted: Tensor | None = None) -> Tensor:
    """Return one logit per label from all places: the logarithm of their summed odds.

    Args:
        cell_logits: ``[B, 14, h, w]``.
        is_counted: bool, broadcastable to the same shape; all where not given. A label without a counted place gets a
            very low logit.
    """
    if is_counted is not None:
        cell_logits = cell_logits.masked_fill(~is_counted, NO_PLACE_LOGIT)
    return cell_logits.flatten(2).logsumexp(dim=2)


def evidence_of(label_logits: Tensor, cell_logits: Tensor) -> Tensor:
    """Return ``[B, 14 * 17]``: each label's logit, and its strongest sign in each of 4 x 4 fields of the film.

    It tells the shared space what is seen and on which side, which one pooled feature of the film hardly can. It passes
    no gradient, so that the contrastive loss does not move what labels and places say.
    """
    signs = functional.adaptive_max_pool2d(cell_logits.detach(), EVIDENCE_CELLS).sigmoid()
    return torch.cat([label_logits.detach() / EVIDENCE_SCALE, EVIDENCE_SCALE * signs.flatten(1)], dim=1)


def build_label_head(feature_size: int, num_channels: int, architecture: ClipArchitecture) -> LabelHead:
    """Return the label head that the architecture names, with random weights."""
    match architecture.label_head:
        case "places":
            return PlacesHead(feature_size, num_channels, architecture)
        case "linear":
            return LinearHead(feature_size, architecture)
        case "none":
            return NoHead()


def build_projection(feature_size: int, architecture: ClipArchitecture) -> nn.Linear | MlpProjection:
    """Return a projection to the shared space, with random weights."""
    if architecture.projection == "mlp":
        return MlpProjection(feature_size, architecture.projection_size)
    return nn.Linear(feature_size, architecture.projection_size, bias=architecture.projection_bias)
