"""A night that finds another at work says which one it is, whose, and until when it is held."""

from __future__ import annotations

import logging
import os
import re
import socket
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from crrg.ledger.lease import LIFETIME_S, LeaseRecord, lease_key
from crrg.ledger.lease_owner import Owner
from crrg.operations.night import nightly
from crrg.operations.summaries import night_markdown, plan_markdown
from crrg.storage import Storage
from tests.support.drawn_night import BUNDLE, DATE, PSEUDONYMS, StandInDrafter, night_config, png_bytes, run_test_night

OTHER_DATE = "2026-11-21"


@pytest.fixture
def places(tmp_path) -> tuple[Storage, Storage]:
    inbox, root = Storage(str(tmp_path / "inbox")), Storage(str(tmp_path / "root"))
    inbox.put("1.png", png_bytes(1))
    return inbox, root


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch) -> None:
    monkeypatch.setattr(nightly, "PATIENCE_S", 0.0)


def test_the_holder_of_another_night_is_named_with_its_end(places, caplog) -> None:
    inbox, root = places
    plan = nightly.plan_night(night_config(inbox), root, BUNDLE, PSEUDONYMS)
    assert plan.held_by == ""
    before = datetime.now(UTC).timestamp()
    with caplog.at_level(logging.INFO):
        held = run_test_night(inbox, root, StandInDrafter(), date=OTHER_DATE)
    said = re.search(
        rf"night {DATE} is held by process {os.getpid()} on {re.escape(socket.gethostname())} until (.*) UTC",
        held.held_by,
    )
    assert said, held.held_by
    until_s = datetime.fromisoformat(f"{said[1]}+00:00").timestamp()
    assert abs(until_s - before - LIFETIME_S) < 30
    assert OTHER_DATE not in held.held_by
    assert held.held_by in caplog.text
    assert held.held_by in night_markdown(held)
    nightly.release_night(plan, root)


def test_a_holder_on_another_machine_is_named_and_its_token_is_not(places) -> None:
    inbox, root = places
    owner = Owner(host="elsewhere", pid=7, process_start_s=1.0, token="secret-of-the-lease")
    record = LeaseRecord(owner=owner, lifetime_s=600.0, renewed_s=0.0)
    root.put_json(lease_key(DATE, 1), record.model_dump(mode="json"))
    plan = nightly.plan_night(night_config(inbox, date=OTHER_DATE), root, BUNDLE, PSEUDONYMS)
    assert f"night {DATE} is held by process 7 on elsewhere until " in plan.held_by
    assert "secret" not in plan.held_by
    assert plan.held_by in plan_markdown(plan)


def test_a_holder_that_has_just_ended_is_nobody(places, monkeypatch) -> None:
    inbox, root = places
    monkeypatch.setattr(nightly, "acquire_lease", lambda *_: None)
    plan = nightly.plan_night(night_config(inbox), root, BUNDLE, PSEUDONYMS)
    assert (plan.status, plan.held_by) == (
        "held",
        "another run started at the same time, or has just ended; run this night again",
    )


def test_a_second_run_is_held_and_the_first_commits(places) -> None:
    inbox, root = places
    plan = nightly.plan_night(night_config(inbox, num_workers=0), root, BUNDLE, PSEUDONYMS)
    held = run_test_night(inbox, root, StandInDrafter())
    other_date = run_test_night(inbox, root, StandInDrafter(), date=OTHER_DATE)
    assert (held.status, nightly.exit_code(held)) == ("held", 0)
    assert (other_date.status, nightly.exit_code(other_date)) == ("held", 1), "nobody runs that night"
    result = nightly.run_shard(plan, plan.shards[0], root, PSEUDONYMS, StandInDrafter())
    assert nightly.commit_night(plan, [result], root).status == "committed"
    assert root.list_objects("leases") == []


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12"])
def test_a_night_without_a_date_has_that_of_its_own_time_zone(tmp_path, zone):
    (tmp_path / "inbox").mkdir()
    config = night_config(Storage(str(tmp_path / "inbox")), date="", timezone=zone)
    days = {datetime.now(ZoneInfo(zone)).date().isoformat()}
    plan = nightly.plan_night(config, Storage(str(tmp_path / "root")), BUNDLE, PSEUDONYMS)
    assert plan.date in days | {datetime.now(ZoneInfo(zone)).date().isoformat()}
