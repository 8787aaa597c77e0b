"""Markers in every field of a cohort: an ingest, a training and a night through Prefect leave none anywhere."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import pytest

from crrg.operations.night import steps as night_steps
from crrg.registry.aliases import ResolvedBundle
from crrg.storage import Storage
from deployments.services import Service
from tests.support.canaries import find_markers, hits, marked_archive, marked_table
from tests.support.drawn_night import BUNDLE, StandInDrafter
from tests.support.keys import KEY

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def test_no_marker_in_root_logs_mlflow_or_prefect(
    prefect_server: Service,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from flows.ingest import ingest
    from flows.nightly import nightly
    from flows.train_clip import train_clip

    archive, root = Storage(str(tmp_path / "archive")), tmp_path / "root"
    files = marked_archive()
    for key, data in files.items():
        archive.put(key, data)
    archive.put("table.csv", marked_table(files))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("CRRG_ROOT", str(root))
    monkeypatch.setenv("CRRG_HMAC_KEY", KEY)
    drafter = StandInDrafter()
    monkeypatch.setattr(night_steps, "resolve_bundle", lambda *_: ResolvedBundle(BUNDLE))
    monkeypatch.setattr(night_steps, "read_image_size", lambda *_: drafter.image_size)
    monkeypatch.setattr(night_steps, "bundle_pipeline", lambda *_: drafter)
    caplog.set_level(logging.DEBUG)

    shares = {"train_share": 0.5, "validation_share": 0.3}
    summary = ingest({"source": [archive.root], "dataset": "marked", "image_size": 64, "num_workers": 1, **shares})
    assert summary.num_accepted >= 8
    assert summary.num_quarantined >= 8
    stage = train_clip({"dataset": "marked", "preset": "tiny", "num_steps": 2, "device": "cpu"})
    assert stage.run_id
    form = {
        "inbox": archive.root,
        "date": "2026-03-01",
        "settle_s": 0,
        "shard_size": 4,
        "image_size": 64,
        "max_failure_rate": 1,
    }
    night = nightly({**form, "num_workers": 1})
    assert night.num_accepted >= 8
    assert night.num_quarantined >= 8
    with pytest.raises(Exception, match="nothing to ingest"):
        ingest({"source": [f"{archive.root}-gone"], "dataset": "marked"})

    assert (root / "mlflow.db").exists()
    prefect_home = prefect_server.log_path.parent
    assert list(prefect_home.glob("*.db"))
    assert find_markers(root) == []
    assert find_markers(prefect_home) == []
    assert find_markers(temporary) == []
    assert hits(caplog.text.encode()) == []
    assert hits("".join(capfd.readouterr()).encode()) == []
