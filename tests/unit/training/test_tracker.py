"""A tracking server that goes away at the start, in the middle and at the end of a training."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from crrg.errors import StorageError
from crrg.training.tracker import ASK_AGAIN_AFTER_S, NullTracker, PatientTracker


class Server(NullTracker):
    """Stands in for a run on a tracking server."""

    run_id = "run"

    def __init__(self) -> None:
        self.is_away = False
        self.num_asked = 0
        self.steps: list[int | None] = []

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.num_asked += 1
        if self.is_away:
            raise StorageError("the tracking server does not answer", "MLFLOW_TRACKING_URI", retryable=True)
        self.steps.append(step)


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_a_training_goes_on_without_its_server_and_hands_over_what_waited() -> None:
    server, clock = Server(), Clock()
    tracker = PatientTracker(server, clock)
    tracker.log_metrics({"train/loss": 2.0}, step=1)
    server.is_away = True
    for step in range(2, 9):
        tracker.log_metrics({"train/loss": 1.0}, step=step)
    assert server.num_asked == 2, "a training does not stand still for every step while its server is away"
    assert tracker.run_id == "run"
    server.is_away = False
    clock.now_s += ASK_AGAIN_AFTER_S
    tracker.log_metrics({"train/loss": 0.5}, step=9)
    assert server.steps == list(range(1, 10)), "all of it, once, in its order"
    tracker.log_metrics({"train/loss": 0.4}, step=10)
    assert server.steps[-1] == 10


def test_a_training_does_not_begin_where_its_run_cannot() -> None:
    server = Server()
    server.is_away = True
    with pytest.raises(StorageError, match="does not answer"):
        PatientTracker(server).log_metrics({"train/loss": 2.0}, step=1)


def test_what_waits_goes_out_at_the_end_and_what_never_went_is_given_back() -> None:
    server = Server()
    tracker = PatientTracker(server)
    tracker.log_metrics({}, step=1)
    server.is_away = True
    tracker.log_metrics({}, step=2)
    tracker.log_metrics({}, step=3)
    left = [("log_metrics", {"metrics": {}, "step": step}) for step in (2, 3)]
    assert list(tracker.close()) == left
    server.is_away = False
    assert tracker.close() == ()
    assert server.steps == [1, 2, 3]
