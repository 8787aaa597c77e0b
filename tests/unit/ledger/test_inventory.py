from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from crrg.ledger.inventory import (
    InboxObject,
    cut_shards,
    inputs_digest,
    is_to_try_again,
    list_inbox,
    take_inventory,
)
from crrg.ledger.ledger import Ledger, LedgerRow, Outcome
from crrg.storage import Storage


def found(key: str, etag: str = "v1", modified_s: float = 0.0) -> InboxObject:
    return InboxObject(key=key, key_hmac=f"hmac-{key}", etag=etag, size=1, modified_s=modified_s)


def row(key: str, etag: str = "v1") -> LedgerRow:
    return LedgerRow(f"hmac-{key}", etag, b"s", b"p", "pt", "st", "in", Outcome.ACCEPTED, "", False, "b", "r", "d")


def test_known_means_same_key_and_same_version():
    objects = [found("a"), found("b", etag="v2"), found("c")]
    inventory = take_inventory(objects, Ledger([row("a"), row("b", "v1")]), date="d2", now_s=100, settle_s=10)
    assert [each.key for each in inventory.new] == ["b", "c"]
    assert (inventory.num_known, inventory.pending) == (1, ())


def test_old_version_of_one_key_stays_known():
    ledger = Ledger([row("a", "v1"), row("a", "v2")])
    assert ledger.find("hmac-a", "v1") is not None
    assert ledger.find_key("hmac-a") == row("a", "v2")


def test_young_objects_and_those_not_taken_wait():
    objects = [found("a", modified_s=95), found("b", modified_s=90), found("c"), found("d")]
    inventory = take_inventory(objects, Ledger([]), date="d2", now_s=100, settle_s=10)
    assert [each.key for each in inventory.pending] == ["a"]
    inventory = inventory.taking(objects[1:3])
    assert [each.key for each in inventory.new] == ["b", "c"]
    assert [each.key for each in inventory.pending] == ["a", "d"]


def test_digest_depends_on_versions_and_not_on_order():
    assert inputs_digest([found("a"), found("b")]) == inputs_digest([found("b"), found("a")])
    assert inputs_digest([found("a")]) != inputs_digest([found("a", etag="v2")])


def test_hidden_objects_and_links_are_nobodys_input(tmp_path: Path):
    inbox = Storage(str(tmp_path))
    for key in ("b/1.dcm", ".DS_Store", "a/.part/2.dcm", "DICOMDIR"):
        inbox.put(key, b"x")
    (tmp_path / "link.dcm").symlink_to(tmp_path / "b" / "1.dcm")
    assert [each.key for each in list_inbox(inbox, lambda key: key)] == ["DICOMDIR", "b/1.dcm"]


def test_name_that_is_no_text_has_a_pseudonym(tmp_path: Path):
    (tmp_path / "caf\udce9.dcm").write_bytes(b"x")
    (each,) = list_inbox(Storage(str(tmp_path)), lambda key: key.encode().hex())
    assert each.key_hmac == b"caf\\udce9.dcm".hex()


def test_no_two_names_have_the_same_pseudonym(tmp_path: Path):
    names = ["\udc80.png", r"\udc80.png", r"\\udc80.png", "\\\udc80.png", r"\.png", r"\\.png"]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    listed = list_inbox(Storage(str(tmp_path)), lambda key: key.encode().hex())
    assert {each.key for each in listed} == set(names)
    assert len({each.key_hmac for each in listed}) == len(names)


def test_shards_keep_folders_together_and_lose_nothing():
    objects = [found(f"{folder}/{number}") for folder in "abc" for number in range(3)] + [found("top")]
    shards = cut_shards(objects, 4)
    assert sorted(each.key for shard in shards for each in shard) == sorted(each.key for each in objects)
    assert all(len(shard) <= 4 for shard in shards)
    for folder in "abc":
        assert sum(any(each.key.startswith(f"{folder}/") for each in shard) for shard in shards) == 1


def test_folder_larger_than_a_shard_is_cut():
    assert [len(shard) for shard in cut_shards([found(f"{number:02d}") for number in range(10)], 4)] == [4, 4, 2]
    assert cut_shards([], 4) == []


def test_time_that_is_yet_to_come_keeps_no_object_waiting(caplog):
    objects = [found("soon", modified_s=105), found("next-year", modified_s=4e7)]
    inventory = take_inventory(objects, Ledger([]), date="d", now_s=100, settle_s=10)
    assert [[each.key for each in part] for part in (inventory.new, inventory.pending)] == [["next-year"], ["soon"]]
    assert "1 objects of the inbox are dated in the future" in caplog.text


def refused(key: str, reason: str, date: str) -> LedgerRow:
    return replace(row(key), outcome=Outcome.QUARANTINED, reason=reason, date=date)


def tried(key: str, ledger: Ledger, date: str) -> bool:
    inventory = take_inventory([found(key)], ledger, date=date, now_s=100, settle_s=10)
    assert len(inventory.new) + inventory.num_known == 1
    return bool(inventory.new)


@pytest.mark.parametrize("reason", ["DECODE.CRASH", "DECODE.TIMEOUT", "LIMIT.MEMORY", "CHANGED.UNREADABLE"])
def test_what_may_have_failed_by_chance_is_tried_on_two_further_nights(reason):
    first, second, third = (refused("a", reason, date) for date in ("d1", "d2", "d3"))
    assert not tried("a", Ledger([first]), "d1"), "the same night run again changes nothing"
    assert tried("a", Ledger([first]), "d2")
    assert tried("a", Ledger([first, second]), "d3")
    assert not tried("a", Ledger([first, second, third]), "d4")
    assert [is_to_try_again(first, Ledger(rows)) for rows in ([first], [first, second, third])] == [True, False]


def test_object_that_is_back_is_read_and_what_was_judged_is_not():
    for reason in ("CHANGED.GONE", "CHANGED.REPLACED"):
        assert tried("a", Ledger([refused("a", reason, f"d{number}") for number in range(9)]), "d1")
    for reason in ("PARSE.TRUNCATED", "DECODE.UNSUPPORTED", "VIEW.LATERAL"):
        assert not tried("a", Ledger([refused("a", reason, "d1")]), "d2")
    assert not tried("a", Ledger([row("a")]), "d2")
