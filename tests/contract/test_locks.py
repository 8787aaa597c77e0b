"""The locked environments: the one for Ray lies on top of the other and contradicts it nowhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version


def locked(path: Path) -> dict[str, set[str]]:
    """Return the versions of every package that a lock names."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([a-z0-9._-]+)==([^\s;]+)", path.read_text(), re.MULTILINE):
        found.setdefault(name, set()).add(version)
    return found


def test_the_lock_for_ray_holds_only_what_the_other_has_not(checkout: Path) -> None:
    base, ray = locked(checkout / "requirements.lock"), locked(checkout / "requirements-ray.lock")
    assert len(base) > 100
    assert "prefect" in base
    assert {"ray", "prefect-ray"} <= set(ray)
    assert not set(base) & set(ray)


def test_the_lock_for_ray_is_what_the_extra_asks_for(checkout: Path) -> None:
    project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
    versions = locked(checkout / "requirements-ray.lock")
    for text in project["optional-dependencies"]["ray"]:
        wanted = Requirement(text)
        (version,) = versions[wanted.name]
        assert Version(version) in wanted.specifier


def test_every_locked_file_is_checked_by_hash_and_no_address_is_locked(checkout: Path) -> None:
    for name in ("requirements.lock", "requirements-ray.lock"):
        text = (checkout / name).read_text()
        pins = re.findall(r"^\S+==.*(?:\n {4}--hash=sha256:[0-9a-f]{64}.*)+", text, re.MULTILINE)
        assert len(pins) == len(re.findall(r"^\S+==", text, re.MULTILINE))
        assert "://" not in text
