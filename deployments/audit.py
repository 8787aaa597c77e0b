"""What stands in the environment and what is known against it (``make audit``): bill of materials, floors, advisories.

The bill is CycloneDX JSON of the installed environment, compared with ``requirements.lock``. Floors are versions below
which nothing may be locked. Advisories come from pip-audit; where its service does not answer, or does not know the
packages, that is said and never taken for a clean result: then a snapshot that an earlier run stored stands in, while
it is young. Knows nothing of the library.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from packaging.version import Version

from deployments.services import CHECKOUT

logger = logging.getLogger(__name__)

LOCK = CHECKOUT / "requirements.lock"
FLOORS = CHECKOUT / "deployments/advisories/floors.toml"
SNAPSHOT = CHECKOUT / "deployments/advisories/snapshot.json"
MAX_AGE_DAYS = 30
PROBED = "pydicom"
"""Asked for alone first, so that a service that is away is not asked for everything."""
NOT_LOCKED = frozenset({"crrg", "uv"})
"""In the environment without a line in the lock: the project itself, and what installs the lock."""


@dataclass(frozen=True)
class Advisories:
    """What is known against the versions of this environment.

    Attributes:
        known: ``name version: advisory, fixed in …`` of each package with an advisory.
        unaudited: Names about which nothing was learned.
        source: Who said so, and when.
    """

    known: tuple[str, ...]
    unaudited: frozenset[str]
    source: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the bill of materials, check floors and advisories, and say what was found.

    Returns:
        0 where nothing is known against the lock; 1 where something is, or where a release would rest on nothing.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    parser = argparse.ArgumentParser(prog="make audit", description=main.__doc__)
    parser.add_argument("--out", type=Path, default=CHECKOUT / "build")
    parser.add_argument("--release", action="store_true", help="fail without advisories of the last 30 days")
    parser.add_argument("--refresh", action="store_true", help="store what the service says as the new snapshot")
    options = parser.parse_args(arguments)
    locked = locked_versions(LOCK.read_text())
    problems = below_floors(locked, read_floors())
    installed = write_bill(options.out / "sbom.cdx.json")
    problems += bill_problems(installed, locked)
    audited = {name: version for name, version in installed.items() if version in locked.get(name, ())}
    found = ask_service(audited)
    if found is not None and options.refresh:
        SNAPSHOT.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    if found is None and SNAPSHOT.exists():
        found = json.loads(SNAPSHOT.read_text())
    today = datetime.now(UTC).date()
    advisories = judge(found, audited)
    problems += advisories.known
    if options.release:
        problems += release_problems(found, advisories, today)
    logger.info("advisories: %s; %d of %d packages audited", advisories.source, *_share(advisories, audited))
    if advisories.unaudited:
        logger.warning("NOT AUDITED: the rest, about which the service said nothing; this is not a clean result")
    for problem in problems:
        logger.error("audit: %s", problem)
    return 1 if problems else 0


def locked_versions(text: str) -> dict[str, frozenset[str]]:
    """Return the versions of each package in a lock: several where Python versions or platforms get different ones."""
    found: dict[str, frozenset[str]] = {}
    for name, version in re.findall(r"^([a-z0-9._-]+)==([^\s;]+)", text, re.MULTILINE):
        found[name] = found.get(name, frozenset()) | {version}
    return found


def read_floors() -> dict[str, dict[str, str]]:
    """Return package to its floor and the reason for it."""
    floors: dict[str, dict[str, str]] = tomllib.loads(FLOORS.read_text())["floors"]
    return floors


def below_floors(locked: Mapping[str, Iterable[str]], floors: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return what is locked below its floor, or not locked at all."""
    return [
        f"{name} {version or 'is not locked'}: at least {floor['at_least']}, since {floor['because']}"
        for name, floor in floors.items()
        for version in locked.get(name, ("",))
        if not version or Version(version) < Version(floor["at_least"])
    ]


def write_bill(path: Path) -> dict[str, str]:
    """Write the bill of materials of this environment and return the version of each package in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tool = [str(Path(sys.executable).with_name("cyclonedx-py")), "environment", sys.executable]
    options = [
        "--pyproject",
        str(CHECKOUT / "pyproject.toml"),
        "--output-reproducible",
        "--of",
        "JSON",
        "-o",
        str(path),
    ]
    subprocess.run([*tool, *options], check=True, capture_output=True, text=True)
    components = json.loads(path.read_text())["components"]
    logger.info("bill of materials: %d packages in %s", len(components), path)
    return {re.sub(r"[-_.]+", "-", each["name"]).lower(): each["version"] for each in components}


def bill_problems(installed: Mapping[str, str], locked: Mapping[str, Iterable[str]]) -> list[str]:
    """Return what is installed in another version than a locked one, or without being locked."""
    return [
        f"{name} {version} is installed, {' or '.join(sorted(locked.get(name, ('nothing',))))} is locked; run make env"
        for name, version in sorted(installed.items())
        if name not in NOT_LOCKED and version not in locked.get(name, ())
    ]


def ask_service(versions: Mapping[str, str]) -> dict[str, Any] | None:
    """Return pip-audit's findings with their date, or ``None`` where its service does not answer."""
    if not (probe := _pip_audit({PROBED: versions[PROBED]})) or "skip_reason" in probe[0]:
        logger.warning("the advisory service is out of reach of this machine, or does not know %s", PROBED)
        return None
    dependencies = _pip_audit(versions)
    return {"date": datetime.now(UTC).date().isoformat(), "dependencies": dependencies} if dependencies else None


def judge(found: Mapping[str, Any] | None, versions: Mapping[str, str]) -> Advisories:
    """Return what findings say about these versions; a package that was skipped was not audited."""
    if found is None:
        return Advisories((), frozenset(versions), "the service did not answer and no snapshot is stored; floors only")
    audited = {
        each["name"]: each["vulns"]
        for each in found["dependencies"]
        if versions.get(each["name"]) == each.get("version")
    }
    known = tuple(
        f"{name} {versions[name]}: {advisory['id']}, fixed in {', '.join(advisory['fix_versions']) or 'no version'}"
        for name, advisories in sorted(audited.items())
        for advisory in advisories
    )
    return Advisories(known, frozenset(versions) - frozenset(audited), f"pip-audit of {found['date']}")


def release_problems(found: Mapping[str, Any] | None, advisories: Advisories, today: date) -> list[str]:
    """Return why a release cannot rest on these findings."""
    if found is None:
        return ["a release needs advisories; run `make audit` with --refresh where the service answers"]
    problems = []
    age_days = (today - date.fromisoformat(found["date"])).days
    if age_days > MAX_AGE_DAYS:
        problems.append(f"the advisories are {age_days} days old, at most {MAX_AGE_DAYS} for a release; refresh them")
    if advisories.unaudited:
        problems.append(f"{len(advisories.unaudited)} packages are in no advisory answer; refresh them")
    return problems


def _pip_audit(versions: Mapping[str, str]) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "--progress-spinner", "off"]
    wanted = CHECKOUT / "build" / "audited.txt"
    wanted.parent.mkdir(exist_ok=True)
    wanted.write_text("".join(f"{name}=={version}\n" for name, version in sorted(versions.items())))
    done = subprocess.run(
        [*command, "-f", "json", "-r", str(wanted)], capture_output=True, text=True, check=False, timeout=600
    )
    try:
        dependencies: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        return []
    return dependencies


def _share(advisories: Advisories, versions: Mapping[str, str]) -> tuple[int, int]:
    return len(versions) - len(advisories.unaudited), len(versions)


if __name__ == "__main__":
    sys.exit(main())
