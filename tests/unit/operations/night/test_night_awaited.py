"""What is in a night's way for a moment does not cost it the day."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from crrg.data.privacy.deidentify import Pseudonyms
from crrg.errors import ConfigError, StorageError
from crrg.ledger.lease import Lease, acquire_lease, find_holder, lease_key
from crrg.ledger.manifest import Manifest, commit_manifest, fencing_numbers, read_manifests
from crrg.operations.night import commit as night_commit
from crrg.operations.night import nightly
from crrg.operations.night.rewrite import no_night
from crrg.operations.privacy.rekey import rekey
from crrg.storage import Storage
from tests.support.drawn_night import BUNDLE, DATE, PSEUDONYMS, StandInDrafter, night_config, png_bytes, run_test_night
from tests.support.keys import NEW_KEY

NEW = Pseudonyms(NEW_KEY.encode())
OTHER_DATE = "2026-11-21"
pytestmark = pytest.mark.usefixtures("decode_here")


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nightly, "PATIENCE_S", 5.0)
    monkeypatch.setattr(nightly, "WAITS_S", (0.05, 0.3))


@pytest.fixture
def places(tmp_path: Path) -> tuple[Storage, Storage]:
    inbox, root = Storage(str(tmp_path / "inbox")), Storage(str(tmp_path / "root"))
    inbox.put("1.png", png_bytes(1))
    return inbox, root


def test_of_two_dates_that_come_at_once_one_runs(places, monkeypatch):
    inbox, root = places
    both = threading.Barrier(2)
    put, first = Storage.put_if_absent, threading.local()

    def put_together(self: Storage, key: str, data: bytes) -> None:
        if not key.startswith("leases/date=") or hasattr(first, "is_over"):
            put(self, key, data)
            return
        first.is_over = True
        both.wait(60)  # both have looked and found nobody
        put(self, key, data)
        both.wait(60)  # both have put before either looks again

    monkeypatch.setattr(Storage, "put_if_absent", put_together)
    plans = []

    def begin(date: str) -> None:
        plans.append(nightly.plan_night(night_config(inbox, date=date), root, BUNDLE, PSEUDONYMS))

    racers = [threading.Thread(target=begin, args=(date,)) for date in (DATE, OTHER_DATE)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert sorted(plan.status for plan in plans) == ["held", "planned"]
    for plan in plans:
        nightly.release_night(plan, root)


@pytest.mark.parametrize("date", [DATE, OTHER_DATE])
def test_a_night_waits_for_what_is_soon_over(places, date):
    inbox, root = places
    is_held = threading.Event()

    def hold() -> None:
        with no_night(root, date):
            is_held.set()
            time.sleep(0.5)

    holder = threading.Thread(target=hold)
    holder.start()
    is_held.wait(10)
    assert run_test_night(inbox, root, StandInDrafter(), num_workers=0).status == "committed"
    holder.join()


def test_a_night_that_waited_while_the_secret_was_changed_publishes_nothing_under_the_old_one(places, monkeypatch):
    inbox, root = places
    run_test_night(inbox, root, StandInDrafter(), num_workers=0)
    acquire, asked = acquire_lease, []

    def change_first(storage: Storage, date: str) -> Lease | None:
        asked.append(date)
        if len(asked) == 1:
            assert rekey(inbox.root, root, PSEUDONYMS, NEW, do=True).is_done
            return None
        return acquire(storage, date)

    monkeypatch.setattr(nightly, "acquire_lease", change_first)
    with pytest.raises(ConfigError, match="change over with crrg rekey"):
        run_test_night(inbox, root, StandInDrafter(), num_workers=0, date=OTHER_DATE)
    assert {each.key_id for each in read_manifests(root)} == {NEW.key_id}
    assert find_holder(root) is None


def test_a_night_of_another_date_is_waited_for_up_to_a_limit(places, monkeypatch):
    inbox, root = places
    monkeypatch.setattr(nightly, "PATIENCE_S", 0.4)
    lease = acquire_lease(root, DATE)
    began_s = time.monotonic()
    summary = run_test_night(inbox, root, StandInDrafter(), num_workers=0, date=OTHER_DATE)
    assert (summary.status, nightly.exit_code(summary)) == ("held", 1)
    assert time.monotonic() - began_s >= 0.4
    lease.release()


def test_a_run_of_the_same_night_is_not_waited_for(places, monkeypatch):
    inbox, root = places
    monkeypatch.setattr(nightly.time, "sleep", lambda _: pytest.fail("it waits"))
    lease = acquire_lease(root, DATE)
    assert run_test_night(inbox, root, StandInDrafter(), num_workers=0).status == "held"
    lease.release()


def test_a_retry_after_the_store_was_away_while_planning_does_not_find_the_night_held(places, monkeypatch):
    inbox, root = places

    def out_of_reach(*_: object) -> None:
        raise StorageError("out of reach", retryable=True)

    def go_away(*_: object) -> None:
        for name in ("put", "put_if_absent", "delete", "get", "list_objects"):
            patch.setattr(Storage, name, out_of_reach)
        raise ConfigError("the first thing that went wrong")

    with monkeypatch.context() as patch:
        patch.setattr(nightly, "plan_held_night", go_away)
        with pytest.raises(ConfigError, match="the first thing"):
            run_test_night(inbox, root, StandInDrafter(), num_workers=0)
    assert root.exists(lease_key(DATE, 1))
    assert run_test_night(inbox, root, StandInDrafter(), num_workers=0).status == "committed"
    assert root.list_objects("leases") == []


def test_a_commit_that_timed_out_does_not_land_beside_that_of_a_later_night(places, monkeypatch):
    inbox, root = places
    sent: list[Manifest] = []

    def time_out(_: Storage, manifest: Manifest) -> None:
        sent.append(manifest)
        raise StorageError("no answer", retryable=True)

    with monkeypatch.context() as patch:
        patch.setattr(night_commit, "commit_manifest", time_out)
        with pytest.raises(StorageError, match="no answer"):
            run_test_night(inbox, root, StandInDrafter(), num_workers=0)
    assert find_holder(root) is None
    assert run_test_night(inbox, root, StandInDrafter(), num_workers=0, date=OTHER_DATE).num_accepted == 1
    with pytest.raises(StorageError, match="nothing was published"):
        commit_manifest(root, sent[0])


def test_a_night_that_is_stopped_before_its_commit_seals_nothing(places):
    inbox, root = places
    plan = nightly.plan_night(night_config(inbox), root, BUNDLE, PSEUDONYMS)
    nightly.release_night(plan, root)
    assert fencing_numbers(root, DATE) == []
