"""A draft that a newer one replaced says so in its row, in every state that a night can be left in."""

from __future__ import annotations

from pathlib import Path

import pytest

from crrg.data.deidentify import Pseudonyms
from crrg.errors import StorageError
from crrg.ledger import compaction
from crrg.ledger.audit import read_audit
from crrg.ledger.compaction import compact_ledger, read_compaction
from crrg.ledger.manifest import committed_manifests, read_manifests
from crrg.ledger.tables import read_table
from crrg.operations import night_feed, supersede
from crrg.operations.audit import verify_audit
from crrg.operations.check_nights import check_nights
from crrg.operations.digest import committed_digest
from crrg.operations.rekey import rekey
from crrg.operations.supersede import mark_superseded
from crrg.storage import Storage
from tests.support.drawn_night import PSEUDONYMS, StandInDrafter, dicom_bytes, png_bytes, run_test_night
from tests.support.zones import what_does_not_belong

FIRST, SECOND, THIRD = "2026-11-20", "2026-11-21", "2026-11-22"


class Place:
    """An inbox whose study gets a film more before each night."""

    def __init__(self, folder: Path) -> None:
        self.inbox, self.root = Storage(str(folder / "inbox")), Storage(str(folder / "root"))
        self.inbox.put("other.png", png_bytes(1))
        self.night(FIRST, "PA")

    def night(self, date: str, view: str):
        number = len(self.inbox.list_objects())
        data = dicom_bytes(100 + number, study="5", instance=f"5{number}", view=view)
        self.inbox.put(f"five/{number}.dcm", data)
        return run_test_night(self.inbox, self.root, StandInDrafter(), num_workers=0, date=date)

    def rows(self) -> dict[tuple[str, str], str | None]:
        """Return what each row that a manifest names says of a newer draft, by night and image."""
        return {
            (manifest.date, row["instance_id"]): row["superseded_by"]
            for manifest in read_manifests(self.root)
            for file in manifest.files
            if file.kind == "reports"
            for row in read_table(self.root, file).to_pylist()
        }


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)
    return Place(tmp_path)


def test_an_older_draft_says_which_run_replaced_it_and_every_film_has_one_current_draft(place):
    digest = committed_digest(place.root, FIRST)
    assert set(place.rows().values()) == {None}
    place.night(SECOND, "AP")
    place.night(THIRD, "PA")
    first, second, third = read_manifests(place.root)
    film = PSEUDONYMS.instance("2.25.9.51")
    rows = place.rows()
    assert (rows[FIRST, film], rows[SECOND, film], rows[THIRD, film]) == (second.run_id, third.run_id, None)
    current = [name for (_, name), said in rows.items() if said is None]
    assert len(current) == len(set(current)) == 4
    assert committed_digest(place.root, FIRST) == digest == first.digest
    assert check_nights(place.root).is_good
    assert verify_audit(place.root).problems == ()
    assert what_does_not_belong(Path(place.root.root)) == []
    assert len(committed_manifests(place.root)) == 3
    marked = [entry for entry in read_audit(place.root) if entry.action == "supersede"]
    assert [(entry.subject, entry.counts) for entry in marked] == [
        (f"{FIRST}/{first.run_id}", {"drafts": 1}), (f"{SECOND}/{second.run_id}", {"drafts": 2}),
    ]  # fmt: skip
    assert set(marked[0].writes) < {file.key for file in first.files}
    assert mark_superseded(place.root) == 0


def test_a_compacted_ledger_is_still_believed(place, monkeypatch):
    monkeypatch.setattr(compaction, "MIN_TABLES", 1)
    assert compact_ledger(place.root, read_manifests(place.root)) == 1
    place.night(SECOND, "AP")
    first, second = read_manifests(place.root)
    compacted = {run.run_id for table in read_compaction(place.root, [first, second]) for run in table.runs}
    assert compacted == {first.run_id, second.run_id}
    assert first.fencing == 2


def test_a_second_run_of_a_night_stays_the_second(place):
    place.night(FIRST, "AP")
    first, second = read_manifests(place.root, FIRST)
    assert (first.sequence, second.sequence) == (1, 2)
    assert first.fencing > second.fencing
    assert {each.run_id for each in second.superseded} == {first.run_id}


@pytest.mark.parametrize("step", ["write_table", "commit_manifest", "seal_rewritten"])
def test_marks_that_were_cut_off_are_made_by_the_next_night(place, monkeypatch, step):
    def cut(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(supersede, step, cut)
        with pytest.raises(KeyboardInterrupt):
            place.night(SECOND, "AP")
    place.inbox.put("another.png", png_bytes(2))
    run_test_night(place.inbox, place.root, StandInDrafter(), num_workers=0, date=THIRD)
    _, second, _ = read_manifests(place.root)
    assert place.rows()[FIRST, PSEUDONYMS.instance("2.25.9.51")] == second.run_id
    assert len(committed_manifests(place.root)) == 3


def test_a_night_is_published_although_marks_cannot_be_made(place, monkeypatch, caplog):
    def is_held(*_):
        raise StorageError("a night is running", retryable=True)

    with monkeypatch.context() as patch:
        patch.setattr(supersede, "no_night", is_held)
        assert place.night(SECOND, "AP").status == "committed"
    assert "which a later night does" in caplog.text
    assert mark_superseded(place.root) == 1


def test_marks_move_on_to_other_ids(place):
    place.night(SECOND, "AP")
    new = Pseudonyms(b"n" * 32)
    assert rekey(place.inbox.root, place.root, PSEUDONYMS, new, do=True).is_done
    assert place.rows()[FIRST, new.instance("2.25.9.51")] == read_manifests(place.root)[1].run_id
    assert check_nights(place.root).is_good
