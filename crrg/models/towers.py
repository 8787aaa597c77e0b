"""The two towers of CLIP: a radiograph, or a text, to raw features.

Knows tensors only: no tokenizer, no projection to the shared space (``crrg.models.clip``), no weights from elsewhere.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models import resnet50
from transformers import BertConfig, BertModel

from crrg.config.models import ClipArchitecture

NUM_LENGTH_GROUPS = 4
"""In training a batch is encoded in this many groups of similar length, so that short texts carry little padding."""


@dataclass(frozen=True)
class ImageFeatures:
    """What an image tower makes of films.

    Attributes:
        raw: ``[B, D]``, of the whole film.
        cells: ``[B, C, h, w]``, a map of places.
    """

    raw: Tensor
    cells: Tensor


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
        eighth = self.stages[1](self.stages[0](self.stem(images)))
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
    """

    def __init__(self) -> None:
        """Build the network with random weights."""
        super().__init__()
        network = resnet50(weights=None)
        self.body = nn.Sequential(*list(network.children())[:-2])
        self.feature_size = 2048
        self.num_channels = 2048

    def forward(self, images: Tensor) -> ImageFeatures:
        """Return the features of normalised films ``[B, 1, H, W]``."""
        cells = self.body(images.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last))
        return ImageFeatures(raw=cells.mean(dim=(2, 3)), cells=cells)


def build_image_tower(architecture: ClipArchitecture) -> ConvTower | ResNet50Tower:
    """Return the image tower that the architecture names, with random weights."""
    if architecture.image_tower == "resnet50":
        return ResNet50Tower()
    return ConvTower(architecture.image_width)


class TextTower(nn.Module):
    """BERT-type encoder; a text is the state at its last token, the end mark.

    Attributes:
        feature_size: Width of the encoder.

    Source: "eos" pooling of CXR-CLIP (You et al., MICCAI 2023).
    """

    def __init__(self, architecture: ClipArchitecture) -> None:
        """Build the encoder with random weights."""
        super().__init__()
        self.bert = BertModel(
            BertConfig(
                vocab_size=architecture.text_vocab_size,
                hidden_size=architecture.text_hidden_size,
                num_hidden_layers=architecture.text_layers,
                num_attention_heads=architecture.text_heads,
                intermediate_size=4 * architecture.text_hidden_size,
                max_position_embeddings=architecture.max_text_length,
                hidden_dropout_prob=architecture.text_dropout,
                attention_probs_dropout_prob=architecture.text_dropout,
                type_vocab_size=1,
            ),
            add_pooling_layer=False,
        )
        self.feature_size = architecture.text_hidden_size

    def forward(self, token_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return raw features ``[B, D]`` of token ids ``[B, L]``; the mask is 1 on tokens and 0 on padding."""
        lengths = attention_mask.sum(dim=1).clamp(min=1)
        if not self.training:
            # in inference a text's numbers must not depend on its neighbours
            return self._encode(token_ids, attention_mask, lengths)
        groups = torch.argsort(lengths).chunk(NUM_LENGTH_GROUPS)
        features = []
        for rows in groups:
            longest = int(lengths[rows].max())
            features.append(self._encode(token_ids[rows, :longest], attention_mask[rows, :longest], lengths[rows]))
        return torch.cat(features)[torch.argsort(torch.cat(groups))]

    def _encode(self, token_ids: Tensor, attention_mask: Tensor, lengths: Tensor) -> Tensor:
        states = self.bert(input_ids=token_ids, attention_mask=attention_mask).last_hidden_state
        return states[torch.arange(len(states), device=states.device), lengths - 1]
