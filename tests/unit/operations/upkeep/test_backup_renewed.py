"""A second backup over a first: cut off it leaves the first one whole, and what was damaged is copied again."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from crrg.config.base import Settings
from crrg.data.dataset.pairs import write_dataset
from crrg.errors import DigestMismatch, StorageError
from crrg.ledger.ledger import ledger_rows
from crrg.ledger.manifest import manifest_key, read_manifests
from crrg.operations.night import feed as night_feed
from crrg.operations.night.digest import committed_digest
from crrg.operations.privacy.forget import forget
from crrg.operations.upkeep import backup_list
from crrg.operations.upkeep.backup import back_up, restore
from crrg.operations.upkeep.backup_list import LIST_KEY
from crrg.storage import Storage
from tests.support.drawn_night import DATE, StandInDrafter, fill_inbox, run_test_night
from tests.support.keys import KEY
from tests.support.made_pairs import make_film, make_pair

LATEST, DATABASE, CHAMPION = "datasets/demo/_latest.json", "mlflow.db", "models/aliases/champion.json"
CHANGING = (manifest_key(DATE, 1), LATEST, DATABASE, CHAMPION)


class Place:
    """A root of which a backup was made, and the places of the backup and of what is restored from it."""

    def __init__(self, folder: Path) -> None:
        self.root, self.copy = Storage(str(folder / "root")), Storage(str(folder / "copy"))
        self.other = Storage(str(folder / "other"))
        inbox = Storage(str(folder / "inbox"))
        fill_inbox(inbox, 3)
        run_test_night(inbox, self.root, StandInDrafter(), num_workers=0)
        self.point(1)
        back_up(self.root, self.copy.root)
        self.first = self.state(self.root)

    def point(self, number: int) -> None:
        """Change everything that is written again under its key, the night left out."""
        pairs = [make_pair(i, film=make_film(seed=number + i)) for i in range(3)]
        write_dataset(self.root, "demo", pairs, {"image_size": 64})
        self.root.put_json(CHAMPION, {"number": number})
        with closing(sqlite3.connect(self.root.url(DATABASE))) as database:
            database.execute(f"create table runs_{number} (name text)")
            database.commit()

    def forget(self) -> None:
        """Write the night again without one patient."""
        (manifest,) = read_manifests(self.root)
        patients = {row.patient_id for row in ledger_rows(self.root, manifest) if row.outcome == "accepted"}
        forget([min(patients)], self.root, Settings(hmac_key=KEY), remove=True)  # type: ignore[arg-type]

    def state(self, root: Storage) -> dict[str, object]:
        """Return what a root believes."""
        found: dict[str, object] = {key: root.get(key) for key in (*CHANGING[:2], CHAMPION)}
        with closing(sqlite3.connect(root.url(DATABASE))) as database:
            found[DATABASE] = database.execute("select name from sqlite_master order by name").fetchall()
        return {**found, "digest": committed_digest(root)}

    def restored(self) -> dict[str, object]:
        """Restore the backup and return what it believes."""
        restore(self.other, self.copy.root)
        return self.state(self.other)

    def names(self) -> set[str]:
        """Return what lies in the backup."""
        return {stored.key for stored in self.copy.list_objects()}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)
    return Place(tmp_path)


@pytest.mark.parametrize("last", [*CHANGING, LIST_KEY])
def test_a_second_backup_that_is_cut_off_leaves_the_first_one_as_it_was(place, monkeypatch, last):
    place.point(2)
    place.forget()
    second, put = place.state(place.root), Storage.put
    assert all(second[key] != place.first[key] for key in CHANGING)

    def cut(self: Storage, key: str, data: bytes) -> None:
        is_last = self.root == place.copy.root and key.split("~")[0] == last
        if not is_last or key != LIST_KEY:
            put(self, key, data)
        if is_last:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "put", cut)
        with pytest.raises(KeyboardInterrupt):
            back_up(place.root, place.copy.root)
    assert place.restored() == place.first

    place.other = Storage(f"{place.other.root}-second")
    back_up(place.root, place.copy.root)
    assert place.restored() == second
    listed = place.copy.get_json(LIST_KEY)["objects"]
    assert place.names() == {LIST_KEY, *(entry[3] for entry in listed.values())}


def test_what_is_replaced_time_and_again_lies_there_once(place):
    for number in range(2, 5):
        place.point(number)
        back_up(place.root, place.copy.root)
        names = [name for name in place.names() if name.split("~")[0] == CHAMPION]
        assert len(names) == 1
        assert place.copy.get_json(names[0]) == {"number": number}
    assert place.restored() == place.state(place.root)


def test_a_backup_of_an_earlier_program_is_read_and_gone_on_with(place):
    listed = place.copy.get_json(LIST_KEY)
    objects = {key: entry[:3] for key, entry in listed["objects"].items()}
    place.copy.put_json(LIST_KEY, {**listed, "schema_version": 1, "objects": objects})
    assert place.restored() == place.first
    assert back_up(place.root, place.copy.root).num_copied == 1  # the audit's entry of this very backup


@pytest.mark.parametrize("damage", ["cut", "other"])
def test_what_was_damaged_in_the_backup_is_copied_again(place, damage):
    (key,) = [name for name in place.names() if name.endswith("part-00000.parquet")]
    whole = place.root.get(key)
    place.copy.put(key, whole[:100] if damage == "cut" else whole[:-1] + b"?")
    with pytest.raises(DigestMismatch):
        place.restored()
    assert back_up(place.root, place.copy.root).num_copied == 2  # beside it the audit's entry of this very backup
    assert place.copy.get(key) == whole
    place.other = Storage(f"{place.other.root}-second")
    assert place.restored() == place.first


def test_what_is_lost_in_the_backup_meanwhile_ends_it(place, monkeypatch):
    write = backup_list.write_list

    def lose(target: Storage, entries: dict[str, backup_list.Entry]) -> None:
        target.delete(CHAMPION)
        write(target, entries)

    monkeypatch.setattr("crrg.operations.upkeep.backup.write_list", lose)
    with pytest.raises(StorageError, match=r"1 objects were .* changed in the backup.*; run crrg backup") as error:
        back_up(place.root, place.copy.root)
    assert (error.value.subject, error.value.retryable) == (CHAMPION, True)
