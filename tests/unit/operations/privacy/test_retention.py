"""Drafts of old nights go by date; what was read stays known, and newest drafts go only where that is said."""

from __future__ import annotations

import datetime
import time

import pytest

from crrg.errors import ConfigError
from crrg.ledger.audit import read_audit
from crrg.ledger.ledger import ledger_rows
from crrg.ledger.manifest import read_manifests
from crrg.operations.night import feed as night_feed
from crrg.operations.night.check_nights import check_nights
from crrg.operations.night.digest import committed_digest
from crrg.operations.privacy.retention import expire_results
from crrg.operations.upkeep.gc import collect_garbage
from crrg.storage import Storage
from tests.support.drawn_night import StandInDrafter, dicom_bytes, png_bytes, run_test_night

TODAY = datetime.date(2026, 11, 30)


@pytest.fixture
def nights(tmp_path, monkeypatch):
    """Three nights: a study of one film, its second film, and a picture."""
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)
    inbox, root = Storage(str(tmp_path / "inbox")), Storage(str(tmp_path / "root"))
    for day, (key, data) in enumerate(
        [("a/1.dcm", dicom_bytes(1, instance="1")), ("a/2.dcm", dicom_bytes(2, instance="2")), ("b.png", png_bytes(3))]
    ):
        inbox.put(key, data)
        run_test_night(inbox, root, StandInDrafter(), date=f"2026-11-0{day + 1}", num_workers=0)
    return inbox, root


def test_only_what_a_newer_draft_replaced_goes_by_itself(nights):
    _, root = nights
    digest = committed_digest(root)
    dry = expire_results(root, 10, today=TODAY)
    assert (dry.nights, dry.num_drafts, dry.num_newest) == (("2026-11-01 commit 2",), 1, 0)
    assert (dry.kept_nights, dry.num_newest_kept) == (("2026-11-02 commit 1", "2026-11-03 commit 1"), 2)
    assert len(root.list_objects("results/date=2026-11-01")) > 5
    assert expire_results(root, 10, remove=True, today=TODAY).is_removed
    assert committed_digest(root) == digest
    (manifest,) = read_manifests(root, "2026-11-01")
    assert (manifest.num_accepted, manifest.review_key, manifest.replaced_key) == (1, "", "")
    assert not any("/review/" in stored.key for stored in root.list_objects("results/date=2026-11-01"))
    tables = [stored.key for stored in root.list_objects("results/date=2026-11-01") if "/reports-" in stored.key]
    assert tables == [file.key for file in manifest.files if file.kind == "reports"]
    assert [row.outcome for row in ledger_rows(root, manifest)] == ["accepted"]
    assert [entry.counts["drafts"] for entry in read_audit(root) if entry.action == "expire"] == [1]
    assert expire_results(root, 10, remove=True, today=TODAY).nights == ()


def test_newest_drafts_go_where_it_is_said_and_their_objects_are_not_read_again(nights):
    inbox, root = nights
    found = expire_results(root, 28, with_newest=True, remove=True, today=TODAY)
    assert (len(found.nights), found.num_drafts, found.num_newest) == (1, 1, 0)
    found = expire_results(root, 10, with_newest=True, remove=True, today=TODAY)
    assert (len(found.nights), found.num_drafts, found.num_newest) == (2, 3, 2)
    collect_garbage(root, min_age_h=0, remove=True)
    assert check_nights(root).is_good
    left = {stored.key.rsplit("/", 1)[-1].split("-")[0] for stored in root.list_objects("results")}
    assert left == {"_manifest", "index", "reports", "regions", "watch.json"}
    assert run_test_night(inbox, root, StandInDrafter(), date="2026-11-09", num_workers=0).status == "nothing_new"
    # a third film of the study is drafted by itself: of the others there is nothing to take over
    inbox.put("a/3.dcm", dicom_bytes(5, instance="3"))
    assert run_test_night(inbox, root, StandInDrafter(), date="2026-11-09", num_workers=0).num_accepted == 1


def test_young_nights_stay_and_an_impossible_age_is_refused(nights):
    _, root = nights
    assert expire_results(root, 40, with_newest=True, today=TODAY).nights == ()
    # before the first day that there is, no night is
    assert expire_results(root, 999_999, with_newest=True, today=TODAY).nights == ()
    assert expire_results(root, 10**12, with_newest=True, today=TODAY).nights == ()
    with pytest.raises(ConfigError, match="1 or more days"):
        expire_results(root, 0)


@pytest.mark.parametrize("zone", ["<+14>-14", "<-12>+12"])
def test_days_are_counted_alike_in_every_time_zone(nights, monkeypatch, zone):
    inbox, root = nights
    today = datetime.datetime.now(datetime.UTC).date()
    days = [(today - datetime.timedelta(days=age)).isoformat() for age in (1, 2)]
    for number, day in enumerate(days):
        inbox.put(f"{day}.png", png_bytes(9 + number))
        run_test_night(inbox, root, StandInDrafter(), date=day, num_workers=0)
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        found = expire_results(root, 1, with_newest=True).nights
    time.tzset()
    assert [f"{day} commit 1" in found for day in days] == [False, True]
