"""Ask about findings in any words (``crrg zero-shot``): films of a few files against sentences that affirm and deny."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from crrg.config.base import Device, Settings
from crrg.data.deidentify import Pseudonyms
from crrg.domain.labels import canonical_label
from crrg.domain.study import Film
from crrg.exports.documents import DISCLAIMER
from crrg.ledger.tables import table_bytes
from crrg.operations.night_steps import bundle_pipeline
from crrg.operations.predict import DECIMALS, PredictSummary, pretty_json, read_files
from crrg.registry.aliases import resolve_bundle
from crrg.storage import Storage

if TYPE_CHECKING:
    from crrg.inference.zero_shot import LabelAnswer

CHUNK_SIZE = 64
TABLE = "zero_shot.parquet"
SCHEMA = pa.schema(
    [
        pa.field("instance_id", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("probability", pa.float32(), nullable=False),
        pa.field("uncertain", pa.float32()),
        pa.field("bundle_id", pa.string(), nullable=False),
    ]
)
"""One row per film and label; nothing in it is calibrated. ``uncertain`` is null for "No Finding"."""


class Asker(Protocol):
    """Answers about findings in words; ``crrg.inference.pipeline.ReportPipeline`` is one."""

    @property
    def bundle_id(self) -> str:
        """Bundle the models come from."""

    def ask(self, films: Sequence[Film], labels: Sequence[str]) -> dict[str, LabelAnswer]:
        """Return the answer of at least one film about each label."""


def ask_with(
    files: Sequence[Path],
    labels: Sequence[str],
    out: str,
    model: str,
    device: Device,
    storage: Storage,
    settings: Settings,
) -> PredictSummary:
    """Ask about findings in local files with a model.

    Args:
        files: DICOM, PNG or JPEG files.
        labels: Label names or any finding in words.
        out: Folder or URL for the results.
        model: Reference to the bundle.
        device: Where the models run.
        storage: Root with the bundle.
        settings: With the secret of the pseudonyms.
    """
    pipeline = bundle_pipeline(storage, resolve_bundle(model, storage, settings).ref, device)
    return ask_files(files, labels, storage.at(out), Pseudonyms(settings.pseudonym_key()), pipeline)


def ask_files(
    paths: Sequence[Path],
    labels: Sequence[str],
    out: Storage,
    pseudonyms: Pseudonyms,
    asker: Asker,
    *,
    image_size: int = 512,
    num_workers: int = 1,
) -> PredictSummary:
    """Ask about findings in local files; writes ``zero_shot.parquet`` and one ``<file name>.json`` per file.

    Args:
        paths: DICOM, PNG or JPEG files with different names.
        labels: At least one label name, in any case, or finding in words.
        out: Where the results go.
        pseudonyms: Makes the ids.
        asker: The models.
        image_size: Longest side of a film, pixels.
        num_workers: Decoder processes; 0 decodes in this process.

    Raises:
        ConfigError: A file does not exist, two have one name, or a label is empty or too long.
    """
    asked = list(dict.fromkeys(canonical_label(label) for label in labels))
    films, reasons = read_files(paths, out, pseudonyms, image_size=image_size, num_workers=num_workers)
    rows = []
    for first in range(0, len(films), CHUNK_SIZE):
        chunk = films[first : first + CHUNK_SIZE]
        answers = asker.ask([file.film for file in chunk], asked)
        for place, file in enumerate(chunk):
            found = {label: _values(answer, place) for label, answer in answers.items()}
            ids = {"instance_id": file.outcome.instance_id, "bundle_id": asker.bundle_id}
            rows += [{**ids, "label": label, **values} for label, values in found.items()]
            rounded = {label: {name: round(each, DECIMALS) for name, each in found[label].items()} for label in found}
            value = {"file": file.name, "disclaimer": DISCLAIMER, **ids, "calibrated": False, "labels": rounded}
            out.put(f"{file.name}.json", pretty_json(value))
    out.put(TABLE, table_bytes(pa.Table.from_pylist(rows, schema=SCHEMA)))
    return PredictSummary(num_drafted=len(films), reasons=reasons)


def _values(answer: LabelAnswer, place: int) -> dict[str, float]:
    """Return what is answered of one film."""
    uncertain = {} if answer.uncertain is None else {"uncertain": float(answer.uncertain[place])}
    return {"probability": float(answer.probability[place]), **uncertain}
