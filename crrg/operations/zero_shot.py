"""Ask about findings in any words (``crrg zero-shot``): films of a few files against sentences that affirm and deny.

Bundles are asked, published models as ``crrg import`` wrote them, or several of either as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from crrg.config.base import Device, Settings
from crrg.config.data import DEFAULT_IMAGE_SIZE
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.domain.study import Film
from crrg.errors import ConfigError
from crrg.exports.documents import DISCLAIMER
from crrg.inference.prompts import asked_labels
from crrg.ledger.tables import table_bytes
from crrg.operations.drafter import bundle_pipeline
from crrg.operations.predict import DECIMALS, PredictSummary, check_request, pretty_json, read_files
from crrg.progress import count_progress
from crrg.registry.aliases import resolve_bundle
from crrg.registry.imported import KEY_REPORT_FILE, import_digest, import_report
from crrg.storage import Storage

if TYPE_CHECKING:
    from crrg.inference.published_clip import PublishedClip
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
"""One row per film and label; nothing in it is calibrated. ``uncertain`` is null where no sentence leaves it open: for
"No Finding", and for published models."""


class Asker(Protocol):
    """Answers about findings in words; ``crrg.inference.pipeline.ReportPipeline`` is one."""

    @property
    def bundle_id(self) -> str:
        """Bundle the models come from, or whose published weights they are."""

    @property
    def image_size(self) -> int:
        """Longer side of the films that the models were trained on, pixels; 0 where they take films of any size."""

    def ask(self, films: Sequence[Film], labels: Sequence[str]) -> dict[str, LabelAnswer]:
        """Return the answer of at least one film about each label."""


@dataclass(frozen=True)
class PublishedAsker:
    """A published model, asked by its own rule.

    Attributes:
        bundle_id: Its source and the start of its weights' digest.
        clip: The model.
        image_size: 0: how large its films were when they were stored is not published with it.
    """

    bundle_id: str
    clip: PublishedClip
    image_size: int = 0

    def ask(self, films: Sequence[Film], labels: Sequence[str]) -> dict[str, LabelAnswer]:
        """Return the scores of films for each label; none of its sentences leaves a finding open."""
        from crrg.inference.zero_shot import LabelAnswer

        return {label: LabelAnswer(scores, None) for label, scores in self.clip.ask(films, labels).items()}


@dataclass(frozen=True)
class Ensemble:
    """Several models asked as one: the mean of what they answer.

    Attributes:
        askers: At least one.

    Source: the ensemble over checkpoints of CheXzero (Tiu et al., 2022).
    """

    askers: tuple[Asker, ...]

    @property
    def bundle_id(self) -> str:
        """All of their ids, joined by ``+``."""
        return "+".join(asker.bundle_id for asker in self.askers)

    @property
    def image_size(self) -> int:
        """The one size that those of them ask for who ask for one, pixels; 0 where none does.

        Raises:
            ConfigError: They ask for different ones.
        """
        sizes = sorted({asker.image_size for asker in self.askers} - {0})
        if len(sizes) > 1:
            raise ConfigError(
                f"they were trained on films of {' and '.join(map(str, sizes))} pixels and cannot be shown the same; "
                "ask models of one size together, the others by themselves",
                "models",
            )
        return sizes[0] if sizes else 0

    def ask(self, films: Sequence[Film], labels: Sequence[str]) -> dict[str, LabelAnswer]:
        """Return the mean answer of the models about each label."""
        from crrg.inference.zero_shot import mean_answer

        answers = [asker.ask(films, labels) for asker in self.askers]
        return {label: mean_answer([found[label] for found in answers]) for label in answers[0]}


def ask_with(
    files: Sequence[Path],
    labels: Sequence[str],
    out: str,
    models: Sequence[str],
    device: Device,
    storage: Storage,
    settings: Settings,
) -> PredictSummary:
    """Ask about findings in local files with one model, or several as one.

    Args:
        files: DICOM, PNG or JPEG files.
        labels: Label names or any finding in words.
        out: Folder or URL for the results.
        models: At least one reference to a bundle or folder that ``crrg import`` wrote.
        device: Where the models run.
        storage: Root with the bundles.
        settings: With the secret of the pseudonyms.

    Raises:
        ConfigError: As ``check_request``; or a label has no word or is too long, or the models were trained on films of
            different sizes.
        ModelError: There is no such model.
    """
    asked_labels(labels)  # before models are loaded
    place, pseudonyms = check_request(files, out, storage, settings)
    askers = tuple(_load_asker(model, device, storage, settings) for model in models)
    return ask_files(files, labels, place, pseudonyms, Ensemble(askers))


def _load_asker(model: str, device: Device, storage: Storage, settings: Settings) -> Asker:
    from crrg.device import resolve_device
    from crrg.operations.registry.importing import load_published_clip

    folder = Path(model)
    if not (folder / KEY_REPORT_FILE).is_file():
        return bundle_pipeline(storage, resolve_bundle(model, storage, settings).ref, device)
    name = f"{import_report(folder)['source']}-{import_digest(folder, 'clip')[:16]}"
    return PublishedAsker(name, load_published_clip(folder, resolve_device(device)))


def ask_files(
    paths: Sequence[Path],
    labels: Sequence[str],
    out: Storage,
    pseudonyms: Pseudonyms,
    asker: Asker,
    *,
    num_workers: int = 1,
) -> PredictSummary:
    """Ask about findings in local files; writes ``zero_shot.parquet`` and one ``<file name>.json`` per file.

    Args:
        paths: DICOM, PNG or JPEG files with different names.
        labels: At least one label name, or finding in words, as a person types it.
        out: Where the results go.
        pseudonyms: Makes the ids.
        asker: The models; films are decoded to the size that they were trained on.
        num_workers: Decoder processes; 0 decodes in this process.

    Raises:
        ConfigError: A file does not exist, two have one name, a label has no word or is too long, or the models were
            trained on films of different sizes; nothing is read then.
    """
    asked = asked_labels(labels)
    image_size = asker.image_size or DEFAULT_IMAGE_SIZE
    films, reasons = read_files(paths, out, pseudonyms, image_size=image_size, num_workers=num_workers)
    rows, say = [], count_progress("answers", "films")
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
        say(first + len(chunk), len(films))
    out.put(TABLE, table_bytes(pa.Table.from_pylist(rows, schema=SCHEMA)))
    return PredictSummary(num_drafted=len(films), reasons=reasons)


def _values(answer: LabelAnswer, place: int) -> dict[str, float]:
    """Return what is answered of one film."""
    uncertain = {} if answer.uncertain is None else {"uncertain": float(answer.uncertain[place])}
    return {"probability": float(answer.probability[place]), **uncertain}
