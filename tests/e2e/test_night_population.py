"""Nights through real flow, models and server: what is unlike the training is told the same night, and so is a stop.

The networks are of the smallest size and were never trained: nights are compared with what they draft of other films.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from pydantic import SecretStr

from crrg.config.data import IngestConfig
from crrg.config.references import NightSummary
from crrg.data.phantom.cohort import write_cohort
from crrg.ledger.manifest import read_manifests
from crrg.operations.ingest.ingest import ingest
from crrg.storage import Storage
from deployments.automations import ensure_automations
from deployments.services import Service
from tests.support.drawn_night import PSEUDONYMS, night_config
from tests.support.keys import KEY
from tests.support.planted_changes import changed, negative
from tests.support.random_bundle import random_bundle
from tests.support.webhook_sink import WebhookSink

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SEED, SIZE, NUM_TRAIN, NUM_NIGHT = 7, 64, 80, 40
Plant = Callable[[int, bytes], bytes]


class World:
    """A root with a bundle, and a server that hears of its nights."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root, self.sink = folder, Storage(str(folder / "root")), WebhookSink()
        write_cohort(folder / "cohort", NUM_TRAIN, SEED, SIZE)
        shares = {"train_share": 0.5, "validation_share": 0.49, "image_size": SIZE, "num_workers": 1}
        form = IngestConfig.model_validate({"source": [str(folder / "cohort")], "dataset": "drawn", **shares})
        bundle = random_bundle(self.root, ingest(form, self.root, PSEUDONYMS).dataset)
        self.model = self.root.url(bundle.prefix)
        self._num_nights = 0

    def night(self, date: str, plant: Plant) -> State[Any]:
        """Run the flow over fresh films to which something happened; return the state in which its run ended."""
        from flows.nightly import nightly

        self._num_nights += 1
        write_cohort(self.folder / date, NUM_NIGHT, SEED, SIZE, start=1000 * self._num_nights)
        inbox = Storage(str(self.folder / f"inbox-{date}"))
        for number, path in enumerate(sorted((self.folder / date).rglob("*.dcm"))):
            inbox.put(f"{number:03d}.dcm", plant(number, path.read_bytes()))
        return nightly(night_config(inbox, date=date, model=self.model, shard_size=200), return_state=True)

    def published(self, date: str, plant: Plant) -> tuple[NightSummary, set[str]]:
        """Run a night; return it and the quantities that differ from the training."""
        summary: NightSummary = self.night(date, plant).result()
        assert summary.watch is not None
        assert (summary.status, summary.watch.status) == ("committed", "compared")
        return summary, {each.quantity for each in summary.watch.flagged}


@pytest.fixture(scope="module")
def made_world(prefect_server: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("population"))
    with get_client(sync_client=True) as client:
        for left in client.read_automations():  # by another test on this server
            client.delete_automation(left.id)
        ensure_automations(client, SecretStr(made.sink.url))
    yield made
    made.sink.close()


@pytest.fixture
def world(made_world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("CRRG_ROOT", made_world.root.root)
    monkeypatch.setenv("CRRG_HMAC_KEY", KEY)
    return made_world


def test_a_planted_polarity_flip_is_told_the_same_night_and_a_night_like_the_training_is_not(world: World) -> None:
    usual, differs = world.published("2026-11-20", lambda _, film: film)
    assert (differs, usual.is_flagged) == (set(), False)
    flipped, differs = world.published("2026-11-21", lambda _, film: negative(film))
    assert "film/likeness" in differs
    word = world.sink.wait_for("flagged", "2026-11-21")
    assert word["num_accepted"] == str(flipped.num_accepted) == str(NUM_NIGHT)
    assert set(word["differs"].split(", ")) == differs
    assert not [post for post in world.sink.posts if post["night"].endswith("2026-11-20")]


def test_thirty_percent_laterals_are_told_the_same_night(world: World) -> None:
    num_lateral = NUM_NIGHT * 3 // 10
    summary, differs = world.published(
        "2026-11-22", lambda number, film: changed(film, ViewPosition="LATERAL") if number < num_lateral else film
    )
    assert summary.reasons == {"VIEW.LATERAL": num_lateral}
    assert "film/view" in differs
    word = world.sink.wait_for("flagged", "2026-11-22")
    assert (word["num_quarantined"], set(word["differs"].split(", "))) == (str(num_lateral), differs)


def test_a_night_that_a_forgotten_stop_held_back_is_told_every_time(world: World) -> None:
    world.root.put("control/STOP", b"")
    try:
        state = world.night("2026-11-23", lambda _, film: film)
    finally:
        world.root.delete("control/STOP")
    assert state.is_failed()
    assert "control/STOP" in str(state.message)
    assert world.sink.wait_for("failed", "2026-11-23")["state"] == "Failed"
    assert read_manifests(world.root, "2026-11-23") == []
