"""The published generation model as it is laid out and as it runs, written down straight: loops and explicit masks.

What the importer, the paper's architecture and the speed of generation are compared with; random weights of any size.

Source: RGRG (Tanida et al., CVPR 2023), by its published description; no line of its code.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import resnet50
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import MultiScaleRoIAlign, clip_boxes_to_image
from transformers import GPT2Config, GPT2LMHeadModel

from crrg.models.backbone import normalise_films

SIZES = (20, 40, 60, 80, 100, 120, 140, 160, 180, 300)
RATIOS = (0.2, 0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.3, 1.5, 2.1, 2.6, 3.0, 5.0, 8.0)
NUM_CLASSES = 30


@dataclass(frozen=True)
class ModelSizes:
    """Sizes of the published layout; small by default."""

    box_head: int = 16
    feature: int = 64
    width: int = 128
    num_layers: int = 2
    vocab_size: int = 300
    num_positions: int = 32


PUBLISHED_SIZES = ModelSizes(1024, 1024, 1024, 24, 50257, 1024)


class Detector(nn.Module):
    """ResNet-50 without a pyramid, 160 anchors per cell, RoI 8 x 8, one box per region."""

    def __init__(self, width: int, feature_size: int) -> None:
        super().__init__()
        network = resnet50(weights=None)
        network.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
        self.backbone = nn.Sequential(*list(network.children())[:-2])
        self.rpn = RegionProposalNetwork(
            AnchorGenerator((SIZES,), (RATIOS,)), RPNHead(2048, len(SIZES) * len(RATIOS)),
            0.7, 0.3, 256, 0.5, {"training": 2000, "testing": 1000}, {"training": 2000, "testing": 1000}, 0.7,
        )  # fmt: skip
        self.roi_heads = RoIHeads(
            MultiScaleRoIAlign(["0"], 8, 2), TwoMLPHead(2048 * 64, width), FastRCNNPredictor(width, NUM_CLASSES),
            0.5, 0.5, 512, 0.25, None, 0.05, 0.5, 100,
        )  # fmt: skip
        self.roi_heads.dim_reduction = nn.Linear(2048, feature_size)

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes ``[B, 29, 4]``, whether each is detected, and region features of normalised films."""
        features = {"0": self.backbone(images)}
        sizes = [(images.shape[-2], images.shape[-1])] * len(images)
        proposals, _ = self.rpn(ImageList(images, sizes), features)
        pooled = self.roi_heads.box_roi_pool(features, proposals, sizes)
        logits, deltas = self.roi_heads.box_predictor(self.roi_heads.box_head(pooled))
        counts = [len(boxes) for boxes in proposals]
        scores = logits.softmax(dim=-1)[:, 1:].split(counts)
        decoded = self.roi_heads.box_coder.decode(deltas, proposals).split(counts)
        means = nn.functional.avg_pool2d(pooled, 8).flatten(start_dim=1).split(counts)
        chosen = [self._choose(*film, sizes[0]) for film in zip(scores, decoded, means, strict=True)]
        boxes, detected, rows = zip(*chosen, strict=True)
        return torch.stack(boxes), torch.stack(detected), self.roi_heads.dim_reduction(torch.stack(rows))

    def _choose(
        self, scores: Tensor, decoded: Tensor, means: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Give each region of one film the proposal that speaks for it best."""
        spoken_for = scores.argmax(dim=1)
        decoded = clip_boxes_to_image(decoded, size)[:, 1:]
        boxes, rows = decoded.new_zeros(NUM_CLASSES - 1, 4), []
        detected = torch.zeros(NUM_CLASSES - 1, dtype=torch.bool, device=decoded.device)
        for region in range(NUM_CLASSES - 1):
            best, row = 0.0, 0
            for candidate in torch.nonzero(spoken_for == region).flatten().tolist():
                detected[region] = True
                if float(scores[candidate, region]) > best:
                    best, row = float(scores[candidate, region]), candidate
            boxes[region] = decoded[row, region]
            rows.append(row)
        return boxes, detected, means[rows]


class Classifier(nn.Module):
    """Three linear layers over one region feature."""

    def __init__(self, size: int, pos_weight: float) -> None:
        super().__init__()
        self.classifier = nn.Sequential(
            nn.Linear(size, size // 2), nn.ReLU(), nn.Linear(size // 2, size // 8), nn.ReLU(), nn.Linear(size // 8, 1)
        )
        self.loss_fn = nn.BCEWithLogitsLoss(pos_weight=torch.tensor([pos_weight]))


class LanguageModel(nn.Module):
    """GPT-2 with pseudo self-attention; every part is registered under all the names that the published file has."""

    def __init__(self, width: int, num_layers: int, vocab_size: int, feature_size: int, num_positions: int) -> None:
        super().__init__()
        config = GPT2Config(
            vocab_size=vocab_size,
            n_positions=num_positions,
            n_embd=width,
            n_layer=num_layers,
            n_head=width // 64,
            bos_token_id=0,
            eos_token_id=0,
        )
        self.gpt_with_lm_head = GPT2LMHeadModel(config)
        self.gpt = self.gpt_with_lm_head.transformer
        self.lm_head = self.gpt_with_lm_head.lm_head
        self.wte, self.wpe, self.final_layernorm = self.gpt.wte, self.gpt.wpe, self.gpt.ln_f
        for block in self.gpt.h:
            block.attn.uk, block.attn.uv = nn.Linear(width, width), nn.Linear(width, width)
            causal = torch.tril(torch.ones(num_positions, num_positions, dtype=torch.uint8))[None, None]
            block.attn.register_buffer("causal_mask", causal)
            block.attn.register_buffer("mask_out_value", torch.tensor(-1e4))
        self.gpt2_blocks = nn.ModuleList(
            nn.ModuleList([block.ln_1, block.attn, block.ln_2, block.mlp]) for block in self.gpt.h
        )
        self.feature_space_transformation_nn = nn.Sequential(
            nn.Linear(feature_size, width), nn.ReLU(), nn.Linear(width, width)
        )

    @torch.no_grad()
    def forward(self, token_ids: Tensor, feature: Tensor) -> Tensor:
        """Return the logits ``[L, V]`` of one phrase ``[L]`` about one region feature."""
        length = len(token_ids)
        image = self.feature_space_transformation_nn(feature)
        hidden = self.wte(token_ids) + self.wte(torch.arange(length))
        for ln_1, attention, ln_2, mlp in self.gpt2_blocks:
            normed = ln_1(hidden)
            query, key, value = attention.c_attn(normed).chunk(3, dim=-1)
            key = torch.cat([attention.uk(image)[None], key])
            value = torch.cat([attention.uv(image)[None], value])
            mixed = []
            for head in range(attention.num_heads):
                part = slice(head * 64, (head + 1) * 64)
                weights = query[:, part] @ key[:, part].T / 8.0
                for row in range(length):
                    weights[row, row + 2 :] = -1e4
                mixed.append(weights.softmax(dim=-1) @ value[:, part])
            hidden = hidden + attention.c_proj(torch.cat(mixed, dim=-1))
            hidden = hidden + mlp(ln_2(hidden))
        return self.lm_head(self.final_layernorm(hidden))


class FullModel(nn.Module):
    """Detector, two classifiers, language model."""

    def __init__(self, sizes: ModelSizes) -> None:
        super().__init__()
        self.object_detector = Detector(sizes.box_head, sizes.feature)
        self.binary_classifier_region_selection = Classifier(sizes.feature, 2.2)
        self.binary_classifier_region_abnormal = Classifier(sizes.feature, 6.0)
        self.language_model = LanguageModel(
            sizes.width, sizes.num_layers, sizes.vocab_size, sizes.feature, sizes.num_positions
        )


def full_model(seed: int = 0, sizes: ModelSizes | None = None) -> FullModel:
    """Return a model whose weights are random everywhere, normalisation statistics included; small by default."""
    torch.manual_seed(seed)
    model = FullModel(sizes or ModelSizes())
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_mean"):
                tensor.normal_(0, 0.1)
            elif name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
    _spread_classes(model.eval().object_detector)
    return model


@torch.no_grad()
def _spread_classes(detector: Detector) -> None:
    """Scale the outputs of the heads: random weights alone give one proposal, and one region everywhere."""
    head = detector.rpn.head
    shared = head.conv(detector.backbone(normalise_films(random_film())))
    size = float(shared.pow(2).mean().sqrt()) * shared.shape[1] ** 0.5
    head.cls_logits.weight.normal_(0, 1 / size)
    head.bbox_pred.weight.normal_(0, 0.2 / size)
    hidden = []
    detector.roi_heads.box_predictor.cls_score.register_forward_pre_hook(lambda _module, args: hidden.append(args[0]))
    detector(normalise_films(random_film()))
    detector.roi_heads.box_predictor.cls_score._forward_pre_hooks.clear()
    spread = hidden[0].std(dim=0).clamp_min(1e-6)
    weight = torch.randn(NUM_CLASSES, hidden[0].shape[1]) / spread
    # scores of about the same size, however wide the head is
    weight *= (16 / weight.shape[1]) ** 0.5
    detector.roi_heads.box_predictor.cls_score.weight.copy_(weight)
    detector.roi_heads.box_predictor.cls_score.bias.copy_(-(weight @ hidden[0].mean(dim=0)))


def random_film(seed: int = 1) -> Tensor:
    """Return grey values ``[1, 1, 512, 512]`` with large structures."""
    coarse = torch.randint(0, 256, (1, 1, 8, 8), generator=torch.Generator().manual_seed(seed)).float()
    return nn.functional.interpolate(coarse, size=512, mode="bicubic").clamp(0, 255)


def save_published(model: FullModel, path: Path) -> None:
    """Write the file as the published code does, training state included."""
    optimizer = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
    torch.save(
        {
            "model": model.state_dict(),
            "optimizer": optimizer,
            "scaler": {"scale": 65536.0},
            "current_epoch": 2,
            "overall_steps_taken": 30,
            "lowest_val_loss": 2.5,
        },
        path,
    )
