"""What every test gets: one torch thread, no telemetry, no settings from outside, a reason where data are missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

CHECKOUT = Path(__file__).resolve().parents[1]
FOREIGN = (
    "CRRG_ROOT",
    "CRRG_HMAC_KEY",
    "CRRG_HMAC_KEY_FILE",
    "MLFLOW_TRACKING_URI",
    "PREFECT_API_URL",
)


@pytest.fixture(autouse=True)
def _settings_of_the_test_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)
    # set, so that what a command in this process puts there goes with the test
    monkeypatch.setenv("CRRG_FLAG_ROOT", "")


@pytest.fixture(scope="session")
def checkout() -> Path:
    return CHECKOUT


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    open_data = os.environ.get("CRRG_OPEN_DATA", "")
    for item in items:
        if item.get_closest_marker("real") and not Path(open_data or "/nonexistent").is_dir():
            item.add_marker(pytest.mark.skip(reason="needs open data: set CRRG_OPEN_DATA to its folder"))
        if item.get_closest_marker("gpu") and not _has_gpu():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
