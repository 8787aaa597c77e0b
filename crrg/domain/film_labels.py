"""What the CLIP stage alone says of films, as arrays: beside it the probabilities that are given out are shown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class FilmLabels:
    """Films as the CLIP stage reads them, without draft and regions.

    Attributes:
        head: Calibrated probabilities of the label head, ``[N, 14]``.
        head_thresholds: ``[14]`` in 0..1.
        zero_shot: Probabilities by prompts, ``[N, 14]``; not calibrated.
        image_features: ``[N, D]`` of length 1.
    """

    head: NDArray[np.float64]
    head_thresholds: NDArray[np.float64]
    zero_shot: NDArray[np.float64]
    image_features: NDArray[np.float64]

    def joined(self, other: FilmLabels) -> FilmLabels:
        """Return these films and then others, read by the same model."""
        return FilmLabels(
            np.concatenate([self.head, other.head]),
            self.head_thresholds,
            np.concatenate([self.zero_shot, other.zero_shot]),
            np.concatenate([self.image_features, other.image_features]),
        )
