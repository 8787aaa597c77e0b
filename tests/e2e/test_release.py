"""A release is the same bytes for everybody, and holds what is in the commit alone."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import zipfile

import pytest

from deployments.release import build_wheel
from deployments.services import CHECKOUT

HAS_HISTORY = not subprocess.run(["git", "-C", str(CHECKOUT), "cat-file", "-e", "HEAD"], check=False).returncode
pytestmark = [pytest.mark.e2e, pytest.mark.skipif(not HAS_HISTORY, reason="not a clone")]


def test_a_commit_gives_one_wheel_whoever_builds_it_and_wherever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name, data = build_wheel("HEAD")
    before = os.umask(0o077)
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    try:
        assert build_wheel("HEAD") == (name, data)
    finally:
        os.umask(before)
    with zipfile.ZipFile(io.BytesIO(data)) as wheel:
        modes = {stat.S_IMODE(each.external_attr >> 16) for each in wheel.infolist()}
        assert "crrg/exports/review_page/index.html.j2" in wheel.namelist()
    assert modes <= {0o644, 0o664}
