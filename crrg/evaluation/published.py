"""Published figures of others, for orientation: reference rows that say by which protocol and on which films they are.

They are data (``published.json``) and never enter a figure, a baseline or a gate.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any

from crrg.domain.source_kind import SourceKind

HEADING = "## Published figures of others"
WARNING = (
    "For orientation only. A figure here may be compared with one above only where films, split, reference texts and "
    "protocol are the same; otherwise the difference says nothing of the systems."
)
SAME_ARCHIVE = "Same archive as the films above: comparable only where split, references and protocol are the same too."
SAME_FILMS: Mapping[str, str] = {SourceKind.CHEST_IMAGENOME: SourceKind.MIMIC_CXR}
"""Archives whose films are those of another."""
OTHER_FILMS = "Other films than those above: not comparable."


@dataclass(frozen=True)
class PublishedRow:
    """The figures of one published system.

    Attributes:
        system: Its name.
        figures: Name to value; what was not published is missing.
    """

    system: str
    figures: Mapping[str, float]


@dataclass(frozen=True)
class PublishedTable:
    """Figures that were published together.

    Attributes:
        title: What of.
        archive: Kind of archive its films come from, e.g. ``mimic-cxr``.
        data: Films in words.
        protocol: How texts were cut and figures computed.
        source: Where the figures stand.
        remark: What else a reader should know; may be empty.
        rows: The systems.
    """

    title: str
    archive: str
    data: str
    protocol: str
    source: str
    remark: str
    rows: tuple[PublishedRow, ...]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PublishedTable:
        """Build a table from plain values, as ``dataclasses.asdict`` makes them."""
        rows = tuple(PublishedRow(row["system"], dict(row["figures"])) for row in values["rows"])
        return cls(**{**values, "rows": rows})

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    def to_markdown(self, archives: Collection[str]) -> str:
        """Return the table under its protocol and data, and whether it can be compared with a scorecard's films.

        Args:
            archives: Kinds of archive that the scorecard's films come from.
        """
        told = [f"Data: {self.data}.", f"Protocol: {self.protocol}.", f"Source: {self.source}."]
        told += [self.remark] if self.remark else []
        shown = {SAME_FILMS.get(archive, archive) for archive in archives}
        told.append(SAME_ARCHIVE if self.archive in shown else OTHER_FILMS)
        return f"### {self.title}\n\n{' '.join(told)}\n\n{self._lines()}"

    def _lines(self) -> str:
        if len(self.rows) == 1:
            (row,) = self.rows
            cells = [("figure", row.system), *((name, _shown(value)) for name, value in row.figures.items())]
            return _table(cells)
        names = list(dict.fromkeys(name for row in self.rows for name in row.figures))
        lines = [(row.system, *(_shown(row.figures.get(name)) for name in names)) for row in self.rows]
        return _table([("system", *names), *lines])


def published_tables() -> tuple[PublishedTable, ...]:
    """Return all published tables that are known."""
    content = json.loads(files("crrg.evaluation").joinpath("published.json").read_text(encoding="utf-8"))
    return tuple(PublishedTable.from_dict(table) for table in content["tables"])


def published_markdown(tables: Sequence[PublishedTable], archives: Collection[str]) -> str:
    """Return the section of a scorecard that holds published tables; it says that they cannot simply be compared."""
    return "\n\n".join([HEADING, WARNING, *(table.to_markdown(archives) for table in tables)])


def _table(cells: Sequence[Sequence[str]]) -> str:
    head, *rows = (f"| {' | '.join(row)} |" for row in cells)
    return "\n".join([head, f"| --- |{' ---: |' * (len(cells[0]) - 1)}", *rows])


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
