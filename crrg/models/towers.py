"""The image towers of CLIP: a radiograph to raw features.

Knows tensors only: no text (``crrg.models.text_towers``), no projection to the shared space (``crrg.models.clip``), no
weights from elsewhere; published ones come through ``crrg.importers``.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models import resnet50
from transformers import CLIPVisionConfig, CLIPVisionModel, SwinConfig, SwinModel

from crrg.config.models import ClipArchitecture
from crrg.models.backbone import channels_last, fold_resnet
from crrg.models.prepared import Prepared
from crrg.models.products import with_fast_layers

NUM_CHANNELS = 3
"""Channels of the towers that were made for photographs; a film is shown to all of them."""


@dataclass(frozen=True)
class ImageFeatures:
    """What an image tower makes of films.

    Attributes:
        raw: ``[B, D]``, of the whole film.
        cells: ``[B, C, h, w]``, a map of places.
    """

    raw: Tensor
    cells: Tensor

    def detached(self) -> ImageFeatures:
        """Return the same features; no gradient passes through them."""
        return ImageFeatures(raw=self.raw.detach(), cells=self.cells.detach())


class ConvTower(nn.Module):
    """Small convolutional network from scratch, for films of 128 to 256 pixels.

    Four stages (strides 2, 4, 8, 16; 1, 2, 4 and about 6.7 times ``width`` channels). The map of places has stride 8
    and knows its surroundings from stride 16. The feature of the whole film is the average and the maximum over the
    last stage and the maximum over the map: the average sees a large heart, the maximum a small nodule.

    Attributes:
        feature_size: Length of the raw feature.
        num_channels: Channels of the map of places.
    """

    def __init__(self, width: int) -> None:
        """Build the network with ``width`` base channels."""
        super().__init__()
        widths = (width, 2 * width, 4 * width, round(20 * width / 3))
        self.stem = _convolution(1, widths[0], size=5, stride=2)
        self.stages = nn.ModuleList(
            nn.Sequential(_convolution(before, after, stride=2), _Residual(after))
            for before, after in itertools.pairwise(widths)
        )
        self.surroundings = nn.Conv2d(widths[3], widths[2], 1)
        self.num_channels = widths[2]
        self.feature_size = 2 * widths[3] + widths[2]

    def forward(self, images: Tensor) -> ImageFeatures:
        """Return the features of normalised films ``[B, 1, H, W]``."""
        eighth = self.stages[1](self.stages[0](self.stem(channels_last(images))))
        last = self.stages[2](eighth)
        wide = nn.functional.interpolate(self.surroundings(last), size=eighth.shape[-2:], mode="nearest")
        cells = torch.relu(eighth + wide)
        raw = torch.cat([last.mean(dim=(2, 3)), last.amax(dim=(2, 3)), cells.amax(dim=(2, 3))], dim=1)
        return ImageFeatures(raw=raw, cells=cells)


class _Residual(nn.Module):
    """A convolution added to its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.change = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, features: Tensor) -> Tensor:
        return torch.relu(features + self.change(features))


def _convolution(before: int, after: int, *, size: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, size, stride=stride, padding=size // 2, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )


class ResNet50Tower(nn.Module):
    """ResNet-50 on three equal channels, average pooled; the paper's image tower.

    Attributes:
        feature_size: 2048.
        num_channels: 2048, of the stride-32 map.
        is_folded: Whether inference folds the normalisation into the convolutions: faster, other last digits.
    """

    def __init__(self) -> None:
        """Build the network with random weights."""
        super().__init__()
        network = resnet50(weights=None)
        self.body = nn.Sequential(*list(network.children())[:-2])
        self.feature_size = 2048
        self.num_channels = 2048
        self.is_folded = True
        self._folded: Prepared[nn.Sequential] = Prepared()

    def forward(self, images: Tensor) -> ImageFeatures:
        """Return the features of normalised films ``[B, 1, H, W]`` or ``[B, 3, H, W]``."""
        body = self.body
        if self.is_folded and not self.training and not torch.is_grad_enabled():
            body = self._folded.get(self.body.state_dict().values(), lambda: fold_resnet(self.body))
        cells = body(channels_last(_three_channels(images)))
        return ImageFeatures(raw=cells.mean(dim=(2, 3)), cells=cells)


class SwinTower(nn.Module):
    """Swin transformer: attention inside shifted windows, four stages of patches that become fewer and wider.

    Attributes:
        feature_size: Width of the last stage.
        num_channels: The same; its map has stride ``patch_size`` times 2 per later stage.

    Source: Liu et al., ICCV 2021; first-place pooling: CXR-CLIP (You et al., MICCAI 2023).
    """

    def __init__(self, architecture: ClipArchitecture) -> None:
        """Build the network with random weights."""
        super().__init__()
        self.swin = SwinModel(
            SwinConfig(
                image_size=architecture.input_size,
                patch_size=architecture.patch_size,
                num_channels=NUM_CHANNELS,
                embed_dim=architecture.image_width,
                depths=list(architecture.image_layers),
                num_heads=list(architecture.image_heads),
                window_size=architecture.window_size,
            ),
            add_pooling_layer=False,
        )
        self._takes_first = architecture.image_pooling == "token0"
        self._shrinks = architecture.patch_size * 2 ** (len(architecture.image_layers) - 1)
        self.feature_size = architecture.image_width * 2 ** (len(architecture.image_layers) - 1)
        self.num_channels = self.feature_size

    def forward(self, images: Tensor) -> ImageFeatures:
        """Return the features of normalised films ``[B, 1, H, W]`` or ``[B, 3, H, W]``."""
        places = self.swin(pixel_values=_three_channels(images)).last_hidden_state
        raw = places[:, 0] if self._takes_first else places.mean(dim=1)
        num_rows = -(-images.shape[-2] // self._shrinks)
        return ImageFeatures(raw=raw, cells=_as_map(places, num_rows))


class VisionTransformerTower(nn.Module):
    """The image tower of OpenAI's CLIP: equal patches and one class token, which stands for the whole film.

    Attributes:
        feature_size: Width.
        num_channels: The same; its map has one cell per patch.

    Source: Radford et al., ICML 2021; used on radiographs by CheXzero (Tiu et al., 2022).
    """

    def __init__(self, architecture: ClipArchitecture) -> None:
        """Build the network with random weights."""
        super().__init__()
        self.vit = CLIPVisionModel(
            CLIPVisionConfig(
                image_size=architecture.input_size,
                patch_size=architecture.patch_size,
                num_channels=NUM_CHANNELS,
                hidden_size=architecture.image_width,
                intermediate_size=4 * architecture.image_width,
                num_hidden_layers=architecture.image_layers[0],
                num_attention_heads=architecture.image_heads[0],
                hidden_act="quick_gelu",
            )
        )
        self._num_rows = architecture.input_size // architecture.patch_size
        self.feature_size = architecture.image_width
        self.num_channels = architecture.image_width

    def forward(self, images: Tensor) -> ImageFeatures:
        """Return the features of normalised films ``[B, 1, S, S]`` or ``[B, 3, S, S]``."""
        states = self.vit(pixel_values=_three_channels(images)).last_hidden_state
        states = self.vit.post_layernorm(states)
        return ImageFeatures(raw=states[:, 0], cells=_as_map(states[:, 1:], self._num_rows))


AnyImageTower = ConvTower | ResNet50Tower | SwinTower | VisionTransformerTower


def build_image_tower(architecture: ClipArchitecture) -> AnyImageTower:
    """Return the image tower that the architecture names, with random weights."""
    match architecture.image_tower:
        case "conv":
            return ConvTower(architecture.image_width)
        case "resnet50":
            return ResNet50Tower()
        case "swin":
            return with_fast_layers(SwinTower(architecture))
        case "vit":
            return with_fast_layers(VisionTransformerTower(architecture))


def _three_channels(images: Tensor) -> Tensor:
    """Show one normalised film to all channels; films normalised per channel are left as they are."""
    return images.expand(-1, NUM_CHANNELS, -1, -1)


def _as_map(places: Tensor, num_rows: int) -> Tensor:
    """Return places ``[B, h * w, C]`` in reading order as a map ``[B, C, h, w]``."""
    return places.transpose(1, 2).unflatten(2, (num_rows, -1))
