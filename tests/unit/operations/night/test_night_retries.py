"""What was refused for a passing cause is tried again; what was judged is not, unless somebody asks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from crrg.config.references import NightSummary
from crrg.data.decoding.pool import decode_many
from crrg.errors import DataError
from crrg.ledger.manifest import read_manifests
from crrg.operations.night import feed as night_feed
from crrg.operations.night import reading as night_reading
from crrg.operations.night.check_nights import check_nights
from crrg.operations.night.nightly import commit_night, plan_night, run_shard
from crrg.storage import Storage
from tests.support.drawn_night import (
    BUNDLE,
    PSEUDONYMS,
    StandInDrafter,
    dicom_bytes,
    night_config,
    png_bytes,
    run_test_night,
)

DATES = [f"2026-11-{day}" for day in range(20, 26)]


@pytest.fixture
def inbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)
    storage = Storage(str(tmp_path / "inbox"))
    storage.put("1.png", png_bytes(1))
    storage.put("2.dcm", dicom_bytes(2, instance="7"))
    return storage


@pytest.fixture
def root(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "root"))


def night(inbox: Storage, root: Storage, date: str, **changes: object) -> NightSummary:
    return run_test_night(inbox, root, StandInDrafter(), num_workers=0, date=date, **changes)


def failing_decoder(monkeypatch: pytest.MonkeyPatch, codes: dict[int, str]) -> None:
    """Let the decoder fail on a film that has so many bytes."""

    def decode(items, *args, **options):
        marked = (
            DataError("failed", code=codes[len(item)]) if isinstance(item, bytes) and len(item) in codes else item
            for item in items
        )
        return decode_many(marked, *args, **options)

    monkeypatch.setattr(night_reading, "decode_many", decode)


def test_film_that_crashed_the_decoder_is_tried_on_two_further_nights(inbox, root, monkeypatch):
    codes = {len(inbox.get("2.dcm")): "DECODE.CRASH"}
    failing_decoder(monkeypatch, codes)
    assert night(inbox, root, DATES[0]).reasons == {"DECODE.CRASH": 1}
    assert night(inbox, root, DATES[0]).status == "nothing_new"
    assert night(inbox, root, DATES[1]).reasons == {"DECODE.CRASH": 1}
    codes.clear()
    third = night(inbox, root, DATES[2])
    assert (third.num_inputs, third.num_accepted) == (1, 1)
    assert night(inbox, root, DATES[3]).status == "nothing_new"
    assert len(read_manifests(root)) == 3
    assert check_nights(root).is_good


def test_touched_film_that_had_crashed_is_decoded_and_not_carried(inbox, root, monkeypatch):
    codes = {len(inbox.get("2.dcm")): "DECODE.TIMEOUT"}
    failing_decoder(monkeypatch, codes)
    night(inbox, root, DATES[0])
    codes.clear()
    os.utime(inbox.url("2.dcm"), (1_700_000_000, 1_700_000_000))
    assert night(inbox, root, DATES[0]).num_accepted == 1


def test_film_that_is_back_is_read_in_the_same_night_run_again(inbox, root):
    plan = plan_night(night_config(inbox, num_workers=0, date=DATES[0]), root, BUNDLE, PSEUDONYMS)
    kept, times = inbox.get("2.dcm"), os.stat(inbox.url("2.dcm")).st_mtime_ns
    inbox.delete("2.dcm")
    results = [run_shard(plan, shard, root, PSEUDONYMS, StandInDrafter()) for shard in plan.shards]
    assert commit_night(plan, results, root).reasons == {"CHANGED.GONE": 1}
    assert night(inbox, root, DATES[0]).status == "nothing_new"
    inbox.put("2.dcm", kept)
    os.utime(inbox.url("2.dcm"), ns=(times, times))
    again = night(inbox, root, DATES[0])
    assert (again.num_inputs, again.num_accepted) == (1, 1)
    assert night(inbox, root, DATES[0]).status == "nothing_new"
    assert len({each.run_id for each in read_manifests(root)}) == 2
    assert check_nights(root).is_good


@pytest.mark.parametrize("asked", [{"reread_date": DATES[0]}, {"reread_studies": (PSEUDONYMS.study("2.25.8.1"),)}])
def test_film_without_codec_is_read_again_by_the_same_bundle_where_somebody_asks(inbox, root, monkeypatch, asked):
    codes = {len(inbox.get("1.png")): "DECODE.UNSUPPORTED"}
    if "reread_studies" in asked:
        # a film whose header was read has a study; its refusal comes after
        inbox.put("3.dcm", dicom_bytes(3, instance="8", view="LATERAL"))
    failing_decoder(monkeypatch, codes)
    night(inbox, root, DATES[0])
    assert night(inbox, root, DATES[1]).status == "nothing_new"
    codes.clear()
    summary = night(inbox, root, DATES[1], **asked)
    if "reread_date" in asked:
        assert (summary.num_inputs, summary.num_accepted) == (1, 1)
        assert night(inbox, root, DATES[1], **asked).status == "nothing_new"
    else:
        assert summary.status == "nothing_new", "what is out of scope stays so"
    assert check_nights(root).is_good


def test_new_version_that_crashed_once_is_no_later_version_of_its_draft(inbox, root, monkeypatch):
    night(inbox, root, DATES[0])
    inbox.put("2.dcm", dicom_bytes(22, instance="7", view="AP"))
    failing_decoder(monkeypatch, codes := {len(inbox.get("2.dcm")): "DECODE.CRASH"})
    assert night(inbox, root, DATES[1]).reasons == {"DECODE.CRASH": 1}
    codes.clear()
    assert night(inbox, root, DATES[2]).reasons == {"IDENTITY.CONFLICT": 1}


@pytest.mark.parametrize(("policy", "reasons"), [("conflict", {"IDENTITY.CONFLICT": 1}), ("supersede", {})])
def test_the_identifier_of_a_duplicate_is_taken_on_later_nights_too(inbox, root, policy, reasons):
    inbox.put("3.dcm", dicom_bytes(2, instance="8"))
    assert night(inbox, root, DATES[0]).reasons == {"DUPLICATE.PIXELS": 1}
    inbox.put("4.dcm", dicom_bytes(4, instance="8"))
    assert night(inbox, root, DATES[1], resend_policy=policy).reasons == reasons
    assert check_nights(root).is_good
