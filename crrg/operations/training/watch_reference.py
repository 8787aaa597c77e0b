"""The training population of a bundle, measured when the bundle is put together (``crrg.monitoring.reference``).

Films and views come from the training and validation splits, drafts from validation films. Both are samples, evenly
spaced over the dataset, so that an archive of any size takes minutes. What was measured once for the same stages is
read again: the same training makes the same bundle.
"""

from __future__ import annotations

import logging

from crrg.config.base import Device
from crrg.config.references import DatasetRef
from crrg.data.dataset.acquisition_table import read_acquisitions
from crrg.data.dataset.pairs import read_manifest
from crrg.data.dataset.spaced import spaced_rows
from crrg.domain.bundle import BundleFiles
from crrg.domain.labels import LABELS
from crrg.domain.study import DraftReport, Film, Split
from crrg.errors import ModelError
from crrg.inference.assembly import ASSEMBLY_VERSION
from crrg.monitoring.degenerate import read_habits
from crrg.monitoring.quantities import DraftLook, FilmLook, draft_values, film_values, look_at
from crrg.monitoring.reference import Reference, histograms, repeats
from crrg.operations.drafter import Drafter
from crrg.progress import count_progress
from crrg.storage import Storage, canonical_json

logger = logging.getLogger(__name__)

NUM_FILMS = 20_000
NUM_DRAFTS = 400
FILMS_AT_ONCE = 64


def reference_bytes(bundle: BundleFiles, dataset: DatasetRef, storage: Storage, device: Device) -> bytes:
    """Return the reference of a bundle as JSON, measured now or before.

    Args:
        bundle: The bundle as it is without its reference.
        dataset: What it was trained on.
        storage: Root with the dataset; keeps the reference.
        device: Where the drafts are made.
    """
    key = f"models/references/{bundle.bundle_id}-{dataset.name}-{dataset.version}-{ASSEMBLY_VERSION}.json"
    if not storage.exists(key):
        from crrg.device import resolve_device
        from crrg.inference.pipeline import ReportPipeline

        pipeline = ReportPipeline.from_bundle(bundle, resolve_device(device))
        reference = measure_population(dataset, storage, pipeline)
        storage.put(key, canonical_json(reference.model_dump(mode="json")))
    return storage.get(key)


def measure_population(
    dataset: DatasetRef, storage: Storage, drafter: Drafter, num_films: int = NUM_FILMS, num_drafts: int = NUM_DRAFTS
) -> Reference:
    """Measure films, views, reports and drafts of a dataset.

    Args:
        dataset: The version a bundle was trained on.
        storage: Root with it.
        drafter: The bundle's models.
        num_films: Most films to look at, about.
        num_drafts: Most validation films to draft, about.

    Raises:
        ModelError: There is no film to measure.
    """
    looks: list[FilmLook] = []
    views: list[str] = []
    patients: set[str] = set()
    of_known_maker: set[str] = set()
    known = read_acquisitions(storage, read_manifest(storage, dataset))
    texts: dict[str, tuple[str, tuple[int, ...]]] = {}
    for split in (Split.TRAIN, Split.VALIDATION):
        for pair in spaced_rows(storage, dataset, split, num_films // 2):
            if pair.film is None:
                continue
            patients.add(pair.patient_id)
            views.append(pair.film.view_position.value)
            if pair.film.view_position.is_frontal:
                maker = known[pair.instance_id].manufacturer
                looks.append(look_at(pair.film, maker))
                of_known_maker |= {pair.patient_id} if maker else set()
            if text := " ".join(filter(None, (pair.report.findings, pair.report.impression))):
                texts[pair.study_id] = (text, tuple(int(pair.labels.get(label) == 1) for label in LABELS))
    if not looks:
        raise ModelError("there is no frontal film to measure; ingest films first", f"dataset {dataset.name}")
    drafts, draft_patients = _draft_validation(dataset, storage, drafter, num_drafts)
    measured = draft_values(drafts)
    return Reference(
        num_film_patients=len(patients),
        num_draft_patients=draft_patients,
        num_device_patients=len(of_known_maker),
        histograms=histograms(film_values(looks, views), len(patients)) | histograms(measured, draft_patients),
        repeats=repeats([draft.text for draft in drafts]),
        num_drafts=len(drafts),
        reports=read_habits([text for text, _ in texts.values()], [labels for _, labels in texts.values()]),
        drafts=read_habits([draft.text for draft in drafts], [draft.labels for draft in drafts]),
    )


def draft_look(draft: DraftReport) -> DraftLook:
    """Return what is watched of a draft."""
    return DraftLook(
        text=" ".join(filter(None, (draft.findings, draft.impression))),
        consistency=draft.consistency,
        probabilities=tuple(draft.probabilities[label] for label in LABELS),
        labels=tuple(draft.labels[label] for label in LABELS),
    )


def _draft_validation(
    dataset: DatasetRef, storage: Storage, drafter: Drafter, num_drafts: int
) -> tuple[list[DraftLook], int]:
    """Draft validation films, one per patient; return the drafts and how many patients they are of."""
    films: dict[str, Film] = {}
    for pair in spaced_rows(storage, dataset, Split.VALIDATION, num_drafts):
        if pair.film is not None and pair.film.view_position.is_frontal:
            films.setdefault(pair.patient_id, pair.film)
    chosen = list(films.values())
    say, looks = count_progress("reference of the nights to come", "films"), list[DraftLook]()
    for first in range(0, len(chosen), FILMS_AT_ONCE):
        looks += map(draft_look, drafter.draft(chosen[first : first + FILMS_AT_ONCE]))
        say(len(looks), len(chosen))
    logger.info("%d validation films drafted, with which nights will be compared", len(looks))
    return looks, len(films)
