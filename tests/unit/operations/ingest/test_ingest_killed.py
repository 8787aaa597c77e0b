"""An ingest that is killed leaves nothing of its films and reports among the temporary files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from crrg.storage import Storage
from tests.support.drawn_night import dicom_bytes

INGEST = """
import os, signal, sys
from crrg.config.data import IngestConfig
from crrg.data.dataset.parts import PartWriter
from crrg.data.decoding.pool import decode_many
from crrg.operations.ingest import run
from crrg.operations.ingest.ingest import ingest
from crrg.storage import Storage
from tests.support.drawn_night import PSEUDONYMS

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

source, root, moment = sys.argv[1:]
run.decode_many = lambda items, size, _, **__: decode_many(items, size, 0)
setattr(*{"rows": (run.IngestRun, "splits"), "parts": (PartWriter, "send")}[moment], die)
ingest(IngestConfig(source=(source,), dataset="chest", image_size=64), Storage(root), PSEUDONYMS)
"""


@pytest.mark.parametrize("moment", ["rows", "parts"])
def test_an_ingest_that_is_killed_leaves_nothing_among_temporary_files(tmp_path: Path, moment: str) -> None:
    source, temporary = Storage(str(tmp_path / "films")), tmp_path / "temporary"
    temporary.mkdir()
    for number in range(1, 4):
        film = dicom_bytes(number, study=str(number), instance=str(10 + number), patient=f"P{number}")
        source.put(f"{number}.dcm", film)
    command = [sys.executable, "-c", INGEST, source.root, str(tmp_path / "root"), moment]
    ended = subprocess.run(command, env={**os.environ, "TMPDIR": str(temporary)}, check=False, timeout=120)
    assert ended.returncode == -signal.SIGKILL
    assert list(temporary.rglob("*")) == []
