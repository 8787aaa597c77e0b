"""What the orchestrator does by itself: dead runs are called crashed; failed, cancelled, late, flagged nights are told.

Word goes to the address in ``CRRG_WEBHOOK_URL``, a secret that is kept in a block of the server. It says which night
and how many objects, nothing of any of them.
"""

from __future__ import annotations

import json
from datetime import timedelta

from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import CallWebhook, ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.settings import get_current_settings
from prefect.types import SecretDict
from pydantic import SecretStr

from tasks.inference import FLAGGED_NIGHT

WEBHOOK_BLOCK = "crrg-nights"
DEFAULT_HEARTBEAT_S = 180
MISSED_HEARTBEATS = 3
RUN = "prefect.flow-run"
ENDINGS = ("Completed", "Failed", "Cancelled", "Crashed", "TimedOut")
FAILURES = ("Failed", "Crashed", "TimedOut", "Cancelled")
LATE_AFTER = timedelta(minutes=15)
"""How long a night may be late before word is sent: without a worker in its pool it would wait for ever."""
_NIGHT = {"night": "{{ flow_run.name }}", "flow_run_id": "{{ flow_run.id }}", "state": "{{ flow_run.state.name }}"}
_OF_NIGHTS = {"prefect.resource.role": "flow", "prefect.resource.name": "nightly"}


def ensure_automations(client: SyncPrefectClient, webhook_url: SecretStr) -> list[str]:
    """Create or correct the automations; return what was changed, nothing where all of it was as it should be.

    Args:
        client: Of the server.
        webhook_url: Where word of nights goes; without it there are no automations that send any.
    """
    wanted = [crash_dead_runs()]
    if webhook_url.get_secret_value():
        block = Webhook(url=webhook_url, headers=SecretDict({"content-type": "application/json"}))
        block_id = block.save(WEBHOOK_BLOCK, overwrite=True)
        wanted += [tell_failed_nights(block_id), tell_late_nights(block_id), tell_flagged_nights(block_id)]
    return [automation.name for automation in wanted if _ensure(client, automation)]


def crash_dead_runs() -> AutomationCore:
    """Return the automation that calls a run crashed whose process sends no heartbeat any more.

    Three missed heartbeats: a shorter time would crash healthy runs at the default frequency.
    """
    every_s = get_current_settings().flows.heartbeat_frequency or DEFAULT_HEARTBEAT_S
    return AutomationCore(
        name="crrg: runs without a heartbeat have crashed",
        description="A worker that was killed leaves its run in Running; the next one can take its night over.",
        trigger=EventTrigger(
            match={"prefect.resource.id": f"{RUN}.*"},
            after={f"{RUN}.heartbeat"},
            expect={f"{RUN}.heartbeat", *(f"{RUN}.{ending}" for ending in ENDINGS)},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=MISSED_HEARTBEATS * every_s),
        ),
        actions=[
            ChangeFlowRunState(state=StateType.CRASHED, message="no heartbeat: its process is gone; run it again")
        ],
    )


def tell_failed_nights(block_id: object) -> AutomationCore:
    """Return the automation that sends word of a night that ended without a commit."""
    return AutomationCore(
        name="crrg: tell of failed nights",
        trigger=EventTrigger(
            match={"prefect.resource.id": f"{RUN}.*"},
            match_related=_OF_NIGHTS,
            expect={f"{RUN}.{ending}" for ending in FAILURES},
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        actions=[_call(block_id, {"what": "failed", **_NIGHT})],
    )


def tell_late_nights(block_id: object, late_after: timedelta = LATE_AFTER) -> AutomationCore:
    """Return the automation that sends word of a scheduled night that nobody starts."""
    return AutomationCore(
        name="crrg: tell of late nights",
        description="No worker of the pool `night` is there, or all it may run at a time is running.",
        trigger=EventTrigger(
            match={"prefect.resource.id": f"{RUN}.*"},
            match_related=_OF_NIGHTS,
            after={f"{RUN}.Late"},
            expect={f"{RUN}.{state}" for state in ("Running", *ENDINGS)},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=late_after,
        ),
        actions=[_call(block_id, {"what": "late", **_NIGHT})],
    )


def tell_flagged_nights(block_id: object) -> AutomationCore:
    """Return the automation that sends word of a published night that somebody should look at."""
    values = {
        "night": "{{ event.resource.id | replace('crrg.night.', 'nightly-') }}",
        "num_accepted": "{{ event.payload.num_accepted }}",
        "num_quarantined": "{{ event.payload.num_quarantined }}",
        "differs": "{{ event.payload.differs | default([]) | join(', ') }}",
        "faults": _quoted("event.payload.faults | default([]) | join('; ')"),
        "withheld": _quoted("event.payload.withheld | default('')"),
    }
    return AutomationCore(
        name="crrg: tell of flagged nights",
        trigger=EventTrigger(
            match={"prefect.resource.id": "crrg.night.*"},
            expect={FLAGGED_NIGHT},
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        actions=[_call(block_id, {"what": "flagged", **values})],
    )


def _quoted(expression: str) -> str:
    """Return the template of a sentence, which may hold what ends a JSON string, for the inside of one."""
    return f"{{{{ ({expression} | tojson)[1:-1] }}}}"


def _call(block_id: object, values: dict[str, str]) -> CallWebhook:
    return CallWebhook.model_validate({"block_document_id": block_id, "payload": json.dumps(values)})


def _ensure(client: SyncPrefectClient, wanted: AutomationCore) -> bool:
    """Create an automation, or correct one of its name that differs; return whether anything was done."""
    found = client.read_automations_by_name(wanted.name)
    if not found:
        client.create_automation(wanted)
        return True
    current = AutomationCore.model_validate(found[0].model_dump(include=set(AutomationCore.model_fields)))
    if current.model_dump() == wanted.model_dump():  # sets of events have no order, as lists of JSON would
        return False
    client.update_automation(found[0].id, wanted)
    return True
