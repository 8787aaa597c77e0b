"""Drafts of a dataset's training films, written by a bundle: what the joint stage reads beside their reports.

``models/drafts/<bundle id>/<dataset>-<version>-train/part-*.parquet``, in the order of the films; a drafting that was
cut off goes on with its next part. Only rows of the training split are ever read here, and ``crrg.training.joint``
checks that once more.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from crrg.config.references import BundleRef, DatasetRef
from crrg.data.pairs import read_pairs
from crrg.domain.study import DraftReport, Film, Pair, Split
from crrg.ledger.tables import table_bytes
from crrg.progress import count_progress
from crrg.storage import Storage

logger = logging.getLogger(__name__)

FILMS_PER_PART = 64
"""Films drafted in one go and kept as one part; bounds what is in memory and what is done twice."""
SCHEMA = pa.schema(
    [
        pa.field("patient_id", pa.string(), nullable=False),
        pa.field("study_id", pa.string(), nullable=False),
        pa.field("instance_id", pa.string(), nullable=False),
        pa.field("pixel_digest", pa.binary(32), nullable=False),
        pa.field("findings", pa.string(), nullable=False),
        pa.field("impression", pa.string(), nullable=False),
    ]
)


class Drafter(Protocol):
    """Drafts reports; ``crrg.inference.pipeline.ReportPipeline`` is one."""

    def draft(self, films: Sequence[Film]) -> list[DraftReport]:
        """Return one draft per film."""


def draft_training_films(
    dataset: DatasetRef, bundle: BundleRef, storage: Storage, make_drafter: Callable[[], Drafter]
) -> dict[str, str]:
    """Draft every frontal training film of a dataset that has no draft of this bundle yet.

    Args:
        dataset: Whose training films.
        bundle: Who drafts; names the folder of the drafts.
        storage: Root with the dataset; keeps the drafts.
        make_drafter: Builds the bundle's pipeline; called only if there is something to draft.

    Returns:
        Instance id to findings and impression, empty where the draft says nothing.
    """
    prefix = f"models/drafts/{bundle.bundle_id}/{dataset.name}-{dataset.version}-{Split.TRAIN.value}"
    drafter: Drafter | None = None
    drafts: dict[str, str] = {}
    say = count_progress("drafts of training films", "films")
    for index, films in enumerate(_in_parts(_frontal(storage, dataset))):
        key = f"{prefix}/part-{index:05d}.parquet"
        if not storage.exists(key):
            drafter = drafter or make_drafter()
            storage.put(key, table_bytes(_draft_part(films, drafter)))
        for row in pq.read_table(io.BytesIO(storage.get(key))).to_pylist():
            drafts[row["instance_id"]] = " ".join(filter(None, (row["findings"], row["impression"])))
        say(len(drafts), max(len(drafts), dataset.num_rows[Split.TRAIN.value]))
    logger.info("%d training films of %s drafted by bundle %s", len(drafts), dataset.name, bundle.bundle_id)
    return drafts


def _frontal(storage: Storage, dataset: DatasetRef) -> Iterator[tuple[Pair, Film]]:
    for pair in read_pairs(storage, dataset, Split.TRAIN):
        if pair.film is not None and pair.film.view_position.is_frontal:
            yield pair, pair.film


def _in_parts(films: Iterator[tuple[Pair, Film]]) -> Iterator[list[tuple[Pair, Film]]]:
    while part := list(islice(films, FILMS_PER_PART)):
        yield part


def _draft_part(films: Sequence[tuple[Pair, Film]], drafter: Drafter) -> pa.Table:
    rows = [
        {
            "patient_id": pair.patient_id,
            "study_id": pair.study_id,
            "instance_id": pair.instance_id,
            "pixel_digest": film.pixel_digest,
            "findings": draft.findings,
            "impression": draft.impression,
        }
        for (pair, film), draft in zip(films, drafter.draft([film for _, film in films]), strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)
