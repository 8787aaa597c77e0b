"""N-best drafts of training films as a versioned dataset: what the joint rounds rank, learn from and mix with reports.

``models/drafts/<bundle id>/<dataset>-<version>-train-nbest-<films>/part-*.parquet`` in the order of the films, and last
``_manifest.json``: who drafted, how it searched, which films (by digest, in the parts) and the parts' digests. A
drafting that was cut off goes on with its next part.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from crrg.config.models import DecodingSettings
from crrg.config.references import DatasetRef
from crrg.data.pairs import read_pairs
from crrg.domain.nbest import NBestDraft
from crrg.domain.study import Film, Pair, Split
from crrg.errors import DigestMismatch
from crrg.ledger.tables import table_bytes
from crrg.progress import count_progress
from crrg.storage import Storage, hash_json

logger = logging.getLogger(__name__)

FILMS_PER_PART = 64
MANIFEST = "_manifest.json"
_WORDINGS = pa.struct([pa.field("region_index", pa.int32()), pa.field("texts", pa.list_(pa.string()))])
SCHEMA = pa.schema(
    [
        pa.field("patient_id", pa.string(), nullable=False),
        pa.field("study_id", pa.string(), nullable=False),
        pa.field("instance_id", pa.string(), nullable=False),
        pa.field("pixel_digest", pa.binary(32), nullable=False),
        pa.field("findings", pa.string(), nullable=False),
        pa.field("impression", pa.string(), nullable=False),
        pa.field("regions", pa.list_(_WORDINGS), nullable=False),
    ]
)


class NBestDrafter(Protocol):
    """Drafts with all wordings; ``crrg.inference.pipeline.ReportPipeline`` is one."""

    def draft_nbest(self, films: Sequence[Film]) -> list[NBestDraft]:
        """Return one draft per film, of at least one."""


@dataclass(frozen=True)
class NBestDataset:
    """A finished version of drafts.

    Attributes:
        version: Digest over who drafted, how, and every part.
        drafts: Instance id to draft, in the order of the films.
    """

    version: str
    drafts: dict[str, NBestDraft]

    def texts(self) -> dict[str, str]:
        """Return instance id to findings and impression."""
        return {instance_id: draft.text for instance_id, draft in self.drafts.items()}


def draft_nbest(
    dataset: DatasetRef,
    bundle_id: str,
    decoding: DecodingSettings,
    storage: Storage,
    make_drafter: Callable[[], NBestDrafter],
    *,
    limit: int = 0,
) -> NBestDataset:
    """Draft frontal training films that this bundle has not drafted yet, and return all of its drafts.

    Args:
        dataset: Whose training films.
        bundle_id: Who drafts.
        decoding: How it searches.
        storage: Root with the dataset; keeps the drafts.
        make_drafter: Builds the drafter; called only if there is something to draft.
        limit: Most films; 0 takes all.

    Raises:
        DigestMismatch: A part is not the one that the manifest names.
    """
    how = hash_json(decoding.model_dump(mode="json"))[:8]
    split = f"{dataset.name}-{dataset.version}-{Split.TRAIN.value}-nbest-{limit or 'all'}-{how}"
    prefix = f"models/drafts/{bundle_id}/{split}"
    drafter: NBestDrafter | None = None
    parts: dict[str, str] = {}
    drafts: dict[str, NBestDraft] = {}
    total = min(limit or dataset.num_rows[Split.TRAIN.value], dataset.num_rows[Split.TRAIN.value])
    named = storage.get_json(f"{prefix}/{MANIFEST}")["parts"] if storage.exists(f"{prefix}/{MANIFEST}") else {}
    say = count_progress("n-best drafts", "films")
    for index, films in enumerate(_in_parts(_frontal(storage, dataset, limit))):
        key = f"{prefix}/part-{index:05d}.parquet"
        if not storage.exists(key):
            drafter = drafter or make_drafter()
            storage.put(key, table_bytes(_draft_part(films, drafter)))
        data = storage.get(key)
        parts[key] = hashlib.sha256(data).hexdigest()
        if named and named.get(key) != parts[key]:
            raise DigestMismatch("not the drafts that the manifest names; remove the folder to draft again", key)
        drafts |= dict(_read_part(data))
        say(len(drafts), max(total, len(drafts)))
    about = {"bundle_id": bundle_id, "dataset": dataset.name, "dataset_version": dataset.version}
    manifest = {**about, "decoding": decoding.model_dump(mode="json"), "num_films": len(drafts), "parts": parts}
    if not named:
        storage.put_json(f"{prefix}/{MANIFEST}", manifest)
    return NBestDataset(hash_json(manifest), drafts)


def _frontal(storage: Storage, dataset: DatasetRef, limit: int) -> Iterator[tuple[Pair, Film]]:
    pairs = (
        (pair, pair.film)
        for pair in read_pairs(storage, dataset, Split.TRAIN)
        if pair.film is not None and pair.film.view_position.is_frontal
    )
    return islice(pairs, limit or None)


def _in_parts(films: Iterator[tuple[Pair, Film]]) -> Iterator[list[tuple[Pair, Film]]]:
    while part := list(islice(films, FILMS_PER_PART)):
        yield part


def _draft_part(films: Sequence[tuple[Pair, Film]], drafter: NBestDrafter) -> pa.Table:
    drafts = drafter.draft_nbest([film for _, film in films])
    rows: list[dict[str, Any]] = [
        {
            "patient_id": pair.patient_id,
            "study_id": pair.study_id,
            "instance_id": pair.instance_id,
            "pixel_digest": film.pixel_digest,
            "findings": draft.findings,
            "impression": draft.impression,
            "regions": [
                {"region_index": region, "texts": list(texts)} for region, texts in sorted(draft.hypotheses.items())
            ],
        }
        for (pair, film), draft in zip(films, drafts, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _read_part(data: bytes) -> Iterator[tuple[str, NBestDraft]]:
    for row in pq.read_table(io.BytesIO(data)).to_pylist():
        hypotheses = {found["region_index"]: tuple(found["texts"]) for found in row["regions"]}
        yield row["instance_id"], NBestDraft(row["findings"], row["impression"], hypotheses)
