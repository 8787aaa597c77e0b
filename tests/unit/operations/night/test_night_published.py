"""A night that is published has not failed, whatever becomes of the store right after."""

from __future__ import annotations

import logging
from collections import Counter

import pytest

from crrg.config.references import NightSummary
from crrg.errors import StorageError
from crrg.ledger.manifest import (
    Manifest,
    commit_manifest,
    committed_manifests,
    fencing_numbers,
    manifest_key,
    read_manifests,
)
from crrg.operations.night import commit as night_commit
from crrg.operations.night import nightly
from crrg.operations.night.nightly import exit_code
from crrg.storage import Storage
from tests.support.drawn_night import DATE, StandInDrafter, dicom_bytes, fill_inbox, png_bytes, run_test_night

pytestmark = pytest.mark.usefixtures("decode_here")

EARLIER = "2026-11-19"
EVERY_CALL = ("get", "get_range", "list_objects", "list_folder", "exists", "put", "put_if_absent", "delete")


def out_of_reach(*given: object, **_: object) -> None:
    raise StorageError("out of reach", retryable=True)


def night(inbox: Storage, root: Storage, date: str = DATE) -> NightSummary:
    return run_test_night(inbox, root, StandInDrafter(), num_workers=0, date=date)


def test_a_store_that_is_away_right_after_the_commit_fails_no_night(inbox, root, monkeypatch, caplog):
    inbox.put("earlier/film.png", png_bytes(500))
    night(inbox, root, EARLIER)
    fill_inbox(inbox, 6)
    committed = read_manifests(root)

    def commit_and_go_away(storage: Storage, manifest: Manifest) -> None:
        commit_manifest(storage, manifest)
        committed.append(manifest)
        for name in EVERY_CALL:
            patch.setattr(Storage, name, out_of_reach)

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(night_commit, "commit_manifest", commit_and_go_away)
        summary = night(inbox, root)
    assert (summary.status, exit_code(summary)) == ("committed", 0)
    assert (summary.num_inputs, summary.num_accepted, summary.num_quarantined) == (12, 8, 4)
    assert summary.reasons == committed[-1].reasons
    assert summary.watch is not None
    assert summary.watch.num_drafts == 8
    assert (summary.digest, summary.usual_prevalence) == ("", {})
    assert "is published; digest of the date and figures of earlier nights are left out" in caplog.text
    assert read_manifests(root) == committed
    assert night(inbox, root, "2026-11-21").status == "nothing_new"


def losing_answers(monkeypatch: pytest.MonkeyPatch, *, lands: bool) -> None:
    """Let no answer come to the writes of manifests, which land or do not."""
    put = Storage.put_if_absent

    def lose(self: Storage, key: str, data: bytes) -> None:
        if "_manifest-" not in key:
            put(self, key, data)
            return
        if lands:
            put(self, key, data)
        out_of_reach()

    monkeypatch.setattr(Storage, "put_if_absent", lose)


def test_a_commit_of_which_only_the_answer_was_lost_counts(inbox, root, monkeypatch):
    fill_inbox(inbox, 1)
    with monkeypatch.context() as patch:
        losing_answers(patch, lands=True)
        summary = night(inbox, root)
    assert (summary.status, summary.num_accepted) == ("committed", 3)
    assert fencing_numbers(root, DATE) == [1]


def test_a_commit_that_is_not_there_has_failed(root, monkeypatch):
    losing_answers(monkeypatch, lands=False)
    with pytest.raises(StorageError, match="out of reach"):
        commit_manifest(root, Manifest(date=DATE, run_id="r", fencing=1))


def test_what_is_committed_is_read_twice_to_plan_and_once_to_publish(inbox, root, monkeypatch):
    for day, view in enumerate(("PA", "AP", "PA")):
        inbox.put(f"five/{day}.dcm", dicom_bytes(day, study="5", instance=f"5{day}", view=view))
        if day < 2:
            night(inbox, root, f"2026-11-0{day + 1}")
    before = {manifest_key(each.date, each.fencing) for each in committed_manifests(root)}
    read, get = Counter[str](), Storage.get
    monkeypatch.setattr(nightly, "mark_superseded", lambda *_: 0)
    monkeypatch.setattr(Storage, "get", lambda self, key: read.update([key]) or get(self, key))
    assert night(inbox, root).num_accepted == 1
    assert {read[key] for key in before} == {3}
