"""Runs that wait for a tracking server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from crrg.config.base import Settings
from crrg.errors import ConfigError, ModelError, StorageError
from crrg.operations import spool
from crrg.operations.spool import PREFIX, TrackedRun, send_waiting, track
from crrg.storage import Storage


class Server:
    """Stands in for a tracking server."""

    def __init__(self) -> None:
        self.is_away = False
        self.refused: dict[str, Exception] = {}
        self.runs: list[tuple[str, dict[str, float], dict[str, str]]] = []

    @contextmanager
    def open_tracker(self, settings, storage, experiment, run_name, tags, run_id) -> Iterator[Server]:
        assert run_id == "", "a night's run is one of its own"
        if self.is_away:
            raise StorageError("the tracking server does not answer", "MLFLOW_TRACKING_URI", retryable=True)
        if run_name in self.refused:
            raise self.refused[run_name]
        self.runs.append((run_name, {}, {}))
        yield self

    @property
    def run_id(self) -> str:
        return f"run-{len(self.runs)}"

    def log_metrics(self, metrics: dict[str, float]) -> None:
        self.runs[-1][1].update(metrics)

    def log_text(self, name: str, text: str) -> None:
        self.runs[-1][2][name] = text


@pytest.fixture
def server(monkeypatch) -> Server:
    found = Server()
    monkeypatch.setattr(spool, "open_tracker", found.open_tracker)
    return found


def night(number: int) -> TrackedRun:
    name = f"nightly-2026-11-{number}"
    return TrackedRun(
        experiment="nightly", run_name=name, metrics={"night/num_inputs": number}, texts={"night.md": f"night {number}"}
    )


def test_runs_wait_while_the_server_is_away_and_go_before_the_next_one(server, tmp_path):
    root = Storage(str(tmp_path))
    server.is_away = True
    assert track(night(20), root, Settings()) == ""
    assert track(night(21), root, Settings()) == ""
    assert track(night(21), root, Settings()) == ""
    assert len(root.list_objects(PREFIX)) == 2
    assert server.runs == []
    server.is_away = False
    assert track(night(22), root, Settings()) == "run-3"
    expected = [
        (f"nightly-2026-11-{day}", {"night/num_inputs": day}, {"night.md": f"night {day}"}) for day in (20, 21, 22)
    ]
    assert server.runs == expected
    assert root.list_objects(PREFIX) == []
    assert send_waiting(root, Settings()) == 0


@pytest.mark.parametrize("error", [ModelError("the registry does not know it"), OSError("no room for a file")])
def test_run_that_is_not_taken_waits_and_keeps_no_other_from_going(server, tmp_path, error):
    root = Storage(str(tmp_path))
    server.refused["nightly-2026-11-20"] = error
    assert track(night(20), root, Settings()) == ""
    server.refused["nightly-2026-11-20"] = ModelError("the registry does not know it")
    assert track(night(21), root, Settings()) == "run-1"
    assert [stored.key.split("/")[-1][:18] for stored in root.list_objects(PREFIX)] == ["nightly-2026-11-20"]
    server.refused.clear()
    assert send_waiting(root, Settings()) == 1


@pytest.mark.parametrize("data", [b'{"experiment":', b"[]", b"\xff"])
def test_a_run_that_was_damaged_while_it_waited_keeps_no_other_from_going(server, tmp_path, data, caplog):
    root = Storage(str(tmp_path))
    root.put(f"{PREFIX}/damaged.json", data)
    assert track(night(2), root, Settings()) == "run-1"
    assert f"{PREFIX}/damaged.json" in caplog.text
    assert root.get(f"{PREFIX}/damaged.json") == data


def test_whoever_may_not_remove_objects_sends_a_run_once_all_the_same(server, monkeypatch, tmp_path):
    root = Storage(str(tmp_path))
    server.is_away = True
    track(night(20), root, Settings())
    server.is_away = False

    def denied(_self: Storage, key: str) -> None:
        raise StorageError("DeleteObject is denied", key)

    monkeypatch.setattr(Storage, "delete", denied)
    assert [send_waiting(root, Settings()) for _ in range(2)] == [1, 0]
    assert len(server.runs) == 1


def test_without_any_server_nothing_is_kept_for_ever(monkeypatch, tmp_path):
    def no_server(*_: object, **__: object) -> None:
        raise ConfigError("a root in an object store needs a tracking server", "MLFLOW_TRACKING_URI")

    monkeypatch.setattr(spool, "open_tracker", no_server)
    root = Storage(str(tmp_path))
    with pytest.raises(ConfigError):
        track(night(20), root, Settings())
    assert root.list_objects(PREFIX) == []
