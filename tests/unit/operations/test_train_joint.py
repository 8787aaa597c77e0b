"""The joint stage from drawn films to a clip part of a bundle, on real networks of a few steps."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import pyarrow.parquet as pq
import pytest

from crrg.config import presets
from crrg.config.base import STAGES, Settings
from crrg.config.data import IngestConfig
from crrg.config.models import ClipArchitecture, DetectorArchitecture, GeneratorArchitecture, SelectorArchitecture
from crrg.config.references import DatasetRef, StageResult
from crrg.config.running import DecodingSettings, RetrainConfig
from crrg.config.training import (
    ClipTraining,
    DetectorTraining,
    GeneratorTraining,
    LoopConfig,
    PresetTraining,
    SelectorTraining,
    TrainStageConfig,
)
from crrg.data.deidentify import Pseudonyms
from crrg.data.pairs import read_tables, resolve_dataset
from crrg.data.phantom.cohort import write_cohort
from crrg.domain.study import DraftReport, Film, Split
from crrg.operations import train, training_drafts
from crrg.operations.assemble import assemble_bundle
from crrg.operations.ingest import ingest
from crrg.operations.training_drafts import draft_training_films
from crrg.registry.bundle import read_spec
from crrg.storage import Storage
from crrg.tracking import NullTracker
from crrg.training.joint import train_joint

FORM = TrainStageConfig(dataset="drawn", device="cpu")
LOOP = LoopConfig(num_steps=2, batch_size=4)


def smallest() -> PresetTraining:
    return PresetTraining(
        detector=DetectorTraining(
            architecture=DetectorArchitecture(
                input_size=32, width=4, anchor_sizes=(16,), roi_channels=8, representation_size=16, num_proposals=10
            ),
            loop=LOOP,
        ),
        selector=SelectorTraining(
            architecture=SelectorArchitecture(input_size=32, width=4, detail_channels=4, feature_size=16), loop=LOOP
        ),
        generator=GeneratorTraining(
            architecture=GeneratorArchitecture(num_layers=1, hidden_size=16, vocab_size=300, feature_size=16),
            loop=LoopConfig(num_steps=60, batch_size=16, learning_rate=1e-2),
            decoding=DecodingSettings(num_beams=1, max_tokens=8),
        ),
        clip=ClipTraining(
            architecture=ClipArchitecture(
                input_size=32, image_width=4, text_layers=1, text_hidden_size=16, text_vocab_size=300, projection_size=8
            ),
            loop=LOOP,
        ),
    )


class Remembering(NullTracker):
    logged: dict[str, float] = {}  # noqa: RUF012 - shared by all stages of the module on purpose

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.logged.update(metrics)


@contextmanager
def remembered(*_: object) -> Iterator[Remembering]:
    yield Remembering()


class Unregistered:
    def __init__(self, *_: object) -> None:
        pass

    def register_stage(self, result: StageResult) -> str:
        return f"of crrg-{result.part}"


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    folder = tmp_path_factory.mktemp("joint")
    write_cohort(folder / "source", 16, 5, 64)
    root = Storage(str(folder / "root"))
    form = IngestConfig(
        source=str(folder / "source"), dataset="drawn", image_size=64, train_share=0.5, validation_share=0.25
    )
    ingest(form, root, Pseudonyms(b"k" * 32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets._PRESETS, "tiny", smallest)
        patch.setattr(train, "open_tracker", remembered)
        patch.setattr(train, "ModelRegistry", Unregistered)
        patch.setattr(training_drafts, "FILMS_PER_PART", 3)
        yield root


@pytest.fixture(scope="module")
def stages(storage: Storage) -> dict[str, StageResult]:
    form = RetrainConfig(dataset="drawn", device="cpu", joint=True)
    settings = Settings(root=storage.root)
    return {each.stage: each for each in train.train_stages(form.stages(), form.stage_config(), storage, settings)}


def patients(storage: Storage, dataset: DatasetRef, *splits: Split) -> set[str]:
    tables = [table for split in splits for table in read_tables(storage, dataset, split, ("patient_id",))]
    return {row["patient_id"] for table in tables for row in table.to_pylist()}


def drafted_rows(storage: Storage) -> list[dict[str, object]]:
    found = storage.list_objects("models/drafts")
    return [row for each in found for row in pq.read_table(io.BytesIO(storage.get(each.key))).to_pylist()]


def test_the_joint_stage_learns_from_drafts_of_its_own_pipeline(
    storage: Storage, stages: dict[str, StageResult]
) -> None:
    clip, joint = stages["clip"], stages["joint"]
    num_train = resolve_dataset(storage, "drawn").num_rows["train"]
    assert joint.sha256 != clip.sha256
    assert joint.model_version == "of crrg-clip"
    assert storage.get_json(f"{joint.prefix}/config.json")["num_drafts"] == num_train
    assert Remembering.logged["joint/num_drafts"] == num_train
    # its texts were the stored drafts: with the very same ones it is found again
    stored = {row["instance_id"]: f"{row['findings']} {row['impression']}" for row in drafted_rows(storage)}
    assert all(len(text.split()) > 2 for text in stored.values())
    assert train_joint(FORM, resolve_dataset(storage, "drawn"), stored, storage, NullTracker()).reused


def test_no_film_of_a_held_out_patient_is_drafted(storage: Storage, stages: dict[str, StageResult]) -> None:
    dataset = resolve_dataset(storage, "drawn")
    drafted = {str(row["patient_id"]) for row in drafted_rows(storage)}
    held_out = patients(storage, dataset, Split.VALIDATION, Split.TEST)
    assert drafted == patients(storage, dataset, Split.TRAIN)
    assert held_out
    assert not drafted & held_out


def test_its_result_takes_the_place_of_clip_in_the_bundle(storage: Storage, stages: dict[str, StageResult]) -> None:
    bundle = assemble_bundle(list(stages.values()), "d1", storage)
    spec = read_spec(storage.child(bundle.prefix))
    assert sorted(spec["stages"]) == sorted(STAGES)
    assert spec["checkpoints"]["clip"] == stages["joint"].config_hash
    assert spec["files"]["clip.safetensors"] == stages["joint"].sha256


def test_alone_it_finds_every_stage_and_itself(storage: Storage, stages: dict[str, StageResult]) -> None:
    again = train.train_stage("joint", FORM, storage, Settings(root=storage.root))
    assert again.reused
    assert again.sha256 == stages["joint"].sha256


class HalfwayDrafter:
    """Drafts some parts and then breaks."""

    def __init__(self, num_parts: int) -> None:
        self.num_left = num_parts
        self.num_films = 0

    def draft(self, films: Sequence[Film]) -> list[DraftReport]:
        if not self.num_left:
            raise KeyboardInterrupt
        self.num_left -= 1
        self.num_films += len(films)
        empty = DraftReport("", "Edema.", (), {}, {}, 1.0, ())
        return [empty] * len(films)


def test_a_drafting_that_was_cut_off_goes_on(storage: Storage, stages: dict[str, StageResult]) -> None:
    dataset = resolve_dataset(storage, "drawn")
    bundle = assemble_bundle([stages[name] for name in STAGES], "d1", storage).model_copy(update={"bundle_id": "other"})
    with pytest.raises(KeyboardInterrupt):
        draft_training_films(dataset, bundle, storage, lambda: HalfwayDrafter(2))
    rest = HalfwayDrafter(99)
    drafts = draft_training_films(dataset, bundle, storage, lambda: rest)
    assert rest.num_films == dataset.num_rows["train"] - 2 * 3
    assert set(drafts.values()) == {"Edema."}
    assert len(drafts) == dataset.num_rows["train"]
