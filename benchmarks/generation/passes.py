"""Passes that were measured, film by film, so that ratios are formed over films that both sides did."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

NUM_BEAMS = 4
STAGES = ("detection", "selection", "decoding", "deduplication")
Rows = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """Passes that differ in their films and repeats alone.

    Attributes:
        side: Who computes.
        batch: Films at once.
        lengths: ``equal`` or ``realistic``.
    """

    side: str
    batch: int
    lengths: str


@dataclass(frozen=True)
class Pass:
    """One measured pass.

    Attributes:
        first: Its first film.
        repeat: Which repetition.
        row: What was noted.
    """

    first: int
    repeat: int
    row: Mapping[str, Any]

    @property
    def films(self) -> range:
        """Numbers of its films."""
        return range(self.first, self.first + int(self.row["num_films"]))

    def seconds(self, clock: str, stages: Collection[str] = STAGES) -> float:
        """Return the seconds of all its films in some stages."""
        return float(sum(self.row[clock].get(stage, 0.0) for stage in stages))

    def rows(self) -> list[int]:
        """Return how many tokens of a beam the language model reads for each film.

        The first step is one row for all beams, the last one scores the end.
        """
        return [sum(1 + NUM_BEAMS * len(sentence[0].split()) for sentence in report) for report in self.row["reports"]]

    def seconds_by_film(self, clock: str, stages: Collection[str]) -> list[float]:
        """Return the seconds of each film in some stages.

        De-duplication is timed film by film. Films that are computed together share what their decoding takes in
        proportion to its products, and the other stages equally.
        """
        even = [1.0] * len(self.films)
        found = [0.0] * len(self.films)
        for stage in stages:
            taken = self.row[clock].get(stage, 0.0)
            weights = {
                "decoding": [float(rows) for rows in self.rows()],
                "deduplication": self.row["deduplication"][clock],
            }.get(stage, even)
            weights = weights if sum(weights) else even
            found = [so_far + taken * each / sum(weights) for so_far, each in zip(found, weights, strict=True)]
        return found


Kinds = dict[Kind, list[Pass]]


def kinds_of(rows: Rows) -> Kinds:
    """Return the passes of every kind among the rows of a table."""
    kinds: Kinds = {}
    for name, row in rows.items():
        if "/films" in name:
            side, batch, lengths, films, repeat = name.split("/")
            kind = Kind(side, int(batch.removeprefix("batch")), lengths)
            first = int(films.removeprefix("films").split("+")[0])
            kinds.setdefault(kind, []).append(Pass(first, int(repeat), row))
    return kinds


def reports_of(passes: Sequence[Pass]) -> Iterator[tuple[int, Any, Any]]:
    """Yield film, sentences and sentences left, each film once."""
    seen: set[int] = set()
    for each in passes:
        for film, report, kept in zip(each.films, each.row["reports"], each.row["kept"], strict=True):
            if film not in seen:
                seen.add(film)
                yield film, report, kept


def published_reports(kinds: Kinds) -> dict[tuple[str, int], tuple[Any, Any]]:
    """Return the published sentences, and those left, by lengths and film."""
    wanted: dict[tuple[str, int], tuple[Any, Any]] = {}
    for kind, passes in kinds.items():
        if kind.side == "published":
            for film, report, kept in reports_of(passes):
                wanted.setdefault((kind.lengths, film), (report, kept))
    return wanted


def differing(rows: Rows) -> Iterator[tuple[str, int, int]]:
    """Yield lengths, film and number of every sentence of our exact passes that differs from the published one."""
    kinds = kinds_of(rows)
    wanted = published_reports(kinds)
    for kind, passes in kinds.items():
        for film, report, _ in reports_of(passes) if kind.side == "ours" else ():
            other, _ = wanted.get((kind.lengths, film), (report, None))
            for number, (mine, theirs) in enumerate(zip(report, other, strict=True)):
                if mine[0] != theirs[0]:
                    yield kind.lengths, film, number


def parting_name(lengths: str, film: int, sentence: int) -> str:
    """Return the key of what is noted of such a sentence (``parting``)."""
    return f"parting/{lengths}/film{film}/{sentence}"


def memory_of(rows: Rows) -> dict[Kind, Mapping[str, Any]]:
    """Return what each kind of pass takes of memory, by lengths, side and batch."""
    found: dict[Kind, Mapping[str, Any]] = {}
    for name, row in rows.items():
        if name.startswith("memory/"):
            _, side, batch, lengths = name.split("/")
            found[Kind(side, int(batch.removeprefix("batch")), lengths)] = row
    return dict(sorted(found.items(), key=lambda item: by_lengths(item[0])))


def by_lengths(kind: Kind) -> tuple[str, bool, str, int]:
    """Return what orders kinds in a table: equal lengths first, in each the published side."""
    return kind.lengths, kind.side != "published", kind.side, kind.batch


def seconds_by_film(passes: Sequence[Pass], clock: str = "cpu_s", stages: Collection[str] = STAGES) -> dict[int, float]:
    """Return the seconds of each film, the median over the passes that it was in."""
    found: dict[int, list[float]] = {}
    for each in passes:
        for film, seconds in zip(each.films, each.seconds_by_film(clock, stages), strict=True):
            found.setdefault(film, []).append(seconds)
    return {film: median(values) for film, values in found.items()}


def ratio(kinds: Kinds, slow: Kind, fast: Kind, stages: Collection[str] = STAGES) -> tuple[float, int] | None:
    """Return by how much one kind of pass takes longer than another on films that both did, and how many those are."""
    if slow not in kinds or fast not in kinds:
        return None
    first, second = (seconds_by_film(kinds[kind], stages=stages) for kind in (slow, fast))
    common = first.keys() & second.keys()
    if not common:
        return None
    return sum(first[film] for film in common) / sum(second[film] for film in common), len(common)
