"""Where it is not known whether a holder lives or a commit lands, nobody else begins before that is decided."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from crrg.errors import Conflict, StorageError
from crrg.ledger.lease import acquire_lease, lease_key
from crrg.ledger.manifest import Manifest, commit_manifest, fencing_numbers, manifest_key
from crrg.operations.night.rewrite import no_night
from crrg.operations.upkeep.gc import collect_garbage
from crrg.storage import Storage

DATE, NEXT = "2026-11-20", "2026-11-21"


@pytest.fixture
def root(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


def failing(monkeypatch: pytest.MonkeyPatch, method: str, ending: str, *, retryable: bool = True) -> None:
    """Let one method of all stores fail for keys of an ending."""
    real = getattr(Storage, method)

    def fail(self: Storage, key: str, *given: object) -> object:
        if key.endswith(ending):
            raise StorageError("no answer", key, retryable=retryable)
        return real(self, key, *given)

    monkeypatch.setattr(Storage, method, fail)


@pytest.mark.parametrize("retryable", [True, False], ids=["out of reach", "denied"])
def test_a_lease_that_cannot_be_read_is_not_taken_for_none(root, monkeypatch, retryable):
    held = acquire_lease(root, DATE)
    assert held is not None
    with monkeypatch.context() as patch:
        failing(patch, "get", lease_key(DATE, 1), retryable=retryable)
        with pytest.raises(StorageError, match="no answer"):
            acquire_lease(root, NEXT)
    assert not root.exists(lease_key(NEXT, 1))
    held.release()


def test_a_lease_that_ended_since_it_was_listed_is_none(root, monkeypatch):
    held = acquire_lease(root, DATE)
    assert held is not None
    listed = Storage.list_objects

    def end_after(self: Storage, prefix: str = "") -> object:
        found = listed(self, prefix)
        held.release()
        return found

    monkeypatch.setattr(Storage, "list_objects", end_after)
    lease = acquire_lease(root, NEXT)
    assert lease is not None
    lease.release()


def test_who_cannot_see_whether_others_came_at_once_leaves_no_lease_behind(root, monkeypatch):
    calls = []
    listed = Storage.list_objects

    def fail_second(self: Storage, prefix: str = "") -> object:
        calls.append(prefix)
        if calls.count("leases") == 2:
            raise StorageError("no answer", prefix, retryable=True)
        return listed(self, prefix)

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "list_objects", fail_second)
        with pytest.raises(StorageError):
            acquire_lease(root, DATE)
    assert root.list_objects("leases") == []


def test_a_lease_of_which_only_the_answer_was_lost_does_not_keep_its_own_process_out(root, monkeypatch):
    put = Storage.put_if_absent

    def lose(self: Storage, key: str, data: bytes) -> None:
        put(self, key, data)
        raise StorageError("no answer", key, retryable=True)

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "put_if_absent", lose)
        with pytest.raises(StorageError, match="no answer"):
            acquire_lease(root, DATE)
    assert root.exists(lease_key(DATE, 1))
    lease = acquire_lease(root, DATE)
    assert lease is not None
    assert (lease.fencing, fencing_numbers(root, DATE)) == (2, [1])
    assert not root.exists(lease_key(DATE, 1))
    assert acquire_lease(root, NEXT) is None
    lease.release()


def test_gc_leaves_the_lease_of_a_sleeper_until_its_number_is_sealed(root):
    asleep = acquire_lease(root, DATE, renew_every_s=1e6)
    assert asleep is not None
    os.utime(root.url(asleep.key), (1_700_000_000,) * 2)
    collect_garbage(root, min_age_h=0, remove=True)
    lease = acquire_lease(root, NEXT)
    assert lease is not None
    with pytest.raises(Conflict, match="nothing was published"):
        commit_manifest(root, Manifest(date=DATE, run_id="r", fencing=asleep.fencing))
    lease.release()
    # one that a taker was killed over has its number sealed, and may go
    root.put(asleep.key, asleep.payload())
    collect_garbage(root, min_age_h=0, remove=True)
    assert root.list_objects("leases") == []
    asleep.release()


def test_a_commit_without_an_answer_cannot_land_once_the_night_is_given_back(root):
    lease = acquire_lease(root, DATE)
    assert lease is not None
    lease.is_committing = True
    lease.release()
    assert fencing_numbers(root, DATE) == [1]
    with pytest.raises(Conflict):
        commit_manifest(root, Manifest(date=DATE, run_id="late", fencing=1))
    assert root.list_objects("leases") == []


def test_where_sealing_fails_the_lease_stays_and_whoever_comes_next_seals(root, monkeypatch):
    lease = acquire_lease(root, DATE)
    assert lease is not None
    lease.is_committing = True
    with monkeypatch.context() as patch:
        failing(patch, "put_if_absent", manifest_key(DATE, 1))
        with pytest.raises(StorageError):
            lease.release()
    assert root.exists(lease.key)
    os.utime(root.url(lease.key), (1_700_000_000,) * 2)
    following = acquire_lease(root, NEXT)
    assert following is not None
    assert fencing_numbers(root, DATE) == [1]
    following.release()


def test_what_fails_under_a_short_lease_cannot_land_later_either(root):
    with contextlib.suppress(StorageError), no_night(root, DATE) as lease:
        raise StorageError("no answer", retryable=True)
    assert fencing_numbers(root, DATE) == [lease.fencing]
    with no_night(root, DATE):
        pass
    assert fencing_numbers(root, DATE) == [1], "what ends well leaves nothing"
