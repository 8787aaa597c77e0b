"""Fit the fused classifier of a bundle on drafts of validation films.

``models/fusion/<bundle id>/<dataset>-<version>-<settings>.json`` keeps what was fitted for a bundle without the
classifier, so that assembling it again drafts nothing.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from crrg.config.base import Device
from crrg.config.models import FusionSettings
from crrg.config.references import DatasetRef
from crrg.data.dataset.spaced import sampled_films
from crrg.domain.bundle import BundleFiles
from crrg.domain.labels import deny_unmentioned
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
    how = {**settings.model_dump(mode="json"), "code": CODE_VERSION, "assembly": ASSEMBLY_VERSION}
    key = f"models/fusion/{bundle.bundle_id}/{dataset.name}-{dataset.version}-{hash_json(how)}.json"
    if storage.exists(key):
        logger.info("fused classifier found, reused")
        return dict(storage.get_json(key))
    pairs = list(sampled_films(storage, dataset, Split.VALIDATION, settings.max_films)) if settings.max_films else []
    if not pairs:
        return None
    fusion = {
        "settings": settings.model_dump(mode="json"),
        "dataset": dataset.name,
        "num_films": len(pairs),
        **_fit(bundle, pairs, settings, device),
    }
    storage.put_json(key, fusion)
    return fusion


def _fit(
    bundle: BundleFiles, pairs: list[tuple[Pair, Film]], settings: FusionSettings, device: Device
) -> dict[str, Any]:
    """Draft and fit; torch is imported here, so that a form can be built without it."""
    from crrg.device import resolve_device
    from crrg.evaluation.classification import label_matrix, mean_auc, score_probabilities
    from crrg.inference.fusion_fitting import fit_fused
    from crrg.inference.pipeline import ReportPipeline

    pipeline = ReportPipeline.from_bundle(bundle, resolve_device(device))
    signals = []
    say = count_progress("fused classifier", "films")
    for first in range(0, len(pairs), CHUNK_SIZE):
        chunk = [film for _, film in pairs[first : first + CHUNK_SIZE]]
        signals.append(pipeline.make_drafts(chunk).signals())
        say(first + len(chunk), len(pairs))
    values = [deny_unmentioned(pair.labels) if settings.unmentioned_absent else pair.labels for pair, _ in pairs]
    labels = label_matrix(values)
    fit = fit_fused(np.concatenate(signals), labels, [pair.patient_id for pair, _ in pairs], settings)
    scores = score_probabilities(fit.probabilities, labels, fit.classifier.thresholds)
    metrics = {name: value for name, value in scores.items() if "/mean_" in name}
    metrics["classification/mean_auc"] = mean_auc(fit.probabilities[:, :-1], labels[:, :-1])
    finite = {name: value for name, value in metrics.items() if np.isfinite(value)}
    return {"metrics": finite, "labels": fit.classifier.as_config()}
