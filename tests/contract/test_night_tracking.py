"""A night as a run on a real MLflow database, and as a page; neither says anything of a patient."""

from __future__ import annotations

from pathlib import Path

import pytest

from crrg.config.base import Settings
from crrg.ledger.manifest import read_manifests
from crrg.operations.night import feed as night_feed
from crrg.operations.night import report
from crrg.operations.night.report import report_night
from crrg.operations.spool import send_waiting
from crrg.storage import Storage
from crrg.tracking.client import mlflow_client
from tests.support.drawn_night import DATE, StandInDrafter, fill_inbox, png_bytes, run_test_night

LATER = "2026-11-21"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)
    return Storage(str(tmp_path / "root"))


def test_a_night_is_a_run_and_a_page_beside_the_last_nights(root: Storage, tmp_path: Path) -> None:
    inbox = Storage(str(tmp_path / "inbox"))
    fill_inbox(inbox, 6)
    first = run_test_night(inbox, root, StandInDrafter(), num_workers=0)
    assert first.usual_prevalence == {}
    for number in range(50, 54):
        inbox.put(f"later/{number}.png", png_bytes(number))
    second = run_test_night(inbox, root, StandInDrafter(), num_workers=0, date=LATER)
    assert second.usual_prevalence == pytest.approx(first.watch.prevalence, abs=1e-4)
    assert set(second.times_s) == {"planning", "reading", "drafting", "writing", "publishing"}
    settings = Settings(root=root.root)
    page = report_night(second, root, settings, tags={"prefect.flow_run_id": "f"})
    for words in (
        "Night of 2026-11-21: committed",
        "last 7 nights",
        "Cardiomegaly",
        "drafting",
        "compared with nothing",
    ):
        assert words in page
    client = mlflow_client(settings, root)
    (run,) = client.search_runs([client.get_experiment_by_name("nightly").experiment_id])
    assert run.info.run_name == f"nightly-{LATER}"
    assert run.info.status == "FINISHED"
    assert run.data.metrics["night/num_accepted"] == 4
    assert run.data.metrics["prevalence/Edema"] == pytest.approx(second.watch.prevalence["Edema"])
    assert run.data.metrics["time/drafting_s"] >= 0
    assert run.data.tags["bundle_id"] == second.bundle_id
    assert run.data.tags["prefect.flow_run_id"] == "f"
    assert run.data.tags["flagged"] == "false"
    logged = (Path(run.info.artifact_uri) / "night.md").read_text()
    said = page + logged + repr(run.data.to_dictionary())
    for manifest in read_manifests(root):
        for key in root.get_json(manifest.index_key):
            if "/documents/" in key:
                assert key.split("/")[-2] not in said
    assert "heart measures" not in said


def test_links_lead_where_people_can_go_and_the_page_names_its_root(
    root: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "track", lambda *_: "run-1")
    inbox = Storage(str(tmp_path / "inbox"))
    inbox.put("1.png", png_bytes(1))
    summary = run_test_night(inbox, root, StandInDrafter(), num_workers=0).model_copy(update={"model_version": "3"})
    settings = Settings(root=root.root, mlflow_tracking_uri="http://mlflow:5000/")
    assert "(http://mlflow:5000/#/runs/run-1)" in report_night(summary, root, settings)
    monkeypatch.setenv("CRRG_MLFLOW_PUBLIC_URL", "https://mlflow.example.org")
    page = report_night(summary, root, Settings(root=root.root, mlflow_tracking_uri="http://mlflow:5000"))
    assert "(https://mlflow.example.org/#/runs/run-1)" in page
    assert "(https://mlflow.example.org/#/models/crrg-pipeline/versions/3)" in page
    assert "http://mlflow:5000" not in page
    assert f"Review page `{root.root}/{summary.review_key}`" in page
    assert f"Manifest `{root.root}/{summary.manifest_key}`" in page


def test_a_night_waits_in_the_spool_while_the_tracking_server_is_away(
    root: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    inbox = Storage(str(tmp_path / "inbox"))
    inbox.put("1.png", png_bytes(1))
    summary = run_test_night(inbox, root, StandInDrafter(), num_workers=0)
    away = Settings(root=root.root, mlflow_tracking_uri="http://127.0.0.1:9")
    assert f"Night of {DATE}: committed" in report_night(summary, root, away)
    assert "waits in the spool" in caplog.text
    (waiting,) = root.list_objects("spool/runs")
    assert b"heart measures" not in root.get(waiting.key)
    assert send_waiting(root, Settings(root=root.root)) == 1
    client = mlflow_client(Settings(root=root.root), root)
    (run,) = client.search_runs([client.get_experiment_by_name("nightly").experiment_id])
    assert run.info.run_name == f"nightly-{DATE}"
    assert run.data.metrics["night/num_accepted"] == 1
    assert run.data.tags["bundle_id"] == summary.bundle_id


def test_a_night_without_a_commit_makes_no_run(root: Storage, tmp_path: Path) -> None:
    inbox = Storage(str(tmp_path / "inbox"))
    inbox.put("1.png", png_bytes(1))
    run_test_night(inbox, root, StandInDrafter(), num_workers=0)
    again = run_test_night(inbox, root, StandInDrafter(), num_workers=0)
    assert "nothing new" in report_night(again, root, Settings(root=root.root))
    assert not Path(root.root, "mlflow.db").exists()
