"""Failed, late and flagged nights send word to a webhook, which says the night and how many, nothing of a patient."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.events import emit_event
from pydantic import SecretStr

from deployments.automations import ensure_automations, tell_failed_nights, tell_late_nights
from deployments.services import Service
from tasks.inference import FLAGGED_NIGHT
from tests.support.keys import KEY
from tests.support.webhook_sink import WebhookSink

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture
def sink(prefect_server: Service) -> Iterator[WebhookSink]:
    found = WebhookSink()
    told = [f"tell of {kind} nights" for kind in ("failed", "late", "flagged")]
    names = ["runs without a heartbeat have crashed", *told]
    with get_client(sync_client=True) as client:
        for left in client.read_automations():  # by another test on this server
            client.delete_automation(left.id)
        assert ensure_automations(client, SecretStr(found.url)) == [f"crrg: {name}" for name in names]
        assert ensure_automations(client, SecretStr(found.url)) == [], "the second time nothing is left to do"
        changed = tell_failed_nights(uuid4())
        client.update_automation(client.read_automations_by_name(changed.name)[0].id, changed)
        assert ensure_automations(client, SecretStr(found.url)) == [changed.name], "what was changed is corrected"
    yield found
    found.close()


def test_failed_and_flagged_nights_send_word(
    sink: WebhookSink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.nightly import nightly

    monkeypatch.setenv("CRRG_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("CRRG_HMAC_KEY", KEY)
    form = {"inbox": str(tmp_path / "inbox"), "timezone": "UTC", "model": "there-is-no-such-bundle"}
    today = datetime.now(UTC).date()
    state = nightly(form, return_state=True)
    assert state.is_failed()
    assert sink.wait_for("failed") == {
        "what": "failed", "night": f"nightly-{today}", "flow_run_id": str(state.state_details.flow_run_id),
        "state": "Failed",
    }  # fmt: skip
    emit_event(
        FLAGGED_NIGHT,
        {"prefect.resource.id": "crrg.night.2026-03-10"},
        payload={
            "num_accepted": 7, "num_quarantined": 2, "differs": ["film/likeness", "film/view"],
            "faults": ['64% of 25 drafts "read the same"', "drafts have 2 words on average, 9\\40 & <more>"],
            "withheld": "is degenerate",
        },
    )  # fmt: skip
    assert sink.wait_for("flagged") == {
        "what": "flagged", "night": "nightly-2026-03-10", "num_accepted": "7", "num_quarantined": "2",
        "differs": "film/likeness, film/view", "withheld": "is degenerate",
        "faults": '64% of 25 drafts "read the same"; drafts have 2 words on average, 9\\40 & <more>',
    }  # fmt: skip
    emit_event(FLAGGED_NIGHT, {"prefect.resource.id": "crrg.night.2026-03-09"}, payload={"num_accepted": 7})
    older = sink.wait_for("flagged", "nightly-2026-03-09")
    assert (older["differs"], older["faults"], older["withheld"]) == ("", "", ""), "of a worker that says less"
    with get_client(sync_client=True) as client:
        automations = {each.name: each for each in client.read_automations()}
    dead = automations["crrg: runs without a heartbeat have crashed"]
    assert dead.trigger.within >= timedelta(seconds=3 * 180)
    assert "secret-of-the-hook" not in "".join(each.model_dump_json() for each in automations.values())


def test_a_night_that_nobody_starts_sends_word(sink: WebhookSink) -> None:
    from flows.nightly import nightly

    with get_client(sync_client=True) as client:
        current = client.read_automations_by_name("crrg: tell of late nights")[0]
        block_id = current.actions[0].block_document_id
        client.update_automation(current.id, tell_late_nights(block_id, timedelta(seconds=10)))
        started, waiting = (client.create_flow_run(nightly, name=f"nightly-2026-03-{day}") for day in (11, 12))
    before = None
    for event, run in (("Late", started), ("Late", waiting), ("Running", started)):
        # the server handles two events at a time: what ran before it knew to be late would be late all the same
        before = emit_event(
            f"prefect.flow-run.{event}",
            {"prefect.resource.id": f"prefect.flow-run.{run.id}", "prefect.resource.name": run.name},
            related=[
                {
                    "prefect.resource.id": f"prefect.flow.{run.flow_id}",
                    "prefect.resource.role": "flow",
                    "prefect.resource.name": "nightly",
                }
            ],
            follows=before,
        )
    word = sink.wait_for("late")
    assert (word["night"], word["flow_run_id"]) == ("nightly-2026-03-12", str(waiting.id))
    assert [each["night"] for each in sink.posts if each["what"] == "late"] == ["nightly-2026-03-12"]
