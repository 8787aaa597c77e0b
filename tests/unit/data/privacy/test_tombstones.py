"""What tombstones of several secrets say of each other."""

from __future__ import annotations

import threading

import pytest

from crrg.data.privacy.deidentify import Pseudonyms
from crrg.data.privacy.forgotten import carry_over, read_left_behind, write_tombstone
from crrg.storage import Storage
from tests.support.keys import KEY, NEW_KEY

OLD, NEW, THIRD = (Pseudonyms(key.encode()) for key in (KEY, NEW_KEY, NEW_KEY[::-1]))


@pytest.fixture
def root(tmp_path) -> Storage:
    """A root where P1 was forgotten under two secrets."""
    root = Storage(str(tmp_path))
    write_tombstone(root, OLD, OLD.patient("P1"))
    carry_over(root, NEW, {OLD.tombstone(OLD.patient("P1")): NEW.patient("P1")})
    return root


@pytest.mark.parametrize("again", [OLD, NEW])
def test_a_patient_who_is_forgotten_again_is_left_behind_under_neither_secret(root, again):
    write_tombstone(root, again, again.patient("P1"))
    assert (read_left_behind(root, OLD), read_left_behind(root, NEW)) == ({}, {})


def test_a_patient_who_is_carried_over_again_is_left_behind_under_no_secret(root):
    carry_over(root, THIRD, {NEW.tombstone(NEW.patient("P1")): THIRD.patient("P1")})
    write_tombstone(root, THIRD, THIRD.patient("P1"))
    assert [read_left_behind(root, each) for each in (OLD, NEW, THIRD)] == [{}, {}, {}]
    assert root.get_json(f"control/forgotten/{THIRD.tombstone(THIRD.patient('P1'))}.json") == {
        "key_id": THIRD.key_id,
        "follows": sorted((OLD.key_id, NEW.key_id)),
        "schema_version": 1,
    }


def test_tombstones_are_read_side_by_side(root, monkeypatch):
    both, read = threading.Barrier(2), Storage.get_json

    def waits(self, key):
        both.wait(timeout=10)
        return read(self, key)

    monkeypatch.setattr(Storage, "get_json", waits)
    assert len(read_left_behind(root, THIRD)) == 1
