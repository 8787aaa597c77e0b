"""Damage to what an earlier night drafted keeps a study waiting, under a named reason, and no night from its commit."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from crrg.config.base import Settings
from crrg.data.refusals import EARLIER_DAMAGED
from crrg.ledger.ledger import read_ledger
from crrg.ledger.manifest import read_manifests
from crrg.ledger.tables import read_table
from crrg.operations.night import feed as night_feed
from crrg.operations.night.check_nights import check_nights
from crrg.operations.night.nightly import exit_code
from crrg.operations.night.report import tell_untold
from crrg.storage import Storage
from tests.support.drawn_night import PSEUDONYMS, StandInDrafter, dicom_bytes, png_bytes, run_test_night
from tests.support.keys import KEY
from tests.support.spoiled_objects import spoil

SETTINGS = Settings(hmac_key=KEY)  # type: ignore[arg-type]
FIRST, SECOND, THIRD = "2026-11-20", "2026-11-21", "2026-11-22"
STUDY, LATE = PSEUDONYMS.study("2.25.8.5"), PSEUDONYMS.instance("2.25.9.52")
NEEDED = ("/reports-", "/regions-", "/index", f"{STUDY}/report.json", f"films/{PSEUDONYMS.instance('2.25.9.51')}.png")


class Place:
    """An inbox and a root with a night; since then a second film came to its study, and films of other studies."""

    def __init__(self, folder: Path) -> None:
        self.inbox, self.root = Storage(str(folder / "inbox")), Storage(str(folder / "root"))
        self.inbox.put("five/1.dcm", dicom_bytes(100, study="5", instance="51", view="AP"))
        self.inbox.put("other.png", png_bytes(1))
        self.night(FIRST)
        self.inbox.put("five/2.dcm", dicom_bytes(101, study="5", instance="52", view="PA"))
        # the same pixels, of another study and later: drafted in the place of the film that waits
        self.inbox.put("six/1.dcm", dicom_bytes(101, study="6", instance="61", view="PA"))
        self.inbox.put("third.png", png_bytes(3))

    def night(self, date, drafter=None, **changes):
        return run_test_night(self.inbox, self.root, drafter or StandInDrafter(), date=date, num_workers=0, **changes)

    def key(self, part: str) -> str:
        (manifest,) = read_manifests(self.root, FIRST)
        index = self.root.get_json(manifest.index_key)
        named = [manifest.index_key, manifest.watch_key, *(file.key for file in manifest.files), *index]
        return next(key for key in named if part in key)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(night_feed, "default_num_workers", lambda: 0)
        return Place(tmp_path_factory.mktemp("made"))


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)
    copy = object.__new__(Place)
    copy.inbox, copy.root = made.inbox, Storage(str(tmp_path / "root"))
    shutil.copytree(made.root.root, copy.root.root)
    return copy


def views(root: Storage, date: str) -> set[str]:
    (manifest,) = read_manifests(root, date)
    rows = [row for file in manifest.files if file.kind == "reports" for row in read_table(root, file).to_pylist()]
    return {row["view_position"] for row in rows if row["study_id"] == STUDY}


@pytest.mark.parametrize("part", NEEDED)
@pytest.mark.parametrize("is_gone", [False, True])
def test_a_study_whose_earlier_draft_is_damaged_waits_and_the_night_goes_on(place, part, is_gone):
    key = place.key(part)
    data = spoil(place.root, key, is_gone)
    summary = place.night(SECOND)
    assert exit_code(summary) == 3
    assert (summary.num_accepted, summary.reasons) == (2, {EARLIER_DAMAGED: 1})
    assert views(place.root, SECOND) == set()
    assert {row["instance_id"] for row in refused(place.root, SECOND)} == {LATE}
    assert check_nights(place.root, SECOND).is_good
    place.root.put(key, data)
    drafter = StandInDrafter()
    assert place.night(THIRD, drafter).num_accepted == drafter.num_drafted == 1
    assert views(place.root, THIRD) == {"AP", "PA"}
    assert len(read_ledger(place.root).find_drafts_of(STUDY)) == 2
    assert check_nights(place.root).is_good


@pytest.mark.parametrize("is_gone", [False, True])
def test_what_was_found_of_an_earlier_night_is_left_out_of_the_usual_figures_where_it_is_damaged(place, is_gone):
    spoil(place.root, place.key("watch"), is_gone)
    summary = place.night(SECOND)
    assert (summary.status, summary.usual_prevalence) == ("committed", {})
    assert place.night(THIRD).status == "nothing_new"


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_second_run_of_a_date_is_published_and_told_whatever_became_of_the_first(place, is_gone):
    spoil(place.root, place.key("/regions-"), is_gone)
    summary = place.night(FIRST)
    assert (summary.status, summary.num_accepted, summary.digest) == ("committed", 2, "")
    _, (told, page) = tell_untold(place.root, SETTINGS)
    assert (told.num_accepted, "Digest" in page) == (2, False)


def refused(root: Storage, date: str) -> list[dict]:
    (manifest,) = read_manifests(root, date)
    return [row for f in manifest.files if f.kind == "quarantine" for row in read_table(root, f).to_pylist()]
