"""A bundle of real networks of the smallest size, trained for a few steps on a drawn cohort."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from crrg.config import presets
from crrg.config.base import STAGES, Settings
from crrg.config.data import IngestConfig
from crrg.config.references import BundleRef
from crrg.config.running import RetrainConfig
from crrg.data.phantom.cohort import write_cohort
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.operations.ingest.ingest import ingest
from crrg.operations.registry.assemble import assemble_fused
from crrg.operations.training import train
from crrg.storage import Storage
from tests.support.smallest_stages import Unregistered, remembered, smallest


def draw_dataset(
    storage: Storage,
    source: Path,
    name: str,
    train: float,
    validation: float,
    *,
    key: bytes = b"k",
    seed: int = 5,
    image_size: int = 64,
) -> None:
    """Draw 16 studies, unless they lie there, and ingest them under a name; ``key`` makes the pseudonyms."""
    if not source.exists():
        write_cohort(source, 16, seed, 64)
    form = IngestConfig(
        source=str(source), dataset=name, image_size=image_size, train_share=train, validation_share=validation
    )
    ingest(form, storage, Pseudonyms(key * 32))


def train_bundle(storage: Storage, dataset: str, **fields: Any) -> BundleRef:
    """Train the four stages on a dataset, unless they are there, and put them together; ``fields`` of the form."""
    form = RetrainConfig(dataset=dataset, device="cpu", **fields)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets._PRESETS, "tiny", smallest)
        patch.setattr(train, "open_tracker", remembered)
        patch.setattr(train, "ModelRegistry", Unregistered)
        stages = train.train_stages(STAGES, form.stage_config(), storage, Settings(root=storage.root))
    return assemble_fused(stages, form, storage)
