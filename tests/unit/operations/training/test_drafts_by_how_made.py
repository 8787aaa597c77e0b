"""What was learnt of drafts is found again only where drafts are searched and put together as they were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from crrg.config.models import DecodingSettings, FusionSettings
from crrg.config.references import DatasetRef
from crrg.config.training import JointRounds, TrainStageConfig
from crrg.data.dataset.pairs import write_dataset
from crrg.domain.bundle import BundleFiles
from crrg.domain.study import DraftReport, Film, Split, ViewPosition
from crrg.operations.training import draft_store, fuse, watch_reference
from crrg.operations.training.joint_loop import JointLoop
from crrg.operations.training.training_drafts import TrainingDrafts, draft_training_films
from crrg.registry.bundle import read_bundle
from crrg.registry.composing import with_fast_devices
from crrg.storage import Storage
from crrg.training.tracker import NullTracker
from tests.support.labelled_pair import labelled
from tests.support.stand_in_bundle import stand_in_bundle

FAST = DecodingSettings().model_copy(update={"precision": "fast"})


class CountingDrafter:
    """Drafts the same of every film and counts them."""

    num_films = 0

    def draft(self, films: Sequence[Film]) -> list[DraftReport]:
        self.num_films += len(films)
        return [DraftReport("", "Edema.", (), {}, {}, 1.0, ())] * len(films)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


@pytest.fixture
def dataset(storage: Storage) -> DatasetRef:
    film = Film(np.full((40, 40), 9, np.uint8), 40, 40, ViewPosition.PA, None, False, bytes(32))
    pair = replace(labelled({"Edema": 1}, "Edema."), film=film, source_digest=bytes(32))
    pairs = [
        replace(pair, patient_id=f"p{split}", study_id=f"s{split}", instance_id=f"i{split}", split=split)
        for split in (Split.TRAIN, Split.VALIDATION)
    ]
    return write_dataset(storage, "d", pairs, {"image_size": 64})


def test_drafts_of_another_search_or_assembly_are_made_again(
    storage: Storage, dataset: DatasetRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    drafter = CountingDrafter()

    def drafted(decoding: DecodingSettings) -> TrainingDrafts:
        return draft_training_films(dataset, "b", decoding, storage, lambda: drafter)

    first = drafted(DecodingSettings())
    assert drafted(DecodingSettings()).origin == first.origin
    assert drafter.num_films == 1
    other = drafted(FAST)
    monkeypatch.setattr(draft_store, "ASSEMBLY_VERSION", "another")
    again = drafted(DecodingSettings())
    assert drafter.num_films == 3
    assert len({each.origin.version for each in (first, other, again)}) == 3


def test_fusion_and_reference_of_another_assembly_are_made_again(
    storage: Storage, dataset: DatasetRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = read_bundle(storage, stand_in_bundle(storage))
    made: list[str] = []
    monkeypatch.setattr(fuse, "_fit", lambda *_: made.append("fusion") or {})
    monkeypatch.setattr("crrg.inference.pipeline.ReportPipeline.from_bundle", lambda *_: None)
    reference = SimpleNamespace(model_dump=lambda **_: {})
    monkeypatch.setattr(watch_reference, "measure_population", lambda *_: made.append("reference") or reference)

    def make() -> list[str]:
        made.clear()
        fuse.fit_fusion(bundle, dataset, FusionSettings(), "cpu", storage)
        watch_reference.reference_bytes(bundle, dataset, storage, "cpu")
        return list(made)

    assert make() == ["fusion", "reference"]
    assert make() == []
    for module in (fuse, watch_reference):
        monkeypatch.setattr(module, "ASSEMBLY_VERSION", "9")
    assert make() == ["fusion", "reference"]


@pytest.mark.parametrize("film_flags", [False, True])
def test_rounds_draft_with_rounded_weights_only_where_these_have_passed(storage: Storage, film_flags: bool) -> None:
    form = TrainStageConfig(dataset="d", device="cpu", rounds=JointRounds(film_flags=film_flags))
    loop = JointLoop(form, DatasetRef(name="d", version="v", manifest_key="", num_rows={}), {}, storage, NullTracker())
    found = read_bundle(storage, stand_in_bundle(storage))
    asked = BundleFiles(found.bundle_id, {**found.spec, "decoding": FAST.model_dump(mode="json")}, found.files)
    for kinds, precision in (((), "exact"), (("cuda",), "exact"), (("cpu",), "fast")):
        decoding = loop.decoding(with_fast_devices(asked, kinds))
        assert (decoding.precision, decoding.reconcile) == (precision, film_flags)
