"""What ``crrg doctor`` says of the place where nights are held."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from crrg.errors import StorageError
from crrg.operations import doctor
from crrg.operations.doctor import _leases
from crrg.storage import Storage


@pytest.fixture
def root(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "root"))


def test_a_good_store_lets_one_of_many_hold_a_night_and_nothing_stays(root):
    finding = _leases(root)
    assert finding.is_good
    assert "one holder of 8, renewed, removed" in finding.detail
    assert root.list_objects() == []


def test_a_store_without_conditional_writes_is_found_out(root, monkeypatch):
    monkeypatch.setattr(Storage, "put_if_absent", Storage.put)
    finding = _leases(root)
    assert not finding.is_good
    assert "8 of 8 took one lease (1 is right)" in finding.detail
    assert "two nights could run at once" in finding.detail


def test_leases_that_may_not_be_written_are_said(root, monkeypatch):
    def denied(self: Storage, key: str, data: bytes) -> None:
        if key.startswith("leases/"):
            raise StorageError("PutObject is denied", key)

    monkeypatch.setattr(Storage, "put_if_absent", denied)
    finding = _leases(root)
    assert (finding.is_good, "no night can be held" in finding.detail) == (False, True)


def test_an_identity_that_may_not_delete_leaves_its_probe_to_gc(root, monkeypatch):
    monkeypatch.setattr(Storage, "discard", lambda self, key: False)
    finding = _leases(root)
    assert (finding.is_good, "left to crrg gc" in finding.detail) == (True, True)


def test_a_clock_that_is_far_from_the_stores_is_said(root, monkeypatch):
    real = time.time
    monkeypatch.setattr(doctor.time, "time", lambda: real() + 1000)
    assert not _leases(root).is_good
