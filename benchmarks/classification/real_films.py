"""Real frontal films through ``crrg predict``: does each end in a draft or a reason, and do probabilities differ?"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.real.inbox import real_inbox
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.domain.labels import LABELS
from crrg.inference.pipeline import ReportPipeline
from crrg.operations.predict import predict_files
from crrg.storage import Storage


def predict_real(pipeline: ReportPipeline, max_films: int) -> dict[str, Any]:
    """Draft the open films one would find in an inbox; nothing of them is kept.

    Args:
        pipeline: The bundle.
        max_films: Most films of the collection of pictures, beside the DICOM samples.

    Returns:
        How many files were drafted and why others were not; per label the lowest, median and highest probability.
    """
    files = real_inbox(Path(os.environ["CRRG_OPEN_DATA"]), max_films)
    with tempfile.TemporaryDirectory() as temporary:
        paths = []
        for number, file in enumerate(files):
            paths.append(Path(temporary, f"{number:05d}{Path(file.key).suffix}"))
            paths[-1].write_bytes(file.data)
        out = Storage(str(Path(temporary, "out")))
        summary = predict_files(paths, out, Pseudonyms(b"k" * 32), pipeline)
        answers = [out.get_json(f"{path.name}.json") for path in paths]
    drafted = [answer for answer in answers if "probabilities" in answer]
    table = np.array([[answer["probabilities"][label] for label in LABELS] for answer in drafted])
    return {
        "num_files": len(files),
        "num_drafted": summary.num_drafted,
        "reasons": dict(Counter(summary.reasons.values())),
        "probabilities": {
            label: np.quantile(table[:, i], [0, 0.5, 1]).round(3).tolist() for i, label in enumerate(LABELS)
        },
        "num_different": len({tuple(row) for row in table.round(3).tolist()}),
        "flagged_share": float(np.mean([bool(answer["flags"]) for answer in drafted])),
    }
