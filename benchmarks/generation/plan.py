"""Which passes are made, in which order, and how long that takes.

The whole takes about 54 minutes on two quiet cores of an Intel Xeon, by the seconds per film measured on one
(``QUIET_S``); of lengths, "realistic" stands before "equal" here:

- weights drawn and read, exactness, floors, 150 proposals, sentences that differ searched for again: 4 minutes;
- memory, two processes at once: 5 minutes;
- three repeats: one by one 92 s and 61 s, batches of 8 304 s and 163 s, our batch of 32 158 s: 39 minutes;
- once: ``fast`` at equal lengths in a batch of 8, ``fast`` in a batch of 32, ours of 32 at equal lengths: 6 minutes.

Repeats of a kind of pass are of the same films, the first of all; one by one are the first three of the 8 at realistic
lengths and two at equal ones, where films differ by the number of sentences alone. Within a repeat all batches and
sides take turns, another side first in each. What is done once is in the last repeat: no target asks for it thrice, and
a call that is stopped lacks it first.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.generation.memory import NUM_AT_ONCE, name_of, parts
from benchmarks.generation.models import MOST_FILMS, Side
from benchmarks.generation.passes import Kind, Rows, kinds_of
from benchmarks.generation.pieces import Lengths, Piece

NUM_REPEATS = 3
LENGTHS: tuple[Lengths, ...] = ("realistic", "equal")
SIDES: tuple[Side, ...] = ("published", "ours", "fast")
BATCHES = (1, 8, MOST_FILMS)
NUM_ALONE: dict[Lengths, int] = {"realistic": 3, "equal": 2}
FEWER_REPEATS: dict[tuple[Side, int, Lengths], int] = {
    ("published", MOST_FILMS, "realistic"): 0,
    ("published", MOST_FILMS, "equal"): 0,
    ("ours", MOST_FILMS, "equal"): 1,
    ("fast", MOST_FILMS, "realistic"): 1,
    ("fast", MOST_FILMS, "equal"): 0,
    ("fast", 8, "equal"): 1,
}

QUIET_S: dict[Kind, float] = {
    Kind("published", 1, "realistic"): 19.9,
    Kind("published", 8, "realistic"): 30.5,
    Kind("published", 1, "equal"): 17.7,
    Kind("published", 8, "equal"): 13.4,
    Kind("ours", 1, "realistic"): 7.7,
    Kind("ours", 8, "realistic"): 4.9,
    Kind("ours", MOST_FILMS, "realistic"): 4.9,
    Kind("ours", 1, "equal"): 8.8,
    Kind("ours", 8, "equal"): 7.0,
    Kind("ours", MOST_FILMS, "equal"): 7.0,
    Kind("fast", 1, "realistic"): 3.2,
    Kind("fast", 8, "realistic"): 2.5,
    Kind("fast", MOST_FILMS, "realistic"): 2.5,
    Kind("fast", 1, "equal"): 3.8,
    Kind("fast", 8, "equal"): 3.5,
}
"""Seconds per film on a quiet core (docs/results/generation.md); batches of 32 as those of 8."""
AROUND_S = 240.0
READ_S = 30.0
"""Until a process that measures memory has read its weights."""


@dataclass(frozen=True)
class Estimate:
    """Seconds by the clock.

    Attributes:
        whole_s: Of all that is planned.
        left_s: Of what is not among the rows.
    """

    whole_s: float
    left_s: float

    def __str__(self) -> str:
        """Say both in minutes."""
        return f"about {self.left_s / 60:.0f} of {self.whole_s / 60:.0f} minutes are left"


def pieces(repeat: int) -> list[Piece]:
    """Return the passes of one repeat, in the order in which they are made."""
    return [
        Piece(side, batch, lengths, (0, NUM_ALONE[lengths] if batch == 1 else batch), repeat)
        for lengths in LENGTHS
        for batch in BATCHES
        for side in (*SIDES[repeat:], *SIDES[:repeat])
        if repeat >= NUM_REPEATS - FEWER_REPEATS.get((side, batch, lengths), NUM_REPEATS)
    ]


def all_pieces() -> list[Piece]:
    """Return the passes of all repeats."""
    return [piece for repeat in range(NUM_REPEATS) for piece in pieces(repeat)]


def estimate(rows: Rows) -> Estimate:
    """Return how long the plan takes at the pace of the rows that there are; at that of a quiet core without any."""
    paces = _paces(rows)
    pace = median(paces.values()) if paces else 1.0

    def seconds(piece: Piece) -> float:
        kind = Kind(piece.side, piece.batch, piece.lengths)
        return piece.films[1] * QUIET_S[kind] * paces.get(kind, pace)

    memory = {name_of(part): (READ_S + seconds(part)) / NUM_AT_ONCE for part in parts()}
    passes = {piece.name: seconds(piece) for piece in all_pieces()}
    whole, left = {**memory, **passes}, _missing(memory, rows) + _missing(passes, rows)
    around = AROUND_S * pace
    return Estimate(sum(whole.values()) + around, left + (around if _missing(passes, rows) else 0.0))


def _paces(rows: Rows) -> dict[Kind, float]:
    """Return how many times as long as on a quiet core each kind of pass took."""
    kinds = {kind: passes for kind, passes in kinds_of(rows).items() if kind in QUIET_S}
    return {
        kind: median(each.seconds("wall_s") / len(each.films) for each in passes) / QUIET_S[kind]
        for kind, passes in kinds.items()
    }


def _missing(planned: dict[str, float], rows: dict[str, Any]) -> float:
    return sum(seconds for name, seconds in planned.items() if name not in rows)
