"""A bundle of real networks that were never trained (``random_stages``), and of what its nights are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from crrg.config.base import STAGES
from crrg.config.references import BundleRef, DatasetRef
from crrg.data.dataset.pairs import dataset_image_size
from crrg.domain.labels import FINDINGS
from crrg.operations.training.watch_reference import reference_bytes
from crrg.registry.bundle import commit_bundle
from crrg.registry.composing import compose_bundle, with_reference
from crrg.storage import Storage
from crrg.training.checkpoint import StageFolder
from tests.support.random_stages import CLIP, DETECTOR, GENERATOR, SELECTOR, random_pipeline


def random_bundle(storage: Storage, dataset: DatasetRef) -> BundleRef:
    """Write a bundle of random stages, as if they had been trained on a dataset.

    Args:
        storage: The root.
        dataset: What its nights are compared with.
    """
    made = random_pipeline(torch.device("cpu"), num_beams=1, max_tokens=12)
    thresholds = made.thresholds
    generator = GENERATOR.model_copy(update={"vocab_size": made.tokenizer.vocab_size})
    parts: dict[str, tuple[nn.Module, dict[str, Any], Mapping[str, bytes]]] = {
        "detector": (made.detector, {"architecture": DETECTOR.model_dump(mode="json")}, {}),
        "selector": (
            made.selector,
            {
                "architecture": SELECTOR.model_dump(mode="json"),
                "thresholds": {
                    "selection": thresholds.selection,
                    "selection_beside_findings": thresholds.selection_beside_findings,
                    "abnormal": thresholds.abnormal,
                    "findings": dict.fromkeys(FINDINGS, float(thresholds.findings[0])),
                },
            },
            {},
        ),
        "generator": (
            made.generator,
            {
                "architecture": generator.model_dump(mode="json"),
                "tokenizer_sha256": made.tokenizer.sha256,
                "decoding": made.decoding.model_dump(mode="json"),
            },
            {"tokenizer.json": made.tokenizer.to_bytes()},
        ),
        "clip": (
            made.clip,
            {
                "architecture": CLIP.model_dump(mode="json"),
                "similarity": vars(made.similarity),
                **made.calibration.as_config(),
            },
            {"tokenizer.json": made.clip_tokenizer.to_bytes()},
        ),
    }
    stages = {
        name: StageFolder(storage, name, "0" * 16, dataset.version).finish(module, config, {}, files=files)
        for name, (module, config, files) in ((name, parts[name]) for name in STAGES)
    }
    bundle = compose_bundle(
        storage, stages, dataset_version=dataset.version, image_size=dataset_image_size(storage, dataset)
    )
    return commit_bundle(storage, with_reference(bundle, reference_bytes(bundle, dataset, storage, "cpu")))
