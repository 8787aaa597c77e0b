"""What every test gets: one torch thread, no telemetry, no settings from outside, a reason where data are missing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import torch

OUTSIDE = ("CRRG_", "AWS_", "MLFLOW_TRACKING_", "PREFECT_API_")
TO_TESTS = ("CRRG_OPEN_DATA", "CRRG_WRITE_FORMS", "CRRG_CHROMIUM", "CRRG_DEMO_ROOT")
"""What a person says to the tests themselves."""
# here and not in a fixture: modules of tests make settings, too, and their children inherit what is left
for variable in [name for name in os.environ if name.startswith(OUTSIDE) and name not in TO_TESTS]:
    del os.environ[variable]
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

CHECKOUT = Path(__file__).resolve().parents[1]
BETWEEN_TESTS = (
    "CRRG_ROOT",
    "CRRG_HMAC_KEY",
    "CRRG_HMAC_KEY_FILE",
    "MLFLOW_TRACKING_URI",
    "PREFECT_API_URL",
)


def pytest_configure() -> None:
    """Refuse to begin where tests, and what they start, would take settings from a file of the person who runs them."""
    if Path("crrg.toml").exists():
        raise pytest.UsageError("tests would take settings from crrg.toml in this folder; move it away meanwhile")


@pytest.fixture(autouse=True)
def _settings_of_the_test_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in BETWEEN_TESTS:
        monkeypatch.delenv(name, raising=False)
    # set, so that what a command in this process puts there goes with the test
    monkeypatch.setenv("CRRG_FLAG_ROOT", "")


@pytest.fixture(scope="session")
def checkout() -> Path:
    return CHECKOUT


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--device",
        choices=("cuda", "cpu"),
        default="cuda",
        help="where tests marked gpu run; cpu runs their bodies without one, which tests the tests",
    )


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    """Where a test marked ``gpu`` puts its networks: a GPU, or the CPU if asked for."""
    from crrg.device import resolve_device

    return resolve_device(request.config.getoption("--device"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    open_data = os.environ.get("CRRG_OPEN_DATA", "")
    for item in items:
        if item.get_closest_marker("real") and not Path(open_data or "/nonexistent").is_dir():
            item.add_marker(pytest.mark.skip(reason="needs open data: set CRRG_OPEN_DATA to its folder"))
        if item.get_closest_marker("gpu") and config.getoption("--device") == "cuda" and not _has_gpu():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
