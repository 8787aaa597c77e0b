"""Passes that were measured, film by film, so that ratios are formed over films that both sides did."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

DETECTION_GFLOP = 133.0
WRITTEN_DETECTION_GFLOP = 284.0
TOKEN_GFLOP = 0.707
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

    def work_gflop(self, side: str) -> list[float]:
        """Return the products of each film: detection, and the language model over every beam and word."""
        detection = WRITTEN_DETECTION_GFLOP if side == "published" else DETECTION_GFLOP
        # the first step is one row for all beams, the last one scores the end
        return [
            detection + TOKEN_GFLOP * sum(1 + NUM_BEAMS * len(sentence[0].split()) for sentence in report)
            for report in self.row["reports"]
        ]


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


def seconds_by_film(
    kind: Kind, passes: Sequence[Pass], clock: str = "cpu_s", stages: Collection[str] = STAGES
) -> dict[int, float]:
    """Return the seconds of each film, the median over the passes that it was in.

    Films that are computed together share the seconds of their pass in proportion to their products.
    """
    found: dict[int, list[float]] = {}
    for each in passes:
        work = each.work_gflop(kind.side)
        for film, part in zip(each.films, work, strict=True):
            found.setdefault(film, []).append(each.seconds(clock, stages) * part / sum(work))
    return {film: median(values) for film, values in found.items()}


def ratio(kinds: Kinds, slow: Kind, fast: Kind, stages: Collection[str] = STAGES) -> tuple[float, int] | None:
    """Return by how much one kind of pass takes longer than another on films that both did, and how many those are."""
    if slow not in kinds or fast not in kinds:
        return None
    first, second = (seconds_by_film(kind, kinds[kind], stages=stages) for kind in (slow, fast))
    common = first.keys() & second.keys()
    if not common:
        return None
    return sum(first[film] for film in common) / sum(second[film] for film in common), len(common)
