"""The published step written down straight: two image and two text encodes per study, texts padded to 256 tokens.

ResNet-50 of torchvision and BERT of transformers on the tensors of one of our models, so that both sides have the same
weights; gradients are kept apart.

Source: CXR-CLIP (You et al., MICCAI 2023), by what it does; no line of its code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import resnet50
from transformers import BertConfig, BertModel

from crrg.models.clip import ClipModel
from crrg.training.clip_batches import ClipBatch

PADDED_LENGTH = 256
CHILDREN = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")


class PublishedClip(nn.Module):
    """The published network, sharing its tensors with one of ours."""

    def __init__(self, model: ClipModel) -> None:
        """Take over the tensors of a model with the architecture ``PAPER_CLIP``."""
        super().__init__()
        self.resnet = resnet50(weights=None)
        self.resnet.fc = nn.Identity()
        body = model.image_tower.body.state_dict()
        named = {f"{CHILDREN[int(key.split('.')[0])]}.{key.split('.', 1)[1]}": value for key, value in body.items()}
        self.resnet.load_state_dict(named, strict=True, assign=True)
        config: BertConfig = model.text_tower.bert.config
        self.bert = BertModel(config, add_pooling_layer=False)
        self.bert.load_state_dict(model.text_tower.bert.state_dict(), strict=True, assign=True)
        self.image_projection = _same(model.image_projection)
        self.text_projection = _same(model.text_projection)
        self.logit_scale = nn.Parameter(model.logit_scale.detach())
        self.register_buffer("mean", model.pixel_mean)
        self.register_buffer("std", model.pixel_std)

    def embed_image(self, images: Tensor) -> Tensor:
        """Return features of length 1 of films ``[B, 1, S, S]``."""
        pixels = (images.float() / 255 - self.mean) / self.std
        return functional.normalize(self.image_projection(self.resnet(pixels)), dim=1)

    def embed_text(self, token_ids: Tensor, mask: Tensor) -> Tensor:
        """Return features of length 1 of texts ``[B, 256]``."""
        states = self.bert(input_ids=token_ids, attention_mask=mask).last_hidden_state
        last = states[torch.arange(len(states)), mask.sum(dim=1) - 1]
        return functional.normalize(self.text_projection(last), dim=1)

    def loss(self, batch: ClipBatch) -> Tensor:
        """Return MVS + 1.0 ICL + 0.5 TCL."""
        first, second = batch.images.chunk(2)
        texts = [padded(batch, version) for version in (0, 1)]
        i1, i2 = self.embed_image(first), self.embed_image(second)
        t1, t2 = self.embed_text(*texts[0]), self.embed_text(*texts[1])
        pairings = [(i1, t1), (i2, t1), (i1, t2), (i2, t2)]
        both_ways = [self._cross_entropy(*pair) + self._cross_entropy(*pair[::-1]) for pair in pairings]
        mvs = torch.stack(both_ways).mean() / 2
        icl = (self._cross_entropy(i1, i2) + self._cross_entropy(i2, i1)) / 2
        tcl = (self._cross_entropy(t1, t2) + self._cross_entropy(t2, t1)) / 2
        return mvs + 1.0 * icl + 0.5 * tcl

    def _cross_entropy(self, queries: Tensor, keys: Tensor) -> Tensor:
        return functional.cross_entropy(
            self.logit_scale.exp() * queries @ keys.T, torch.arange(len(queries), device=queries.device)
        )


def padded(batch: ClipBatch, version: int) -> tuple[Tensor, Tensor]:
    """Return the texts of a batch as the published step takes them: one per study, padded to 256 tokens."""
    rows = batch.text_rows[version]
    missing = PADDED_LENGTH - batch.token_ids.shape[1]
    return tuple(functional.pad(part[rows], (0, missing)) for part in (batch.token_ids, batch.attention_mask))


def _same(layer: nn.Linear) -> nn.Linear:
    twin = nn.Linear(layer.in_features, layer.out_features)
    twin.load_state_dict(layer.state_dict(), assign=True)
    return twin
