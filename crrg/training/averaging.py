"""A moving average of a network's weights, which often judges better than the weights of the last step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

PREFIX = "average."


class WeightAverage:
    """Exponential moving average of all weights and running statistics; whole numbers are copied."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        """Start from the network as it is.

        Args:
            module: Network that is trained.
            decay: Share of the old average that stays at each step, 0..1; lower in the first steps, so that the random
                start is soon forgotten.
        """
        self._module = module
        self._decay = decay
        self._num_updates = 0
        self._average = _copied(module.state_dict())

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights of one more step into the average."""
        self._num_updates += 1
        share = 1 - min(self._decay, (1 + self._num_updates) / (10 + self._num_updates))
        for name, tensor in self._module.state_dict().items():
            if tensor.is_floating_point():
                self._average[name].lerp_(tensor, share)
            else:
                self._average[name].copy_(tensor)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Give the network its averaged weights, and its own back at the end."""
        own = _copied(self._module.state_dict())
        self.apply()
        try:
            yield
        finally:
            self._module.load_state_dict(own, strict=True)

    def apply(self) -> None:
        """Give the network its averaged weights for good."""
        self._module.load_state_dict(self._average, strict=True)

    def tensors(self) -> dict[str, Tensor]:
        """Return the average, where it lies, and how many steps it has seen, as named tensors."""
        named = {f"{PREFIX}{name}": tensor for name, tensor in self._average.items()}
        return {**named, "averaged.steps": torch.tensor(self._num_updates)}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up what ``tensors`` returned."""
        for name, tensor in self._average.items():
            tensor.copy_(tensors[PREFIX + name])
        self._num_updates = int(tensors["averaged.steps"])


def _copied(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in state.items()}
