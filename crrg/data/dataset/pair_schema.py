"""The Parquet form of a pair: column names, types, and the way there and back.

Knows one row at a time; ``pairs`` writes and reads whole versions. A change here raises ``SCHEMA_VERSION``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

import crrg
from crrg.data.images import PREPROCESSING_VERSION
from crrg.domain.acquisition import UNKNOWN, Acquisition
from crrg.domain.labels import LABEL_COLUMNS, LABELS
from crrg.domain.report import Report
from crrg.domain.study import Film, Pair, RegionAnnotation, RegionSource, Split, ViewPosition

SCHEMA_VERSION = 1
_WORD = pa.dictionary(pa.int8(), pa.string())

PAIR_SCHEMA = pa.schema(
    [
        pa.field("patient_id", pa.string(), nullable=False),
        pa.field("study_id", pa.string(), nullable=False),
        pa.field("instance_id", pa.string(), nullable=False),
        pa.field("view_position", _WORD),
        pa.field("image", pa.binary()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("original_width", pa.int32()),
        pa.field("original_height", pa.int32()),
        pa.field("pixel_spacing_mm", pa.list_(pa.float32())),
        pa.field("polarity_inverted", pa.bool_()),
        pa.field("indication", pa.string()),
        pa.field("findings", pa.string()),
        pa.field("impression", pa.string()),
        pa.field(
            "regions",
            pa.list_(
                pa.struct(
                    [
                        pa.field("region", _WORD),
                        pa.field("box_xyxy", pa.list_(pa.float32(), 4)),
                        pa.field("phrase", pa.string()),
                        pa.field("is_abnormal", pa.bool_()),
                        pa.field("source", _WORD),
                    ]
                )
            ),
        ),
        pa.field("labels", pa.struct([pa.field(column, pa.int8()) for column in LABEL_COLUMNS])),
        pa.field("label_source", _WORD),
        pa.field("source", _WORD),
        pa.field("source_digest", pa.binary(32)),
        pa.field("pixel_digest", pa.binary(32)),
        pa.field("ingested_version", pa.string()),
    ],
    metadata={"crrg_schema": f"pairs-{SCHEMA_VERSION}"},
)
"""Columns of ``datasets/…``, schema version 1; ``version`` and ``split`` stand in the path only."""

TEXT_COLUMNS: tuple[str, ...] = ("indication", "findings", "impression")


def pair_to_row(pair: Pair) -> dict[str, Any]:
    """Return a pair as the column values of ``PAIR_SCHEMA``; what is known of its acquisition is in none of them."""
    film = pair.film
    return {
        "patient_id": pair.patient_id,
        "study_id": pair.study_id,
        "instance_id": pair.instance_id,
        "view_position": film.view_position.value if film else None,
        "image": np.ascontiguousarray(film.pixels).tobytes() if film else None,
        "width": film.pixels.shape[1] if film else None,
        "height": film.pixels.shape[0] if film else None,
        "original_width": film.original_width if film else None,
        "original_height": film.original_height if film else None,
        "pixel_spacing_mm": _as_stored(film.pixel_spacing_mm) if film and film.pixel_spacing_mm else None,
        "polarity_inverted": film.polarity_inverted if film else None,
        **{column: getattr(pair.report, column) for column in TEXT_COLUMNS},
        "regions": [
            {
                "region": annotation.region,
                "box_xyxy": _as_stored(annotation.box_xyxy),
                "phrase": annotation.phrase,
                "is_abnormal": annotation.is_abnormal,
                "source": annotation.source.value,
            }
            for annotation in pair.regions
        ],
        "labels": {column: pair.labels.get(label) for label, column in zip(LABELS, LABEL_COLUMNS, strict=True)},
        "label_source": pair.label_source,
        "source": pair.source,
        "source_digest": pair.source_digest,
        "pixel_digest": film.pixel_digest if film else None,
        "ingested_version": f"{crrg.__version__}+{PREPROCESSING_VERSION}",
    }


def row_to_pair(row: Mapping[str, Any], split: Split, acquisition: Acquisition = UNKNOWN) -> Pair:
    """Return the pair that ``pair_to_row`` wrote, with what is known beside it."""
    return Pair(
        patient_id=row["patient_id"],
        study_id=row["study_id"],
        instance_id=row["instance_id"],
        film=None if row["image"] is None else _row_to_film(row),
        report=Report(**{column: row[column] for column in TEXT_COLUMNS}),
        regions=tuple(
            RegionAnnotation(
                region=entry["region"],
                box_xyxy=tuple(entry["box_xyxy"]),
                phrase=entry["phrase"],
                is_abnormal=entry["is_abnormal"],
                source=RegionSource(entry["source"]),
            )
            for entry in row["regions"]
        ),
        labels={
            label: row["labels"][column]
            for label, column in zip(LABELS, LABEL_COLUMNS, strict=True)
            if row["labels"][column] is not None
        },
        label_source=row["label_source"],
        source=row["source"],
        source_digest=row["source_digest"],
        split=split,
        acquisition=acquisition,
    )


def _as_stored(values: Sequence[float]) -> list[float]:
    """Return values as float32 holds them, so that a row is the same before and after it was stored."""
    return [float(value) for value in np.asarray(values, dtype=np.float32)]


def _row_to_film(row: Mapping[str, Any]) -> Film:
    pixels = np.frombuffer(row["image"], dtype=np.uint8).reshape(row["height"], row["width"])
    spacing = row["pixel_spacing_mm"]
    return Film(
        pixels=pixels,
        original_width=row["original_width"],
        original_height=row["original_height"],
        view_position=ViewPosition(row["view_position"]),
        pixel_spacing_mm=None if spacing is None else (spacing[0], spacing[1]),
        polarity_inverted=row["polarity_inverted"],
        pixel_digest=row["pixel_digest"],
    )
