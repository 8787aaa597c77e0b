"""Compose a bundle in memory from finished stages, and change it before it is written.

A bundle is never changed in place: each function returns another one, with its own id. How one is written, read and
checked is in ``bundle``; what decides the changes is in ``crrg.operations.registry.assemble``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from crrg.config.base import STAGES
from crrg.config.overrides import DecodingOverrides, changed
from crrg.config.references import BundleRef, StageResult
from crrg.config.running import DecodingSettings
from crrg.domain.bundle import ENCODER_VOCABULARY, ENCODER_WEIGHTS, FAST_DEVICES, SENTENCE_ENCODER, BundleFiles
from crrg.domain.labels import LABELS
from crrg.domain.regions import REGIONS
from crrg.errors import ConfigError, ModelError
from crrg.registry.bundle import (
    CARD_FILE,
    REFERENCE_FILE,
    SCHEMA_VERSION,
    TOKENIZER_FILES,
    WEIGHT_FILES,
    bundle_digest,
    commit_bundle,
    preprocessing_here,
)
from crrg.registry.matching_parts import check_matching
from crrg.registry.model_card import model_card
from crrg.registry.stage_files import WEIGHTS_FILE, read_stage_config, read_stage_file
from crrg.storage import Storage


def write_bundle(
    storage: Storage,
    results: Mapping[str, StageResult],
    *,
    dataset_version: str,
    image_size: int,
) -> BundleRef:
    """Put the four finished stages into one folder, without a fused classifier (``compose_bundle`` has the details)."""
    composed = compose_bundle(storage, results, dataset_version=dataset_version, image_size=image_size)
    return commit_bundle(storage, composed)


def compose_bundle(
    storage: Storage,
    results: Mapping[str, StageResult],
    *,
    dataset_version: str,
    image_size: int,
) -> BundleFiles:
    """Put the four finished stages together in memory.

    Args:
        storage: Root with the stages' checkpoints.
        results: Stage name to its finished result; all four.
        dataset_version: What they were trained on, for the model card.
        image_size: Longer side of those films, pixels; whoever asks the bundle decodes films to it.

    Returns:
        A bundle that is written nowhere yet.

    Raises:
        ModelError: A stage is missing or incomplete, or was trained on other parts than those beside it.
        DigestMismatch: A stage's weights, settings or vocabulary are not the recorded ones.
    """
    missing = [stage for stage in STAGES if stage not in results]
    if missing:
        raise ModelError(f"a bundle needs all four stages, missing: {', '.join(missing)}; train them first", "bundle")
    configs: dict[str, dict[str, Any]] = {stage: read_stage_config(storage, results[stage]) for stage in STAGES}
    check_matching(results, configs)
    files = {name: read_stage_file(storage, results[stage], WEIGHTS_FILE) for stage, name in WEIGHT_FILES.items()}
    files |= {
        name: read_stage_file(storage, results[stage], "tokenizer.json") for stage, name in TOKENIZER_FILES.items()
    }
    decoding = DecodingSettings.model_validate(configs["generator"].get("decoding", {}))
    spec: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "stages": configs,
        "checkpoints": {stage: results[stage].config_hash for stage in STAGES},
        "metrics": {stage: results[stage].metrics for stage in STAGES},
        "dataset_version": dataset_version,
        "labels": list(LABELS),
        "regions": list(REGIONS),
        "thresholds": configs["clip"].get("thresholds", {}),
        "calibration": configs["clip"].get("calibration", {}),
        "fusion": None,
        "decoding": decoding.model_dump(mode="json"),
        "preprocessing": {**preprocessing_here(), "image_size": image_size},
        "versions": {stage: results[stage].model_version for stage in STAGES},
    }
    return _sealed(spec, files)


def with_decoding(bundle: BundleFiles, changes: DecodingOverrides) -> BundleFiles:
    """Return the bundle with another search of drafts.

    Args:
        bundle: Composed, not written yet.
        changes: What is not as the generator says.

    Raises:
        ConfigError: A value is out of its limits.
    """
    if not changes.given():
        return bundle
    decoding = changed(DecodingSettings.model_validate(bundle.spec["decoding"]), changes, "decoding")
    return _sealed({**bundle.spec, "decoding": decoding.model_dump(mode="json")}, dict(bundle.files))


def with_metrics(bundle: BundleFiles, stage: str, metrics: Mapping[str, float]) -> BundleFiles:
    """Return the bundle with more validation figures of a stage."""
    all_metrics = {**bundle.spec["metrics"], stage: {**bundle.spec["metrics"][stage], **metrics}}
    return _sealed({**bundle.spec, "metrics": all_metrics}, dict(bundle.files))


def with_fast_devices(bundle: BundleFiles, kinds: Sequence[str]) -> BundleFiles:
    """Return the bundle with the kinds of devices on which its rounded weights have passed their gate."""
    return _sealed({**bundle.spec, FAST_DEVICES: list(kinds)}, dict(bundle.files))


def with_fusion(bundle: BundleFiles, fusion: Mapping[str, Any]) -> BundleFiles:
    """Return the bundle with a fused classifier; its thresholds become the bundle's.

    Args:
        bundle: Composed, not written yet.
        fusion: ``labels`` (``FusedClassifier.as_config``) and how it was fitted.
    """
    labels = fusion["labels"]
    thresholds = {label: labels[label]["threshold"] for label in LABELS if label in labels}
    return _sealed({**bundle.spec, "fusion": dict(fusion), "thresholds": thresholds}, dict(bundle.files))


def with_findings(bundle: BundleFiles, findings: Mapping[str, Any], *, is_used: bool) -> BundleFiles:
    """Return the bundle with what was found of a classifier over film and regions, and with that where it is used.

    Args:
        bundle: Composed, not written yet.
        findings: ``labels`` (``FusedClassifier.as_config``), ``metrics``, and how it was fitted.
        is_used: Whether drafts state the findings that it finds.
    """
    found = with_metrics(bundle, "generator", findings["metrics"])
    if not is_used:
        return found
    decoding = {**found.spec["decoding"], "reconcile": True}
    return _sealed({**found.spec, "findings": dict(findings), "decoding": decoding}, dict(found.files))


def with_sentence_encoder(bundle: BundleFiles, config: Mapping[str, Any], files: Mapping[str, bytes]) -> BundleFiles:
    """Return the bundle with an encoder by which repeated sentences of a draft are found.

    Args:
        bundle: Composed, not written yet, its search of drafts decided.
        config: Of the encoder, as it was imported.
        files: Its ``model.safetensors`` and ``tokenizer.json``.

    Raises:
        ConfigError: The bundle does not assemble its drafts as published.
    """
    if bundle.spec["decoding"]["compat"] != "rgrg":
        raise ConfigError(
            "a sentence encoder is used only if drafts are assembled as published; set decoding.compat to rgrg in "
            "the form, or omit the encoder: repeats are then found by shared words",
            "parts of the bundle",
        )
    brought = {ENCODER_WEIGHTS: files["model.safetensors"], ENCODER_VOCABULARY: files["tokenizer.json"]}
    return _sealed({**bundle.spec, SENTENCE_ENCODER: dict(config)}, {**bundle.files, **brought})


def with_reference(bundle: BundleFiles, reference: bytes) -> BundleFiles:
    """Return the bundle with what its training population looks like, as JSON.

    Args:
        bundle: Composed, not written yet.
        reference: ``crrg.monitoring.reference.Reference``.
    """
    return _sealed(bundle.spec, {**bundle.files, REFERENCE_FILE: reference})


def _sealed(spec: Mapping[str, Any], files: dict[str, bytes]) -> BundleFiles:
    """Return the bundle with its model card, the digests of its parts, and its id."""
    files[CARD_FILE] = model_card(spec).encode()
    sealed = {**spec, "files": {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}}
    sealed["bundle_id"] = bundle_digest(sealed)
    return BundleFiles(bundle_id=sealed["bundle_id"], spec=sealed, files=files)
