"""Drafts for a few files (``crrg predict``): the night's models and tables without ledger, lease or manifest."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from crrg.config.base import Device, Settings
from crrg.config.evidence import EvidenceSettings
from crrg.config.running import NightlyConfig
from crrg.data.decoding.pool import decode_many
from crrg.data.film import DecodedFilm
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.data.refusals import failure_share
from crrg.domain.evidence import SentenceEvidence
from crrg.domain.study import DraftReport, Film
from crrg.errors import ConfigError, DataError
from crrg.exports.documents import DISCLAIMER, region_value
from crrg.exports.parquet import DraftedFilm, check_draft, regions_table, reports_table
from crrg.exports.pictures import evidence_sheet
from crrg.ledger.ledger import Outcome
from crrg.ledger.tables import table_bytes
from crrg.operations.drafter import bundle_pipeline
from crrg.operations.night.reading import check_view, identify
from crrg.operations.night.records import InputOutcome, primary_images
from crrg.operations.night.shard import NightDrafter, window_size
from crrg.operations.privacy.secret import check_secret
from crrg.operations.root import check_not_in_root
from crrg.progress import count_progress
from crrg.registry.aliases import resolve_bundle
from crrg.storage import Storage

DECIMALS = 4


@dataclass(frozen=True)
class PredictSummary:
    """What became of the files.

    Attributes:
        num_drafted: Files with a draft.
        reasons: File name to reason code of the others.
    """

    num_drafted: int
    reasons: dict[str, str]

    @property
    def exceeds_failure_rate(self) -> bool:
        """Whether more was refused than a night allows by default; what is out of scope does not count there either."""
        share = failure_share(Counter(self.reasons.values()), self.num_drafted)
        highest: float = NightlyConfig.model_fields["max_failure_rate"].default
        return share > highest


@dataclass(frozen=True)
class ReadFile:
    """A local file whose film can be used.

    Attributes:
        name: Of the file, without its folder.
        source_digest: sha256 of its bytes.
        film: The film.
        outcome: Its ids and view.
    """

    name: str
    source_digest: str
    film: Film
    outcome: InputOutcome


def predict_with(
    files: Sequence[Path],
    out: str,
    model: str,
    device: Device,
    storage: Storage,
    settings: Settings,
    evidence: EvidenceSettings | None = None,
) -> PredictSummary:
    """Draft reports for a few local files with a model, without ledger, lease or manifest.

    Args:
        files: DICOM, PNG or JPEG files.
        out: Folder or URL for the results.
        model: Reference to the bundle.
        device: Where the models run.
        storage: Root with the bundle.
        settings: With the secret of the pseudonyms.
        evidence: Which sentences are explained; none if not given.

    Raises:
        ConfigError: As ``check_request``.
        ModelError: There is no such model.
    """
    place, pseudonyms = check_request(files, out, storage, settings)  # before models are loaded
    pipeline = bundle_pipeline(storage, resolve_bundle(model, storage, settings).ref, device)
    return predict_files(files, place, pseudonyms, replace(pipeline, small_tiles=True), evidence=evidence)


def check_request(files: Sequence[Path], out: str, storage: Storage, settings: Settings) -> tuple[Storage, Pseudonyms]:
    """Return where results of local files go and what makes their ids.

    Args:
        files: DICOM, PNG or JPEG files.
        out: Folder or URL for the results.
        storage: The root.
        settings: With the secret of the pseudonyms.

    Raises:
        ConfigError: A file does not exist, two have one name, the results would lie within the root, there is no
            secret, or the root's nights were made with another one, under which the same patient has other ids.
    """
    check_files(files)
    place = storage.at(out)
    check_not_in_root(storage, place, "--out")
    pseudonyms = Pseudonyms(settings.pseudonym_key())
    check_secret(storage, pseudonyms)
    return place, pseudonyms


def predict_files(
    paths: Sequence[Path],
    out: Storage,
    pseudonyms: Pseudonyms,
    drafter: NightDrafter,
    *,
    num_workers: int = 1,
    evidence: EvidenceSettings | None = None,
) -> PredictSummary:
    """Draft reports for local files.

    Writes ``reports.parquet``, ``regions.parquet`` and one ``<file name>.json`` per file; with evidence, that file also
    holds the maps of its sentences, and ``<file name>-evidence.png`` shows them over the film.

    Args:
        paths: DICOM, PNG or JPEG files with different names.
        out: Where the results go.
        pseudonyms: Makes the ids.
        drafter: The models; films are decoded to the size that they were trained on.
        num_workers: Decoder processes; 0 decodes in this process.
        evidence: Which sentences are explained; none if not given.

    Raises:
        ConfigError: A file does not exist, or two have one name.
    """
    films, reasons = read_files(paths, out, pseudonyms, image_size=drafter.image_size, num_workers=num_workers)
    _write_drafts(films, out, drafter, evidence or EvidenceSettings())
    return PredictSummary(num_drafted=len(films), reasons=reasons)


def read_files(
    paths: Sequence[Path], out: Storage, pseudonyms: Pseudonyms, *, image_size: int, num_workers: int = 1
) -> tuple[list[ReadFile], dict[str, str]]:
    """Read local files; for one that cannot be used, ``<file name>.json`` says why.

    Args:
        paths: DICOM, PNG or JPEG files with different names.
        out: Where the refusals are written.
        pseudonyms: Makes the ids.
        image_size: Longest side of a film, pixels.
        num_workers: Decoder processes; 0 decodes in this process.

    Returns:
        The usable ones in order, and file name to reason code of the others.

    Raises:
        ConfigError: A file does not exist, or two have one name.
    """
    check_files(paths)
    names = [path.name for path in paths]
    films: list[ReadFile] = []
    reasons: dict[str, str] = {}
    contents = (path.read_bytes() for path in paths)
    digests: list[str] = []

    def items() -> Any:
        for data in contents:
            digests.append(hashlib.sha256(data).hexdigest())
            yield data

    for place, decoded in enumerate(decode_many(items(), image_size, num_workers)):
        try:
            films.append(_file(names[place], digests[place], place, decoded, pseudonyms))
        except DataError as error:
            reasons[names[place]] = error.code
            value = {"file": names[place], "reason": error.code, "detail": error.reason}
            out.put(f"{names[place]}.json", pretty_json(value))
    return films, reasons


def check_files(paths: Sequence[Path]) -> None:
    """Refuse paths that cannot be read one by one, and named in what is written of them.

    Raises:
        ConfigError: One is no file, which a message tells by its place since a name may be a person's; or two files
            have one name.
    """
    missing = [str(place) for place, path in enumerate(paths, start=1) if not path.is_file()]
    if missing:
        which = ", ".join([*missing[:10], *(["…"] if missing[10:] else [])])
        what = f"{len(missing)} of {len(paths)} paths are not files (number {which} of them)"
    elif len({path.name for path in paths}) < len(paths):
        what = "two files have the same name"
    else:
        return
    raise ConfigError(f"{what}; give existing files, not folders, with different names", "files")


def _file(
    name: str, source_digest: str, place: int, decoded: DecodedFilm | DataError, pseudonyms: Pseudonyms
) -> ReadFile:
    if isinstance(decoded, DataError):
        raise decoded
    _, study_id, instance_id = identify(decoded, source_digest, pseudonyms)
    film = decoded.film
    check_view(film)
    outcome = InputOutcome(
        key_hmac="",
        etag="",
        rank=place,
        outcome=Outcome.ACCEPTED,
        study_id=study_id,
        instance_id=instance_id,
        view_position=film.view_position.value,
        width=film.original_width,
        height=film.original_height,
    )
    return ReadFile(name, source_digest, film, outcome)


def _write_drafts(files: Sequence[ReadFile], out: Storage, drafter: NightDrafter, settings: EvidenceSettings) -> None:
    rows: dict[str, DraftedFilm] = {}
    say, window = count_progress("drafts", "films"), window_size(len(files), drafter)
    for first in range(0, len(files), window):
        part = files[first : first + window]
        films = [file.film for file in part]
        drafts = drafter.draft(films)
        explained = drafter.explain(films, drafts, settings) if settings.is_on else [[] for _ in films]
        for file, draft, evidence in zip(part, drafts, explained, strict=True):
            drafted = _drafted(file, draft, drafter.bundle_id)
            rows.setdefault(drafted.instance_id, drafted)
            answer = _answer(file.name, drafted, drafter.abnormal_threshold)
            if settings.is_on:
                answer["evidence"] = [_evidence_value(each) for each in evidence]
                out.put(
                    f"{file.name}-evidence.png", evidence_sheet(file.film, draft, evidence, drafter.abnormal_threshold)
                )
            out.put(f"{file.name}.json", pretty_json(answer))
        say(first + len(part), len(files))
    primary = primary_images([file.outcome for file in files])
    regions = regions_table(rows.values())
    out.put("reports.parquet", table_bytes(reports_table(rows.values(), primary)))
    out.put("regions.parquet", table_bytes(regions))


def _drafted(file: ReadFile, draft: DraftReport, bundle_id: str) -> DraftedFilm:
    check_draft(draft, file.outcome.instance_id)
    return DraftedFilm(
        study_id=file.outcome.study_id,
        instance_id=file.outcome.instance_id,
        source_digest=bytes.fromhex(file.source_digest),
        view_position=file.film.view_position,
        original_width=file.film.original_width,
        original_height=file.film.original_height,
        film_flags=file.film.flags,
        draft=draft,
        bundle_id=bundle_id,
    )


def _answer(name: str, drafted: DraftedFilm, abnormal_threshold: float) -> dict[str, Any]:
    draft = drafted.draft
    regions = regions_table([drafted]).to_pylist()
    return {
        "file": name,
        "status": "draft",
        "disclaimer": DISCLAIMER,
        "study_id": drafted.study_id,
        "instance_id": drafted.instance_id,
        "view_position": drafted.view_position.value,
        "width": drafted.original_width,
        "height": drafted.original_height,
        "findings": draft.findings,
        "impression": draft.impression,
        "probabilities": {label: round(value, DECIMALS) for label, value in draft.probabilities.items()},
        "labels": dict(draft.labels),
        "consistency": round(draft.consistency, DECIMALS),
        "flags": list(drafted.flags),
        "regions": [region_value(row, abnormal_threshold) for row in regions],
        "bundle_id": drafted.bundle_id,
    }


def _evidence_value(evidence: SentenceEvidence) -> dict[str, Any]:
    """Return a map as JSON shows it: rows of cells from the top of the film."""
    return {
        "region": evidence.region,
        "is_abnormal": evidence.is_abnormal,
        "wording_falls": np.round(evidence.wording_falls, DECIMALS).tolist(),
        "abnormality_falls": np.round(evidence.abnormality_falls, DECIMALS).tolist(),
    }


def pretty_json(value: Any) -> bytes:
    """Return a value as indented JSON that a person can read."""
    return (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode()
