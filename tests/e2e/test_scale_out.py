"""Shards in processes, in the flow's own task runner and on a Ray cluster of two nodes: the bytes of one process.

The Ray cases need the extra ``ray``: ``make scale-out`` runs them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from crrg.config.data import IngestConfig
from crrg.config.fan_out import FanOut
from crrg.config.references import IngestSummary, StagedShard
from crrg.data.phantom.cohort import write_cohort
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.errors import ConfigError
from crrg.operations.ingest.ingest import ingest
from crrg.operations.ingest.shards import decode_shard, plan_shards
from crrg.operations.night.digest import committed_digest
from crrg.operations.night.nightly import commit_night, plan_night
from crrg.storage import Storage
from deployments.services import CHECKOUT, Service, start_ray_node
from tests.support.drawn_night import (
    BUNDLE,
    PSEUDONYMS,
    StandInDrafter,
    fill_inbox,
    night_config,
    run_test_night,
)
from tests.support.keys import KEY

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

NUM_FILMS = 14
LIMIT_S = 240.0
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("prefect_ray") is None, reason="the extra ray is not installed; make scale-out"
)
RUNNERS = ["processes", "flow", pytest.param("ray", marks=needs_ray)]


@pytest.fixture(autouse=True)
def settings_of_workers(monkeypatch: pytest.MonkeyPatch, prefect_server: Service) -> None:
    for name, value in {**prefect_server.env, "CRRG_HMAC_KEY": KEY}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("films")
    write_cohort(str(folder), NUM_FILMS, 5, 96)
    (folder / "dicom" / "broken.dcm").write_bytes(b"no film")
    return str(folder)


@dataclass(frozen=True)
class Whole:
    """What one process makes of the films.

    Attributes:
        root: Where it made it.
        summary: What it says of it.
    """

    root: Storage
    summary: IngestSummary


@pytest.fixture(scope="module")
def whole(films: str, prefect_server: Service, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    root = Storage(str(tmp_path_factory.mktemp("whole")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CRRG_HMAC_KEY", KEY)
        return Whole(root, run_ingest(root, ingest_form(films), patch))


@pytest.fixture(scope="module")
def ray_root(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    return Storage(str(tmp_path_factory.mktemp("ray") / "root"))


@pytest.fixture(scope="module")
def ray_address(prefect_server: Service, ray_root: Storage) -> Iterator[str]:
    """Start a cluster of two nodes with one processor each."""
    env = {**prefect_server.env, "CRRG_ROOT": ray_root.root, "CRRG_HMAC_KEY": KEY}
    nodes: list[Service] = []
    with tempfile.TemporaryDirectory(prefix="crrg-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        try:
            nodes.append(start_ray_node(Path(folder) / "a", env=env))
            nodes.append(start_ray_node(Path(folder) / "b", env=env, head=nodes[0]))
            with pytest.MonkeyPatch.context() as patch:
                for name, value in nodes[0].env.items():
                    patch.setenv(name, value)
                yield nodes[0].url
        finally:
            for node in reversed(nodes):
                node.stop()


def fan_out(runner: str, request: pytest.FixtureRequest) -> FanOut:
    if runner == "ray":
        return FanOut(task_runner="ray", ray_address=request.getfixturevalue("ray_address"))
    return FanOut.model_validate({"task_runner": runner, "max_processes": 2})


def ingest_form(films: str, **settings: object) -> IngestConfig:
    return IngestConfig.model_validate(
        {"source": films, "dataset": "x", "image_size": 96, "shard_size": 4, "num_workers": 1, **settings}
    )


def run_ingest(root: Storage, form: IngestConfig, monkeypatch: pytest.MonkeyPatch) -> IngestSummary:
    from flows.ingest import ingest as flow

    monkeypatch.setenv("CRRG_ROOT", root.root)
    summary: IngestSummary = flow(form)
    return summary


def start_ingest(form: IngestConfig, root: Path, prefect_server: Service) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "flows", "ingest", json.dumps(form.model_dump(mode="json"))]
    env = {**os.environ, **prefect_server.env, "CRRG_ROOT": str(root), "PYTHONPATH": str(CHECKOUT)}
    return subprocess.Popen(command, cwd=CHECKOUT, env=env, start_new_session=True)


def wait_for_shards(root: Storage, child: subprocess.Popen[bytes]) -> list[str]:
    deadline_s = time.monotonic() + LIMIT_S
    while len(staged := [each.key for each in root.list_objects("staging") if "/shard-" in each.key]) < 2:
        assert child.poll() is None, "the ingest ended before it could be killed"
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    return staged


def committed(root: Storage) -> dict[str, bytes]:
    keys = [stored.key for stored in root.list_objects() if not stored.key.startswith(("mlflow", "audit/"))]
    return {key: root.get(key) for key in keys}


def last_artifact() -> str:
    from prefect.artifacts import Artifact

    artifact = Artifact.get(key="ingest")
    return str(artifact.data) if artifact else ""


@pytest.mark.parametrize("runner", RUNNERS)
def test_the_dataset_is_the_same_to_the_byte(runner, whole, films, tmp_path, monkeypatch, request, ray_root):
    root = ray_root if runner == "ray" else Storage(str(tmp_path / "root"))
    form = ingest_form(films, fan_out=fan_out(runner, request))
    assert (whole.summary.num_inputs, whole.summary.num_accepted) == (NUM_FILMS + 1, NUM_FILMS)
    assert run_ingest(root, form, monkeypatch) == whole.summary
    assert committed(root) == committed(whole.root)
    shards = [line for line in last_artifact().splitlines() if line.endswith(" |") and "process " in line]
    assert len(shards) == 4
    if runner == "ray":
        assert len({line.split("Ray node ")[1].split(",")[0] for line in shards}) == 2


def test_shards_are_staged_in_a_bucket(whole, films, s3_store):
    root = Storage(s3_store.new_root())
    form, pseudonyms = ingest_form(films), Pseudonyms(KEY.encode())
    shards = plan_shards(form, root, pseudonyms)
    assert [decode_shard(form, shard, root, pseudonyms).reused for shard in shards] == [False] * 4
    assert decode_shard(form, shards[1], root, pseudonyms).reused
    root.delete(shards[2].key)
    assert ingest(form, root, pseudonyms) == whole.summary
    assert committed(root) == committed(whole.root)


def test_an_ingest_that_was_killed_keeps_its_shards(whole, films, tmp_path, monkeypatch, prefect_server):
    root = Storage(str(tmp_path / "root"))
    form = ingest_form(films, shard_size=1, fan_out={"task_runner": "processes", "max_processes": 2})
    child = start_ingest(form, Path(root.root), prefect_server)
    staged = wait_for_shards(root, child)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    assert not [each for each in root.list_objects("datasets") if each.key.endswith("_manifest.json")]

    assert run_ingest(root, form, monkeypatch) == whole.summary
    kept = [line for line in last_artifact().splitlines() if "an earlier run" in line]
    assert len(staged) <= len(kept) < NUM_FILMS
    assert committed(root) == committed(whole.root)


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_night_has_the_same_digest(runner, tmp_path, request):
    from tests.support.drawn_shards import drawn_night

    inbox, whole, root = (Storage(str(tmp_path / name)) for name in ("inbox", "whole", "root"))
    fill_inbox(inbox, 8)
    expected = run_test_night(inbox, whole, StandInDrafter())
    plan = plan_night(night_config(inbox), root, BUNDLE, PSEUDONYMS)

    results = drawn_night(root.root, plan, fan_out(runner, request))
    assert [each.index for each in results] == list(range(len(plan.shards)))
    if runner != "flow":
        assert f"process {os.getpid()}" not in {each.ran_on.split(", ")[1] for each in results}
    summary = commit_night(plan, results, root)
    assert summary.digest == expected.digest
    assert committed_digest(root, "") == committed_digest(whole, "")


@pytest.mark.parametrize("num_processes", [1, 2])
def test_processes_share_the_cores_of_their_machine(num_processes, monkeypatch):
    from tests.support.drawn_shards import drawn_cores

    monkeypatch.delenv("OMP_NUM_THREADS")
    share = max(1, (os.cpu_count() or 1) // num_processes)
    asked = drawn_cores(FanOut(task_runner="processes", max_processes=num_processes))
    assert asked == [(share, min(8, share))] * 2


def test_without_ray_the_form_says_how_to_get_it(monkeypatch):
    from tasks.runners import run_shards
    from tests.support.drawn_shards import draft_drawn

    monkeypatch.setitem(sys.modules, "prefect_ray", None)
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[ray\]'"):
        run_shards(FanOut(task_runner="ray"), draft_drawn, [{}])
    assert run_shards(FanOut(task_runner="ray"), draft_drawn, []) == []


@needs_ray
def test_a_cluster_lets_nobody_in_without_its_token(ray_address):
    code = f"import ray; ray.init(address={ray_address!r}); print(ray.nodes())"
    env = {**os.environ, "RAY_AUTH_TOKEN": "0" * 64}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode != 0
    assert "uthenticat" in done.stderr


@needs_ray
def test_a_cluster_without_a_prefect_server_is_refused(monkeypatch):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from tasks.runners import run_shards
    from tests.support.drawn_shards import draft_drawn

    monkeypatch.delenv("PREFECT_API_URL")
    with temporary_settings(restore_defaults={PREFECT_API_URL}), pytest.raises(ConfigError, match="PREFECT_API_URL"):
        run_shards(FanOut(task_runner="ray", ray_address="127.0.0.1:1"), draft_drawn, [{}])


def test_workers_of_a_killed_run_end(films, tmp_path, prefect_server):
    form = ingest_form(films, shard_size=1, fan_out={"task_runner": "processes", "max_processes": 1})
    child = start_ingest(form, tmp_path / "root", prefect_server)
    try:
        wait_for_shards(Storage(str(tmp_path / "root")), child)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        deadline_s = time.monotonic() + 30
        while workers := [each for each in psutil.process_iter() if is_worker_of(each, child.pid)]:
            assert time.monotonic() < deadline_s, f"{len(workers)} workers are left"
            time.sleep(0.2)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


def is_worker_of(process: psutil.Process, group: int) -> bool:
    try:
        return os.getpgid(process.pid) == group and "spawn_main" in " ".join(process.cmdline())
    except (psutil.Error, ProcessLookupError):
        return False


def test_parameters_of_a_shard_hold_no_secret_and_no_name(films, tmp_path):
    shards = plan_shards(ingest_form(films), Storage(str(tmp_path / "root")), Pseudonyms(KEY.encode()))
    told = json.dumps([shard.model_dump(mode="json") for shard in shards])
    assert len(shards) == 4
    assert KEY not in told
    assert "DRAWN" not in told
    assert StagedShard(index=0, num_inputs=1).ran_on == ""
