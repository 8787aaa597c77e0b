"""Runs, versions, aliases, promotion and rollback on a real MLflow database under a root."""

from __future__ import annotations

import inspect
import json
import logging
import os
from pathlib import Path

import pytest
from botocore.exceptions import EndpointConnectionError
from requests.exceptions import HTTPError

from crrg.config.base import Settings
from crrg.config.flat import flatten
from crrg.config.references import DatasetRef, EvaluationResult
from crrg.config.running import Gate, PromoteConfig, RetrainConfig
from crrg.errors import ConfigError, DigestMismatch, ModelError, StorageError
from crrg.operations.registry import promote as promotion
from crrg.operations.registry.assemble import register_bundle
from crrg.registry.aliases import recorded_alias, resolve_bundle
from crrg.registry.gate import CLINICAL_F1, LABEL_AUC, REGION_IOU, ZERO_SHOT_AUC
from crrg.storage import Storage
from crrg.tracking.client import mlflow_client, reach
from crrg.tracking.models import ModelRegistry
from crrg.tracking.runs import MlflowTracker, open_tracker
from crrg.tracking.server import tracking_uri
from tests.support.stand_in_bundle import stand_in_bundle, stand_in_stage

DATASET = DatasetRef(name="d", version="d1", manifest_key="m", num_rows={"test": 3})
GOOD = {REGION_IOU: 0.9, LABEL_AUC: 0.9, CLINICAL_F1: 0.6, ZERO_SHOT_AUC: 0.8}


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    return Storage(str(tmp_path_factory.mktemp("root")))


@pytest.fixture
def settings(storage: Storage) -> Settings:
    return Settings(root=storage.root)


def evaluated(storage: Storage, settings: Settings, figures: dict[str, float], **seeds: int) -> EvaluationResult:
    bundle = stand_in_bundle(storage, **seeds)
    result = EvaluationResult(bundle=bundle, dataset=DATASET, split="test", metrics=figures, scorecard_key="k")
    return result.model_copy(update={"bundle": register_bundle(result, storage, settings)})


def test_a_run_begins_with_the_first_thing_logged(storage: Storage, settings: Settings) -> None:
    with open_tracker(settings, storage, "train-detector", "nothing") as tracker:
        pass
    assert not tracker._run_id
    with open_tracker(settings, storage, "train-detector", "something", {"stage": "detector"}) as tracker:
        tracker.log_params({"loop": {"num_steps": 5}, "note": "x" * 9000})
        tracker.log_metrics({"train/loss": 2.0}, step=1)
        tracker.log_metrics({"train/loss": 1.0}, step=2)
        tracker.log_picture("pictures/a.png", b"\x89PNG")
        tracker.log_table("figures.json", {"figure": ["a", "b"], "value": [0.5, None]})
    run = mlflow_client(settings, storage).get_run(tracker.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["loop.num_steps"] == "5"
    assert run.data.metrics["train/loss"] == 1.0
    assert run.data.tags["stage"] == "detector"
    assert json.loads(run.data.tags["mlflow.loggedArtifacts"]) == [{"path": "figures.json", "type": "table"}]
    table = json.loads((Path(run.info.artifact_uri) / "figures.json").read_text())
    assert table == {"columns": ["figure", "value"], "data": [["a", 0.5], ["b", None]]}
    assert Path(storage.root) in Path(run.info.artifact_uri).parents
    assert (Path(run.info.artifact_uri) / "pictures/a.png").read_bytes() == b"\x89PNG"


def test_a_picture_on_its_way_lies_in_a_folder_that_goes_with_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Path] = []

    class Client:
        def log_artifact(self, _run_id: str, path: str, _folder: str | None) -> None:
            sent.append(Path(path))

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    MlflowTracker(Client(), "train-detector", "", "demo", {}, "run").log_picture("pictures/a.png", b"\x89PNG")
    (path,) = sent
    assert path.name == "a.png"
    assert path.relative_to(tmp_path).parts[0].startswith("crrg-work-")


def test_an_error_ends_the_run_as_failed(storage: Storage, settings: Settings) -> None:
    tracked = open_tracker(settings, storage, "train-clip", "bad")
    tracker = tracked.__enter__()
    tracker.log_metrics({"a": 1.0})
    assert not tracked.__exit__(ValueError, ValueError("bang"), None)
    assert mlflow_client(settings, storage).get_run(tracker.run_id).info.status == "FAILED"


def test_a_server_that_is_away_hides_neither_an_error_nor_a_signal(
    storage: Storage, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: object) -> None:
        raise StorageError("the tracking server does not answer", "MLFLOW_TRACKING_URI", retryable=True)

    monkeypatch.setattr(MlflowTracker, "finish", away)
    with pytest.raises(ValueError, match="bang"), open_tracker(settings, storage, "train-clip", "bad"):
        raise ValueError("bang")
    with pytest.raises(SystemExit) as ended, open_tracker(settings, storage, "train-clip", "bad"):
        raise SystemExit(143)
    assert ended.value.code == 143
    assert caplog.text.count("the end of its run could not be recorded") == 2


@pytest.mark.parametrize(
    "error", [HTTPError("500"), EndpointConnectionError(endpoint_url="s3"), OSError(28, "No space left")]
)
def test_a_store_of_artifacts_that_fails_is_out_of_reach_as_its_server_is(error: Exception) -> None:
    def upload() -> None:
        raise error

    with pytest.raises(StorageError, match="artifact store") as refused:
        reach(upload)
    assert refused.value.retryable


def test_equal_weights_keep_their_version(storage: Storage, settings: Settings) -> None:
    registry = ModelRegistry(settings, storage)
    with open_tracker(settings, storage, "train-detector", "d") as tracker:
        first = stand_in_stage(storage, "detector", 1, run_id=tracker.run_id)
        second = stand_in_stage(storage, "detector", 2, run_id=tracker.run_id)
    versions = [registry.register_stage(result) for result in (first, second, first)]
    assert versions == ["1", "2", "1"]
    assert registry.version_tags("2", "crrg-detector")["sha256"] == second.sha256


def test_the_joint_stage_makes_versions_of_clip_and_pages_say_what_they_show(
    storage: Storage, settings: Settings
) -> None:
    registry, client = ModelRegistry(settings, storage), mlflow_client(settings, storage)
    with open_tracker(settings, storage, "train-joint", "j") as tracker:
        clip = stand_in_stage(storage, "clip", 1, run_id=tracker.run_id)
        joint = stand_in_stage(storage, "joint", 2, run_id=tracker.run_id)
    versions = [registry.register_stage(result) for result in (clip, joint)]
    assert [registry.version_tags(version, "crrg-clip")["stage"] for version in versions] == ["clip", "joint"]
    assert "checkpoints/joint/02" in client.get_model_version("crrg-clip", versions[1]).description
    assert "`joint`" in client.get_registered_model("crrg-clip").description


def test_gate_promotion_and_rollback(
    storage: Storage, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    registry = ModelRegistry(settings, storage)
    figures: dict[str, EvaluationResult] = {}
    monkeypatch.setattr(promotion, "evaluate_bundle", lambda bundle, _form, _storage: figures[bundle.model_version])
    form = RetrainConfig(gate=Gate(min_region_iou=0.5, min_label_auc=0.5, min_clinical_f1=0.2, max_drop=0.02))

    first = evaluated(storage, settings, GOOD)
    figures[first.bundle.model_version] = first
    assert "MLFLOW_TRACKING_URI" not in os.environ, "one root's address would lead the next root's runs astray"
    assert promotion.gate_and_promote(first, form, storage, settings).promoted
    assert registry.aliases() == {"candidate": "1", "champion": "1"}
    assert recorded_alias(storage, "champion") == first.bundle
    with pytest.raises(ModelError, match="no previous champion to go back to; name a version: crrg promote VERSION"):
        promotion.promote(PromoteConfig(rollback=True), storage, settings)

    with caplog.at_level(logging.WARNING):
        worse = evaluated(storage, settings, {**GOOD, LABEL_AUC: 0.7}, detector=2)
        refused = promotion.gate_and_promote(worse, form, storage, settings)
    assert not refused.promoted
    assert "champion has 0.900" in refused.reasons[0]
    assert registry.aliases() == {"candidate": "2", "champion": "1"}
    assert registry.version_tags("2")["gate"] == "failed"
    with pytest.raises(ModelError, match="not passed its gate"):
        promotion.promote(PromoteConfig(version=2), storage, settings)

    better = evaluated(storage, settings, {**GOOD, LABEL_AUC: 0.95}, detector=3)
    moved = promotion.gate_and_promote(better, form, storage, settings)
    assert (moved.promoted, moved.version, moved.previous_version) == (True, "3", "1")
    assert registry.aliases() == {"candidate": "3", "champion": "3", "previous": "1"}
    assert resolve_bundle("models:/crrg-pipeline@champion", storage, settings).ref == better.bundle

    back = promotion.promote(PromoteConfig(rollback=True), storage, settings)
    assert (back.version, back.previous_version) == ("1", "3")
    assert recorded_alias(storage, "champion") == first.bundle
    assert evaluated(storage, settings, GOOD).bundle.model_version == "1"


def test_a_damaged_bundle_never_becomes_champion(storage: Storage, settings: Settings) -> None:
    broken = evaluated(storage, settings, GOOD, clip=5)
    before = ModelRegistry(settings, storage).aliases()
    storage.put(f"{broken.bundle.prefix}/clip.safetensors", b"cut")
    with pytest.raises(DigestMismatch):
        promotion._make_champion(broken.bundle.model_version, ModelRegistry(settings, storage), storage)
    assert ModelRegistry(settings, storage).aliases() == before


def test_ids_of_the_orchestrator_are_tags_and_no_settings(storage: Storage, settings: Settings) -> None:
    bundle = stand_in_bundle(storage, clip=6)
    result = EvaluationResult(bundle=bundle, dataset=DATASET, split="test", metrics=GOOD, scorecard_key="k")
    registered = register_bundle(result, storage, settings, tags={"prefect.flow_run_id": "f"})
    client = mlflow_client(settings, storage)
    version = client.get_model_version("crrg-pipeline", registered.model_version)
    run = client.get_run(version.run_id)
    assert run.data.tags["prefect.flow_run_id"] == version.tags["prefect.flow_run_id"] == "f"
    assert run.data.params == {"bundle_id": bundle.bundle_id, "dataset": "d", "dataset_version": "d1"}


def raise_away(*_: object) -> None:
    raise StorageError("the tracking server does not answer", "MLFLOW_TRACKING_URI", retryable=True)


def test_a_bundles_run_is_the_parent_of_the_runs_that_made_its_parts(
    storage: Storage, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, client = ModelRegistry(settings, storage), mlflow_client(settings, storage)

    def parent_of(run_id: str) -> str | None:
        found: str | None = client.get_run(run_id).data.tags.get("mlflow.parentRunId")
        return found

    runs: dict[str, str] = {}
    for part, seed in (("detector", 41), ("selector", 42), ("clip", 43)):
        with open_tracker(settings, storage, f"train-{part}", f"{part}-d-tiny-0") as tracker:
            runs[part] = tracker.run_id
        registry.register_stage(stand_in_stage(storage, part, seed=seed, run_id=runs[part]))
    client.delete_run(runs["clip"])
    with monkeypatch.context() as patch:
        patch.setattr(ModelRegistry, "register_bundle", raise_away)
        with pytest.raises(StorageError):
            evaluated(storage, settings, GOOD, detector=41, selector=42, clip=43)
    assert parent_of(runs["detector"]) is None, "no version came of it"

    first = evaluated(storage, settings, GOOD, detector=41, selector=42, clip=43)
    parent = client.get_run(registry.version_tags(first.bundle.model_version)["run_id"])
    assert {part: parent_of(run_id) for part, run_id in runs.items()} == {
        "detector": parent.info.run_id, "selector": parent.info.run_id, "clip": None,
    }  # fmt: skip
    note = parent.data.tags["mlflow.note.content"]
    detector = client.get_run(runs["detector"])
    assert f"[detector-d-tiny-0](#/experiments/{detector.info.experiment_id}/runs/{runs['detector']})" in note
    assert "clip" not in note, "its run was deleted"

    second = evaluated(storage, settings, GOOD, detector=41, selector=44)
    assert parent_of(runs["detector"]) == parent.info.run_id
    again = client.get_run(registry.version_tags(second.bundle.model_version)["run_id"])
    assert runs["detector"] in again.data.tags["mlflow.note.content"], "trained once, part of both"
    assert runs["selector"] not in again.data.tags["mlflow.note.content"]


def test_a_root_in_a_bucket_needs_a_server() -> None:
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI"):
        tracking_uri(Settings(mlflow_tracking_uri=""), Storage("s3://bucket/root"))
    assert tracking_uri(Settings(mlflow_tracking_uri="http://h:5"), Storage("s3://bucket/root")) == "http://h:5"


def test_artifacts_that_go_to_a_bucket_are_encrypted_as_everything_else(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository

    monkeypatch.setattr(os, "environ", {**os.environ})
    settings = Settings(s3_sse="aws:kms", s3_kms_key_id="key-3", mlflow_tracking_uri="http://127.0.0.1:1")
    mlflow_client(settings, storage)
    expected = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "key-3"}
    assert json.loads(os.environ["MLFLOW_S3_UPLOAD_EXTRA_ARGS"]) == expected
    assert "MLFLOW_S3_UPLOAD_EXTRA_ARGS" in inspect.getsource(S3ArtifactRepository.get_s3_file_upload_extra_args)


def test_nested_settings_become_dotted_names() -> None:
    assert flatten({"a": {"b": {"c": 1}, "d": (1, 2)}, "e": True}) == {"a.b.c": "1", "a.d": "(1, 2)", "e": "True"}
