"""A night whose process was ended right after its commit is told of by the next."""

from __future__ import annotations

import pytest

from crrg.config.base import Settings
from crrg.operations.night import commit
from crrg.operations.night import report as night_report
from crrg.operations.night.nightly import plan_night, release_night
from crrg.operations.night.report import report_night, tell_untold
from crrg.operations.night.summary import UNTOLD, note_untold
from crrg.operations.spool import TrackedRun
from crrg.operations.upkeep.audit import audit_night
from tests.support.drawn_night import (
    BUNDLE,
    DATE,
    PSEUDONYMS,
    StandInDrafter,
    fill_inbox,
    night_config,
    run_test_night,
)

pytestmark = pytest.mark.usefixtures("decode_here")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[TrackedRun]:
    runs: list[TrackedRun] = []
    monkeypatch.setattr(night_report, "track", lambda run, *_: runs.append(run) or "")
    return runs


def test_night_that_nobody_was_told_of_is_told_once(told, inbox, root, caplog):
    fill_inbox(inbox, 2)
    summary = run_test_night(inbox, root, StandInDrafter(), num_workers=0, max_failure_rate=0.1)
    (late,) = tell_untold(root, Settings(), tags={"prefect.flow_run_id": "f"})
    assert tell_untold(root, Settings()) == []
    (run,) = told
    # the page is the one that the night would have shown, but for what only its process knew
    untimed_summary = summary.model_copy(update={"times_s": {}})
    assert late == (untimed_summary, report_night(untimed_summary, root, Settings()))
    assert (told.pop().metrics, run.tags["prefect.flow_run_id"]) == (run.metrics, "f")
    assert (run.run_name, run.tags["digest"]) == (f"nightly-{DATE}", summary.digest)
    untimed = {name: value for name, value in night_report.night_metrics(summary).items() if "time/" not in name}
    assert run.metrics == pytest.approx(untimed)
    assert "more than max_failure_rate allows" in caplog.text
    assert root.list_objects(UNTOLD) == []


def test_night_that_was_told_is_not_told_again(told, inbox, root):
    fill_inbox(inbox, 1)
    report_night(run_test_night(inbox, root, StandInDrafter(), num_workers=0), root, Settings())
    tell_untold(root, Settings())
    assert len(told) == 1


def test_night_that_came_to_no_commit_is_not_told(told, root):
    root.put_json(f"{UNTOLD}/x", {"date": DATE, "run_id": "0123456789abcdef", "max_failure_rate": 0.5})
    tell_untold(root, Settings())
    assert (told, root.list_objects(UNTOLD)) == ([], [])
    root.put(f"{UNTOLD}/x", b"{")
    tell_untold(root, Settings())
    assert told == [], "a broken note ends no night"


def test_the_note_of_a_night_that_may_still_commit_is_left_alone(told, inbox, root, monkeypatch):
    seen: list[tuple[object, int]] = []
    fill_inbox(inbox, 1)

    def others_ask(*given: object) -> object:
        seen.append((tell_untold(root, Settings()), len(root.list_objects(UNTOLD))))
        return audit_night(*given)

    monkeypatch.setattr(commit, "audit_night", others_ask)
    summary = run_test_night(inbox, root, StandInDrafter(), num_workers=0)
    assert seen == [([], 1)]
    ((late, _),) = tell_untold(root, Settings())
    assert late.digest == summary.digest


def test_the_note_of_a_night_that_was_given_back_goes(told, inbox, root):
    fill_inbox(inbox, 1)
    plan = plan_night(night_config(inbox, shard_size=100), root, BUNDLE, PSEUDONYMS)
    note_untold(plan, root)
    tell_untold(root, Settings())
    assert len(root.list_objects(UNTOLD)) == 1
    release_night(plan, root)
    tell_untold(root, Settings())
    assert root.list_objects(UNTOLD) == []
