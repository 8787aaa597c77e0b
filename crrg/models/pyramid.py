"""Feature pyramid of the detector: maps of several strides and one width, so that every box is seen at its own scale.

The network is torchvision's. Which level a box belongs to follows from the anchors alone: by size they are dealt out to
the levels, small ones to the fine map, and where the anchors of two levels meet, boxes go over from one to the other.
So a box is proposed and cut out on the same level. Without a pyramid there is one level, to which everything belongs.

Source: Lin et al., Feature Pyramid Networks for Object Detection, 2017.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from crrg.config.models import PYRAMID_LEVELS, DetectorArchitecture


def anchor_groups(architecture: DetectorArchitecture) -> tuple[tuple[int, ...], ...]:
    """Return the anchor sizes of each level, the finest first; groups differ by one size at most."""
    if not architecture.pyramid_channels:
        return (architecture.anchor_sizes,)
    groups = np.array_split(sorted(architecture.anchor_sizes), PYRAMID_LEVELS)
    return tuple(tuple(int(size) for size in group) for group in groups)


def level_borders(groups: Sequence[Sequence[int]]) -> tuple[float, ...]:
    """Return the sides, pixels, from which a box belongs to the next level: between the anchors of both."""
    return tuple(float(np.sqrt(fine[-1] * coarse[0])) for fine, coarse in itertools.pairwise(groups))


def levels_of(boxes: Tensor, borders: Sequence[float]) -> Tensor:
    """Return the level, int64 ``[...]``, of boxes ``[..., 4]`` by the root of their area; 0 is the finest."""
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(dim=-1).sqrt()
    return (sides[..., None] >= sides.new_tensor(borders)).sum(dim=-1)


class FeaturePyramid(nn.Module):
    """Makes the levels out of a backbone's stages: what the coarse ones see comes down to the fine ones.

    With a spatial prior each level also knows its places on the film, as a single map does.
    """

    def __init__(
        self, architecture: DetectorArchitecture, stage_channels: Sequence[int], stage_strides: Sequence[int]
    ) -> None:
        """Build the network with random weights for stages of these channels and strides, the finest first."""
        super().__init__()
        num_channels = architecture.pyramid_channels
        self.network = FeaturePyramidNetwork(list(stage_channels), num_channels)
        sides = [architecture.input_size // stride for stride in stage_strides]
        self.places = (
            nn.ParameterList([torch.zeros(1, num_channels, side, side) for side in sides])
            if architecture.spatial_prior
            else None
        )

    def forward(self, stages: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the levels ``[B, C, H, W]``, float32, of a backbone's stages, both the finest first."""
        named = OrderedDict((str(number), stage) for number, stage in enumerate(stages))
        levels = tuple(level.float() for level in self.network(named).values())
        if self.places is None:
            return levels
        return tuple(level + place for level, place in zip(levels, self.places, strict=True))
