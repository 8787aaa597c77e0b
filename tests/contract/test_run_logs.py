"""Log lines of the library in the orchestrator's view: a worker's process shows what a command shows."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from deployments.services import CHECKOUT, PREFECT_ENV

CODE = """
import logging
from prefect.logging.configuration import setup_logging
setup_logging()
import {module}
logger = logging.getLogger("crrg.progress")
print(logger.isEnabledFor(logging.INFO), [type(each).__name__ for each in logging.getLogger("crrg").handlers])
"""


@pytest.mark.parametrize("module", ["flows.promote", "tasks.inference"])
def test_a_worker_shows_the_librarys_progress(module: str) -> None:
    env = {**os.environ, **PREFECT_ENV, "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-c", CODE.format(module=module)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True, cwd=CHECKOUT)
    assert done.stdout.split(maxsplit=1) == ["True", "['APILogHandler']\n"]


def test_a_level_that_somebody_set_stays() -> None:
    code = "import logging; logging.getLogger('crrg').setLevel(logging.ERROR); import tasks; "
    code += "print(logging.getLogger('crrg').level == logging.ERROR)"
    env = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
