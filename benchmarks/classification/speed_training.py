"""A training step of ours beside the published one, on the same weights, films and texts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.classification.published_step import PADDED_LENGTH, PublishedClip
from crrg.config.paper_clip import PAPER_CLIP_TRAINING
from crrg.config.presets import preset_training
from crrg.config.training import ClipTraining
from crrg.data.dataset.batches import FilmTable
from crrg.domain.labels import NUM_LABELS
from crrg.domain.report import Report
from crrg.models.clip import ClipModel
from crrg.training.clip import clip_loss, train_clip_tokenizer
from crrg.training.clip_batches import ClipBatch, ClipBatches

SIDES = ("published", "same maths", "same maths, 128 tokens", "our recipe")
NUM_STUDIES = 64
CPU = torch.device("cpu")


@dataclass
class Sides:
    """Both sides' networks and batches."""

    batch_size: int
    reports: Sequence[Report]
    device: torch.device = CPU

    @cached_property
    def training(self) -> ClipTraining:
        """The paper's recipe at full size, contrastive only, without dropout, so that two passes can be compared."""
        paper = PAPER_CLIP_TRAINING
        architecture = paper.architecture.model_copy(update={"text_dropout": 0.0})
        loop = paper.loop.model_copy(update={"batch_size": self.batch_size})
        return paper.model_copy(update={"architecture": architecture, "loop": loop, "label_loss_weight": 0.0})

    @cached_property
    def own_training(self) -> ClipTraining:
        """Our recipe at the same size (``base``): one view, one text, prompts, labels and places."""
        ours = preset_training("base").clip
        architecture = ours.architecture.model_copy(
            update={"text_dropout": 0.0, "text_positions": 512, "text_types": 2}
        )
        loop = ours.loop.model_copy(update={"batch_size": self.batch_size})
        return ours.model_copy(update={"architecture": architecture, "loop": loop})

    @cached_property
    def model(self) -> ClipModel:
        """Our network for the paper's recipe."""
        torch.manual_seed(0)
        return ClipModel(self.training.architecture).to(self.device).train()

    @cached_property
    def own_model(self) -> ClipModel:
        """Our network for our recipe, with the same towers."""
        own = ClipModel(self.own_training.architecture).to(self.device).train()
        own.image_tower, own.text_tower = self.model.image_tower, self.model.text_tower
        return own

    @cached_property
    def published(self) -> PublishedClip:
        """The published network, with the same tensors."""
        return PublishedClip(self.model).to(self.device).train()

    def make(self, training: ClipTraining) -> ClipBatch:
        """Return the first batch of a recipe."""
        sizes = training.architecture
        tokenizer = train_clip_tokenizer([report.text for report in self.reports], sizes.text_vocab_size)
        return (
            ClipBatches(noise_films(self.reports, sizes.input_size), tokenizer, training, seed=0)
            .make(0)
            .to(self.device)
        )

    @cached_property
    def batch(self) -> ClipBatch:
        """Two views and two texts of each study."""
        return self.make(self.training)

    @cached_property
    def own_batch(self) -> ClipBatch:
        """One view and one text of each study, and prompts."""
        return self.make(self.own_training)

    @cached_property
    def long_batch(self) -> ClipBatch:
        """The same films; every text is cut or drawn out to 128 tokens."""
        batch = self.batch
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(1, 400, (2 * self.batch_size, 128), generator=generator).to(self.device)
        rows = torch.arange(2 * self.batch_size, device=self.device).reshape(2, -1)
        changed = {"token_ids": ids, "attention_mask": torch.ones_like(ids), "text_rows": rows, "text_ids": rows}
        return ClipBatch(**{**vars(batch), **changed})

    def losses(self) -> dict[str, tuple[nn.Module, Callable[[], Tensor]]]:
        """Return per side its network and its loss."""
        films = noise_films(self.reports, 8)
        ours = clip_loss(self.model, films, self.training, self.device)
        own = clip_loss(self.own_model, films, self.own_training, self.device)
        return {
            "published": (self.published, lambda: self.published.loss(self.batch)),
            "same maths": (self.model, lambda: ours(self.batch)[0]),
            "same maths, 128 tokens": (self.model, lambda: ours(self.long_batch)[0]),
            "our recipe": (self.own_model, lambda: own(self.own_batch)[0]),
        }


def noise_films(reports: Sequence[Report], size: int) -> FilmTable:
    """Return films of grey noise with these reports; what is on them does not change how long a step takes."""
    rng = np.random.default_rng(0)
    num = len(reports)
    names = [str(row) for row in range(num)]
    return FilmTable(
        images=rng.integers(0, 256, (num, size, size), dtype=np.uint8),
        original_sizes=np.full((num, 2), size, dtype=np.int32),
        input_boxes_xyxy=np.full((num, 29, 4), np.nan, dtype=np.float32),
        phrases=[{}] * num,
        is_abnormal=np.zeros((num, 29), dtype=np.int8),
        labels=rng.integers(0, 2, (num, NUM_LABELS), dtype=np.int8),
        reports=[report.text for report in reports],
        texts=list(reports),
        patient_ids=names,
        instance_ids=names,
    )


def measure_step(sides: Sides, side: str) -> dict[str, float]:
    """Return CPU and wall seconds of forward, backward and AdamW of one side, and what it encoded."""
    network, loss_of = sides.losses()[side]
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.0)
    counts = _Counts(network)
    wall, cpu = time.perf_counter(), time.process_time()
    loss = loss_of()
    loss.backward()
    optimizer.step()
    found = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall, "loss": float(loss.detach())}
    network.zero_grad(set_to_none=True)
    return {**found, **counts.close()}


def compare_gradients(sides: Sides) -> dict[str, float]:
    """Return how far loss and gradients of the same maths are from the published step's.

    Batch normalisation is held at its statistics here: with random weights and few films it makes rounding grow until
    any two orders of summation differ.
    """
    losses: list[float] = []
    gradients: list[dict[int, Tensor]] = []
    for side in ("published", "same maths"):
        network, loss_of = sides.losses()[side]
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.eval()
        loss = loss_of()
        loss.backward()
        losses.append(float(loss.detach()))
        gradients.append({p.data_ptr(): p.grad.clone() for p in network.parameters() if p.grad is not None})
        network.zero_grad(set_to_none=True)
        for norm in norms:
            norm.train()
    published, ours = gradients
    shared = published.keys() & ours.keys()
    apart = sum(float((published[key] - ours[key]).square().sum()) for key in shared) ** 0.5
    length = sum(float(published[key].square().sum()) for key in shared) ** 0.5
    return {
        "loss_difference": abs(losses[0] - losses[1]),
        "relative_gradient_difference": apart / length,
        "tensors": len(shared),
        "published_tensors": len(published),
    }


def describe_texts(sides: Sides) -> dict[str, float]:
    """Return how long the texts of the batch are."""
    lengths = sides.batch.attention_mask.sum(dim=1)[sides.batch.text_rows].float()
    return {"mean_tokens": float(lengths.mean()), "longest": float(lengths.max()), "padded_to": PADDED_LENGTH}


class _Counts:
    """Counts films, texts and tokens that go into the encoders."""

    def __init__(self, network: nn.Module) -> None:
        self.films = self.texts = self.tokens = 0
        encoders = [module for name, module in network.named_modules() if name in ("resnet", "image_tower")]
        texts = [module for name, module in network.named_modules() if name in ("bert", "text_tower.bert")]
        self._hooks = [
            *(module.register_forward_pre_hook(self._film) for module in encoders),
            *(module.register_forward_pre_hook(self._text, with_kwargs=True) for module in texts),
        ]

    def _film(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.films += len(inputs[0])

    def _text(self, _module: nn.Module, _inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
        self.texts += len(named["input_ids"])
        self.tokens += named["input_ids"].numel()

    def close(self) -> dict[str, float]:
        for hook in self._hooks:
            hook.remove()
        return {"films": self.films, "texts": self.texts, "tokens": self.tokens}
