"""What turns a film into a feature map: the backbones of the detector and of the region encoder.

Knows tensors only. The normalisation of grey values lives here, so that every caller hands over plain 0..255 films.
What is done with the map is in ``detector`` and ``region_heads``.
"""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.resnet import Bottleneck, ResNet

from crrg.errors import ModelError
from crrg.models.prepared import Prepared

BackboneKind = Literal["conv", "resnet50"]
PIXEL_SCALE = 255.0
PIXEL_MEAN = 0.471
PIXEL_STD = 0.302
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


def fold_resnet(body: nn.Sequential) -> nn.Sequential:
    """Return a copy of a ResNet's body for inference, normalisation folded into the convolutions."""
    folded = copy.deepcopy(body).eval()
    first, first_norm = folded[0], folded[1]
    assert isinstance(first, nn.Conv2d)
    assert isinstance(first_norm, _BatchNorm)
    folded[0], folded[1] = fuse_conv_bn_eval(first, first_norm), nn.Identity()
    for block in folded.modules():
        if isinstance(block, Bottleneck):
            for number in (1, 2, 3):
                convolution, norm = getattr(block, f"conv{number}"), getattr(block, f"bn{number}")
                setattr(block, f"conv{number}", fuse_conv_bn_eval(convolution, norm))
                setattr(block, f"bn{number}", nn.Identity())
            if block.downsample is not None:
                block.downsample = fuse_conv_bn_eval(block.downsample[0], block.downsample[1])
    return folded.to(memory_format=torch.channels_last)


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
