"""Drafts as two Parquet tables: one row per film, and one per film and region.

The columns are a contract (``docs/operations.md``): other people's programs read them. A draft's text and its labels
are one row, so neither exists without the other. Where the tables lie and who may believe them is ``crrg.ledger``'s.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from crrg.domain.labels import LABEL_COLUMNS, LABELS
from crrg.domain.regions import REGIONS
from crrg.domain.study import DraftReport, RegionPrediction, ViewPosition
from crrg.errors import ModelError

SCHEMA_VERSION = 1
REVIEW_STATUS = "draft"


def _metadata(name: str) -> dict[str, str]:
    return {"schema": f"crrg.{name}", "schema_version": str(SCHEMA_VERSION)}


REPORTS_SCHEMA = pa.schema(
    [
        pa.field("study_id", pa.string(), nullable=False),
        pa.field("instance_id", pa.string(), nullable=False),
        pa.field("is_primary", pa.bool_(), nullable=False),
        pa.field("source_digest", pa.binary(32), nullable=False),
        pa.field("view_position", pa.string(), nullable=False),
        pa.field("findings", pa.string(), nullable=False),
        pa.field("impression", pa.string(), nullable=False),
        pa.field("num_regions_reported", pa.int32(), nullable=False),
        *(pa.field(f"probability_{column}", pa.float32(), nullable=False) for column in LABEL_COLUMNS),
        *(pa.field(f"label_{column}", pa.int8(), nullable=False) for column in LABEL_COLUMNS),
        pa.field("superseded_by", pa.string()),
        pa.field("consistency", pa.float32(), nullable=False),
        pa.field("flags", pa.list_(pa.string()), nullable=False),
        pa.field("bundle_id", pa.string(), nullable=False),
        pa.field("review_status", pa.string(), nullable=False),
    ],
    metadata=_metadata("reports"),
)
REGIONS_SCHEMA = pa.schema(
    [
        pa.field("instance_id", pa.string(), nullable=False),
        pa.field("region", pa.string(), nullable=False),
        pa.field("box_xyxy", pa.list_(pa.float32(), 4), nullable=False),
        pa.field("detected", pa.bool_(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("selected", pa.bool_(), nullable=False),
        pa.field("abnormal_probability", pa.float32(), nullable=False),
        pa.field("phrase", pa.string()),
        pa.field("phrase_logprob", pa.float32()),
    ],
    metadata=_metadata("regions"),
)


@dataclass(frozen=True)
class DraftedFilm:
    """A film with its draft, without pixels.

    Attributes:
        study_id: Pseudonym of the examination.
        instance_id: Pseudonym of the image.
        source_digest: sha256 of the source object's bytes.
        view_position: Projection.
        original_width: Width in original pixels.
        original_height: Height in original pixels.
        film_flags: Remarks of the reader, e.g. ``view_unknown``.
        draft: What the models say.
        bundle_id: Which models.
    """

    study_id: str
    instance_id: str
    source_digest: bytes
    view_position: ViewPosition
    original_width: int
    original_height: int
    film_flags: tuple[str, ...]
    draft: DraftReport
    bundle_id: str

    @property
    def flags(self) -> tuple[str, ...]:
        """Remarks of the reader and of the models, each once, in that order."""
        return tuple(dict.fromkeys((*self.film_flags, *self.draft.flags)))


def check_draft(draft: DraftReport, instance_id: str) -> None:
    """Check that a draft is whole: 14 probabilities and labels, 29 regions in order, all numbers finite.

    Raises:
        ModelError: Something is missing or not a number.
    """
    wrong = ""
    if set(draft.probabilities) != set(LABELS) or set(draft.labels) != set(LABELS):
        wrong = f"a draft needs {len(LABELS)} probabilities and labels"
    elif tuple(region.region for region in draft.regions) != REGIONS:
        wrong = f"a draft needs the {len(REGIONS)} regions in their order"
    elif not all(0.0 <= value <= 1.0 for value in draft.probabilities.values()) or not math.isfinite(draft.consistency):
        wrong = "a probability or the consistency is not a number in its range"
    elif not all(map(_is_in_range, draft.regions)):
        wrong = "a region's box, score or probability is not a number in its range"
    if wrong:
        raise ModelError(f"{wrong}; nothing was committed, check the bundle", instance_id)


def _is_in_range(region: RegionPrediction) -> bool:
    # a sum is finite only where all of it is
    return math.isfinite(sum(region.box_xyxy, region.score)) and 0.0 <= region.abnormal_probability <= 1.0


def reports_table(films: Iterable[DraftedFilm], primary: frozenset[str]) -> pa.Table:
    """Return the report rows, sorted by study and image.

    Args:
        films: Drafted films.
        primary: ``instance_id`` of the image that stands for its study.
    """
    ordered = sorted(films, key=lambda film: (film.study_id, film.instance_id))
    return pa.Table.from_pylist([_report_row(film, film.instance_id in primary) for film in ordered], REPORTS_SCHEMA)


def regions_table(films: Iterable[DraftedFilm]) -> pa.Table:
    """Return the region rows, sorted by study and image, regions in their fixed order."""
    ordered = sorted(films, key=lambda film: (film.study_id, film.instance_id))
    rows = [
        {
            "instance_id": film.instance_id,
            "region": region.region,
            "box_xyxy": list(region.box_xyxy),
            "detected": region.detected,
            "score": region.score,
            "selected": region.selected,
            "abnormal_probability": region.abnormal_probability,
            "phrase": region.phrase,
            "phrase_logprob": region.phrase_logprob,
        }
        for film in ordered
        for region in film.draft.regions
    ]
    return pa.Table.from_pylist(rows, REGIONS_SCHEMA)


def with_primary(table: pa.Table, dropped: frozenset[str], primary: frozenset[str]) -> pa.Table:
    """Return report rows without some images and with newly chosen primary ones."""
    kept = without_films(table, dropped)
    chosen = pa.array([name in primary for name in kept["instance_id"].to_pylist()], pa.bool_())
    index = kept.schema.get_field_index("is_primary")
    return kept.set_column(index, kept.schema.field(index), chosen)


def without_films(table: pa.Table, dropped: frozenset[str]) -> pa.Table:
    """Return rows of either table without those of some images."""
    keep = pa.array([name not in dropped for name in table["instance_id"].to_pylist()], pa.bool_())
    return table.filter(keep)


def _report_row(film: DraftedFilm, is_primary: bool) -> dict[str, Any]:
    draft = film.draft
    columns = list(zip(LABELS, LABEL_COLUMNS, strict=True))
    return {
        "study_id": film.study_id,
        "instance_id": film.instance_id,
        "is_primary": is_primary,
        "source_digest": film.source_digest,
        "view_position": film.view_position.value,
        "findings": draft.findings,
        "impression": draft.impression,
        "num_regions_reported": sum(1 for region in draft.regions if region.phrase),
        **{f"probability_{column}": draft.probabilities[label] for label, column in columns},
        **{f"label_{column}": draft.labels[label] for label, column in columns},
        "superseded_by": None,
        "consistency": draft.consistency,
        "flags": list(film.flags),
        "bundle_id": film.bundle_id,
        "review_status": REVIEW_STATUS,
    }
