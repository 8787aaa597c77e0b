"""Second stage of the detector: which region a proposal shows, and where that region's box is.

Knows tensors only. Which proposals it is trained on is decided in ``region_matching``.

Source: Girshick, Fast R-CNN, 2015; RGRG's sizes (Tanida et al., CVPR 2023).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import MultiScaleRoIAlign

from crrg.config.models import DetectorArchitecture

BOX_CODER = BoxCoder((10.0, 10.0, 5.0, 5.0))


class BoxHead(nn.Module):
    """Scores and box corrections of proposals.

    With a spatial prior it also knows where on the film the proposal lies and what the film as a whole looks like:
    anatomy has a fixed order, which a cut-out alone does not show.
    """

    def __init__(self, architecture: DetectorArchitecture, num_channels: int, stride: int) -> None:
        """Build the head for maps of ``num_channels`` at ``stride`` input pixels per cell."""
        super().__init__()
        self._size = architecture.input_size
        width = architecture.representation_size
        num_outputs = architecture.num_regions + 1
        self.align = MultiScaleRoIAlign(["0"], architecture.roi_size, architecture.roi_samples)
        self.align.scales = [1.0 / stride]
        num_reduced = architecture.roi_channels or num_channels
        self.reduce = nn.Conv2d(num_channels, num_reduced, 1) if architecture.roi_channels else nn.Identity()
        self.fc6 = nn.Linear(num_reduced * architecture.roi_size**2, width)
        self.fc7 = nn.Linear(width, width)
        self.cls_score = nn.Linear(width, num_outputs)
        self.bbox_pred = nn.Linear(width, 4 * num_outputs)
        self.geometry = nn.Linear(6, width, bias=False) if architecture.spatial_prior else None
        self.film = nn.Linear(16 * num_channels, width, bias=False) if architecture.spatial_prior else None

    def forward(self, features: Tensor, proposals: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Score proposals and correct their boxes.

        Args:
            features: Maps ``[B, C, H, W]``.
            proposals: One ``[N_i, 4]`` per film, input pixels; N = sum of N_i.

        Returns:
            Class logits ``[N, R + 1]`` with background first, and box codes ``[N, 4 (R + 1)]``, both float32.
        """
        pooled = self.align({"0": self.reduce(features)}, proposals, [(self._size, self._size)] * len(proposals))
        hidden = self.fc6(pooled.flatten(start_dim=1))
        if self.geometry is not None and self.film is not None:
            counts = torch.tensor([len(boxes) for boxes in proposals], device=features.device)
            film = self.film(nn.functional.adaptive_avg_pool2d(features, 4).flatten(start_dim=1))
            hidden = hidden + self.geometry(_geometry(torch.cat(proposals), self._size))
            hidden = hidden + film.repeat_interleave(counts, dim=0)
        hidden = torch.relu(self.fc7(torch.relu(hidden)))
        return self.cls_score(hidden).float(), self.bbox_pred(hidden).float()

    def mean_features(self, features: Tensor, boxes: Tensor) -> Tensor:
        """Return the mean of the map ``[B, C, H, W]`` over the bins of each box ``[B, R, 4]``, as ``[B, R, C]``."""
        sizes = [(self._size, self._size)] * len(boxes)
        pooled = self.align({"0": features}, list(boxes), sizes).mean(dim=(2, 3))
        return pooled.reshape(*boxes.shape[:2], -1)


def _geometry(boxes: Tensor, size: int) -> Tensor:
    """Return centre, side lengths and their logarithms ``[N, 6]`` of boxes ``[N, 4]``, about -1..1."""
    low, high = boxes[:, :2] / size, boxes[:, 2:] / size
    sides = (high - low).clamp(min=1e-3)
    return torch.cat([low + high - 1, 2 * sides - 1, sides.log() / 2 + 1], dim=1)
