"""What keeps a night from beginning."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from crrg import local_files
from crrg.config.references import NightSummary
from crrg.domain.labels import LABELS
from crrg.domain.regions import REGIONS
from crrg.errors import StorageError
from crrg.exports.review import NightFacts, review_files
from crrg.exports.work_list import LIST_FILE
from crrg.ledger.audit import check_chain
from crrg.ledger.manifest import read_manifests
from crrg.local_files import DISK_FULL
from crrg.operations.night.checks import ROOM_ASIDE_PER_FILM, ROOM_PER_FILM, check_rights, check_room
from crrg.operations.night.nightly import plan_night, release_night, run_shard
from crrg.storage import Storage
from tests.support.drawn_night import (
    BUNDLE,
    DATE,
    PSEUDONYMS,
    StandInDrafter,
    night_config,
    png_bytes,
    run_test_night,
)


@pytest.fixture
def inbox(tmp_path: Path) -> Storage:
    storage = Storage(str(tmp_path / "inbox"))
    storage.put("1.png", png_bytes(1))
    return storage


@pytest.fixture
def root(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "root"))


@pytest.mark.parametrize("prefix", ["results/", "ledger/", "quarantine/", "spool/"])
def test_prefix_that_may_not_be_written_stops_the_night_before_any_work(inbox, root, monkeypatch, prefix):
    put = Storage.put

    def put_where_allowed(self: Storage, key: str, data: bytes) -> None:
        if key.startswith(prefix):
            raise StorageError("PutObject on s3://bucket is denied", key)
        put(self, key, data)

    monkeypatch.setattr(Storage, "put", put_where_allowed)
    drafter = StandInDrafter()
    with pytest.raises(StorageError, match="PutObject"):
        run_test_night(inbox, root, drafter, num_workers=0)
    assert drafter.num_drafted == 0
    assert root.list_objects("results") == []
    assert root.list_objects(f"leases/date={DATE}") == []


def test_audit_that_may_not_be_added_to_stops_the_night_before_any_work(inbox, root, monkeypatch):
    put = Storage.put_if_absent

    def put_where_allowed(self: Storage, key: str, data: bytes) -> None:
        if key.startswith("audit/"):
            raise StorageError("PutObject on s3://bucket is denied", key)
        put(self, key, data)

    monkeypatch.setattr(Storage, "put_if_absent", put_where_allowed)
    drafter = StandInDrafter()
    with pytest.raises(StorageError, match="PutObject"):
        run_test_night(inbox, root, drafter, num_workers=0)
    assert drafter.num_drafted == 0
    assert root.list_objects("results") == []


def test_other_probe_in_the_audit_keeps_no_night_from_beginning(inbox, root):
    root.put("audit/probe", b"of another version")
    assert run_test_night(inbox, root, StandInDrafter(), num_workers=0).status == "committed"
    assert root.get("audit/probe") == b"of another version"


def test_probe_that_may_not_be_removed_breaks_no_chain_of_the_audit(inbox, root, monkeypatch):
    def denied(self: Storage, key: str) -> None:
        raise StorageError("DeleteObject is denied", key)

    monkeypatch.setattr(Storage, "delete", denied)
    for date in (DATE, "2026-11-21"):
        run_test_night(inbox, root, StandInDrafter(), num_workers=0, date=date)
        inbox.put("2.png", png_bytes(2))
    assert root.exists("audit/probe")
    chain = check_chain(root)
    assert (len(chain.entries), chain.problems) == (2, ())


def test_probes_leave_nothing_behind(inbox, root):
    check_rights(DATE, root, inbox, [], [])
    assert root.list_objects() == []


def test_inbox_that_may_be_listed_but_not_read_stops_the_night(inbox, root, monkeypatch):
    def denied(self: Storage, key: str, start: int, end: int) -> bytes:
        raise StorageError("GetObject on s3://inbox is denied", key)

    monkeypatch.setattr(Storage, "get_range", denied)
    with pytest.raises(StorageError, match="GetObject"):
        run_test_night(inbox, root, StandInDrafter(), num_workers=0)
    assert read_manifests(root) == []


def resumable(inbox: Storage, root: Storage) -> None:
    """Leave a night of three shards behind, of which one is finished."""
    for number in (2, 3):
        inbox.put(f"{number}.png", png_bytes(number))
    plan = plan_night(night_config(inbox, num_workers=0, shard_size=1), root, BUNDLE, PSEUDONYMS)
    run_shard(plan, plan.shards[0], root, PSEUDONYMS, StandInDrafter())
    release_night(plan, root)


def resume(inbox: Storage, root: Storage, drafter: StandInDrafter) -> NightSummary:
    return run_test_night(inbox, root, drafter, num_workers=0, shard_size=1)


def test_a_night_that_goes_on_asks_for_its_rights_again(inbox, root, monkeypatch):
    resumable(inbox, root)
    put = Storage.put

    def put_where_allowed(self: Storage, key: str, data: bytes) -> None:
        if key.startswith("quarantine/"):
            raise StorageError("PutObject on s3://bucket is denied", key)
        put(self, key, data)

    drafter = StandInDrafter()
    with monkeypatch.context() as patch:
        patch.setattr(Storage, "put", put_where_allowed)
        with pytest.raises(StorageError, match="PutObject"):
            resume(inbox, root, drafter)
    assert drafter.num_drafted == 0
    assert resume(inbox, root, drafter).num_accepted == 3
    assert drafter.num_drafted == 2


def test_a_night_that_goes_on_needs_room_for_what_is_left(inbox, root, monkeypatch):
    resumable(inbox, root)
    a_film = 64**2 + ROOM_PER_FILM
    drafter = StandInDrafter()
    monkeypatch.setattr(local_files, "free_bytes", lambda _place: 2 * a_film - 1)
    with pytest.raises(StorageError, match=DISK_FULL):
        resume(inbox, root, drafter)
    assert drafter.num_drafted == 0
    monkeypatch.setattr(local_files, "free_bytes", lambda _place: 2 * a_film)
    assert resume(inbox, root, drafter).num_accepted == 3


def test_a_folder_for_temporary_files_that_is_too_small_stops_the_night_before_any_work(inbox, root, monkeypatch):
    place = tempfile.gettempdir()
    monkeypatch.setattr(local_files, "free_bytes", lambda at: 10_000 if at == place else 10**12)
    drafter = StandInDrafter()
    with pytest.raises(StorageError, match=rf"free in {place}; .*set TMPDIR .*--limit") as caught:
        run_test_night(inbox, root, drafter, num_workers=0)
    assert caught.value.code == DISK_FULL
    assert drafter.num_drafted == 0
    assert root.list_objects("results") == []


def test_what_a_page_puts_aside_of_a_film_is_less_than_is_asked_for():
    phrase = "There is a moderate left-sided opacity, " * 6
    region = {"region": REGIONS[0], "box_xyxy": [1000.1, 2000.2, 3000.3, 4000.4], "detected": True, "selected": True,
              "score": 0.1234, "abnormal_probability": 0.1234, "phrase": phrase}  # fmt: skip
    film = {"instance_id": "i" * 26, "is_primary": True, "view_position": "PA", "width": 3000, "height": 3000,
            "findings": phrase * 10, "impression": phrase, "consistency": 0.5, "flags": [],
            "regions": [region] * len(REGIONS)}  # fmt: skip
    chances = dict.fromkeys(LABELS, 0.1234)
    document = {"study_id": "s" * 26, "probabilities": chances, "labels": dict.fromkeys(LABELS, 1), "flags": [],
                "thresholds": chances, "consistency": 0.5, "bundle_id": "b" * 32, "model_version": "7",
                "films": [film]}  # fmt: skip
    facts = NightFacts("2026-11-20", "b" * 32, "7", 0, chances)
    files = dict(review_files(facts, [document], []))
    put_aside = sum(len(data) for name, data in files.items() if name.startswith(("data-", LIST_FILE)))
    assert 8_000 < put_aside < ROOM_ASIDE_PER_FILM


def test_disk_without_room_stops_the_night_before_any_work(inbox, root, monkeypatch):
    check_room(10, 512, root)
    monkeypatch.setattr(local_files, "free_bytes", lambda _place: 50_000)
    with pytest.raises(StorageError, match=DISK_FULL) as caught:
        run_test_night(inbox, root, StandInDrafter(), num_workers=0)
    assert caught.value.code == DISK_FULL
    assert root.list_objects("results") == []
    check_room(10**9, 512, Storage("s3://bucket/root"))  # a bucket does not say
