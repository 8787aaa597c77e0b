"""What a bundle's four stages say of a split, kept in files, so that every later piece costs seconds."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crrg.config.references import DatasetRef
from crrg.data.dataset.pairs import read_pairs
from crrg.domain.study import Film, Pair, Split
from crrg.evaluation.classification import label_matrix
from crrg.inference.pipeline import ReportPipeline
from crrg.storage import Storage

CHUNK_SIZE = 64
CODE_VERSION = "4"
"""Raised when the same bundle would be read otherwise, so that what was read before is not taken for it."""
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class SplitReadings:
    """A split as the bundle reads it.

    Attributes:
        arrays: ``logits [N, 14]``, ``image_features [N, D]``, ``features [N, 29, F]``, ``finding_probabilities
            [N, 29, 14]``, ``abnormal_probabilities [N, 29]``, ``flags [N, 29, 15]``, ``region_flags [N, 29, 15]``,
            ``selected [N, 29]``, ``references [N, 14]`` (1, 0, NaN).
        rows: Per film ``patient_id``, ``instance_id``, ``report``, ``findings``, ``impression`` and ``hypotheses``:
            region index to texts, the likeliest first, the drafted one under ``drafted``.
    """

    arrays: dict[str, NDArray[Any]]
    rows: list[dict[str, Any]]

    def drafts(self) -> list[str]:
        """Return findings and impression of every draft."""
        return [f"{row['findings']} {row['impression']}".strip() for row in self.rows]

    def reports(self) -> list[str]:
        """Return every film's real report."""
        return [row["report"] for row in self.rows]

    def patients(self) -> list[str]:
        """Return every film's patient."""
        return [row["patient_id"] for row in self.rows]

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> SplitReadings:
        """Return some of the films."""
        numbers = np.asarray(rows, dtype=np.int64)
        return SplitReadings(
            {name: values[numbers] for name, values in self.arrays.items()}, [self.rows[i] for i in numbers.tolist()]
        )


def read_split(
    pipeline: ReportPipeline, storage: Storage, dataset: DatasetRef, split: Split, folder: str, limit: int = 0
) -> SplitReadings:
    """Read a split with a bundle, chunk by chunk; finished chunks are found again under ``folder``.

    Args:
        pipeline: The bundle.
        storage: Root.
        dataset: Version to read.
        split: Part of it.
        folder: Where finished chunks lie, for this bundle and these films alone.
        limit: Most films; 0 takes all.
    """
    folder = f"{folder}-{dataset.version[:8]}-code-{CODE_VERSION}{f'-first-{limit}' if limit else ''}"
    pairs: list[Pair] = []
    chunks: list[SplitReadings] = []
    num_films = 0
    for pair in read_pairs(storage, dataset, split):
        if pair.film is None or not pair.film.view_position.is_frontal:
            continue
        pairs.append(pair)
        num_films += 1
        if len(pairs) == CHUNK_SIZE or num_films == limit:
            chunks.append(_chunk(pipeline, storage, pairs, f"{folder}/part-{len(chunks):05d}"))
            pairs = []
        if num_films == limit:
            break
    if pairs:
        chunks.append(_chunk(pipeline, storage, pairs, f"{folder}/part-{len(chunks):05d}"))
    names = chunks[0].arrays
    return SplitReadings(
        {name: np.concatenate([chunk.arrays[name] for chunk in chunks]) for name in names},
        [row for chunk in chunks for row in chunk.rows],
    )


def _chunk(pipeline: ReportPipeline, storage: Storage, pairs: list[Pair], key: str) -> SplitReadings:
    if not storage.exists(f"{key}.json"):
        made = _read(pipeline, pairs)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **made.arrays)  # type: ignore[arg-type]
        storage.put(f"{key}.npz", buffer.getvalue())
        storage.put(f"{key}.json", json.dumps(made.rows).encode())
    with np.load(io.BytesIO(storage.get(f"{key}.npz")), allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    return SplitReadings(arrays, json.loads(storage.get(f"{key}.json")))


def _read(pipeline: ReportPipeline, pairs: list[Pair]) -> SplitReadings:
    """Draft films as a night does, and keep what stands behind the drafts."""
    films: list[Film] = [pair.film for pair in pairs if pair.film is not None]
    made = pipeline.make_drafts(films)
    rows = [
        {
            "patient_id": pair.patient_id,
            "study_id": pair.study_id,
            "instance_id": pair.instance_id,
            "report": pair.report.text,
            "findings": findings,
            "impression": impression,
            "hypotheses": {
                str(region): {"drafted": phrase.text, "texts": [each.text for each in wordings[region]]}
                for region, phrase in phrases.items()
            },
        }
        for pair, (findings, impression), phrases, wordings in zip(
            pairs, made.reports, made.phrases, made.hypotheses, strict=True
        )
    ]
    return SplitReadings(
        {
            "logits": made.labels.logits,
            "image_features": made.labels.image_features.numpy(),
            "features": made.readings.features,
            "finding_probabilities": made.readings.finding_probabilities,
            "abnormal_probabilities": made.readings.abnormal_probabilities,
            "flags": np.asarray(made.flags, dtype=np.float32),
            "region_flags": np.asarray(made.region_flags, dtype=np.float32),
            "selected": made.selected,
            "references": label_matrix([pair.labels for pair in pairs]),
        },
        rows,
    )
