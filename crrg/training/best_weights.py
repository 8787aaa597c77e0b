"""The best weights of a training by a validation score, and when to give up waiting for better ones."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor, nn

PREFIX = "best."


class BestWeights:
    """Remembers the network that scored highest.

    Attributes:
        score: Highest score so far; minus infinity before the first.
        step: Steps done when it was reached.
        num_worse: Validations since then.
    """

    def __init__(self, patience: int) -> None:
        """Start without any score.

        Args:
            patience: Validations without a better score after which training ends; 0 = never.
        """
        self.score = -math.inf
        self.step = 0
        self.num_worse = 0
        self._patience = patience
        self._weights: dict[str, Tensor] = {}

    @property
    def is_exhausted(self) -> bool:
        """Whether the score has not risen for as long as the patience says."""
        return bool(self._patience) and self.num_worse >= self._patience

    def offer(self, module: nn.Module, score: float, step: int) -> None:
        """Keep a network's weights where its score is the highest; one that is no number counts as worse.

        Where there never was a number, because nothing in validation can be judged, there is nothing to wait for.
        """
        if score > self.score:
            self.score, self.step, self.num_worse = score, step, 0
            self._weights = {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}
        elif self._weights:
            self.num_worse += 1

    def apply(self, module: nn.Module) -> None:
        """Give a network the best weights; without any score it stays as it is."""
        if self._weights:
            module.load_state_dict(self._weights, strict=True)

    def tensors(self) -> dict[str, Tensor]:
        """Return the best weights as named tensors."""
        return {PREFIX + name: tensor for name, tensor in self._weights.items()}

    def values(self) -> dict[str, float]:
        """Return waiting as a number, and score and step from the first score on."""
        waiting = {"best_num_worse": float(self.num_worse)}
        return {**waiting, "best_score": self.score, "best_step": float(self.step)} if self._weights else waiting

    def load(self, tensors: Mapping[str, Tensor], values: Mapping[str, float]) -> None:
        """Take up what ``tensors`` and ``values`` returned; what was found since is forgotten."""
        self._weights = {name.removeprefix(PREFIX): t for name, t in tensors.items() if name.startswith(PREFIX)}
        self.score, self.step = values.get("best_score", -math.inf), int(values.get("best_step", 0))
        self.num_worse = int(values.get("best_num_worse", 0))
