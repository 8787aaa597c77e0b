"""Whoever may put objects of nights, and no more, can put none in a night's place, beside it or before it unnoticed."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from crrg.checked_json import checked_json
from crrg.config.references import NightPlan
from crrg.ledger.audit import check_chain, read_audit, write_audit
from crrg.ledger.manifest import audited_digest, manifest_key, parse_manifest_key, read_manifests
from crrg.operations.night import feed as night_feed
from crrg.operations.night.commit import publish_night
from crrg.operations.night.nightly import commit_night, plan_night, release_night, run_shard
from crrg.operations.upkeep.audit import check_markdown, verify_audit
from crrg.storage import Storage
from tests.support.drawn_night import BUNDLE, PSEUDONYMS, StandInDrafter, dicom_bytes, night_config, run_test_night

FIRST, SECOND, THIRD = "2026-11-20", "2026-11-21", "2026-11-22"
PLANTED = "results/date=2026-11-20/run=0123456789abcdef"


class Place:
    """An inbox and a root in which a night of one film was drafted."""

    def __init__(self, folder: Path) -> None:
        self.inbox, self.root = Storage(str(folder / "inbox")), Storage(str(folder / "root"))
        self.night(FIRST)

    def arrives(self) -> None:
        """Put another film of the same study."""
        number = len(self.inbox.list_objects()) + 1
        self.inbox.put(f"{number}.dcm", dicom_bytes(number, study="1", instance=str(number), patient="P1"))

    def night(self, date: str) -> None:
        self.arrives()
        run_test_night(self.inbox, self.root, StandInDrafter(), num_workers=0, date=date)

    def planned(self, date: str) -> tuple[NightPlan, list[Any]]:
        """Return a night that has come as far as before its commit."""
        self.arrives()
        plan = plan_night(night_config(self.inbox, num_workers=0, date=date), self.root, BUNDLE, PSEUDONYMS)
        return plan, [run_shard(plan, shard, self.root, PSEUDONYMS, StandInDrafter()) for shard in plan.shards]

    def content(self, date: str = FIRST) -> dict[str, Any]:
        """Return what the manifest of a night says."""
        return next(each.model_dump(mode="json") for each in read_manifests(self.root) if each.date == date)

    def put(self, content: dict[str, Any]) -> None:
        """Put a manifest as somebody would who knows how they are written."""
        self.root.put(manifest_key(content["date"], content["fencing"]), checked_json(content))

    def problems(self, head: str = "") -> tuple[str, ...]:
        return verify_audit(self.root, head).problems


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)
    return Place(tmp_path)


def planted(place: Place, content: dict[str, Any]) -> dict[str, Any]:
    """Put other tables and an index under keys of their own, and return a manifest that names them."""
    files = []
    for file in content["files"]:
        key = f"{PLANTED}/{file['kind']}-00000.parquet"
        table = io.BytesIO()
        pq.write_table(pq.read_table(io.BytesIO(place.root.get(file["key"]))), table, compression="gzip")
        place.root.put(key, table.getvalue())
        files.append({**file, "key": key, "sha256": place.root.sha256(key)})
    place.root.put(f"{PLANTED}/index.json", b"{}")
    index = {"index_key": f"{PLANTED}/index.json", "index_sha256": place.root.sha256(f"{PLANTED}/index.json")}
    return {**content, **index, "files": files}


@pytest.mark.parametrize("is_named", [True, False], ids=["entry named", "audit null"])
@pytest.mark.parametrize("run_id", ["", "0123456789abcdef"], ids=["same run", "other run"])
def test_other_tables_under_new_keys_are_found(place: Place, is_named: bool, run_id: str) -> None:
    head, content = check_chain(place.root).head.sha256, place.content()
    other = planted(place, content)
    place.put({**other, "run_id": run_id or content["run_id"], "audit": content["audit"] if is_named else None})
    problems = place.problems(head)
    assert problems
    assert all(problem.startswith(f"night {FIRST}, commit 1: ") for problem in problems)
    if is_named and not run_id:
        named = {*(file["key"] for file in other["files"]), other["index_key"]}
        assert set(problems) == {f"night {FIRST}, commit 1: {key} is not what was audited" for key in named}
    elif not run_id:
        assert problems == (f"night {FIRST}, commit 1: it does not name its entry 1",)
    else:
        gone = f"night {FIRST}, commit 1: what entry 1 says was committed is not there"
        assert problems[1:] == (gone,)
    assert "tampered" in check_markdown(verify_audit(place.root, head))


def test_a_night_that_nobody_audited_is_found_whatever_its_date_and_number(place: Place) -> None:
    content = {**place.content(), "files": [], "date": "2025-01-01", "run_id": "0" * 16, "fencing": 7}
    place.put({**content, "audit": None, "sequence": 0})
    assert place.problems() == ("night 2025-01-01, commit 7: no entry was written for it",)
    place.night(SECOND)
    assert place.problems() == ("night 2025-01-01, commit 7: no entry was written for it",)


@pytest.mark.parametrize(
    "change", [{"withheld": "nobody wants it"}, {"audit": None}, {"num_flagged": 9}, {"watch_sha256": "0" * 64}]
)
def test_a_manifest_that_says_something_else_is_found(place: Place, change: dict[str, Any]) -> None:
    place.put({**place.content(), **change})
    (problem,) = place.problems()
    assert problem.startswith(f"night {FIRST}, commit 1: it")


def test_a_commit_under_another_number_is_found(place: Place) -> None:
    place.put({**place.content(), "fencing": 2})
    assert place.problems() == (f"night {FIRST}, commit 2: its manifest is not what was audited",)


@pytest.mark.parametrize("happens", ["sealed", "removed"])
def test_a_night_that_is_taken_away_is_found(place: Place, happens: str) -> None:
    key = manifest_key(FIRST, 1)
    if happens == "sealed":
        place.put({"schema_version": 1, "status": "sealed", "date": FIRST, "fencing": 1})
    else:
        place.root.delete(key)
    gone = f"night {FIRST}, commit 1: what entry 1 says was committed is not there"
    assert place.problems() == (gone,)
    place.night(SECOND)
    assert gone in place.problems()


def test_a_state_from_before_drafts_were_marked_is_found(place: Place) -> None:
    before = place.content()
    place.night(SECOND)
    marked = place.content()
    assert place.problems() == ()
    assert marked["fencing"] > before["fencing"]
    place.put({"schema_version": 1, "status": "sealed", "date": FIRST, "fencing": marked["fencing"]})
    place.put(before)
    (problem,) = place.problems()
    assert problem.startswith(f"night {FIRST}, commit {marked['fencing']}: what entry ")


def unaudited(place: Place) -> None:
    """Let all nights be from before nights were audited."""
    for manifest in read_manifests(place.root):
        place.put({**manifest.model_dump(mode="json"), "audit": None})
    for entry in read_audit(place.root):
        place.root.delete(f"audit/{entry.number:08d}.json")


def test_nights_from_before_nights_were_audited_are_taken_up_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    unaudited(place)
    monkeypatch.setattr("crrg.ledger.audit._heads", {})
    write_audit(place.root, "gc")
    assert place.problems() == ()
    place.night(SECOND)
    actions = [entry.action for entry in read_audit(place.root)]
    assert actions == ["gc", "adopt", "nightly", "supersede"]
    assert place.problems() == ()
    place.night(THIRD)
    assert [entry.action for entry in read_audit(place.root)].count("adopt") == 1
    assert place.problems() == ()
    # from now on they are known, and there are no others
    content = place.content()
    place.put({**content, "withheld": "nobody wants it"})
    number = content["fencing"]
    assert place.problems() == (f"night {FIRST}, commit {number}: its manifest is not what was audited",)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("no")])
def test_a_night_that_ends_between_its_entry_and_its_commit_is_accounted_for(
    place: Place, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    plan, results = place.planned(SECOND)
    with monkeypatch.context() as patch:
        patch.setattr("crrg.operations.night.commit.commit_manifest", raising(error))
        with pytest.raises(type(error)):
            commit_night(plan, results, place.root)
    assert [entry.action for entry in read_audit(place.root)][-2:] == ["nightly", "seal"]
    assert place.problems() == ()
    place.night(THIRD)
    assert place.problems() == ()


def test_a_night_between_its_entry_and_its_commit_is_no_lost_one(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, results = place.planned(SECOND)
    with monkeypatch.context() as patch:
        patch.setattr("crrg.operations.night.commit.commit_manifest", raising(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            publish_night(plan, results, place.root)
    assert place.problems() == ()
    # as by a holder that never comes to seal its number
    release_night(plan, place.root)
    assert len(place.problems()) == 1


def test_an_entry_alone_in_a_restored_root_is_accounted_for(place: Place) -> None:
    key = manifest_key(SECOND, 1)
    write_audit(place.root, "nightly", subject=f"{SECOND}/run", writes={key: "0" * 64})
    assert len(place.problems()) == 1
    write_audit(place.root, "restore")
    assert place.problems() == ()
    place.night(SECOND)
    assert place.problems() == ()


def test_what_only_a_later_program_knows_of_a_manifest_was_audited_too(place: Place) -> None:
    content = place.content()
    place.put({**content, "weather": "fine"})
    assert len(place.problems()) == 1
    write_audit(
        place.root,
        "rewrite",
        subject=f"{FIRST}/{content['run_id']}",
        writes={manifest_key(FIRST, 1): audited_digest(place.root.get_json(manifest_key(FIRST, 1)))},
    )
    assert place.problems() == ()


def test_keys_of_manifests_are_told_from_others() -> None:
    assert parse_manifest_key(manifest_key(FIRST, 12)) == (FIRST, 12)
    assert parse_manifest_key("ledger/_manifest-12.json") is None


def raising(error: BaseException) -> Callable[..., None]:
    def stop(*_: object) -> None:
        raise error

    return stop
