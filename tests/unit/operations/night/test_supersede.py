"""A draft that a newer one replaced says so in its row, in every state that a night can be left in."""

from __future__ import annotations

from pathlib import Path

import pytest

from crrg.config.base import Settings
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.domain.regions import NUM_REGIONS
from crrg.errors import StorageError
from crrg.exports.superseded import Replacement, read_superseded, superseded_script
from crrg.ledger import compaction
from crrg.ledger.audit import read_audit
from crrg.ledger.compaction import compact_ledger, read_compaction
from crrg.ledger.manifest import committed_manifests, manifest_key, read_manifests
from crrg.ledger.tables import read_table
from crrg.operations.demo import committed_drafts
from crrg.operations.night import feed as night_feed
from crrg.operations.night import nightly, supersede
from crrg.operations.night.check_nights import check_nights
from crrg.operations.night.digest import committed_digest
from crrg.operations.night.documents import put_page
from crrg.operations.night.supersede import mark_superseded
from crrg.operations.privacy.forget import forget
from crrg.operations.privacy.rekey import rekey
from crrg.operations.upkeep.audit import verify_audit
from crrg.operations.upkeep.gc import collect_garbage
from crrg.storage import Storage
from tests.support.drawn_night import PSEUDONYMS, StandInDrafter, dicom_bytes, png_bytes, run_test_night
from tests.support.keys import KEY, NEW_KEY
from tests.support.zones import what_does_not_belong

FIRST, SECOND, THIRD = "2026-11-20", "2026-11-21", "2026-11-22"
FILM = PSEUDONYMS.instance("2.25.9.51")
SETTINGS = Settings(hmac_key=KEY)  # type: ignore[arg-type]


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

    def page_says(self, date: str) -> dict[str, Replacement]:
        """Return what the page of a night says of newer drafts."""
        (manifest,) = read_manifests(self.root, date)
        assert manifest.replaced_key.rpartition("/")[0] == manifest.review_key.rpartition("/")[0]
        assert '<script src="superseded.js"></script>' in self.root.get(manifest.review_key).decode()
        return read_superseded(self.root.get(manifest.replaced_key))


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
    rows = place.rows()
    assert (rows[FIRST, FILM], rows[SECOND, FILM], rows[THIRD, FILM]) == (second.run_id, third.run_id, None)
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
    named = {first.replaced_key, first.index_key, *(file.key for file in first.files)}
    assert set(marked[0].writes) < {manifest_key(first.date, first.fencing), *named}
    assert marked[0].writes[first.replaced_key] == place.root.sha256(first.replaced_key)
    assert mark_superseded(place.root) == 0


def test_what_is_scored_of_nights_are_their_current_drafts(place):
    place.night(SECOND, "AP")
    place.night(SECOND, "PA")  # the same date again, as where a champion came on the day of its night
    drafts = committed_drafts(place.root, "")
    rows = {name for (_, name), said in place.rows().items() if said is None}
    assert set(drafts) == rows
    assert FILM not in committed_drafts(place.root, FIRST)
    assert {len(draft.regions) for draft in drafts.values()} == {NUM_REGIONS}
    assert set(committed_drafts(place.root, SECOND)) == rows - set(committed_drafts(place.root, FIRST))


def test_the_page_of_an_older_night_says_by_which_run_its_drafts_were_replaced(place):
    assert place.page_says(FIRST) == {}
    (before,) = read_manifests(place.root)
    page = place.root.get_json(before.index_key)
    place.night(SECOND, "AP")
    place.night(THIRD, "PA")
    first, second, third = read_manifests(place.root)
    assert place.page_says(FIRST) == {FILM: Replacement(SECOND, second.run_id, second.review_key)}
    assert {each.run_id for each in place.page_says(SECOND).values()} == {third.run_id}
    assert (len(place.page_says(SECOND)), place.page_says(THIRD)) == (2, {})
    assert place.root.exists(second.review_key)
    # all else of the page is as it was committed, and where it was
    assert first.review_key == before.review_key
    after = place.root.get_json(first.index_key)
    others = {key for key in page if after.get(key) != page[key]}
    assert others == {first.review_key.replace("index.html", "worklist.csv")}
    assert first.replaced_key not in page
    collect_garbage(place.root, min_age_h=0, remove=True)
    assert len(place.page_says(FIRST)) == 1
    assert check_nights(place.root).is_good


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"window.CRRG_SUPERSEDED=[1];\n",
        superseded_script({}),
        superseded_script({FILM: Replacement(THIRD, "f" * 16, "")}),
    ],
)
def test_a_page_that_says_something_else_is_found(place, said):
    place.night(SECOND, "AP")
    first, second = read_manifests(place.root)
    place.root.put(first.replaced_key, said)
    assert [bool(night.problems) for night in check_nights(place.root).nights] == [True, False]
    place.root.put(second.replaced_key, superseded_script({FILM: Replacement(THIRD, "f" * 16, "")}))
    (night,) = check_nights(place.root, SECOND).nights
    assert night.problems == ("the page's note of replaced drafts is not what nights committed",)


def test_a_holder_that_wakes_up_late_takes_nothing_back(place):
    place.night(SECOND, "AP")
    (first,) = read_manifests(place.root, FIRST)
    assert put_page(first.review_key.rpartition("/")[0], [("superseded.js", superseded_script({}))], place.root) == {}
    assert len(place.page_says(FIRST)) == 1


def test_a_page_that_is_written_again_still_says_it_but_of_nobody_who_was_forgotten(place):
    place.night(SECOND, "AP")
    before = place.page_says(FIRST)
    other = next(name for (date, name) in place.rows() if (date, name) != (FIRST, FILM) and date == FIRST)
    forget([other], place.root, SETTINGS, remove=True)
    (first,) = read_manifests(place.root, FIRST)
    assert "/review-" in first.replaced_key
    assert place.page_says(FIRST) == before
    assert [
        key.key for key in place.root.list_objects(f"results/date={FIRST}") if key.key.endswith("superseded.js")
    ] == [first.replaced_key]
    assert check_nights(place.root).is_good
    assert what_does_not_belong(Path(place.root.root)) == []
    forget([FILM], place.root, SETTINGS, remove=True)
    assert (place.page_says(FIRST), place.page_says(SECOND)) == ({}, {})
    assert check_nights(place.root).is_good


def test_a_patient_who_is_forgotten_while_marks_are_made_is_not_named_again(place, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(nightly, "mark_superseded", lambda *_: 0)
        place.night(SECOND, "AP")
    held = supersede.no_night

    def forget_first(*asked):
        forget([FILM], place.root, SETTINGS, remove=True)
        return held(*asked)

    monkeypatch.setattr(supersede, "no_night", forget_first)
    assert mark_superseded(place.root) == 1
    assert FILM.encode() not in b"".join(
        place.root.get(stored.key)
        for stored in place.root.list_objects("results")
        if stored.key.endswith((".js", ".json"))
    )
    assert check_nights(place.root).is_good


def test_a_page_of_which_nothing_can_be_read_is_told_anew(place):
    place.night(SECOND, "AP")
    (first,) = read_manifests(place.root, FIRST)
    place.root.put(first.replaced_key, b"half")
    other = next(name for (date, name) in place.rows() if (date, name) != (FIRST, FILM) and date == FIRST)
    forget([other], place.root, SETTINGS, remove=True)
    assert place.page_says(FIRST) == {}
    assert mark_superseded(place.root) == 1
    assert list(place.page_says(FIRST)) == [FILM]
    assert check_nights(place.root).is_good


def test_a_compacted_ledger_is_still_believed(place, monkeypatch):
    monkeypatch.setattr(compaction, "MIN_TABLES", 1)
    assert compact_ledger(place.root, read_manifests(place.root)) == 1
    place.night(SECOND, "AP")
    place.night(THIRD, "PA")  # compacts those before it
    first, second, third = read_manifests(place.root)
    compacted = {run.run_id for table in read_compaction(place.root, [first, second, third]) for run in table.runs}
    assert compacted == {first.run_id, second.run_id}
    assert first.fencing == 2


def test_a_second_run_of_a_night_stays_the_second(place):
    place.night(FIRST, "AP")
    first, second = read_manifests(place.root, FIRST)
    assert (first.sequence, second.sequence) == (1, 2)
    assert first.fencing > second.fencing
    assert {each.run_id for each in second.superseded} == {first.run_id}


@pytest.mark.parametrize(
    "step", ["write_table", "put_study_marks", "write_audit", "commit_manifest", "put_marks", "seal_rewritten"]
)
def test_marks_that_were_cut_off_are_made_by_the_next_night(place, monkeypatch, step):
    def cut(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(supersede, step, cut)
        with pytest.raises(KeyboardInterrupt):
            place.night(SECOND, "AP")
    # wherever it ended, nothing is said that is not so: the page may be behind the tables, ahead of them never
    assert check_nights(place.root).is_good
    assert place.page_says(FIRST).keys() == ({FILM} if step == "seal_rewritten" else set())
    place.inbox.put("another.png", png_bytes(2))
    run_test_night(place.inbox, place.root, StandInDrafter(), num_workers=0, date=THIRD)
    _, second, _ = read_manifests(place.root)
    assert place.rows()[FIRST, FILM] == place.page_says(FIRST)[FILM].run_id == second.run_id
    assert len(committed_manifests(place.root)) == 3


def test_marks_that_were_cut_off_are_made_by_a_night_without_anything_new(place, monkeypatch):
    def cut(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(nightly, "mark_superseded", cut)
        with pytest.raises(KeyboardInterrupt):
            place.night(SECOND, "AP")
    assert place.rows()[FIRST, FILM] is None
    summary = run_test_night(place.inbox, place.root, StandInDrafter(), num_workers=0, date=SECOND)
    assert summary.status == "nothing_new"
    assert place.rows()[FIRST, FILM] == read_manifests(place.root)[1].run_id


def test_a_night_is_published_although_marks_cannot_be_made(place, monkeypatch, caplog):
    def is_held(*_):
        raise StorageError("a night is running", retryable=True)

    with monkeypatch.context() as patch:
        patch.setattr(supersede, "no_night", is_held)
        assert place.night(SECOND, "AP").status == "committed"
    assert "a later night does it" in caplog.text
    assert mark_superseded(place.root) == 1


@pytest.mark.parametrize("is_gone", [False, True])
def test_damage_to_one_night_keeps_no_other_from_being_marked(place, monkeypatch, is_gone):
    with monkeypatch.context() as patch:
        patch.setattr(nightly, "mark_superseded", lambda *_: 0)
        place.night(SECOND, "AP")
        place.night(THIRD, "PA")
    (first,) = read_manifests(place.root, FIRST)
    table = next(file.key for file in first.files if file.kind == "reports")
    place.root.put(table, b"damaged")
    if is_gone:
        place.root.delete(table)
    assert mark_superseded(place.root) == 1
    assert set(place.page_says(SECOND)) >= {FILM}


def test_marks_move_on_to_other_ids(place):
    place.night(SECOND, "AP")
    new = Pseudonyms(NEW_KEY.encode())
    assert rekey(place.inbox.root, place.root, PSEUDONYMS, new, do=True).is_done
    second = read_manifests(place.root)[1]
    film = new.instance("2.25.9.51")
    assert place.rows()[FIRST, film] == place.page_says(FIRST)[film].run_id == second.run_id
    assert check_nights(place.root).is_good
    # the newer page lies elsewhere now, which the next night says
    assert mark_superseded(place.root) == 1
    assert place.page_says(FIRST) == {film: Replacement(SECOND, second.run_id, second.review_key)}
    assert check_nights(place.root).is_good
