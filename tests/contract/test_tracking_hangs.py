"""A tracking server that takes connections and says nothing."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from crrg.config.base import Settings
from crrg.storage import Storage
from crrg.tracking.runs import open_tracker

EXIT_SIGTERM = 143
MOST_S = 30.0
"""By then a process that was told to end has to have ended; the server's own patience is minutes."""


@pytest.fixture
def silent_server() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0), backlog=8) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def be_ended(server: str, root: Path) -> None:
    settings = Settings(root=str(root), mlflow_tracking_uri=server)
    with open_tracker(settings, Storage(str(root)), "train-clip", "clip", run_id="0" * 32):
        raise SystemExit(EXIT_SIGTERM)


def test_a_process_that_is_told_to_end_does_not_wait_for_it(
    silent_server: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    started_s = time.monotonic()
    with pytest.raises(SystemExit) as ended:
        be_ended(silent_server, tmp_path)
    assert ended.value.code == EXIT_SIGTERM
    assert time.monotonic() - started_s < MOST_S
    assert "the end of its run could not be recorded" in caplog.text
