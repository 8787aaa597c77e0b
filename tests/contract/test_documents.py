"""Documents name only files, make targets and programs that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_names_is_there(path: Path) -> None:
    text = path.read_text()
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if link and not (path.parent / link).exists()] == []
    files = re.findall(r"`((?:crrg|tests|benchmarks|docs|deployments|flows|tasks)/[\w/.-]*\.(?:py|md|tsv))`", text)
    assert [file for file in files if "some_name" not in file and not (ROOT / file).exists()] == []
    commands = re.findall(r"`(?:[A-Z_]+=\S+ )*make ([a-z0-9-]+)", text)
    assert [target for target in commands if target not in TARGETS] == []
    programs = [name.replace(".", "/") for name in re.findall(r"python -m (benchmarks\.[\w.]*\w)", text)]
    assert [name for name in programs if not ((ROOT / f"{name}.py").exists() or (ROOT / name).is_dir())] == []


def slug(title: str) -> str:
    """Return a heading's anchor as forges make it."""
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_link_into_a_document_meets_its_heading(path: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]*#[^)\s]+)\)", path.read_text()) if "://" not in link]
    lost = []
    for link in links:
        file, _, anchor = link.partition("#")
        text = (path.parent / file if file else path).read_text()
        plain = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        if anchor not in {slug(title) for title in re.findall(r"^#+ (.+)$", plain, re.MULTILINE)}:
            lost.append(link)
    assert lost == []


def test_a_docstring_names_modules_that_are_there() -> None:
    named = {
        (path, name)
        for path in (ROOT / "crrg").rglob("*.py")
        for name in re.findall(r"``([\w/]+\.py)``", path.read_text())
    }
    places = {(path, name): (path.parent / name, ROOT / "crrg" / name, ROOT / name) for path, name in named}
    assert [each for each, found in places.items() if not any(place.exists() for place in found)] == []
