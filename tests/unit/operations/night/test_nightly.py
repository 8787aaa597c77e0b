from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from crrg.checked_json import checked_json
from crrg.config.references import NightPlan
from crrg.errors import ConfigError, Conflict, CrrgError, ModelError, StorageError
from crrg.inference.tiles import MOST_FILMS
from crrg.ledger.audit import read_audit
from crrg.ledger.lease import acquire_lease
from crrg.ledger.ledger import Outcome, read_ledger
from crrg.ledger.manifest import read_manifests, seal_number
from crrg.operations.night import feed as night_feed
from crrg.operations.night import nightly
from crrg.operations.night.check_nights import check_nights
from crrg.operations.night.digest import committed_digest
from crrg.operations.night.nightly import commit_night, exit_code, plan_night, run_night, run_shard
from crrg.operations.night.outcomes import FileOutcome, inbox_outcomes, outcomes_csv
from crrg.operations.night.shard import DRAFT_WINDOW, even_window, window_size
from crrg.storage import Storage
from tests.support.drawn_night import (
    BUNDLE,
    DATE,
    PSEUDONYMS,
    StandInDrafter,
    dicom_bytes,
    fill_inbox,
    night_config,
    png_bytes,
    run_test_night,
)


@pytest.fixture(autouse=True)
def _decode_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)


@pytest.fixture
def inbox(tmp_path: Path) -> Storage:
    storage = Storage(str(tmp_path / "inbox"))
    (tmp_path / "inbox").mkdir()
    return storage


@pytest.fixture
def root(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "root"))


def night(inbox: Storage, root: Storage, drafter: StandInDrafter | None = None, **changes: object):
    return run_test_night(inbox, root, drafter or StandInDrafter(), num_workers=0, **changes)


def planned(inbox: Storage, root: Storage, **changes: object) -> NightPlan:
    return plan_night(night_config(inbox, num_workers=0, **changes), root, BUNDLE, PSEUDONYMS)


def reports(root: Storage, date: str = DATE) -> list[dict]:
    rows = []
    for manifest in read_manifests(root, date):
        for file in manifest.files:
            if file.kind == "reports":
                rows += pq.read_table(root.url(file.key)).to_pylist()
    return rows


def test_every_input_ends_somewhere_and_the_manifest_says_where(inbox, root):
    fill_inbox(inbox, 6)
    summary = night(inbox, root)
    assert (summary.status, summary.num_inputs) == ("committed", 12)
    assert (summary.num_accepted, summary.num_quarantined, summary.num_pending) == (8, 4, 0)
    assert summary.reasons == {"DUPLICATE.RESENT": 1, "EMPTY.FILE": 1, "PARSE.TRUNCATED": 1, "VIEW.LATERAL": 1}
    assert summary.failure_share == pytest.approx(2 / 10)
    assert not summary.exceeds_failure_rate
    (manifest,) = read_manifests(root, DATE)
    kinds = {file.kind for file in manifest.files}
    assert kinds == {"reports", "regions", "quarantine", "ledger"}
    assert all(not file.key.startswith("/") for file in manifest.files)
    index = root.get_json(manifest.index_key)
    assert root.sha256(manifest.index_key) == manifest.index_sha256
    assert all(root.sha256(key) == digest for key, digest in index.items())
    assert sum(key.endswith("report.txt") for key in index) == 7
    assert manifest.digest == summary.digest == committed_digest(root, DATE)


def test_study_of_two_films_has_one_primary_and_the_highest_probabilities(inbox, root):
    inbox.put("a/ap.dcm", dicom_bytes(100, study="5", instance="51", view="AP"))
    inbox.put("b/pa.dcm", dicom_bytes(101, study="5", instance="52", view="PA"))
    night(inbox, root, shard_size=1)
    rows = reports(root)
    assert {row["view_position"]: row["is_primary"] for row in rows} == {"AP": False, "PA": True}
    (manifest,) = read_manifests(root, DATE)
    (key,) = [key for key in root.get_json(manifest.index_key) if key.endswith("report.json")]
    document = root.get_json(key)
    assert [film["view_position"] for film in document["films"]] == ["PA", "AP"]
    highest = max(row["probability_edema"] for row in rows)
    assert document["probabilities"]["Edema"] == pytest.approx(highest, abs=1e-3)
    assert document["labels"]["Edema"] == max(row["label_edema"] for row in rows)
    text = root.get(key.replace(".json", ".txt")).decode()
    assert text.startswith("DRAFT - NOT REVIEWED. Written by a machine")


def test_shard_size_changes_nothing(inbox, tmp_path):
    fill_inbox(inbox, 4)
    inbox.put("aa/again.dcm", dicom_bytes(100, study="5", instance="51", view="AP"))
    inbox.put("ab/conflict.dcm", dicom_bytes(177, study="5", instance="52", view="PA"))
    digests = set()
    for size in (1, 3, 100):
        root = Storage(str(tmp_path / f"root-{size}"))
        summary = night(inbox, root, shard_size=size)
        assert summary.reasons["IDENTITY.CONFLICT"] == 1
        digests.add(summary.digest)
    assert len(digests) == 1


def test_nothing_new_is_no_error_and_late_arrivals_are_taken(inbox, root):
    inbox.put("1.png", png_bytes(1))
    first = night(inbox, root)
    again = night(inbox, root)
    assert (again.status, exit_code(again), again.num_inputs) == ("nothing_new", 0, 0)
    assert len(read_manifests(root)) == 1
    inbox.put("2.png", png_bytes(2))
    late = night(inbox, root)
    assert (late.status, late.num_inputs) == ("committed", 1)
    assert late.digest != first.digest
    assert late.digest == committed_digest(root, DATE)
    assert len({row["instance_id"] for row in reports(root)}) == 2


def test_young_objects_and_those_over_the_limit_are_pending(inbox, root):
    for number in range(3):
        inbox.put(f"{number}.png", png_bytes(number))
        os.utime(inbox.url(f"{number}.png"), (time.time() - 500, time.time() - 500))
    inbox.put("young.png", png_bytes(9))
    summary = night(inbox, root, settle_s=300, limit=2)
    assert (summary.num_inputs, summary.num_accepted, summary.num_pending) == (4, 2, 2)
    assert [entry.outcome for entry in inbox_outcomes(inbox.root, root, PSEUDONYMS)] == [
        "accept",
        "accept",
        "pending",
        "pending",
    ]


def test_touched_object_keeps_its_outcome_without_a_second_draft(inbox, root):
    inbox.put("1.png", png_bytes(1))
    inbox.put("empty.dcm", b"")
    night(inbox, root)
    os.utime(inbox.url("1.png"), (1_700_000_000, 1_700_000_000))
    drafter = StandInDrafter()
    summary = night(inbox, root, drafter, date="2026-11-21")
    assert (summary.num_accepted, drafter.num_drafted) == (1, 0)
    assert reports(root, "2026-11-21") == []
    assert inbox_outcomes(inbox.root, root, PSEUDONYMS)[0] == FileOutcome("1.png", "accept", "")


@pytest.mark.parametrize(("policy", "accepted", "reason"), [("conflict", 0, "IDENTITY.CONFLICT"), ("supersede", 1, "")])
def test_known_image_with_other_pixels(inbox, root, policy, accepted, reason):
    inbox.put("1.dcm", dicom_bytes(1, instance="7"))
    night(inbox, root)
    inbox.put("2.dcm", dicom_bytes(2, instance="7"))
    summary = night(inbox, root, date="2026-11-21", resend_policy=policy)
    assert summary.num_accepted == accepted
    assert summary.reasons == ({reason: 1} if reason else {})
    (_, later) = read_manifests(root)
    assert [entry.date for entry in later.superseded] == [DATE] * accepted


def test_replaced_or_removed_while_running_is_changed(inbox, root):
    for name in ("1.png", "2.png", "3.png"):
        inbox.put(name, png_bytes(int(name[0])))
    plan = planned(inbox, root)
    inbox.put("2.png", png_bytes(22))
    inbox.delete("3.png")
    result = run_shard(plan, plan.shards[0], root, PSEUDONYMS, StandInDrafter())
    summary = commit_night(plan, [result], root)
    assert summary.reasons == {"CHANGED.GONE": 1, "CHANGED.REPLACED": 1}
    assert {entry.file: entry.outcome for entry in inbox_outcomes(inbox.root, root, PSEUDONYMS)} == {
        "1.png": "accept",
        "2.png": "pending",
    }


def test_lost_outcome_fails_the_night(inbox, root):
    fill_inbox(inbox, 4)
    plan = planned(inbox, root)
    results = [run_shard(plan, shard, root, PSEUDONYMS, StandInDrafter()) for shard in plan.shards]
    record = root.get_json(results[0].key)
    record["outcomes"] = record["outcomes"][1:]
    root.put(results[0].key, checked_json(record))
    with pytest.raises(CrrgError, match="do not add up"):
        commit_night(plan, results, root)
    assert read_manifests(root) == []
    assert len(read_ledger(root)) == 0


def test_accepted_input_without_a_row_fails_the_night(inbox, root):
    inbox.put("1.dcm", dicom_bytes(1, view="LATERAL"))
    plan = planned(inbox, root)
    (result,) = (run_shard(plan, shard, root, PSEUDONYMS, StandInDrafter()) for shard in plan.shards)
    record = root.get_json(result.key)
    record["outcomes"][0] |= {"outcome": Outcome.ACCEPTED.value, "reason": "", "view_position": "PA"}
    root.put(result.key, checked_json(record))
    with pytest.raises(CrrgError, match="do not add up"):
        commit_night(plan, [result], root)
    assert read_manifests(root) == []


def test_missing_shard_fails_the_night(inbox, root):
    fill_inbox(inbox, 4)
    plan = planned(inbox, root)
    results = [run_shard(plan, shard, root, PSEUDONYMS, StandInDrafter()) for shard in plan.shards[1:]]
    with pytest.raises(CrrgError, match="do not add up"):
        commit_night(plan, results, root)


def test_holder_that_was_taken_over_cannot_commit(inbox, root):
    inbox.put("1.png", png_bytes(1))
    plan = planned(inbox, root)
    result = run_shard(plan, plan.shards[0], root, PSEUDONYMS, StandInDrafter())
    assert seal_number(root, DATE, plan.fencing)
    with pytest.raises(Conflict, match="nothing was published"):
        commit_night(plan, [result], root)
    assert read_manifests(root) == []
    assert night(inbox, root).status == "committed"


def test_commit_that_may_be_retried_keeps_the_night(inbox, root, monkeypatch):
    inbox.put("1.png", png_bytes(1))
    plan = planned(inbox, root)
    result = run_shard(plan, plan.shards[0], root, PSEUDONYMS, StandInDrafter())
    with monkeypatch.context() as broken:
        error = StorageError("out of reach", retryable=True)
        broken.setattr(nightly, "publish_night", lambda *_: (_ for _ in ()).throw(error))
        with pytest.raises(StorageError):
            commit_night(plan, [result], root)
    assert acquire_lease(root, DATE) is None
    assert commit_night(plan, [result], root).status == "committed"
    assert root.list_objects("leases") == []


def test_commit_whose_answer_was_lost_is_no_conflict(inbox, root, monkeypatch):
    inbox.put("1.png", png_bytes(1))
    plan = planned(inbox, root)
    result = run_shard(plan, plan.shards[0], root, PSEUDONYMS, StandInDrafter())
    put, error = Storage.put_if_absent, StorageError("out of reach", retryable=True)

    def put_and_lose_the_answer(self: Storage, key: str, data: bytes) -> None:
        put(self, key, data)
        if "_manifest" in key:
            raise error

    with monkeypatch.context() as broken:
        broken.setattr(Storage, "put_if_absent", put_and_lose_the_answer)
        broken.setattr(Storage, "get_if_there", lambda *_: (_ for _ in ()).throw(error))
        with pytest.raises(StorageError, match="out of reach"):
            commit_night(plan, [result], root)
    summary = commit_night(plan, [result], root)
    (manifest,) = read_manifests(root)
    assert (summary.status, summary.num_accepted, summary.digest) == ("committed", 1, manifest.digest)
    assert summary.watch is not None
    assert root.list_objects("leases") == []
    assert len(read_audit(root)) == 1


def test_worker_whose_clock_is_ahead_takes_nothing_that_is_still_being_written(inbox, root, monkeypatch):
    inbox.put("1.png", png_bytes(1))
    now_s = time.time
    monkeypatch.setattr(time, "time", lambda: now_s() + 86_400)
    summary = night(inbox, root, settle_s=300)
    assert (summary.status, summary.num_pending) == ("nothing_new", 1)


@pytest.mark.parametrize("policy", ["conflict", "supersede"])
def test_shard_size_changes_nothing_where_a_first_image_falls_at_the_commit(inbox, tmp_path, policy):
    inbox.put("0.dcm", dicom_bytes(1, study="1", instance="1"))
    roots = {size: Storage(str(tmp_path / f"root-{size}")) for size in (1, 2, 100)}
    for root in roots.values():
        night(inbox, root)
    # an image that was drafted with other pixels, the same pixels as another image, and each of them again
    for number, (seed, instance) in enumerate([(2, "1"), (2, "2"), (2, "1"), (1, "1"), (3, "2"), (2, "2")]):
        inbox.put(f"{number + 1}.dcm", dicom_bytes(seed, study="1", instance=instance))
        os.utime(inbox.url(f"{number + 1}.dcm"), (1_700_000_000 + number,) * 2)
    summaries = [
        night(inbox, root, date="2026-11-21", shard_size=size, resend_policy=policy) for size, root in roots.items()
    ]
    assert len({summary.digest for summary in summaries}) == 1
    assert summaries[0].num_accepted == 1
    assert all(summary.reasons == summaries[0].reasons for summary in summaries)
    drafted = {row["instance_id"] for row in reports(roots[100], "2026-11-21")}
    expected = "2" if policy == "conflict" else "1"
    assert PSEUDONYMS.instance(f"2.25.9.{expected}") in drafted
    assert all(check_nights(root).is_good for root in roots.values())


def test_operator_stops_between_shards_and_the_night_goes_on_later(inbox, root, caplog):
    fill_inbox(inbox, 8)
    drafter = StandInDrafter()

    def stop(plan: NightPlan, result: object) -> None:
        root.put("control/STOP", b"")

    summary = run_night(night_config(inbox, num_workers=0), root, BUNDLE, PSEUDONYMS, lambda: drafter, on_shard=stop)
    assert (summary.status, exit_code(summary), drafter.num_drafted) == ("stopped", 1, 4)
    assert "was stopped between shards; remove control/STOP and run it again to go on" in caplog.text
    assert root.list_objects("leases") == []
    assert read_manifests(root) == []
    root.delete("control/STOP")
    inbox.put("arrived-meanwhile.png", png_bytes(77))
    again = StandInDrafter()
    summary = night(inbox, root, again)
    assert (summary.status, summary.num_pending) == ("committed", 1)
    # Eight pictures and a study of two films; the copy in the last shard is drafted before the commit drops it.
    assert again.num_drafted == 8 + 2 + 1 - 4
    assert night(inbox, root).num_accepted == 1


def test_stop_inside_a_shard_leaves_no_record(inbox, root):
    fill_inbox(inbox, 4)
    plan = planned(inbox, root)
    answers: Iterator[bool] = iter([False, False, True])
    result = run_shard(plan, plan.shards[0], root, PSEUDONYMS, StandInDrafter(), should_stop=lambda: next(answers))
    assert result.stopped
    assert root.list_objects(f"results/date={DATE}/run={plan.run_id}/shards") == []
    assert commit_night(plan, [result], root).status == "stopped"


def test_too_many_quarantines_are_committed_with_exit_code_3(inbox, root):
    inbox.put("1.png", png_bytes(1))
    inbox.put("2.png", b"\x89PNG\r\n\x1a\nbroken")
    inbox.put("3.dcm", dicom_bytes(3, view="LATERAL"))
    summary = night(inbox, root, max_failure_rate=0.3)
    assert (summary.status, exit_code(summary)) == ("committed", 3)
    assert summary.failure_share == pytest.approx(1 / 2)


def test_broken_draft_is_not_committed(inbox, root):
    class HalfDrafter(StandInDrafter):
        def draft(self, films):
            from dataclasses import replace

            return [replace(draft, probabilities={}) for draft in super().draft(films)]

    inbox.put("1.png", png_bytes(1))
    with pytest.raises(ModelError, match="14 probabilities"):
        night(inbox, root, HalfDrafter())
    assert read_manifests(root) == []
    assert acquire_lease(root, DATE) is not None


def test_missing_inbox_is_an_error_and_an_empty_one_is_not(root, tmp_path, caplog):
    with pytest.raises(ConfigError, match="does not exist"):
        night(Storage(str(tmp_path / "nowhere")), root)
    (tmp_path / "empty").mkdir()
    assert night(Storage(str(tmp_path / "empty")), root).status == "nothing_new"
    assert "the inbox is empty; if it should not be, check its address" in caplog.text


def test_no_name_of_the_source_is_stored(inbox, root):
    inbox.put("mueller_hans/geheim.dcm", dicom_bytes(4, patient="MUELLER77"))
    inbox.put("mueller_hans/kaputt.dcm", dicom_bytes(5)[:700])
    night(inbox, root)
    stored = root.list_objects()
    assert stored
    for item in stored:
        content = root.get(item.key)
        for word in (b"mueller", b"MUELLER77", b"geheim", b"kaputt", b"2.25.8"):
            assert word not in content, item.key
            assert word.decode().lower() not in item.key.lower()


def test_csv_cells_are_no_formulas():
    text = outcomes_csv([FileOutcome("=1+1.dcm", "accept", ""), FileOutcome("a,b.dcm", "quarantine", "PARSE.X")])
    assert text == 'file,outcome,reason\n\'=1+1.dcm,accept,\n"a,b.dcm",quarantine,PARSE.X\n'


@pytest.mark.parametrize("num_inputs", [0, 1, 72, 73, 200, 5000])
def test_windows_of_a_shard_are_even_and_bounded(num_inputs):
    size = even_window(num_inputs)
    assert 1 <= size <= DRAFT_WINDOW
    assert (-num_inputs) % size < math.ceil(num_inputs / size) or num_inputs == 0


@pytest.mark.parametrize("num_inputs", [1, 72, 300])
def test_a_gpu_is_given_whole_tiles(num_inputs):
    drafter = StandInDrafter()
    drafter.takes_all_cores = False
    assert window_size(num_inputs, drafter) % MOST_FILMS == 0
    drafter.takes_all_cores = True
    assert window_size(num_inputs, drafter) == even_window(num_inputs)
