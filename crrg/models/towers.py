"""The two towers of CLIP: a radiograph, or a text, to one raw feature vector.

Knows tensors only: no tokenizer, no projection to the shared space (``crrg.models.clip``), no weights from elsewhere.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torchvision.models import resnet50
from transformers import BertConfig, BertModel

from crrg.config.models import ClipArchitecture


class ConvTower(nn.Module):
    """Small convolutional network from scratch, for films of 128 to 256 pixels.

    Four blocks of rising width (1, 2, 4 and about 6.7 times ``width``), stride 16 in all. Ends in the average and the
    maximum over the map: the average sees a large heart, the maximum a small nodule.

    Attributes:
        feature_size: Length of the raw feature.
    """

    def __init__(self, width: int) -> None:
        """Build the network with ``width`` base channels."""
        super().__init__()
        widths = (width, 2 * width, 4 * width, round(20 * width / 3))
        self.stem = nn.Sequential(
            nn.Conv2d(1, widths[0], 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        self.blocks = nn.ModuleList(
            _ConvBlock(before, after) for before, after in itertools.pairwise(widths)
        )
        self.feature_size = 2 * widths[-1]

    def forward(self, images: Tensor) -> Tensor:
        """Return raw features ``[B, D]`` of normalised films ``[B, 1, H, W]``."""
        features = self.stem(images.contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            features = block(features)
        return torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1)


class _ConvBlock(nn.Module):
    """Two convolutions, the second on a residual path, then half the resolution."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.widen = nn.Sequential(nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU())
        self.pool = nn.MaxPool2d(2)
        self.refine = nn.Sequential(nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after))

    def forward(self, features: Tensor) -> Tensor:
        features = self.pool(self.widen(features))
        return torch.relu(features + self.refine(features))


class ResNet50Tower(nn.Module):
    """ResNet-50 on three equal channels, average pooled; the paper's image tower.

    Attributes:
        feature_size: 2048.
    """

    def __init__(self) -> None:
        """Build the network with random weights."""
        super().__init__()
        self.resnet = resnet50(weights=None)
        self.resnet.fc = nn.Identity()
        self.feature_size = 2048

    def forward(self, images: Tensor) -> Tensor:
        """Return raw features ``[B, 2048]`` of normalised films ``[B, 1, H, W]``."""
        features: Tensor = self.resnet(images.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last))
        return features


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
                type_vocab_size=1,
            ),
            add_pooling_layer=False,
        )
        self.feature_size = architecture.text_hidden_size

    def forward(self, token_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return raw features ``[B, D]`` of token ids ``[B, L]``; the mask is 1 on tokens and 0 on padding."""
        states = self.bert(input_ids=token_ids, attention_mask=attention_mask).last_hidden_state
        last = attention_mask.sum(dim=1).clamp(min=1) - 1
        return states[torch.arange(len(states), device=states.device), last]
