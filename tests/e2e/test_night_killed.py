"""A night that is killed, terminated or raced, on a folder and on a real S3 server: nothing lost, nothing twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crrg.config.references import NightPlan, ShardResult
from crrg.ledger.lease import LIFETIME_S
from crrg.ledger.manifest import fencing_numbers, read_manifests
from crrg.operations.night.digest import committed_digest
from crrg.operations.night.nightly import run_night
from crrg.operations.night.outcomes import inbox_outcomes
from crrg.storage import Storage
from tests.support.drawn_night import (
    BUNDLE,
    DATE,
    PSEUDONYMS,
    StandInDrafter,
    fill_inbox,
    night_config,
    run_test_night,
)

pytestmark = pytest.mark.e2e

CHECKOUT = Path(__file__).parents[2]
LIMIT_S = 120.0


@pytest.fixture
def s3_root(s3_store: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Storage]:
    """Return new prefixes on the S3 server, which child processes reach through the environment."""
    for name, value in s3_store.env.items():
        monkeypatch.setenv(name, value)
    return lambda: Storage(s3_store.new_root())


@pytest.fixture(params=["folder", "s3"])
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Storage]:
    if request.param == "s3":
        new_root: Callable[[], Storage] = request.getfixturevalue("s3_root")
        return new_root
    names = iter("abcdefgh")
    return lambda: Storage(str(tmp_path / next(names)))


def start_child(inbox: Storage, root: Storage, delay_s: float, flag: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.support.drawn_night", inbox.root, root.root, str(delay_s), str(flag)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=CHECKOUT, env=environment, start_new_session=True)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline_s, "what the test waits for did not happen"
        time.sleep(0.05)


def finished_shards(root: Storage) -> list[str]:
    keys = [stored.key for stored in root.list_objects(f"results/date={DATE}")]
    return [key for key in keys if "/shards/shard-" in key]


def contents(root: Storage) -> dict[str, bytes]:
    """Return what a manifest names: every table, document, picture and page."""
    (manifest,) = read_manifests(root, DATE)
    keys = [file.key for file in manifest.files] + list(root.get_json(manifest.index_key))
    return {key: root.get(key) for key in keys}


def test_killed_night_goes_on_and_ends_the_same(new_store, tmp_path):
    inbox, undisturbed, root = new_store(), new_store(), new_store()
    fill_inbox(inbox, 6)
    expected = run_test_night(inbox, undisturbed, StandInDrafter())
    assert expected.status == "committed"

    child = start_child(inbox, root, 1.0, tmp_path / "started")
    wait_for(lambda: len(finished_shards(root)) >= 2)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert read_manifests(root, DATE) == []
    num_finished = len(finished_shards(root))

    shards: list[ShardResult] = []

    def note(plan: NightPlan, result: ShardResult) -> None:
        shards.append(result)

    summary = run_night(night_config(inbox), root, BUNDLE, PSEUDONYMS, lambda: StandInDrafter(), on_shard=note)
    assert summary.status == "committed"
    assert summary.digest == expected.digest == committed_digest(root) == committed_digest(undisturbed)
    assert [result.reused for result in shards] == [True] * num_finished + [False] * (len(shards) - num_finished)
    assert contents(root) == contents(undisturbed)
    # The dead holder's number is sealed: it could not have committed any more.
    assert fencing_numbers(root, DATE) == [1, 2]
    assert root.list_objects("leases/date=" + DATE) == []
    assert all(entry.outcome != "pending" for entry in inbox_outcomes(inbox.root, root, PSEUDONYMS))


def test_terminated_night_exits_143_and_goes_on(tmp_path):
    inbox, root = Storage(str(tmp_path / "inbox")), Storage(str(tmp_path / "root"))
    fill_inbox(inbox, 2)
    child = start_child(inbox, root, 0.5, tmp_path / "started")
    wait_for(lambda: len(finished_shards(root)) >= 1)
    child.terminate()
    assert child.wait(timeout=30) == 143
    assert read_manifests(root, DATE) == []
    assert root.list_objects("leases/date=" + DATE) == []
    assert run_test_night(inbox, root, StandInDrafter()).status == "committed"


def test_of_nights_started_together_one_commits(s3_root, tmp_path):
    inbox, root = s3_root(), s3_root()
    fill_inbox(inbox, 2)
    flags = [tmp_path / f"started-{number}" for number in range(3)]
    children = [start_child(inbox, root, 1.0, flag) for flag in flags]
    assert [child.wait(timeout=LIMIT_S) for child in children] == [0, 0, 0]
    (manifest,) = read_manifests(root, DATE)
    assert manifest.num_accepted + manifest.num_quarantined == manifest.num_inputs == 8
    assert run_test_night(inbox, root, StandInDrafter()).status == "nothing_new"


def test_stopped_holder_that_wakes_up_cannot_commit(tmp_path):
    inbox, root = Storage(str(tmp_path / "inbox")), Storage(str(tmp_path / "root"))
    fill_inbox(inbox, 6)
    asleep = start_child(inbox, root, 1.0, tmp_path / "asleep")
    try:
        wait_for(lambda: len(finished_shards(root)) >= 1)
        os.killpg(asleep.pid, signal.SIGSTOP)
        (lease,) = root.list_objects("leases/date=" + DATE)
        # Two minutes of sleep, as the store's clock shows them.
        long_ago_s = time.time() - 2 * LIFETIME_S
        os.utime(root.url(lease.key), (long_ago_s, long_ago_s))
        assert start_child(inbox, root, 0.0, tmp_path / "awake").wait(timeout=LIMIT_S) == 0
        (manifest,) = read_manifests(root, DATE)
        assert manifest.fencing == 2
        before = contents(root)
        os.killpg(asleep.pid, signal.SIGCONT)
        assert asleep.wait(timeout=LIMIT_S) == 1
    finally:
        if asleep.poll() is None:
            os.killpg(asleep.pid, signal.SIGKILL)
            asleep.wait()
    assert read_manifests(root) == [manifest]
    assert fencing_numbers(root, DATE) == [1, 2]
    assert contents(root) == before
    assert root.list_objects("leases/date=" + DATE) == []
