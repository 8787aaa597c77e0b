"""What ``make up`` writes for other shells, in whatever folder it lies."""

from __future__ import annotations

import subprocess
from pathlib import Path

from deployments.services import Service
from deployments.up import exports, welcome


def test_a_shell_reads_back_what_is_exported(tmp_path: Path) -> None:
    env = {"CRRG_ROOT": "s3://crrg/data", "PREFECT_HOME": "/home/o'brien/my films/prefect"}
    (tmp_path / "env.sh").write_text(exports(env))
    script = f'. {tmp_path}/env.sh; printf "%s\\n" "$CRRG_ROOT" "$PREFECT_HOME"'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == list(env.values())


def test_the_first_step_can_be_typed_as_it_stands(tmp_path: Path) -> None:
    folder = tmp_path / "it's mine"
    folder.mkdir()
    (folder / "env.sh").write_text("echo read")
    services = [Service(name, "http://here", None, folder, {}) for name in ("prefect-server", "mlflow", "object-store")]  # type: ignore[arg-type]
    lines = welcome(services, folder).splitlines()
    (step,) = [line for line in lines if "env.sh" in line]
    assert subprocess.run(["bash", "-c", step], capture_output=True, text=True, check=True).stdout == "read\n"
