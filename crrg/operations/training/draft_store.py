"""Drafts of a dataset's training films as a versioned dataset, of whichever kind: what the joint stage learns from.

``models/drafts/<bundle id>/<folder>/part-*.parquet`` in the order of the films, and last ``_manifest.json``: who
drafted, how it searched and put together, which dataset version, how many films, and the parts' digests. A drafting
that was cut off goes on with its next part. What is read must be what the manifest names, and each row the draft of the
very film at its place, by instance id and digest of the pixels. Only rows of the training split come here, and
``crrg.training.joint`` checks that once more.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import pyarrow as pa

from crrg.config.models import DecodingSettings
from crrg.config.references import DatasetRef
from crrg.data.parquet import read_parquet
from crrg.data.privacy.forgotten import check_still_whole
from crrg.domain.nbest import DraftsOrigin
from crrg.domain.study import Film, Pair, Split
from crrg.errors import DigestMismatch
from crrg.inference.assembly import ASSEMBLY_VERSION
from crrg.ledger.tables import table_bytes
from crrg.progress import count_progress
from crrg.storage import Storage, hash_json

logger = logging.getLogger(__name__)

DRAFTS = "models/drafts"
MANIFEST = "_manifest.json"
NBEST = "nbest"
"""In the name of folders whose drafts have all wordings."""
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
"""Columns of every kind of drafts; a kind may have more behind them."""


@dataclass(frozen=True)
class DraftFolder:
    """A version of drafts: whose, of what, how.

    Attributes:
        dataset: Whose training films.
        bundle_id: Who drafts.
        decoding: How it searches.
        name: Folder under the bundle's, with ``how_drafted`` at its end.
        schema: ``SCHEMA`` and what the kind has behind it.
    """

    dataset: DatasetRef
    bundle_id: str
    decoding: DecodingSettings
    name: str
    schema: pa.Schema = SCHEMA

    def key(self, name: str) -> str:
        """Return the key of one of its objects."""
        return f"{DRAFTS}/{self.bundle_id}/{self.name}/{name}"

    def manifest(self, parts: Mapping[str, str], num_films: int) -> dict[str, Any]:
        """Return the manifest of a finished version."""
        return {
            "bundle_id": self.bundle_id,
            "dataset": self.dataset.name,
            "dataset_version": self.dataset.version,
            "split": Split.TRAIN.value,
            "decoding": self.decoding.model_dump(mode="json"),
            "assembly": ASSEMBLY_VERSION,
            "num_films": num_films,
            "parts": dict(parts),
        }


def how_drafted(decoding: DecodingSettings, **more: str) -> str:
    """Return a short name of how drafts are made: their search, how they are put together, and what a kind adds."""
    about = {"decoding": decoding.model_dump(mode="json"), "assembly": ASSEMBLY_VERSION, **more}
    return hash_json(about)[:8]


def draft_films(
    folder: DraftFolder,
    films: Iterable[tuple[Pair, Film]],
    storage: Storage,
    draft: Callable[[Sequence[Film]], Sequence[Mapping[str, Any]]],
    take: Callable[[Mapping[str, Any]], None],
    most: int,
) -> DraftsOrigin:
    """Draft the films that have no draft yet, and hand out all drafts.

    Args:
        folder: The version.
        films: Frontal training films, in an order that is the same every time.
        storage: Root; keeps the drafts.
        draft: Films to what the schema says of each beside its ids: ``findings``, ``impression`` and the kind's own.
        take: Receives every row in the order of the films.
        most: About how many films there are, for the progress.

    Raises:
        DigestMismatch: A part is not the one that the manifest names, or holds drafts of other films.
        StorageError: A patient was removed from the dataset meanwhile.
    """
    manifest_key = folder.key(MANIFEST)
    named = storage.get_json(manifest_key)["parts"] if storage.exists(manifest_key) else {}
    parts: dict[str, str] = {}
    num_films, say = 0, count_progress("drafts of training films", "films")
    for index, chunk in enumerate(_in_parts(iter(films))):
        key = folder.key(f"part-{index:05d}.parquet")
        if not storage.exists(key):
            part = table_bytes(_part(folder.schema, chunk, draft([film for _, film in chunk])))
            check_still_whole(storage, folder.dataset)
            storage.put(key, part)
        data = storage.get(key)
        parts[key] = hashlib.sha256(data).hexdigest()
        if named and named.get(key) != parts[key]:
            raise DigestMismatch("not the drafts that the manifest names; remove the folder to draft again", key)
        for row in _rows(data, chunk, key):
            take(row)
        num_films += len(chunk)
        say(num_films, max(most, num_films))
    manifest = folder.manifest(parts, num_films)
    if not named:
        storage.put_json(manifest_key, manifest)
    logger.info("%d training films of %s drafted by bundle %s", num_films, folder.dataset.name, folder.bundle_id)
    return DraftsOrigin(hash_json(manifest), folder.bundle_id, num_films)


def _in_parts(films: Iterator[tuple[Pair, Film]]) -> Iterator[list[tuple[Pair, Film]]]:
    while part := list(islice(films, FILMS_PER_PART)):
        yield part


def _part(schema: pa.Schema, films: Sequence[tuple[Pair, Film]], drafts: Sequence[Mapping[str, Any]]) -> pa.Table:
    rows = [
        {
            "patient_id": pair.patient_id,
            "study_id": pair.study_id,
            "instance_id": pair.instance_id,
            "pixel_digest": film.pixel_digest,
            **draft,
        }
        for (pair, film), draft in zip(films, drafts, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=schema)


def _rows(data: bytes, films: Sequence[tuple[Pair, Film]], key: str) -> list[dict[str, Any]]:
    """Return a part's rows after comparing them with the films they are to be of."""
    rows: list[dict[str, Any]] = read_parquet(data).to_pylist()
    found = [(row["instance_id"], row["pixel_digest"]) for row in rows]
    if found != [(pair.instance_id, film.pixel_digest) for pair, film in films]:
        raise DigestMismatch("drafts of other films than the dataset's; remove the folder to draft again", key)
    return rows
