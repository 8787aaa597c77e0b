"""An S3 server on this machine that holds given films, and a way to it that is as slow as one to another building."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crrg.storage import Storage
from deployments.services import start_object_store

BUCKET = "speed"


@contextmanager
def bucket_of(films: list[Path], folder: Path) -> Iterator[int]:
    """Run an S3 server that holds the films; its keys stand in the environment; yield its port."""
    shutil.rmtree(folder, ignore_errors=True)
    access_key, secret_key = secrets.token_hex(8), secrets.token_hex(16)
    service = start_object_store(folder, access_key=access_key, secret_key=secret_key, bucket=BUCKET)
    os.environ.update(service.env)
    try:
        store = Storage(f"s3://{BUCKET}/films")
        for path in films:
            store.put(path.name, path.read_bytes())
        yield int(service.url.rsplit(":", 1)[1])
    finally:
        service.stop(0)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def relay(port: int, delay_s: float) -> Iterator[int]:
    """Run a relay to a port; yield its own."""
    command = [sys.executable, "-m", "benchmarks.ingest.slow_store", str(port), str(delay_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None:
            raise AssertionError("unreachable: the relay has a pipe")
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()
