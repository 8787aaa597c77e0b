"""An operator's stop that comes when every shard of a night is done: it is not published."""

from __future__ import annotations

from typing import Any

import pytest

from crrg.errors import StorageError
from crrg.ledger.manifest import commit_manifest, fencing_numbers, read_manifests
from crrg.operations.night import commit as night_commit
from crrg.operations.night.digest import committed_digest
from crrg.operations.night.nightly import commit_night, exit_code, plan_night, run_night, run_shard
from crrg.operations.stop import STOP_KEY
from crrg.operations.upkeep.audit import verify_audit
from crrg.storage import Storage
from tests.support.drawn_night import BUNDLE, PSEUDONYMS, StandInDrafter, fill_inbox, night_config, run_test_night


@pytest.mark.parametrize("shard_size", [100, 4])
def test_a_stop_after_the_last_shard_publishes_nothing(tmp_path, caplog, shard_size):
    inbox, root, other = (Storage(str(tmp_path / name)) for name in ("inbox", "root", "other"))
    fill_inbox(inbox, 4)
    config, drafter = night_config(inbox, shard_size=shard_size), StandInDrafter()
    results: list[object] = []

    def stop(plan, result):
        results.append(result)
        if len(results) == len(plan.shards):
            root.put(STOP_KEY, b"")

    summary = run_night(config, root, BUNDLE, PSEUDONYMS, lambda: drafter, on_shard=stop)
    assert (summary.status, exit_code(summary), summary.num_pending) == ("stopped", 1, summary.num_inputs)
    assert f"was stopped before it was published; remove {STOP_KEY} and run it again to go on" in caplog.text
    assert committed_digest(root, "") == committed_digest(other, "")
    assert root.list_objects("leases") == []

    root.delete(STOP_KEY)
    again = StandInDrafter()
    assert run_test_night(inbox, root, again, shard_size=shard_size).status == "committed"
    assert again.num_drafted == 0
    run_test_night(inbox, other, StandInDrafter(), shard_size=shard_size)
    assert committed_digest(root, "") == committed_digest(other, "")


@pytest.fixture
def finished(inbox, root):
    """A night whose only shard is done, with its root."""
    fill_inbox(inbox, 1)
    plan = plan_night(night_config(inbox, shard_size=100), root, BUNDLE, PSEUDONYMS)
    return plan, [run_shard(plan, plan.shards[0], root, PSEUDONYMS, StandInDrafter())], root


def fail_at(step: str, finished, monkeypatch, *, lands: bool = False) -> None:
    """Try to commit, and let an answer be lost on the way."""

    def lose_answer(*given: Any) -> None:
        if lands:
            commit_manifest(*given)
        raise StorageError("no answer", retryable=True)

    with monkeypatch.context() as patch:
        patch.setattr(night_commit, step, lose_answer)
        with pytest.raises(StorageError, match="no answer"):
            commit_night(*finished)


def test_a_stop_while_the_answer_of_a_commit_is_awaited_stops_it_no_more(finished, monkeypatch):
    _, _, root = finished
    fail_at("commit_manifest", finished, monkeypatch, lands=True)
    root.put(STOP_KEY, b"")
    summary = commit_night(*finished)
    assert (summary.status, summary.digest) == ("committed", committed_digest(root, ""))
    assert root.list_objects("leases") == []


@pytest.mark.parametrize("step", ["audit_night", "commit_manifest"])
def test_a_stop_after_a_commit_that_did_not_land_stops_it_and_lets_none_land_later(finished, monkeypatch, step):
    plan, _, root = finished
    fail_at(step, finished, monkeypatch)
    root.put(STOP_KEY, b"")
    assert commit_night(*finished).status == "stopped"
    assert (read_manifests(root), fencing_numbers(root, plan.date)) == ([], [plan.fencing])
    assert verify_audit(root).problems == ()
