"""Optimiser and learning-rate schedule of every stage."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from crrg.config.training import LoopConfig


def build_optimizer(parameters: Iterable[nn.Parameter], config: LoopConfig) -> torch.optim.AdamW:
    """Return AdamW; biases and normalisation weights (one dimension) are not decayed."""
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=config.learning_rate)


def learning_rate_at(step: int, config: LoopConfig) -> float:
    """Return the learning rate of a step: a pure function, so that a resumed run continues the same curve.

    Args:
        step: 0-based optimiser step.
        config: Schedule, length and highest rate.
    """
    num_warmup = max(1, round(config.num_steps * config.warmup_share))
    if step < num_warmup:
        start = 0.04 if config.schedule == "one_cycle" else 0.0
        return config.learning_rate * (start + (1 - start) * (step + 1) / num_warmup)
    if config.schedule == "constant":
        return config.learning_rate
    progress = (step - num_warmup) / max(1, config.num_steps - num_warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group one learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
