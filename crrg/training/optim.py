"""Optimiser and learning-rate schedule of every stage."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from crrg.config.training import LoopConfig


def build_optimizer(
    parameters: Iterable[nn.Parameter], config: LoopConfig, slower: Sequence[tuple[nn.Module, float]] = ()
) -> torch.optim.AdamW:
    """Return AdamW; biases and normalisation weights (one dimension) are not decayed.

    Args:
        parameters: What is trained, as far as it needs a gradient.
        config: Highest learning rate and decay.
        slower: Parts of the network, and the share of the learning rate that each takes; the rest takes all of it.
    """
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    shares = {id(parameter): share for part, share in slower for parameter in part.parameters()}
    groups = [
        {
            "params": [p for p in trainable if shares.get(id(p), 1.0) == share and (p.ndim > 1) == is_decayed],
            "weight_decay": config.weight_decay if is_decayed else 0.0,
            "lr": config.learning_rate * share,
            "rate_share": share,
        }
        for share in (1.0, *sorted({*shares.values()} - {1.0}))
        for is_decayed in (True, False)
    ]
    # not fused: that kind leaves the weights' `_version` as it was, by which crrg/models/prepared.py sees them change
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
    """Give every parameter group its share of a learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate_share"]
