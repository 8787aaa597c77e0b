"""Backups while nights are written again: whole as of one moment, or an error that says what to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from crrg.config.base import Settings
from crrg.errors import ConfigError, StorageError
from crrg.ledger.ledger import ledger_rows
from crrg.ledger.manifest import Manifest, manifest_key, night_prefix, read_manifests
from crrg.operations.night import feed as night_feed
from crrg.operations.night.check_nights import check_nights
from crrg.operations.privacy.forget import forget
from crrg.operations.upkeep import backup
from crrg.operations.upkeep.backup import LIST_KEY, back_up, restore
from crrg.operations.upkeep.gc import named_by
from crrg.storage import Storage, canonical_json
from tests.support.drawn_night import DATE, StandInDrafter, fill_inbox, run_test_night
from tests.support.keys import KEY


class Place:
    """A root with a night, and places for a copy and for what is restored from it."""

    def __init__(self, folder: Path) -> None:
        self.inbox, self.root = Storage(str(folder / "inbox")), Storage(str(folder / "root"))
        self.copy, self.other = Storage(str(folder / "copy")), Storage(str(folder / "elsewhere"))
        fill_inbox(self.inbox, 3)
        run_test_night(self.inbox, self.root, StandInDrafter(), num_workers=0)

    def forget(self) -> None:
        """Write the night again without one patient, and remove what it held before."""
        patients = {row.patient_id for row in ledger_rows(self.root, self.manifest) if row.outcome == "accepted"}
        settings = Settings(hmac_key=KEY)  # type: ignore[arg-type]
        forget([min(patients)], self.root, settings, remove=True)

    @property
    def manifest(self) -> Manifest:
        """The night's manifest."""
        (manifest,) = read_manifests(self.root)
        return manifest

    def assert_restored(self) -> None:
        """Restore the backup and count its night again."""
        restore(self.other, self.copy.root)
        (night,) = check_nights(self.other).nights
        assert (night.problems, night.num_accepted) == ((), self.manifest.num_accepted)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)
    return Place(tmp_path)


def after(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, is_due: Callable[..., bool], happens: Callable[[], None]
) -> None:
    """Let something happen once, after the first call of a function that is due."""
    called, pending = getattr(owner, name), [happens]

    def then(*arguments: object) -> object:
        result = called(*arguments)
        if pending and is_due(*arguments):
            pending.pop()()
        return result

    monkeypatch.setattr(owner, name, then)


def test_a_night_that_is_written_again_while_pointers_are_listed_is_in_the_backup(place, monkeypatch):
    def is_due(storage: Storage, prefix: str = "") -> bool:
        return (storage.root, prefix) == (place.root.root, night_prefix(DATE))

    after(monkeypatch, Storage, "list_folder", is_due, place.forget)
    back_up(place.root, place.copy.root)
    assert place.manifest.fencing > 1
    place.assert_restored()


def test_a_night_that_is_written_again_while_the_root_is_listed_is_in_the_backup(place, monkeypatch):
    def is_due(storage: Storage, prefix: str = "") -> bool:
        return storage.root == place.root.root and not prefix

    after(monkeypatch, Storage, "list_objects", is_due, place.forget)
    back_up(place.root, place.copy.root)
    assert place.manifest.fencing > 1
    place.assert_restored()


def test_a_night_that_is_written_again_before_what_it_names_was_read_is_in_the_backup(place, monkeypatch):
    after(monkeypatch, backup, "_pointers", lambda *_: True, place.forget)
    back_up(place.root, place.copy.root)
    assert place.manifest.fencing > 1
    place.assert_restored()


def test_what_is_removed_while_it_is_copied_ends_the_backup_and_the_next_one_is_whole(place, monkeypatch):
    def is_due(storage: Storage, key: str, _data: bytes) -> bool:
        return storage.root == place.copy.root and key.startswith("ledger/")

    monkeypatch.setattr(backup, "COPIERS", 1)
    after(monkeypatch, Storage, "put", is_due, place.forget)
    with pytest.raises(StorageError, match="run crrg backup again") as error:
        back_up(place.root, place.copy.root)
    assert error.value.retryable
    assert not place.copy.exists(LIST_KEY)
    back_up(place.root, place.copy.root)
    place.assert_restored()


def test_a_root_whose_nights_are_written_again_without_end_is_said(place, monkeypatch):
    pointers = backup._pointers

    def then(storage: Storage, nights: Mapping[str, bytes]) -> object:
        found = pointers(storage, nights)
        if storage.root == place.root.root:
            place.forget()
        return found

    monkeypatch.setattr(backup, "_pointers", then)
    with pytest.raises(StorageError, match="run crrg backup again"):
        back_up(place.root, place.copy.root)
    assert not place.copy.exists(LIST_KEY)


@pytest.mark.parametrize("what", ["table", "document", "index", "mark"])
def test_a_backup_that_lacks_something_of_a_night_is_not_restored(place, what):
    back_up(place.root, place.copy.root)
    manifest = place.manifest
    documents = [key for key in named_by(place.root, manifest) if key.endswith("report.json")]
    names = {"table": manifest.files[0].key, "document": documents[0]}
    names |= {"index": manifest.index_key, "mark": manifest.replaced_key}
    value = place.copy.get_json(LIST_KEY)
    del value["objects"][names[what]]
    place.copy.put_json(LIST_KEY, value)
    with pytest.raises(ConfigError, match=f"night {DATE} is incomplete in this backup: 1 objects.*use another"):
        restore(place.other, place.copy.root)
    assert place.other.list_objects() == []


def test_a_backup_of_a_night_without_the_manifest_that_counts_is_not_restored(place):
    """As backups were that met a night which was written again, before they looked for that."""
    key = manifest_key(DATE, 1)
    back_up(place.root, place.copy.root)
    value = place.copy.get_json(LIST_KEY)
    place.copy.put(key, canonical_json(Manifest(status="sealed", date=DATE, fencing=1).model_dump(mode="json")))
    value["objects"][key][1] = place.copy.sha256(key)
    place.copy.put_json(LIST_KEY, value)
    with pytest.raises(ConfigError, match=f"night {DATE} is incomplete.*without their manifest"):
        restore(place.other, place.copy.root)
    assert place.other.list_objects() == []
