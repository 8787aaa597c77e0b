"""What turns a film into a feature map: the backbones of the detector and of the region encoder.

Knows tensors only. The normalisation of grey values lives here, so that every caller hands over plain 0..255 films.
What is done with the map is in ``detector`` and ``region_heads``.
"""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models.resnet import Bottleneck, ResNet

from crrg.errors import ModelError
from crrg.models.prepared import Prepared
from crrg.models.products import prepared_convolution

BackboneKind = Literal["conv", "resnet50"]
PIXEL_SCALE = 255.0
PIXEL_MEAN = 0.471
PIXEL_STD = 0.302
PIXELS_AT_ONCE = 512 * 512
"""Pixels of the films that pass a folded ResNet together on a CPU."""
PUBLISHED_WIDTH = 64
"""Channels after the first layer of ResNet-50."""


def normalise_films(
    images: Tensor,
    mean: Tensor | float = PIXEL_MEAN,
    std: Tensor | float = PIXEL_STD,
    scale: float = PIXEL_SCALE,
) -> Tensor:
    """Return grey values 0..255 ``[B, 1, S, S]`` (uint8 or float) as normalised float32.

    Args:
        images: The films.
        mean: Of scaled grey values; ``[1, C, 1, 1]`` gives one normalised copy per channel.
        std: Standard deviation, as ``mean``.
        scale: What grey values are divided by first.

    Source: the default mean and standard deviation are those of RGRG (Tanida et al., CVPR 2023).
    """
    return (images.float() / scale - mean) / std


def channels_last(images: Tensor) -> Tensor:
    """Return images ``[B, C, H, W]`` so that convolutions keep the channels of a pixel together, which is faster.

    A film of one channel lies in memory the same way under both orders, so ``contiguous`` would change nothing.
    """
    return images.to(memory_format=torch.channels_last)


class ConvBackbone(nn.Module):
    """Small convolutional network from scratch: seven convolutions, stride 8.

    The last convolution is dilated and a half-resolution branch is added to it, so that each cell of the map sees
    most of the thorax: a lung zone cannot be told from its neighbour by its texture alone.

    Attributes:
        num_channels: Channels of the map.
        stride: Input pixels per cell.
        stage_channels: Channels of the finer map on the way, the map, and the coarser one that is added to it.
        stage_strides: Their strides.
    """

    def __init__(self, width: int) -> None:
        """Build the network with ``width`` base channels."""
        super().__init__()
        self.num_channels = 4 * width
        self.stride = 8
        self.stage_channels = (2 * width, 4 * width, 4 * width)
        self.stage_strides = (4, 8, 16)
        self.stem = _convolution(1, width, stride=2)
        self.quarter = nn.Sequential(_convolution(width, 2 * width, stride=2), _convolution(2 * width, 2 * width))
        self.eighth = nn.Sequential(_convolution(2 * width, 4 * width, stride=2), _convolution(4 * width, 4 * width))
        self.wide = _convolution(4 * width, 4 * width, dilation=2)
        self.context = _convolution(4 * width, 4 * width, stride=2)

    def forward(self, images: Tensor) -> Tensor:
        """Return the map ``[B, C, S/8, S/8]`` of normalised films ``[B, 1, S, S]``."""
        return self.levels(images)[1]

    def levels(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the finer map ``[B, C/2, S/4, S/4]`` on the way, and the map."""
        fine, features, _ = self.stages(images)
        return fine, features

    def stages(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the finer map on the way, the map, and the coarser ``[B, C, S/16, S/16]`` that is added to it."""
        fine = self.quarter(self.stem(channels_last(images)))
        features = self.eighth(fine)
        coarse = self.context(features)
        context = nn.functional.interpolate(coarse, size=features.shape[-2:], mode="nearest")
        return fine, features + self.wide(features) + context, coarse


class _ScaledResNet(ResNet):
    """ResNet-50 in which every stage has ``width`` channels where the published network has 64."""

    def __init__(self, width: int) -> None:
        # read while the parent builds its stages, before a module may hold anything else
        self._width = width
        super().__init__(Bottleneck, [3, 4, 6, 3])

    def _make_layer(
        self, block: type[Any], planes: int, blocks: int, stride: int = 1, dilate: bool = False
    ) -> nn.Sequential:
        if planes == PUBLISHED_WIDTH:
            self.inplanes = self._width
        scaled = planes * self._width // PUBLISHED_WIDTH
        layers: nn.Sequential = super()._make_layer(block, scaled, blocks, stride, dilate)
        return layers


class ResNet50Backbone(nn.Module):
    """ResNet-50 without its pooling and classifier, one input channel, stride 32; the paper's backbone.

    A narrower one has the same layers under the same names, with fewer channels each.

    Attributes:
        num_channels: 32 times the width; 2048 as published.
        stride: 32.
        stage_channels: Channels of the last three stages.
        stage_strides: Their strides.
        is_folded: Whether inference folds the normalisation into the convolutions: faster, other last digits.
    """

    def __init__(self, width: int = PUBLISHED_WIDTH) -> None:
        """Build the network with random weights and ``width`` channels after its first layer."""
        super().__init__()
        network = _ScaledResNet(width)
        network.conv1 = nn.Conv2d(1, width, 7, stride=2, padding=3, bias=False)
        network.bn1 = nn.BatchNorm2d(width)
        self.body = nn.Sequential(*list(network.children())[:-2])
        self.num_channels = 32 * width
        self.stride = 32
        self.stage_channels = (8 * width, 16 * width, 32 * width)
        self.stage_strides = (8, 16, 32)
        self.is_folded = True
        self._folded: Prepared[nn.Sequential] = Prepared()

    def forward(self, images: Tensor) -> Tensor:
        """Return the map ``[B, C, S/32, S/32]`` of normalised films ``[B, 1, S, S]``."""
        network = self._network()
        if network is self.body:
            features: Tensor = network(images)
            return features
        return network(images.contiguous(memory_format=torch.channels_last)).contiguous()

    def stages(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the maps of the last three stages, of stride 8, 16 and 32."""
        network = self._network()
        fine = network[:-2](images)
        middle = network[-2](fine)
        return fine, middle, network[-1](middle)

    def _network(self) -> nn.Sequential:
        """Return the body, or in use what it is folded to."""
        if self.training or torch.is_grad_enabled() or not self.is_folded:
            return self.body
        return self._folded.get(self.body.state_dict().values(), lambda: fold_resnet(self.body))


class _FoldedResNet(nn.Sequential):
    """A ResNet for inference; on a CPU large films pass one by one, as their maps then still fit the cache."""

    def forward(self, images: Tensor) -> Tensor:
        if images.device.type != "cpu":
            return cast(Tensor, super().forward(images))
        num_films = max(1, PIXELS_AT_ONCE // (images.shape[2] * images.shape[3]))
        return torch.cat([super(_FoldedResNet, self).forward(part) for part in images.split(num_films)])


class _FoldedBottleneck(nn.Module):
    """A block of ResNet-50 for inference: three convolutions, the last of which adds the short cut."""

    def __init__(self, block: Bottleneck) -> None:
        super().__init__()
        self.first = prepared_convolution(block.conv1, "relu", block.bn1)
        self.second = prepared_convolution(block.conv2, "relu", block.bn2)
        self.third = prepared_convolution(block.conv3, "relu", block.bn3)
        short_cut = block.downsample
        self.short_cut = prepared_convolution(short_cut[0], norm=short_cut[1]) if short_cut else None

    def forward(self, cells: Tensor) -> Tensor:
        kept = cells if self.short_cut is None else self.short_cut(cells)
        found: Tensor = self.third(self.second(self.first(cells)), kept)
        return found


def fold_resnet(body: nn.Sequential) -> nn.Sequential:
    """Return a ResNet's body for inference, normalisation folded into the convolutions.

    Args:
        body: In ``eval`` mode or not; what is returned has the same parts in the same places, for images channels last,
            and is to be made anew where the body's weights change.
    """
    parts: list[nn.Module] = [
        prepared_convolution(cast(nn.Conv2d, body[0]), "relu", cast(_BatchNorm, body[1])),
        nn.Identity(),
        nn.Identity(),
        body[3],
    ]
    stages = (cast(nn.Sequential, stage) for stage in body[4:])
    return _FoldedResNet(*parts, *(nn.Sequential(*map(_FoldedBottleneck, stage)) for stage in stages))


def build_backbone(
    kind: BackboneKind, width: int, input_size: int, resnet_width: int = PUBLISHED_WIDTH
) -> ConvBackbone | ResNet50Backbone:
    """Return a backbone with random weights.

    Args:
        kind: ``conv`` or ``resnet50``.
        width: Base channels of ``conv``.
        input_size: Side of the film, pixels.
        resnet_width: Base channels of ``resnet50``.

    Raises:
        ModelError: The film's side is not a multiple of the stride.
    """
    backbone = ResNet50Backbone(resnet_width) if kind == "resnet50" else ConvBackbone(width)
    if input_size % backbone.stride:
        raise ModelError(f"input_size must be a multiple of {backbone.stride}, got {input_size}", f"backbone {kind}")
    return backbone


def _convolution(before: int, after: int, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride=stride, padding=dilation, dilation=dilation, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )
