"""What is locked is not older than it may be, and an audit that learned nothing is never taken for a clean one."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from datetime import date
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from deployments import audit

LOCKED = {"pydicom": "3.0.2", "torch": "2.15.0"}


def finding(name: str, version: str, *ids: str) -> dict[str, Any]:
    return {
        "name": name,
        "version": version,
        "vulns": [{"id": each, "fix_versions": ["9.9"], "aliases": [], "description": ""} for each in ids],
    }


def test_nothing_is_locked_below_its_floor(checkout: Path) -> None:
    locked, floors = audit.locked_versions((checkout / "requirements.lock").read_text()), audit.read_floors()
    assert set(floors) == {"pydicom", "prefect", "mlflow", "torch", "transformers", "pyarrow", "s3fs"}
    assert audit.below_floors(locked, floors) == []


def test_a_package_that_is_named_is_locked_and_imported_or_known_to_be_needed_unseen(checkout: Path) -> None:
    project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["dicom"], *extras["auth"]]
    named = {re.split(r"[<>=,]", requirement)[0] for requirement in asked}
    assert named <= {*audit.locked_versions((checkout / "requirements.lock").read_text())}
    rooms = ("crrg", "tasks", "flows", "deployments")
    text = "\n".join(path.read_text() for room in rooms for path in (checkout / room).rglob("*.py"))
    imported = set(re.findall(r"^\s*(?:import|from) (\w+)", text, re.MULTILINE))
    found = {each for name, whose in packages_distributions().items() if name in imported for each in whose}
    # a pin of what Prefect imports, the opener of s3:// that fsspec asks for, and what MLflow's passwords need
    assert named - {each.lower().replace("_", "-") for each in found} == {"fastapi", "s3fs", "flask-wtf"}


def test_a_version_below_its_floor_is_named() -> None:
    floors = {"pydicom": {"at_least": "3.0.2", "because": "x"}, "torch": {"at_least": "2.10", "because": "y"}}
    (problem,) = audit.below_floors({"pydicom": {"3.0.1", "3.0.2"}, "torch": {"2.10.0"}}, floors)
    assert problem.startswith("pydicom 3.0.1: at least 3.0.2")
    assert len(audit.below_floors({}, floors)) == 2


def test_an_advisory_against_a_locked_version_is_a_problem() -> None:
    found = {"date": "2026-11-01", "dependencies": [finding("pydicom", "3.0.2", "PYSEC-1"), finding("torch", "2.15.0")]}
    judged = audit.judge(found, LOCKED)
    assert judged.known == ("pydicom 3.0.2: PYSEC-1, fixed in 9.9",)
    assert judged.unaudited == frozenset()


def test_skipped_packages_and_other_versions_count_as_not_audited() -> None:
    skipped = {"name": "pydicom", "skip_reason": "Dependency not found on PyPI and could not be audited"}
    found = {"date": "2026-11-01", "dependencies": [skipped, finding("torch", "2.14.0")]}
    assert audit.judge(found, LOCKED).unaudited == {"pydicom", "torch"}
    assert audit.judge(None, LOCKED).unaudited == {"pydicom", "torch"}


def test_a_service_that_knows_nothing_did_not_answer(monkeypatch: pytest.MonkeyPatch, checkout: Path) -> None:
    answers = json.dumps({"dependencies": [{"name": "pydicom", "skip_reason": "not found"}], "fixes": []})
    asked = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, answers, "")

    monkeypatch.setattr(audit.subprocess, "run", run)
    assert audit.ask_service(LOCKED) is None
    assert len(asked) == 1


def test_a_release_rests_on_young_advisories_about_everything() -> None:
    found = {"date": "2026-11-01", "dependencies": [finding(*item) for item in LOCKED.items()]}
    whole = audit.judge(found, LOCKED)
    assert audit.release_problems(found, whole, date(2026, 12, 1)) == []
    assert "31 days old" in audit.release_problems(found, whole, date(2026, 12, 2))[0]
    assert audit.release_problems(None, audit.judge(None, LOCKED), date(2026, 11, 2))
    part = {"date": "2026-11-01", "dependencies": [finding("torch", "2.15.0")]}
    assert "1 packages" in audit.release_problems(part, audit.judge(part, LOCKED), date(2026, 11, 2))[0]


def test_what_is_installed_and_not_locked_is_named() -> None:
    installed = {"pydicom": "3.0.2", "torch": "2.14.0", "stranger": "1", "crrg": "0.1.0", "uv": "1"}
    locked = audit.locked_versions("pydicom==3.0.1 \\\npydicom==3.0.2 ; python_version > '3'\ntorch==2.15.0\n")
    assert locked == {"pydicom": {"3.0.1", "3.0.2"}, "torch": {"2.15.0"}}
    assert [problem.split()[0] for problem in audit.bill_problems(installed, locked)] == ["stranger", "torch"]
