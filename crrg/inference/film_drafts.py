"""What the stages make of a batch of films on the way to their drafts.

Arrays and texts only; made by ``crrg.inference.pipeline``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from crrg.domain.boxes import BoxXyxy
from crrg.domain.labels import LabelValues
from crrg.domain.nbest import Wording
from crrg.domain.regions import REGIONS
from crrg.domain.study import Film, RegionPrediction
from crrg.inference.decoding import DecodedPhrase
from crrg.inference.fusion import fusion_signals
from crrg.inference.regions import RegionReadings

FloatArray = NDArray[np.float64]
FloatValues = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class LabelReading:
    """What the CLIP stage says of films.

    Attributes:
        image_features: ``[N, D]``, length 1.
        logits: Of the label head, ``[N, 14]``.
        probabilities: The head's, calibrated, ``[N, 14]``.
    """

    image_features: torch.Tensor
    logits: FloatArray
    probabilities: FloatArray


@dataclass(frozen=True)
class FilmDrafts:
    """Films with all that is made of them on the way to a draft.

    Attributes:
        readings: Of their regions.
        labels: Of the films as a whole.
        flags: What each phrase was to say, ``[N, 29, 15]``.
        region_flags: The same as the regions alone have it, before anything was reconciled.
        selected: Which regions were to get a sentence, bool ``[N, 29]``.
        phrases: Per film, region index to phrase.
        hypotheses: Per film, region index to every finished wording, the best score first.
        reports: Per film, findings and impression.
        said: Per film, what its draft says of each label.
    """

    readings: RegionReadings
    labels: LabelReading
    flags: FloatValues
    region_flags: FloatValues
    selected: NDArray[np.bool_]
    phrases: list[dict[int, DecodedPhrase]]
    hypotheses: list[dict[int, tuple[Wording, ...]]]
    reports: list[tuple[str, str]]
    said: list[LabelValues]

    def regions(self, row: int, film: Film, input_size: int) -> tuple[RegionPrediction, ...]:
        """Return what is said of each region of one film, boxes in pixels of the original.

        Args:
            row: Which of the films.
            film: The film itself.
            input_size: Side of the square that the detector saw, pixels.
        """
        boxes = film.letterbox(input_size).to_original(self.readings.input_boxes_xyxy[row].astype(float)).tolist()
        return tuple(self._region(row, index, (x1, y1, x2, y2)) for index, (x1, y1, x2, y2) in enumerate(boxes))

    def _region(self, row: int, index: int, box_xyxy: BoxXyxy) -> RegionPrediction:
        phrase = self.phrases[row].get(index)
        return RegionPrediction(
            region=REGIONS[index],
            box_xyxy=box_xyxy,
            detected=bool(self.readings.detected[row, index]),
            score=float(self.readings.scores[row, index]),
            selected=bool(self.selected[row, index]),
            abnormal_probability=float(self.readings.abnormal_probabilities[row, index]),
            phrase=phrase.text if phrase else None,
            phrase_logprob=phrase.logprob if phrase else None,
        )

    def signals(self) -> FloatArray:
        """Return the five signals ``[N, 14, 5]`` of the fused classifier."""
        regions = self.readings
        return fusion_signals(
            self.labels.logits, self.said, regions.finding_probabilities, regions.abnormal_probabilities
        )
