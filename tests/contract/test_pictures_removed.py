"""What a tracking server shows of a patient's films goes, of deleted runs too, and does not come back."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow.entities import ViewType

from crrg.config.base import Settings
from crrg.config.models import DecodingSettings
from crrg.config.references import DatasetRef, StageResult
from crrg.config.training import TrainStageConfig
from crrg.data.dataset.rewrite import note_successor
from crrg.data.privacy.forgotten import UNFINISHED
from crrg.errors import StorageError
from crrg.operations.privacy.trained_on import PICTURES, delete_pictures, models_trained_on
from crrg.operations.training import train
from crrg.operations.training.draft_store import DraftFolder, draft_films
from crrg.storage import Storage
from crrg.tracking.client import EVERY_STATE, mlflow_client
from crrg.tracking.runs import open_tracker

VERSION = "0123456789abcdef"
KEY = f"datasets/d/version={VERSION}/_manifest.json"
DATASET = DatasetRef(name="d", version=VERSION, manifest_key=KEY, num_rows={})


@pytest.fixture
def root(tmp_path) -> Storage:
    return Storage(str(tmp_path))


def logged(root: Storage, settings: Settings) -> list[str]:
    client = mlflow_client(settings, root)
    experiments = [each.experiment_id for each in client.search_experiments(view_type=ViewType.ALL)]
    runs = client.search_runs(experiments, run_view_type=ViewType.ALL)
    folders = [Path(run.info.artifact_uri.removeprefix("file://")) for run in runs]
    return sorted(path.name for folder in folders for path in folder.rglob("*.png"))


def test_pictures_of_deleted_runs_and_experiments_go_and_their_checkpoints_are_listed(root: Storage) -> None:
    settings = Settings(root=root.root)
    assert EVERY_STATE == ViewType.ALL
    runs = []
    for experiment in ("train-detector", "ingest"):
        with open_tracker(settings, root, experiment, "run", {"dataset_version": VERSION}) as tracker:
            for name in PICTURES:
                tracker.log_picture(name, b"png")
            runs.append(tracker.run_id)
    client = mlflow_client(settings, root)
    client.delete_run(runs[0])
    client.delete_experiment(client.get_experiment_by_name("ingest").experiment_id)
    result = {"stage": "detector", "sha256": "0" * 64, "config_hash": "h", "metrics": {}, "files": {}}
    for name, run_id, says in (("a", runs[0], {}), ("b", "", {"dataset_version": VERSION}), ("c", "", {})):
        prefix = f"checkpoints/detector/{name}"
        root.put_json(f"{prefix}/config.json", says)
        stage = StageResult.model_validate({**result, "prefix": prefix, "run_id": run_id})
        root.put_json(f"{prefix}/result.json", stage.model_dump(mode="json"))
    assert models_trained_on(root, settings, {VERSION}) == ("checkpoint detector/a", "checkpoint detector/b")
    assert len(logged(root, settings)) == 4
    assert delete_pictures(root, settings, {VERSION}) == 4
    assert logged(root, settings) == []


@pytest.mark.parametrize("state", ["whole", "under way", "removed"])
def test_a_training_logs_no_picture_of_a_dataset_from_which_somebody_was_removed(
    root: Storage, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    def fit(_stage, _config, _dataset, _finished, storage, tracker) -> StageResult:
        tracker.log_metrics({"loss": 1.0})
        if state == "under way":
            storage.put(f"{UNFINISHED}/0123.json", b"{}")
        if state == "removed":
            note_successor(storage, "d", VERSION, "fedcba9876543210")
        tracker.log_picture("detector_boxes.png", b"png")
        raise KeyboardInterrupt

    settings = Settings(root=root.root)
    monkeypatch.setattr(train, "fit_stage", fit)
    with pytest.raises(KeyboardInterrupt):
        train.train_here("detector", TrainStageConfig(dataset="d"), DATASET, {}, root, settings, {})
    assert logged(root, settings) == (["detector_boxes.png"] if state == "whole" else [])


def test_drafts_of_training_films_are_not_written_after_a_removal(root: Storage) -> None:
    folder = DraftFolder(DATASET, "b" * 32, DecodingSettings(), f"d-{VERSION}-train")
    ids = SimpleNamespace(patient_id="p", study_id="s", instance_id="i")

    def draft(_films):
        note_successor(root, "d", VERSION, "")
        return [{"findings": "", "impression": ""}]

    with pytest.raises(StorageError, match="a patient was removed while this ran"):
        draft_films(folder, [(ids, SimpleNamespace(pixel_digest=b"x" * 32))], root, draft, lambda _row: None, 1)
    assert root.list_objects("models/drafts") == []
