"""What an ingest is about to read, and what shapes its rows: the digests by which work of an earlier run is found.

Lists archives, reads no film. Knows no orchestrator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import crrg
from crrg.config.data import IngestConfig
from crrg.data.archives.sources import Source
from crrg.data.dataset.pair_schema import SCHEMA_VERSION
from crrg.data.decoding.limits import in_force
from crrg.data.images import PREPROCESSING_VERSION
from crrg.data.pair_grounding import GROUNDING_VERSION
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.operations.ingest.inputs import row_code_digest
from crrg.storage import hash_json

ROW_SETTINGS = ("schema_version", "preprocessing_version", "image_size", "grounding", "languages", "report_sections")
"""Of what shapes a dataset, the part that decides what a single row holds."""


@dataclass(frozen=True)
class IngestPlan:
    """What is to be read, and how.

    Attributes:
        shaping: What shapes the rows and their splits; a part of the fingerprint.
        row_key: Digest of what shapes a single row.
        inputs_digest: Digest of all inputs and settings, and of what an input may ask for.
        versions: ETag by ``object_id``.
        num_inputs: About how many inputs there are.
    """

    shaping: dict[str, Any]
    row_key: str
    inputs_digest: str
    versions: dict[str, str]
    num_inputs: int


def survey(config: IngestConfig, sources: Sequence[Source], pseudonyms: Pseudonyms) -> IngestPlan:
    """List the archives.

    Args:
        config: The form.
        sources: The archives.
        pseudonyms: Turns identifiers into pseudonyms.

    Raises:
        StorageError: A store cannot be reached.
    """
    shaping = shaping_settings(config, sources, pseudonyms)
    key = row_key(shaping, pseudonyms)
    listed: list[list[list[Any]]] = []
    versions: dict[str, str] = {}
    for source in sources:
        names = [(pseudonyms.object_key(stored.key, source.site), stored) for stored in source.inventory()]
        listed.append([[name, stored.etag, stored.size] for name, stored in names])
        versions |= {name: stored.etag for name, stored in names}
    return IngestPlan(
        shaping=shaping,
        row_key=key,
        inputs_digest=hash_json(
            {"settings": shaping, "rows": key, "inputs": listed, "limits": asdict(in_force.decoder)}
        ),
        versions=versions,
        num_inputs=sum(min(len(inputs), config.limit or len(inputs)) for inputs in listed),
    )


def shaping_settings(config: IngestConfig, sources: Sequence[Source], pseudonyms: Pseudonyms) -> dict[str, Any]:
    """Return what shapes the rows, as it stands in the manifest and in the fingerprint."""
    return {
        "schema_version": SCHEMA_VERSION,
        "preprocessing_version": PREPROCESSING_VERSION,
        "crrg_version": crrg.__version__,
        "image_size": config.image_size,
        "split": {
            "seed": config.seed,
            "train_share": config.train_share,
            "validation_share": config.validation_share,
            "use_published_split": config.use_published_split,
        },
        "sources": [source.kind.value for source in sources],
        "limit": config.limit,
        "grounding": "off" if config.grounding == "off" else f"{config.grounding}:{GROUNDING_VERSION}",
        "languages": sorted({"en", *config.languages}),
        "report_sections": config.report_sections,
        "pseudonym_key_id": pseudonyms.key_id,
    }


def row_key(shaping: Mapping[str, Any], pseudonyms: Pseudonyms) -> str:
    """Return the digest of what shapes a single row: settings, secret and code."""
    row_settings = {name: shaping[name] for name in ROW_SETTINGS}
    return hash_json({**row_settings, "key": pseudonyms.key_id, "code": row_code_digest()})
