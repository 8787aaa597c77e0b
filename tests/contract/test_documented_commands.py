"""Commands in the documents are commands that there are, with flags that they have."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.core import TyperGroup

from deployments.identities import PLACES
from tests.support.commands import GROUP, every_command

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def commands_in(text: str) -> Iterator[str]:
    """Yield what follows ``crrg`` in lines of code blocks and between back-ticks; text around it is left out."""
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    spans = [re.sub(r"\s+", " ", span) for span in re.findall(r"`([^`]+)`", prose)]
    for line in (*lines, *spans):
        found = re.match(r"(?:# )?(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?crrg (?=[a-z-])(.*)", line.strip())
        if found:
            name, _, rest = re.split(r"\s#|\s*[;|]\s", found[1])[0].partition(" ")
            yield from (f"{each} {rest}".strip() for each in name.split("|"))


def problems_of(command: str) -> list[str]:
    """Return what of a command there is not."""
    words = shlex.split(command.replace("…", " ").replace("'", ""))
    here, names = GROUP, []
    while isinstance(here, TyperGroup) and words and not words[0].startswith("-"):
        names.append(words.pop(0))
        if names[-1] not in here.commands:
            return [f"crrg {' '.join(names)}: no such command"]
        here = here.commands[names[-1]]
    known = {flag for parameter in here.params for flag in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
    flags = {word.partition("=")[0] for word in words if word.startswith("--")}
    return [f"crrg {' '.join(names)}: no {flag}" for flag in sorted(flags - known)]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_of_a_document_are_there_with_their_flags(path: Path) -> None:
    assert [problem for command in commands_in(path.read_text()) for problem in problems_of(command)] == []


def test_flags_that_stand_alone_are_of_some_command() -> None:
    """A flag between back-ticks without its command is one of ours, or of a program beside the library."""
    ours = {
        flag for command in every_command() for each in command.params for flag in (*each.opts, *each.secondary_opts)
    }
    rooms = [*(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "deployments").rglob("*"), ROOT / "Makefile"]
    beside = {
        flag
        for path in rooms
        if path.is_file()
        for flag in re.findall(r"--[a-z][a-z-]+", path.read_text(errors="replace"))
    }
    alone = {
        (path.name, flag)
        for path in DOCUMENTS
        if path.name != "CHANGELOG.md"
        for flag in re.findall(r"`(--[a-z][a-z-]+)[ =`]", path.read_text())
    }
    assert len(alone) > 20
    assert sorted(each for each in alone if each[1] not in ours | beside | {f"--{place}" for place in PLACES}) == []


def test_every_command_is_in_the_readme_or_the_guide() -> None:
    guides = [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "operations").glob("*.md")]
    told = (ROOT / "README.md").read_text() + "".join(path.read_text() for path in guides)
    assert [name for name in GROUP.commands if not re.search(rf"\bcrrg {name}\b", told)] == []


def test_what_is_not_there_would_be_noticed() -> None:
    text = "`crrg nightly --inbox x --no-such`\n\n```\nCRRG_ROOT=x crrg paint --help   # how\ncrrg audit forge\n```\n"
    found = [problem for command in commands_in(text) for problem in problems_of(command)]
    assert found == ["crrg paint: no such command", "crrg audit forge: no such command", "crrg nightly: no --no-such"]
