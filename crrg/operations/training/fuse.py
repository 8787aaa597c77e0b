"""Fit a bundle's classifiers on validation films: of the probabilities it gives out, of the findings its drafts state.

``models/fusion/<bundle id>/`` keeps what was fitted for a bundle without the classifier, so that assembling it again
drafts nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crrg.config.base import Device
from crrg.config.models import FusionSettings
from crrg.config.references import DatasetRef
from crrg.data.dataset.spaced import sampled_films
from crrg.domain.bundle import BundleFiles
from crrg.domain.labels import FINDINGS, LABEL_INDEX, deny_unmentioned
from crrg.domain.study import Film, Pair, Split
from crrg.inference.assembly import ASSEMBLY_VERSION
from crrg.progress import count_progress
from crrg.storage import Storage, hash_json

logger = logging.getLogger(__name__)

CODE_VERSION = "3"
"""Raised when the same drafts would give another classifier."""
CHUNK_SIZE = 64


def fit_fusion(
    bundle: BundleFiles, dataset: DatasetRef, settings: FusionSettings, device: Device, storage: Storage
) -> dict[str, Any] | None:
    """Draft validation films with a bundle and fit the classifier over film, draft and regions.

    Args:
        bundle: Composed, without the classifier.
        dataset: Whose validation films.
        settings: Calibration, operating point, and how many films.
        device: Where to draft.
        storage: Root with the dataset; keeps what was fitted.

    Returns:
        What stands in ``bundle.json`` as ``fusion``; ``None`` where there is no validation film or none is wanted.
    """
    return _kept("", _fit, bundle, dataset, settings, device, storage)


def fit_findings(
    bundle: BundleFiles, dataset: DatasetRef, settings: FusionSettings, device: Device, storage: Storage
) -> dict[str, Any] | None:
    """Read validation films with a bundle and fit the classifier of the findings that its drafts state.

    Args:
        bundle: Composed, without the classifier.
        dataset: Whose validation films.
        settings: Calibration, and how many films; thresholds are always those of the best F1.
        device: Where to read.
        storage: Root with the dataset; keeps what was fitted.

    Returns:
        What stands in ``bundle.json`` as ``findings``. ``metrics`` has the micro-F1 over the 13 findings of what the
        regions show (``findings/regions_micro_f1``), of the same reconciled with the classifier
        (``findings/reconciled_micro_f1``, films judged by weights that did not see their patient), and the lower end
        of the 95 % interval of the difference (``findings/gain_low``) where there are patients enough for one. ``None``
        as for ``fit_fusion``.
    """
    by_f1 = settings.model_copy(update={"operating_point": "f1"})
    return _kept("findings-", _fit_findings, bundle, dataset, by_f1, device, storage)


def _kept(
    name: str,
    fit: Callable[[BundleFiles, list[tuple[Pair, Film]], FusionSettings, Device], dict[str, Any]],
    bundle: BundleFiles,
    dataset: DatasetRef,
    settings: FusionSettings,
    device: Device,
    storage: Storage,
) -> dict[str, Any] | None:
    """Return what was fitted before under the same settings, else fit and keep it."""
    how = {**settings.model_dump(mode="json"), "code": CODE_VERSION, "assembly": ASSEMBLY_VERSION}
    key = f"models/fusion/{bundle.bundle_id}/{name}{dataset.name}-{dataset.version}-{hash_json(how)}.json"
    if storage.exists(key):
        logger.info("classifier of a bundle found, reused: %s", key)
        return dict(storage.get_json(key))
    pairs = list(sampled_films(storage, dataset, Split.VALIDATION, settings.max_films)) if settings.max_films else []
    if not pairs:
        return None
    fitted = {
        "settings": settings.model_dump(mode="json"),
        "dataset": dataset.name,
        "num_films": len(pairs),
        **fit(bundle, pairs, settings, device),
    }
    storage.put_json(key, fitted)
    return fitted


def _fit(
    bundle: BundleFiles, pairs: list[tuple[Pair, Film]], settings: FusionSettings, device: Device
) -> dict[str, Any]:
    """Draft and fit; torch is imported here, so that a form can be built without it."""
    from crrg.device import resolve_device
    from crrg.evaluation.classification import mean_auc, score_probabilities
    from crrg.inference.fusion_fitting import fit_fused
    from crrg.inference.pipeline import ReportPipeline

    pipeline = ReportPipeline.from_bundle(bundle, resolve_device(device))
    signals = []
    say = count_progress("fused classifier", "films")
    for first in range(0, len(pairs), CHUNK_SIZE):
        chunk = [film for _, film in pairs[first : first + CHUNK_SIZE]]
        signals.append(pipeline.make_drafts(chunk).signals())
        say(first + len(chunk), len(pairs))
    labels = _known_labels(pairs, settings)
    fit = fit_fused(np.concatenate(signals), labels, [pair.patient_id for pair, _ in pairs], settings)
    scores = score_probabilities(fit.probabilities, labels, fit.classifier.thresholds)
    metrics = {name: value for name, value in scores.items() if "/mean_" in name}
    metrics["classification/mean_auc"] = mean_auc(fit.probabilities[:, :-1], labels[:, :-1])
    finite = {name: value for name, value in metrics.items() if np.isfinite(value)}
    return {"metrics": finite, "labels": fit.classifier.as_config()}


def _fit_findings(
    bundle: BundleFiles, pairs: list[tuple[Pair, Film]], settings: FusionSettings, device: Device
) -> dict[str, Any]:
    """Read films without drafting them, and fit."""
    from crrg.device import resolve_device
    from crrg.inference.fusion_fitting import fit_fused
    from crrg.inference.pipeline import ReportPipeline
    from crrg.inference.reconciling import film_signals, reconcile_flags, shown_findings

    pipeline = ReportPipeline.from_bundle(bundle, resolve_device(device))
    signals, flags, chances = [], [], []
    say = count_progress("findings of whole films", "films")
    for first in range(0, len(pairs), CHUNK_SIZE):
        chunk = [film for _, film in pairs[first : first + CHUNK_SIZE]]
        regions, film_labels = pipeline.read_regions(chunk), pipeline.read_labels(chunk)
        signals.append(film_signals(film_labels.logits, regions.finding_probabilities, regions.abnormal_probabilities))
        flags.append(regions.flags(pipeline.thresholds))
        chances.append(regions.finding_probabilities)
        say(first + len(chunk), len(pairs))
    labels, patients = _known_labels(pairs, settings), [pair.patient_id for pair, _ in pairs]
    fit = fit_fused(np.concatenate(signals), labels, patients, settings)
    shown = np.concatenate(flags)
    reconciled = reconcile_flags(shown, np.concatenate(chances), fit.probabilities, fit.classifier.thresholds)
    metrics = _gain(shown_findings(shown), shown_findings(reconciled), labels, patients)
    return {"metrics": metrics, "labels": fit.classifier.as_config()}


def _gain(
    shown: NDArray[np.bool_], reconciled: NDArray[np.bool_], labels: NDArray[np.float64], patients: Sequence[str]
) -> dict[str, float]:
    """Return the F1 over findings of either, and the lower end of the difference where it has one."""
    from crrg.evaluation.bootstrap import bootstrap_interval

    columns = [LABEL_INDEX[label] for label in FINDINGS]
    truth, known = labels[:, columns] == 1, ~np.isnan(labels[:, columns])

    def micro_f1(found: NDArray[np.bool_], rows: NDArray[np.int64]) -> float:
        said, wanted = found[rows][:, columns] & known[rows], truth[rows]
        return 2 * float((said & wanted).sum()) / max(1, int(said.sum() + wanted.sum()))

    low, _ = bootstrap_interval(lambda rows: micro_f1(reconciled, rows) - micro_f1(shown, rows), patients)
    everybody = np.arange(len(labels))
    figures = {
        "findings/regions_micro_f1": micro_f1(shown, everybody),
        "findings/reconciled_micro_f1": micro_f1(reconciled, everybody),
        "findings/gain_low": low,
    }
    return {name: value for name, value in figures.items() if np.isfinite(value)}


def _known_labels(pairs: Sequence[tuple[Pair, Film]], settings: FusionSettings) -> NDArray[np.float64]:
    """Return the labels ``[N, 14]`` that a classifier is fitted on: 1, 0, NaN where unknown."""
    from crrg.evaluation.classification import label_matrix

    values = [deny_unmentioned(pair.labels) if settings.unmentioned_absent else pair.labels for pair, _ in pairs]
    return label_matrix(values)
