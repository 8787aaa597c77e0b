"""What lies in the environment or the folder of whoever runs the tests decides nothing in them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from crrg.config.base import Settings

OUTSIDE = {
    "CRRG_IDENTIFIED_ROOT": "s3://of/another",
    "CRRG_MAX_PIXELS": "2000000",
    "CRRG_PRINCIPAL": "somebody",
    "CRRG_S3_SSE": "AES256",
    "AWS_ACCESS_KEY_ID": "an-id",
    "AWS_PROFILE": "a-profile",
    "MLFLOW_TRACKING_USERNAME": "somebody",
    "PREFECT_API_AUTH_STRING": "a:b",
}


def test_variables_are_gone_before_a_test_is_collected(checkout: Path) -> None:
    env = {**os.environ, **OUTSIDE, "CRRG_OPEN_DATA": "/data"}
    code = (
        "import json, os, tests.conftest; from crrg.config.base import Settings;"
        "print(json.dumps([dict(os.environ), Settings().model_dump(mode='json')]))"
    )
    child = subprocess.run([sys.executable, "-c", code], cwd=checkout, env=env, capture_output=True, check=True)
    left, settings = json.loads(child.stdout)
    assert not left.keys() & OUTSIDE.keys()
    assert left["CRRG_OPEN_DATA"] == "/data"
    assert settings == Settings(open_data=Path("/data")).model_dump(mode="json")


def test_a_file_of_settings_stops_the_tests(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "crrg.toml").write_text('principal = "somebody"\n')
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "--collect-only",
        str(checkout / "tests/contract"),
    ]
    child = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert child.returncode == 4
    assert "move it away" in child.stderr
