"""The end of a run waits for a Prefect server that takes what is left, and not for one that is gone."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from prefect.events import emit_event
from prefect.events.worker import EventsWorker
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED, temporary_settings
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

from flows.outbox import send_the_rest

NUM_EVENTS = 20


@pytest.fixture(autouse=True)
def _nothing_left_of_other_tests() -> None:
    EventsWorker.drain_all(timeout=30)


class EventSocket:
    """The socket of a Prefect server that takes events."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self._connections: list[ServerConnection] = []
        self.server: Server = serve(self._take, "127.0.0.1", 0)
        self._thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.server.socket.getsockname()[1]}/api"

    def _take(self, connection: ServerConnection) -> None:
        self._connections.append(connection)
        connection.recv()
        connection.send(json.dumps({"type": "auth_success"}))
        with contextlib.suppress(ConnectionClosed):
            for message in connection:
                self.taken.append(json.loads(message)["event"])

    def die(self) -> None:
        self.server.shutdown()
        self._thread.join()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def running_socket() -> Iterator[EventSocket]:
    events = EventSocket()
    settings = {PREFECT_API_URL: events.api_url, PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED: False}
    try:
        with temporary_settings(settings):
            yield events
    finally:
        events.die()


def emit(name: str) -> None:
    emit_event(name, {"prefect.resource.id": "crrg.test"})


def test_a_server_that_answers_gets_every_event():
    names = [f"crrg.test-{number}" for number in range(NUM_EVENTS)]
    with running_socket() as events:
        for name in names:
            emit(name)
        send_the_rest(30.0)
        assert not EventsWorker._instances
        deadline_s = time.monotonic() + 10
        while len(events.taken) < NUM_EVENTS and time.monotonic() < deadline_s:
            time.sleep(0.01)
        assert events.taken == names


def test_for_a_server_that_is_gone_nothing_waits_long(caplog):
    with running_socket() as events:
        emit("crrg.first")
        worker = EventsWorker.instance()
        worker.wait_until_empty()
        events.die()
        for _ in range(NUM_EVENTS):  # each would be tried for 7 s
            emit("crrg.later")
        started_s = time.monotonic()
        send_the_rest(0.3)
        worker.drain(at_exit=True)  # as the end of the process does
        assert time.monotonic() - started_s < 5
    assert "dropped" in caplog.text


def test_without_a_run_there_is_nothing_to_send(caplog):
    send_the_rest(0.0)
    assert not caplog.text
