"""Documents and work list of a draft that a newer one replaced say so, and nothing of them is overwritten."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from crrg.config.base import Settings
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.exports.documents import report_keys
from crrg.ledger.manifest import read_manifests
from crrg.operations.night import feed as night_feed
from crrg.operations.night import nightly, study_marks
from crrg.operations.night.check_nights import check_nights
from crrg.operations.night.supersede import mark_superseded
from crrg.operations.privacy.forget import forget
from crrg.operations.privacy.rekey import rekey
from crrg.operations.privacy.retention import expire_results
from crrg.operations.upkeep.backup import back_up, restore
from crrg.operations.upkeep.gc import collect_garbage
from crrg.storage import Storage
from tests.support.drawn_night import PSEUDONYMS, StandInDrafter, dicom_bytes, png_bytes, run_test_night
from tests.support.keys import KEY, NEW_KEY
from tests.support.zones import what_does_not_belong

FIRST, SECOND, THIRD = "2026-11-20", "2026-11-21", "2026-11-22"
STUDY = PSEUDONYMS.study("2.25.8.5")
SETTINGS = Settings(hmac_key=KEY)  # type: ignore[arg-type]


class Place:
    """An inbox with a picture, and a study that gets a film more before each night."""

    def __init__(self, folder: Path) -> None:
        self.inbox, self.root = Storage(str(folder / "inbox")), Storage(str(folder / "root"))
        self.inbox.put("other.png", png_bytes(1))
        self.inbox.put("broken.dcm", b"")
        self.night(FIRST)

    def night(self, date: str):
        number = len(self.inbox.list_objects())
        self.inbox.put(f"five/{number}.dcm", dicom_bytes(100 + number, study="5", instance=f"5{number}"))
        return run_test_night(self.inbox, self.root, StandInDrafter(), num_workers=0, date=date)

    def index(self, date: str) -> dict[str, str]:
        (manifest,) = read_manifests(self.root, date)
        return self.root.get_json(manifest.index_key)

    def list_keys(self, date: str) -> list[str]:
        return [key for key in self.index(date) if key.endswith(".csv")]

    def list_rows(self, date: str) -> dict[str, tuple[str, str]]:
        """Return status and reason of each row of the work list that a night names, by id."""
        (key,) = self.list_keys(date)
        rows = csv.DictReader(io.StringIO(self.root.get(key).decode()))
        return {row["id"]: (row["status"], row["reason"]) for row in rows}

    def notes(self, date: str) -> dict[str, str]:
        """Return the notes beside documents that a night names, by study."""
        found = (key for key in self.index(date) if "/report.superseded" in key)
        return {key.split("/")[-2]: self.root.get(key).decode() for key in found}

    def offered(self, date: str) -> str:
        """Return what the page's script says of its list."""
        (manifest,) = read_manifests(self.root, date)
        return self.root.get(manifest.replaced_key).decode().partition("window.CRRG_LIST=")[2].strip(';"\n')


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)
    return Place(tmp_path)


def test_list_and_documents_say_which_run_replaced_a_draft_and_no_byte_is_overwritten(place):
    before = {stored.key: place.root.sha256(stored.key) for stored in place.root.list_objects("results")}
    assert place.notes(FIRST) == {}
    place.night(SECOND)
    place.night(THIRD)
    first, second, third = read_manifests(place.root)
    changed = {key for key, sha256 in before.items() if place.root.sha256(key) != sha256}
    assert {key.rpartition("/")[2] for key in changed} == {"superseded.js", "_manifest-1.json"}
    for date, newer in ((FIRST, second), (SECOND, third)):
        note = place.notes(date)[STUDY]
        assert note.startswith("SUPERSEDED")
        assert newer.date in note.splitlines()[1]
        assert note.splitlines()[2] == report_keys(place.index(newer.date))[STUDY].removesuffix("report.json")
        assert place.list_rows(date)[STUDY] == ("superseded", f"by {newer.date}/{newer.run_id}")
        assert [f"{first.review_key}".rpartition("/")[0] + "/" + place.offered(FIRST)] == place.list_keys(FIRST)
    others = sorted(status for study, status in place.list_rows(FIRST).items() if study != STUDY)
    assert others == [("draft", ""), ("quarantined", "EMPTY.FILE")]
    assert set(place.list_rows(THIRD).values()) == {("draft", "")}
    assert (place.notes(THIRD), place.offered(THIRD)) == ({}, "")
    assert check_nights(place.root).is_good
    assert what_does_not_belong(Path(place.root.root)) == []


def test_a_row_that_is_marked_is_otherwise_as_it_was(place):
    (key,) = place.list_keys(FIRST)
    rows = place.root.get(key).decode().splitlines()
    place.night(SECOND)
    (_, second), (key,) = read_manifests(place.root), place.list_keys(FIRST)
    marked = place.root.get(key).decode().splitlines()
    (at,) = [place for place, row in enumerate(rows) if row.startswith(f'"{STUDY}"')]
    assert [row for n, row in enumerate(rows) if n != at] == [row for n, row in enumerate(marked) if n != at]
    cells = rows[at].split(",")
    cells[1], cells[6] = '"superseded"', f'"by {SECOND}/{second.run_id}"'
    assert marked[at] == ",".join(cells)


def test_what_is_marked_is_kept_by_gc_and_backup_and_lists_from_before_go(place, tmp_path):
    place.night(SECOND)
    kept = place.list_keys(FIRST)
    collect_garbage(place.root, min_age_h=0, remove=True)
    lists = [stored.key for stored in place.root.list_objects(f"results/date={FIRST}") if stored.key.endswith(".csv")]
    assert lists == kept
    back_up(place.root, str(tmp_path / "backup"))
    copy = Storage(str(tmp_path / "copy"))
    restore(copy, str(tmp_path / "backup"))
    assert check_nights(copy).is_good
    assert copy.get(kept[0]) == place.root.get(kept[0])


def test_a_page_that_is_written_again_has_a_list_and_notes_that_still_say_it(place):
    place.night(SECOND)
    (first, second), index = read_manifests(place.root), place.index(FIRST)
    other = next(study for study, (status, _) in place.list_rows(FIRST).items() if status == "draft")
    forget([other], place.root, SETTINGS, remove=True)
    assert place.list_rows(FIRST)[STUDY] == ("superseded", f"by {SECOND}/{second.run_id}")
    assert place.notes(FIRST).keys() == {STUDY}
    assert first.index_key not in {stored.key for stored in place.root.list_objects("results")}
    assert mark_superseded(place.root) == 0
    assert {key for key in index if "/documents/" in key and STUDY in key} <= place.index(FIRST).keys()


def test_nothing_is_said_of_a_patient_who_was_forgotten(place):
    place.night(SECOND)
    forget([STUDY], place.root, SETTINGS, remove=True)
    assert place.notes(FIRST) == {}
    assert not any(STUDY.encode() in place.root.get(each.key) for each in place.root.list_objects("results"))
    assert not any(STUDY in stored.key for stored in place.root.list_objects())
    assert check_nights(place.root).is_good


def test_notes_and_lists_move_on_to_other_ids(place):
    place.night(SECOND)
    new = Pseudonyms(NEW_KEY.encode())
    assert rekey(place.inbox.root, place.root, PSEUDONYMS, new, do=True).is_done
    mark_superseded(place.root)
    study, (_, second) = new.study("2.25.8.5"), read_manifests(place.root)
    assert place.notes(FIRST).keys() == {study}
    assert study in place.notes(FIRST)[study]
    assert place.list_rows(FIRST)[study] == ("superseded", f"by {SECOND}/{second.run_id}")
    assert not any(STUDY.encode() in place.root.get(each.key) for each in place.root.list_objects("results"))
    assert check_nights(place.root).is_good


def test_lists_and_indexes_from_before_marks_go_with_their_night(place):
    place.night(SECOND)
    found = expire_results(place.root, 1, remove=True, with_newest=True)
    assert len(found.nights) == 2
    (first, _) = read_manifests(place.root)
    assert {key.key for key in place.root.list_objects(f"results/date={FIRST}")} - {
        first.index_key, first.watch_key, *(file.key for file in first.files)
    } == {f"results/date={FIRST}/_manifest-{number}.json" for number in (1, 2, 3)}  # fmt: skip


@pytest.mark.parametrize("step", ["_put_notes", "_put_list", "ObjectIndex"])
def test_marks_that_were_cut_off_are_made_by_the_next_night(place, monkeypatch, step):
    def cut(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(study_marks, step, cut)
        with pytest.raises(KeyboardInterrupt):
            place.night(SECOND)
    assert check_nights(place.root).is_good
    assert place.list_rows(FIRST)[STUDY] == ("draft", "")
    run_test_night(place.inbox, place.root, StandInDrafter(), num_workers=0, date=SECOND)
    assert place.list_rows(FIRST)[STUDY][0] == "superseded"
    assert place.notes(FIRST).keys() == {STUDY}
    assert check_nights(place.root).is_good


def test_a_damaged_night_keeps_no_other_from_being_marked(place, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        patch.setattr(nightly, "mark_superseded", lambda *_: 0)
        place.night(SECOND)
        place.night(THIRD)
    (key,) = place.list_keys(FIRST)
    place.root.put(key, b"half")
    assert mark_superseded(place.root) == 1
    assert place.list_rows(SECOND)[STUDY][0] == "superseded"
    assert f"night {FIRST}" in caplog.text
    assert "restore" in caplog.text
