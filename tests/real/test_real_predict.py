"""Real frontal films through ``crrg predict`` on real, if hardly trained, networks: no crash, and films that differ."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.real.inbox import real_inbox
from benchmarks.real.training_data import missing_collections
from crrg.config import presets
from crrg.config.data import IngestConfig
from crrg.config.running import RetrainConfig
from crrg.data.phantom.cohort import write_cohort
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.domain.labels import LABELS
from crrg.operations.drafter import bundle_pipeline
from crrg.operations.ingest.ingest import ingest
from crrg.operations.predict import predict_files
from crrg.operations.registry.assemble import assemble_fused
from crrg.operations.training import train
from crrg.storage import Storage
from tests.support.keys import KEY
from tests.support.smallest_stages import Unregistered, remembered, smallest

OPEN_DATA = Path(os.environ["CRRG_OPEN_DATA"]) if os.environ.get("CRRG_OPEN_DATA") else None
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(bool(missing_collections(OPEN_DATA)), reason=missing_collections(OPEN_DATA) or "present"),
]
NUM_FILMS = 12


def test_real_films_are_drafted_or_refused_and_get_probabilities_of_their_own(tmp_path: Path) -> None:
    assert OPEN_DATA is not None
    write_cohort(tmp_path / "source", 16, 5, 64)
    root, pseudonyms = Storage(str(tmp_path / "root")), Pseudonyms(KEY.encode())
    shares = {"train_share": 0.5, "validation_share": 0.5}
    ingest(IngestConfig(source=str(tmp_path / "source"), dataset="drawn", image_size=64, **shares), root, pseudonyms)
    form = RetrainConfig(dataset="drawn", device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets._PRESETS, "tiny", smallest)
        patch.setattr(train, "open_tracker", remembered)
        patch.setattr(train, "ModelRegistry", Unregistered)
        stages = train.train_stages(form.stages(), form.stage_config(), root, train.Settings(root=root.root))
    bundle = assemble_fused(stages, form, root)
    paths = []
    for number, file in enumerate(real_inbox(OPEN_DATA, NUM_FILMS)):
        paths.append(tmp_path / f"{number:03d}{Path(file.key).suffix}")
        paths[-1].write_bytes(file.data)
    out = Storage(str(tmp_path / "out"))
    summary = predict_files(paths, out, pseudonyms, bundle_pipeline(root, bundle, "cpu"), num_workers=0)
    assert summary.num_drafted + len(summary.reasons) == len(paths)
    assert summary.num_drafted >= NUM_FILMS
    answers = [out.get_json(f"{path.name}.json") for path in paths if path.name not in summary.reasons]
    chances = np.array([[answer["probabilities"][label] for label in LABELS] for answer in answers])
    assert ((chances >= 0) & (chances <= 1)).all()
    assert (np.ptp(chances, axis=0) > 0).all()
