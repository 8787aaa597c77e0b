"""A dataset version as a run on a real MLflow database: its counts, its card, its sheet of samples, and no marker."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import SecretStr

from crrg.config.base import Settings
from crrg.config.data import IngestConfig
from crrg.config.references import IngestSummary
from crrg.errors import CrrgError, ModelError, StorageError
from crrg.operations.ingest import tracking as ingest_tracking
from crrg.operations.ingest.ingest import ingest
from crrg.operations.ingest.tracking import EXPERIMENT
from crrg.storage import Storage
from crrg.tracking.client import mlflow_client
from crrg.tracking.models import ModelRegistry
from crrg.tracking.runs import open_tracker
from tests.support.canaries import find_markers, marked_archive, marked_table
from tests.support.drawn_night import PSEUDONYMS
from tests.support.keys import KEY
from tests.support.stand_in_bundle import stand_in_stage


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> tuple[Storage, Settings, IngestSummary, IngestConfig]:
    """An archive whose every field carries a marker, ingested and tracked."""
    folder = tmp_path_factory.mktemp("tracked")
    archive, root = Storage(str(folder / "archive")), Storage(str(folder / "root"))
    files = marked_archive()
    for key, data in {**files, "table.csv": marked_table(files)}.items():
        archive.put(key, data)
    settings = Settings(root=root.root)
    config = IngestConfig(source=(archive.root,), dataset="marked", num_workers=1)
    return (
        root,
        settings,
        ingest(config, root, PSEUDONYMS, tracked_by=settings, tags={"prefect.flow_run_id": "42"}),
        config,
    )


def runs(settings: Settings, root: Storage) -> list:
    client = mlflow_client(settings, root)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    return list(client.search_runs([experiment.experiment_id]))


def test_counts_and_settings_stand_in_the_run(ingested) -> None:
    root, settings, summary, _ = ingested
    (run,) = runs(settings, root)
    assert run.info.status == "FINISHED"
    assert run.data.tags["dataset_version"] == summary.dataset.version
    assert run.data.tags["prefect.flow_run_id"] == "42"
    assert run.data.metrics["ingest/num_inputs"] == summary.num_inputs == 17
    assert run.data.metrics["ingest/num_accepted"] + run.data.metrics["ingest/num_quarantined"] == 17
    assert {name: run.data.metrics[f"rows/{name}"] for name in summary.dataset.num_rows} == summary.dataset.num_rows
    refused = {name: number for name, number in run.data.metrics.items() if name.startswith("refused/")}
    assert refused == {f"refused/{reason}": number for reason, number in summary.reasons.items()}
    assert run.data.params["image_size"] == "512"


def test_card_and_sheet_of_samples_are_those_beside_the_dataset(ingested) -> None:
    root, settings, summary, _ = ingested
    (run,) = runs(settings, root)
    logged = Path(run.info.artifact_uri.removeprefix("file://"), "card")
    beside = Path(root.root, summary.card_key).parent
    assert sorted(path.name for path in logged.iterdir()) == ["card.json", "card.md", "samples.png"]
    for path in logged.iterdir():
        assert path.read_bytes() == (beside / path.name).read_bytes()
    sheet = np.asarray(Image.open(io.BytesIO((logged / "samples.png").read_bytes())))
    num_films = json.loads((logged / "card.json").read_text())["num_films"]
    tiles = sheet.reshape(-1, 160, 6, 160).swapaxes(1, 2).reshape(-1, 160, 160)
    assert sum(tile.std() > 0 for tile in tiles) == num_films >= 8


def test_no_marker_reaches_the_tracking_database(ingested) -> None:
    root, _, _, _ = ingested
    assert Path(root.root, "mlflow.db").stat().st_size > 0
    assert find_markers(Path(root.root)) == []


def test_a_version_that_was_there_is_not_tracked_again(ingested) -> None:
    root, settings, _, config = ingested
    assert ingest(config, root, PSEUDONYMS, tracked_by=settings).reused
    assert len(runs(settings, root)) == 1


@pytest.mark.parametrize(
    "error",
    [StorageError("the tracking server cannot be reached", retryable=True), ModelError("the experiment was deleted")],
)
def test_a_tracking_server_that_does_not_take_it_costs_a_line_in_the_log(
    error: CrrgError, ingested, monkeypatch, caplog
) -> None:
    root, settings, summary, _ = ingested

    def away(*_: object) -> None:
        raise error

    monkeypatch.setattr(ingest_tracking, "open_tracker", away)
    caplog.set_level(logging.WARNING)
    ingest_tracking.track_ingest(summary, root, settings, {})
    assert "did not reach the tracking server" in caplog.text


def test_a_forgotten_patient_takes_pictures_along_and_leaves_a_list_of_models(ingested) -> None:
    from crrg.data.dataset.pairs import read_pairs
    from crrg.domain.study import Split
    from crrg.operations.privacy.forget import forget

    root, settings, summary, _ = ingested
    dataset = summary.dataset
    settings = settings.model_copy(update={"hmac_key": SecretStr(KEY)})
    patient = next(pair.patient_id for split in Split for pair in read_pairs(root, dataset, split) if pair.film)
    tags = {"dataset": dataset.name, "dataset_version": dataset.version}
    with open_tracker(settings, root, "train-detector", "detector", tags) as tracker:
        tracker.log_picture("detector_boxes.png", b"\x89PNG")
        stage = stand_in_stage(root, "detector", run_id=tracker.run_id)
        root.put_json(f"{stage.prefix}/result.json", stage.model_dump(mode="json"))
    version = ModelRegistry(settings, root).register_stage(stage)
    (run,) = runs(settings, root)
    assert forget([patient], root, settings).num_pictures == 0
    found = forget([patient], root, settings, remove=True)
    assert found.models == (f"checkpoint detector/{stage.config_hash}", f"crrg-detector version {version}")
    assert found.num_pictures == 2
    assert sorted(path.name for path in Path(run.info.artifact_uri.removeprefix("file://"), "card").iterdir()) == [
        "card.json", "card.md",
    ]  # fmt: skip
    texts = b"".join(path.read_bytes() for path in Path(root.root).rglob("*") if path.is_file())
    assert patient.encode() not in texts
