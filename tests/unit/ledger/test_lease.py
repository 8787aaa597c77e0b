from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from crrg.config.references import BundleRef
from crrg.errors import Conflict, StorageError
from crrg.ledger import lease_owner
from crrg.ledger.lease import acquire_lease, find_holder, lease_key
from crrg.ledger.manifest import (
    Manifest,
    commit_manifest,
    fencing_numbers,
    night_dates,
    read_manifests,
    seal_number,
)
from crrg.storage import Storage

DATE = "2026-11-20"


def refuse(*_: object, **__: object) -> None:
    raise StorageError("access is denied", "an object")


@pytest.fixture(params=["may delete", "may not delete"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """A root; nights of most hospitals may not delete anything in it, and everything holds for them too."""
    if request.param == "may not delete":
        monkeypatch.setattr(Storage, "delete", refuse)
    return Storage(str(tmp_path))


def manifest(fencing: int, run_id: str = "r") -> Manifest:
    return Manifest(date=DATE, run_id=run_id, fencing=fencing, bundle=BundleRef(bundle_id="b", prefix="p"))


def test_how_often_the_store_is_asked_does_not_grow_with_the_nights_so_far(tmp_path, monkeypatch):
    root, asked = Storage(str(tmp_path)), []
    for day in range(1, 13):
        lease = acquire_lease(root, f"2026-10-{day:02}")
        assert lease is not None
        commit_manifest(root, Manifest(date=lease.date, run_id="r", fencing=lease.fencing))
        lease.release()
    monkeypatch.setattr(
        Storage,
        "_list",
        lambda *given, original=Storage._list, **how: asked.append(given[1]) or original(*given, **how),
    )
    assert acquire_lease(root, DATE) is not None
    assert asked == ["leases", f"results/date={DATE}"] * 2


def test_one_holder_at_a_time_and_numbers_grow_with_commits(root):
    first = acquire_lease(root, DATE)
    assert first is not None
    assert first.fencing == 1
    assert acquire_lease(root, DATE) is None
    assert acquire_lease(root, "2026-11-21") is None
    holder = find_holder(root)
    assert holder is not None
    assert (holder.date, holder.fencing) == (DATE, 1)
    commit_manifest(root, manifest(1))
    first.release()
    first.release()
    assert find_holder(root) is None
    second = acquire_lease(root, DATE)
    assert second is not None
    assert second.fencing == 2
    second.release()


def test_of_many_racers_one_wins(root):
    won = []

    def race() -> None:
        lease = acquire_lease(root, DATE)
        if lease is not None:
            won.append(lease)

    racers = [threading.Thread(target=race) for _ in range(8)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert len(won) == 1
    won[0].release()


def test_dead_process_of_this_host_is_taken_over_at_once_and_sealed(root):
    code = (
        "import os, sys; from crrg.ledger.lease import acquire_lease; from crrg.storage import Storage\n"
        f"acquire_lease(Storage(sys.argv[1]), {DATE!r}); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, root.root], check=False)
    assert root.exists(lease_key(DATE, 1))
    lease = acquire_lease(root, DATE)
    assert lease is not None
    assert lease.fencing == 2
    assert fencing_numbers(root, DATE) == [1]
    assert not root.exists(lease_key(DATE, 1)) or root.get_json(lease_key(DATE, 1))["lifetime_s"] == 0
    with pytest.raises(Conflict, match="nothing was published"):
        commit_manifest(root, manifest(1))
    assert read_manifests(root, DATE) == []
    lease.release()


def test_expired_holder_of_another_host_is_taken_over(root, monkeypatch):
    monkeypatch.setattr(lease_owner.socket, "gethostname", lambda: "elsewhere")
    paused = acquire_lease(root, DATE, lifetime_s=0.4, renew_every_s=60)
    assert paused is not None
    monkeypatch.setattr(lease_owner.socket, "gethostname", lambda: "here")
    assert acquire_lease(root, DATE) is None
    time.sleep(0.6)
    lease = acquire_lease(root, DATE)
    assert lease is not None
    assert lease.fencing == 2
    assert paused.is_lost()
    assert not lease.is_lost()
    for each in (paused, lease):
        each.release()


def test_sleeping_holder_of_another_night_cannot_commit_either(root, monkeypatch):
    monkeypatch.setattr(lease_owner.socket, "gethostname", lambda: "elsewhere")
    asleep = acquire_lease(root, DATE, lifetime_s=0.2, renew_every_s=60)
    assert asleep is not None
    time.sleep(0.4)
    lease = acquire_lease(root, "2026-11-21")
    assert lease is not None
    assert (lease.fencing, fencing_numbers(root, DATE)) == (1, [1])
    with pytest.raises(Conflict):
        commit_manifest(root, manifest(1))
    for each in (asleep, lease):
        each.release()


def test_renewing_outlives_the_lifetime(root, monkeypatch):
    monkeypatch.setattr(lease_owner.Owner, "is_dead", lambda self: False)
    lease = acquire_lease(root, DATE, lifetime_s=0.5, renew_every_s=0.1)
    assert lease is not None
    time.sleep(1.0)
    assert acquire_lease(root, DATE) is None
    lease.release()


@pytest.mark.parametrize("is_own", [True, False], ids=["committed", "taken over"])
def test_a_holder_is_told_that_its_night_was_taken_over_only_where_it_was(root, caplog, is_own):
    lease = acquire_lease(root, DATE, renew_every_s=0.05)
    assert lease is not None
    if is_own:
        commit_manifest(root, manifest(1))
    else:
        seal_number(root, DATE, 1)
    assert lease._thread is not None
    lease._thread.join(10)
    assert not lease._thread.is_alive()
    assert ("was taken over" in caplog.text) is not is_own
    lease.release()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux says since when a process runs")
def test_a_step_of_the_clock_does_not_end_a_holder(root, monkeypatch):
    lease = acquire_lease(root, DATE)
    start_s = psutil.Process.create_time
    # as seen after the clock was set an hour on: the time of boot, which starts are counted from, moves with it
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: start_s(self) + 3600)
    assert acquire_lease(root, DATE) is None
    lease.release()


def test_sealing_a_used_number_says_so_and_changes_nothing(root):
    commit_manifest(root, manifest(1))
    assert not seal_number(root, DATE, 1)
    assert seal_number(root, DATE, 2)
    assert [each.fencing for each in read_manifests(root)] == [1]
    assert night_dates(root) == [DATE]


def test_commit_whose_answer_was_lost_counts_as_done(root):
    key = commit_manifest(root, manifest(1))
    assert commit_manifest(root, manifest(1)) == key
    with pytest.raises(Conflict):
        commit_manifest(root, manifest(1, run_id="other"))
