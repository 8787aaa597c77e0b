"""A night gives its lease back whatever its Prefect server does."""

from __future__ import annotations

import httpx
import pytest
from pydantic import SecretStr

from crrg.config.base import Settings
from crrg.config.references import NightPlan, NightSummary
from crrg.config.watch import NightWatch
from crrg.errors import NightStopped
from crrg.ledger.lease import find_holder
from crrg.operations.night import feed as night_feed
from crrg.operations.night import report as night_report
from crrg.operations.night import steps as night_steps
from crrg.operations.night.nightly import commit_night, plan_night
from crrg.operations.night.report import report_night
from crrg.storage import Storage
from flows import nightly as flow
from flows import pages
from tasks import inference
from tests.support.drawn_night import (
    BUNDLE,
    DATE,
    PSEUDONYMS,
    StandInDrafter,
    fill_inbox,
    night_config,
    png_bytes,
    run_test_night,
)
from tests.support.keys import KEY


def out_of_reach(*_: object, **__: object) -> None:
    raise httpx.ConnectError("refused")


@pytest.fixture
def given_back(monkeypatch, tmp_path) -> list[NightPlan]:
    inbox, root = Storage(str(tmp_path / "inbox")), Storage(str(tmp_path / "root"))
    fill_inbox(inbox, 1)
    plans: list[NightPlan] = []
    monkeypatch.setattr(pages, "create_markdown_artifact", out_of_reach)
    monkeypatch.setattr(flow, "plan_night", lambda config: plan_night(config, root, BUNDLE, PSEUDONYMS))
    monkeypatch.setattr(flow, "run_shards", lambda *_: [])
    monkeypatch.setattr(flow, "tell_of_night", lambda _: "")
    monkeypatch.setattr(flow, "tell_of_earlier_nights", inference.tell_of_earlier_nights.fn)
    monkeypatch.setattr(inference, "open_root", lambda: (root, Settings(root=root.root)))
    monkeypatch.setattr(night_steps, "open_root", lambda: (root, Settings(root=root.root)))
    give_back = night_steps.give_back
    monkeypatch.setattr(flow, "give_back", lambda plan: plans.append(plan) or give_back(plan))
    return plans


def run(tmp_path) -> NightSummary:
    return flow.nightly.fn(night_config(Storage(str(tmp_path / "inbox"))))


def test_page_that_cannot_be_made_ends_no_night(given_back, monkeypatch, tmp_path):
    summary = NightSummary(date=DATE, status="committed")
    monkeypatch.setattr(flow, "publish_night", lambda *_: summary)
    assert run(tmp_path) == summary
    assert [plan.status for plan in given_back] == ["planned"]


def test_run_of_a_night_that_an_operator_stopped_has_failed_and_its_page_says_who_may_go_on(
    given_back, monkeypatch, tmp_path
):
    root = Storage(str(tmp_path / "root"))
    root.put("control/STOP", b"")
    shown: list[str] = []
    monkeypatch.setattr(pages, "create_markdown_artifact", lambda text, key: shown.append(text))
    monkeypatch.setattr(flow, "publish_night", lambda plan, results: commit_night(plan, list(results), root))
    monkeypatch.setattr(flow, "tell_of_night", lambda summary: report_night(summary, root, Settings()))
    with pytest.raises(NightStopped, match=f"night {DATE}: stopped, nothing is published: the object control/STOP"):
        run(tmp_path)
    assert "whoever operates the root" in shown[-1]
    assert find_holder(root) is None
    root.delete("control/STOP")
    monkeypatch.setattr(flow, "publish_night", lambda *_: NightSummary(date=DATE, status="committed"))
    assert run(tmp_path).status == "committed"


def test_night_that_is_told_late_gets_the_page_that_it_would_have_had(given_back, monkeypatch, tmp_path):
    inbox, root = Storage(str(tmp_path / "inbox")), Storage(str(tmp_path / "root"))
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)
    monkeypatch.setattr(night_report, "track", lambda *_: "")
    untold = run_test_night(inbox, root, StandInDrafter(), num_workers=0, date="2026-11-19", max_failure_rate=0.1)
    inbox.put("new.png", png_bytes(70))
    shown: list[tuple[str, str]] = []
    monkeypatch.setattr(pages, "create_markdown_artifact", lambda text, key: shown.append((key, text)))
    monkeypatch.setattr(flow, "publish_night", lambda *_: NightSummary(date=DATE, status="committed"))
    run(tmp_path)
    expected = report_night(untold.model_copy(update={"times_s": {}}), root, Settings())
    assert [key for key, _ in shown] == ["nightly-plan", "nightly", "nightly"]
    assert shown[1] == ("nightly", expected)
    assert "Night of 2026-11-19: committed" in expected
    shown.clear()
    run(tmp_path)
    assert len(shown) == 2, "it is told once"


def test_flagged_night_that_is_told_late_raises_its_event(monkeypatch, tmp_path):
    flagged, plain = (
        NightSummary(
            date=date,
            status="committed",
            num_accepted=3,
            watch=NightWatch(status="no_reference", num_patients=1, faults=faults, withheld="is degenerate"),
        )
        for date, faults in (("2026-11-18", ("all drafts are the same",)), ("2026-11-19", ()))
    )
    raised: list[tuple[dict[str, str], dict[str, object]]] = []
    monkeypatch.setattr(inference, "open_root", lambda: (None, None))
    monkeypatch.setattr(inference, "tell_of_earlier", lambda *_: [(flagged, "one"), (plain, "other")])
    monkeypatch.setattr(inference, "emit_event", lambda _, resource, payload: raised.append((resource, payload)))
    assert inference.tell_of_earlier_nights.fn(None) == ["one", "other"]
    ((resource, payload),) = raised
    assert resource == {"prefect.resource.id": "crrg.night.2026-11-18"}
    assert payload == {
        "num_accepted": 3, "num_quarantined": 0, "differs": [], "faults": ["all drafts are the same"],
        "withheld": "is degenerate",
    }  # fmt: skip


def test_night_whose_server_goes_away_is_given_back(given_back, monkeypatch, tmp_path):
    monkeypatch.setattr(flow, "run_shards", out_of_reach)
    with pytest.raises(httpx.ConnectError):
        run(tmp_path)
    assert len(given_back) == 1
    assert find_holder(Storage(str(tmp_path / "root"))) is None


def test_night_that_a_flow_left_held_is_free_for_going_on_without_a_server(monkeypatch, tmp_path):
    inbox, root = Storage(str(tmp_path / "inbox")), Storage(str(tmp_path / "root"))
    fill_inbox(inbox, 1)
    plan = plan_night(night_config(inbox), root, BUNDLE, PSEUDONYMS)
    assert plan.status == "planned"
    assert find_holder(root) is not None
    held: list[object] = []
    monkeypatch.setattr(night_steps, "run_night", lambda *_: held.append(find_holder(root)))
    night_steps.go_on_with_night(night_config(inbox), root, Settings(hmac_key=SecretStr(KEY), root=root.root))
    assert held == [None]
