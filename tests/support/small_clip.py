"""Sizes of a small CLIP network, and the few reports and films that it is trained on."""

from __future__ import annotations

import numpy as np

from crrg.config.models import ClipArchitecture
from crrg.data.dataset.batches import FilmTable
from crrg.domain.report import Report

REPORTS = ("Small left pleural effusion.", "The heart is enlarged. No effusion.", "Normal.", "Left rib fracture.")


def clip_architecture(**changes: object) -> ClipArchitecture:
    """Return small sizes, some of them changed."""
    small = {
        "input_size": 32, "image_width": 4, "text_layers": 1, "text_heads": 2, "text_hidden_size": 16,
        "text_vocab_size": 500, "max_text_length": 24, "projection_size": 8, "head_dropout": 0.0,
    }  # fmt: skip
    return ClipArchitecture.model_validate({**small, **changes})


def film_table(size: int) -> FilmTable:
    """Return a film of noise for each of the reports, each with the same box and a label of its own."""
    num = len(REPORTS)
    boxes = np.full((num, 29, 4), np.nan, dtype=np.float32)
    boxes[:, 14] = (8, 8, 20, 20)
    return FilmTable(
        images=np.random.default_rng(0).integers(0, 256, (num, size, size), dtype=np.uint8),
        original_sizes=np.full((num, 2), size, dtype=np.int32),
        input_boxes_xyxy=boxes,
        phrases=[{"left costophrenic angle": text} for text in REPORTS],
        is_abnormal=np.zeros((num, 29), dtype=np.int8),
        labels=np.eye(num, 14, dtype=np.int8),
        reports=list(REPORTS),
        texts=[Report(findings=text) for text in REPORTS],
        patient_ids=list("abcd"),
        instance_ids=list("ABCD"),
    )
