"""An operator's stop that comes when every shard of a night is done: it is not published."""

from __future__ import annotations

import pytest

from crrg.operations.night.digest import committed_digest
from crrg.operations.night.nightly import exit_code, run_night
from crrg.operations.stop import STOP_KEY
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
