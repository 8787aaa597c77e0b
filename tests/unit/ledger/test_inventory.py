from __future__ import annotations

from pathlib import Path

from crrg.ledger.inventory import InboxObject, cut_shards, inputs_digest, list_inbox, take_inventory
from crrg.ledger.ledger import Ledger, LedgerRow, Outcome
from crrg.storage import Storage


def found(key: str, etag: str = "v1", modified_s: float = 0.0) -> InboxObject:
    return InboxObject(key=key, key_hmac=f"hmac-{key}", etag=etag, size=1, modified_s=modified_s)


def row(key: str, etag: str = "v1") -> LedgerRow:
    return LedgerRow(f"hmac-{key}", etag, b"s", b"p", "pt", "st", "in", Outcome.ACCEPTED, "", False, "b", "r", "d")


def test_known_means_same_key_and_same_version():
    objects = [found("a"), found("b", etag="v2"), found("c")]
    inventory = take_inventory(objects, Ledger([row("a"), row("b", "v1")]), now_s=100, settle_s=10)
    assert [each.key for each in inventory.new] == ["b", "c"]
    assert (inventory.num_known, inventory.pending) == (1, ())


def test_old_version_of_one_key_stays_known():
    ledger = Ledger([row("a", "v1"), row("a", "v2")])
    assert ledger.find("hmac-a", "v1") is not None
    assert ledger.find_key("hmac-a") == row("a", "v2")


def test_young_objects_and_those_not_taken_wait():
    objects = [found("a", modified_s=95), found("b", modified_s=90), found("c"), found("d")]
    inventory = take_inventory(objects, Ledger([]), now_s=100, settle_s=10)
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
