"""A root and an inbox of a kind that is neither a folder nor S3; memory stands for all of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from crrg.data.archives import givers
from crrg.errors import ConfigError, Conflict, StorageError
from crrg.operations.night import feed as night_feed
from crrg.operations.night.check_nights import check_nights
from crrg.retries import ACCESS_DENIED
from crrg.storage import Storage, StoredObject
from tests.support.drawn_night import StandInDrafter, dicom_bytes, png_bytes, run_test_night
from tests.support.store_hooks import before_reading


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Iterator[Storage]:
    storage = Storage(f"memory://{request.node.name.partition('[')[0]}")
    yield storage
    for stored in storage.list_objects():
        storage.delete(stored.key)


def test_objects_are_written_listed_read_and_removed(place: Storage) -> None:
    place.put("a/b", b"12345")
    place.put("a/deep/c", b"")
    assert [each.key for each in place.list_objects()] == ["a/b", "a/deep/c"]
    assert [each.key for each in place.child("a").list_objects()] == ["b", "deep/c"]
    assert place.list_folder("a") == ["b", "deep"]
    assert (place.get("a/b"), place.get_range("a/b", 1, 3)) == (b"12345", b"23")
    with place.open_binary("a/b") as file:
        file.seek(3)
        assert file.read() == b"45"
    place.delete("a/b")
    place.delete("a/b")
    assert not place.exists("a/b")
    with pytest.raises(StorageError, match="a/b: no such object"):
        place.get("a/b")


def test_the_version_that_was_listed_is_read_or_none(place: Storage) -> None:
    place.put("a", b"old")
    (stored,) = place.list_objects()
    memory = bytearray(3)
    place.read_unchanged(stored, memoryview(memory))
    assert place.get_unchanged(stored) == memory == b"old"
    place.put("a", b"new")
    with pytest.raises(Conflict):
        place.get_unchanged(stored)


def test_of_many_who_create_an_object_one_succeeds(place: Storage) -> None:
    outcomes: list[str] = []
    start = threading.Barrier(16)

    def write(number: int) -> None:
        start.wait()
        try:
            place.put_if_absent("lease", str(number).encode())
            outcomes.append("won")
        except Conflict:
            outcomes.append("lost")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["lost"] * 15 + ["won"]


def test_a_kind_of_store_where_two_might_succeed_is_for_reading_only() -> None:
    with pytest.raises(ConfigError, match="can only be read; give a folder or s3://bucket/prefix"):
        Storage("ftp://server/root").put_if_absent("lease", b"x")


@pytest.mark.parametrize("num_denials", [0, 1, 2, 3])
def test_a_night_drafts_what_is_denied_for_a_moment_and_refuses_what_stays_denied(place, monkeypatch, num_denials):
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)
    monkeypatch.setattr(givers, "LONGEST_WAIT_S", 0.01)
    inbox, asked = place.child("inbox"), []
    for number in range(3):
        inbox.put(f"{number}.png", png_bytes(number))
    inbox.put("study/a.dcm", dicom_bytes(10, study="1", instance="11"))

    def deny(stored: StoredObject) -> None:
        asked.append(stored.key)
        if stored.key == "1.png" and asked.count("1.png") <= num_denials:
            raise StorageError("GetObject is denied", "", code=ACCESS_DENIED)

    before_reading(monkeypatch, deny)
    summary = run_test_night(inbox, place.child("root"), StandInDrafter(), num_workers=0)
    assert summary.reasons == ({"CHANGED.UNREADABLE": 1} if num_denials == 3 else {})
    assert summary.num_accepted + summary.num_quarantined == 4
    assert asked.count("1.png") == min(num_denials + 1, 3)
    assert check_nights(place.child("root")).is_good
    assert run_test_night(inbox, place.child("root"), StandInDrafter(), num_workers=0).status == "nothing_new"
