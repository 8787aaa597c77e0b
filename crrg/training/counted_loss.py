"""Losses that are means over what is known of a batch, and how the batches of one step make up one loss.

Batches of a step may know unequally much. The mean of their means would then weigh what little one of them knows as
much as all that another does, so each part of the loss is weighed by how much it counts in the step as a whole: the
gradient is that of all batches as one, over ranks too. How much counts is asked of all batches before the first is
computed, since a gradient cannot wait for the others without holding them all in memory. What counts may itself depend
on the network, as the proposals of a detector do: such a batch is prepared first, without a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor

from crrg.config.training import LoopConfig
from crrg.device import autocast
from crrg.training.ranks import num_ranks, sum_over_ranks

Batch = TypeVar("Batch")
LossOf = Callable[[Batch], tuple[Tensor, Mapping[str, Tensor]]]
"""Batch to scalar loss and its named parts for the log."""


def _unchanged(batch: Batch) -> Batch:
    return batch


@dataclass(frozen=True)
class CountedLoss(Generic[Batch]):
    """A loss whose parts are means over what is known of a batch.

    Attributes:
        parts: Batch to its parts by name, scalars with gradients; their weighted sum is the loss.
        counts: Batch to how much each part is a mean over, scalars by the same names; 0 where nothing is known. The
            same number for each batch makes the part a mean over the batches of a step.
        weights: What a part counts in the loss, 1 where not named; it is logged without.
        beside: What is logged with the parts, once a step.
        prepare: Batch to the same batch with what ``counts`` needs of the network; called without gradients, and only
            where a step has several batches.
    """

    parts: Callable[[Batch], Mapping[str, Tensor]]
    counts: Callable[[Batch], Mapping[str, Tensor]]
    weights: Mapping[str, float] = field(default_factory=dict)
    beside: Callable[[], Mapping[str, Tensor]] = dict
    prepare: Callable[[Batch], Batch] = _unchanged

    def __call__(self, batch: Batch, shares: Mapping[str, Tensor] | None = None) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the loss of a batch and its parts for the log, which are left out where there is one only.

        Args:
            batch: A batch.
            shares: What each part is multiplied by; nothing is without.
        """
        parts = dict(self.parts(batch))
        if shares is not None:
            parts = {name: part * shares[name] for name, part in parts.items()}
        loss = torch.stack([self.weights.get(name, 1.0) * part for name, part in parts.items()]).sum()
        return loss, {name: part.detach() for name, part in parts.items()} if len(parts) > 1 else {}


def step_parts(loop: LoopConfig) -> dict[str, str]:
    """Return what stage hashes say where a step has several batches, which were once weighed as equals."""
    return {"step": "counted"} if loop.accumulate > 1 else {}


def losses_of_step(
    loss_of: LossOf[Batch] | CountedLoss[Batch], batches: Sequence[Batch], device: torch.device
) -> Iterator[tuple[Tensor, Mapping[str, Tensor]]]:
    """Yield the loss of each batch of a step and its parts, weighed so that their sums are the step's.

    Where batches are counted this is the loss of all of them as one, otherwise their mean.

    Args:
        loss_of: Batch to loss.
        batches: Of one step, at least one.
        device: Where the network is; decides the precision.
    """
    if isinstance(loss_of, CountedLoss):
        yield from _counted_losses(loss_of, batches, device)
        return
    for batch in batches:
        with autocast(device):
            loss, parts = loss_of(batch)
            loss, parts = loss / len(batches), {name: part / len(batches) for name, part in parts.items()}
        yield loss, parts


def _counted_losses(
    loss_of: CountedLoss[Batch], batches: Sequence[Batch], device: torch.device
) -> Iterator[tuple[Tensor, Mapping[str, Tensor]]]:
    shares: list[dict[str, Tensor]] | None = None
    if len(batches) > 1 or num_ranks() > 1:
        with torch.no_grad(), autocast(device):
            batches = [loss_of.prepare(batch) for batch in batches]
        shares = _shares(loss_of, batches, device)
    for number, batch in enumerate(batches):
        with autocast(device):
            loss, parts = loss_of(batch, None if shares is None else shares[number])
            beside = {name: value.detach() / len(batches) for name, value in loss_of.beside().items()}
        yield loss, {**parts, **beside}


def _shares(loss_of: CountedLoss[Batch], batches: Sequence[Batch], device: torch.device) -> list[dict[str, Tensor]]:
    """Return what the parts of each batch are multiplied by."""
    counts = [loss_of.counts(batch) for batch in batches]
    names = list(counts[0])
    table = torch.stack([torch.stack([own[name].double() for name in names]) for own in counts]).to(device)
    # gradients are averaged over the ranks afterwards, which takes their number out again
    shares = table * num_ranks() / sum_over_ranks(table.sum(dim=0)).clamp(min=1)
    return [dict(zip(names, row.float().unbind(), strict=True)) for row in shares]
