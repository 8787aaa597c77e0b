"""From a detector's score to the probability that a film really shows the region, and from there to "not visible".

One curve for all regions, and for each region one on top of it that is drawn to it where films are few. Fitted on
validation films, as they are and with a part cut off, by ``crrg.training.detector``; stored in the stage's
``config.json``. Where a detector has none, its own threshold decides, as it does for a region that no
validation film annotates.

Source: Platt (1999), as in ``crrg.inference.calibration``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crrg.domain.regions import NUM_REGIONS, REGION_INDEX, REGIONS
from crrg.errors import ModelError
from crrg.inference.calibration import fit_platt, log_odds, sigmoid
from crrg.inference.regions import RegionReadings

FloatArray = NDArray[np.float64]
KEPT_VISIBLE = 0.99
"""Operating point: share of the regions that validation films show which stay visible."""
LEAST_SCORE = 1e-4
"""A score of 0, which a region has that no proposal speaks for, counts as this."""
DECIMALS = 6


@dataclass(frozen=True)
class Visibility:
    """Per region: slope and bias of the score's log-odds; and the threshold of the probability.

    Attributes:
        slopes: ``[29]``, positive; NaN for a region of which nothing is known.
        biases: ``[29]``, likewise.
        threshold: 0..1; a region is visible at or above it.
    """

    slopes: FloatArray
    biases: FloatArray
    threshold: float

    @property
    def is_known(self) -> NDArray[np.bool_]:
        """Of which regions ``[29]`` it can be said whether a film shows them."""
        return np.isfinite(self.slopes)

    def probabilities(self, scores: NDArray[np.floating[Any]]) -> FloatArray:
        """Return the probability ``[N, 29]`` that films show the regions, of detector scores ``[N, 29]``; or NaN."""
        return sigmoid(log_odds(scores, LEAST_SCORE) * self.slopes + self.biases)

    def applied(self, readings: RegionReadings) -> RegionReadings:
        """Return readings whose scores are these probabilities, and whose regions below the threshold are not found."""
        chances = np.where(self.is_known, self.probabilities(readings.scores), readings.scores).astype(np.float32)
        return replace(readings, scores=chances, detected=readings.detected & self.is_shown(chances))

    def is_shown(self, chances: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Return which regions ``[N, 29]`` films may show, of ``applied`` scores; an unknown region may be shown."""
        return np.asarray(~self.is_known | (chances >= self.threshold))

    def as_config(self) -> dict[str, Any]:
        """Return what stands as ``visibility`` in the detector's ``config.json``."""
        return {
            "regions": {
                region: {
                    "slope": round(float(self.slopes[i]), DECIMALS),
                    "bias": round(float(self.biases[i]), DECIMALS),
                }
                for i, region in enumerate(REGIONS)
                if self.is_known[i]
            },
            "threshold": round(self.threshold, DECIMALS),
            "kept_visible": KEPT_VISIBLE,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Visibility | None:
        """Read what ``as_config`` wrote out of the detector's ``config.json``; ``None`` where it has nothing of it.

        Raises:
            ModelError: Something is missing.
        """
        written = config.get("visibility")
        if written is None:
            return None
        try:
            slopes, biases = np.full(NUM_REGIONS, np.nan), np.full(NUM_REGIONS, np.nan)
            for region, curve in written["regions"].items():
                slopes[REGION_INDEX[region]], biases[REGION_INDEX[region]] = curve["slope"], curve["bias"]
            return cls(slopes, biases, threshold=float(written["threshold"]))
        except KeyError as error:
            raise ModelError(
                f"visibility in config.json cannot be read at {error}; train the stage again", "detector"
            ) from error


def fit_visibility(scores: NDArray[np.floating[Any]], visible: NDArray[np.floating[Any]]) -> Visibility | None:
    """Fit curves and threshold on films of which it is known what they show.

    Args:
        scores: Of the detector, ``[N, 29]``.
        visible: ``[N, 29]``: 1 visible, 0 not, NaN unknown and left out.

    Returns:
        ``None`` where there is no visible region, or none that is not.
    """
    odds, is_known = log_odds(scores, LEAST_SCORE), np.isfinite(visible)
    truth = np.where(is_known, visible, 0.0)
    if not (is_known & (truth == 1)).any() or not (is_known & (truth == 0)).any():
        return None
    slope, bias = fit_platt(odds[is_known], truth[is_known])
    slopes, biases = np.full(NUM_REGIONS, np.nan), np.full(NUM_REGIONS, np.nan)
    for region in np.flatnonzero(is_known.any(axis=0)):
        rows = is_known[:, region]
        own_slope, own_bias = fit_platt(odds[rows, region] * slope + bias, truth[rows, region])
        slopes[region], biases[region] = slope * own_slope, bias * own_slope + own_bias
    slopes, biases = slopes.round(DECIMALS), biases.round(DECIMALS)  # as they are stored, and used
    fitted = Visibility(slopes, biases, 0.0)
    shown = np.sort(fitted.probabilities(scores)[is_known & (truth == 1)])
    num_lost = int(np.floor((1 - KEPT_VISIBLE) * len(shown) + 1e-9))
    # rounded down, so that the region that decides it is not lost by the rounding
    threshold = np.floor(shown[num_lost] * 10**DECIMALS) / 10**DECIMALS
    return Visibility(slopes, biases, float(threshold))
