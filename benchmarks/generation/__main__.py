"""Film to report beside the published procedure: `python -m benchmarks.generation`.

Both sides get the same random weights of the published size and the same drawn films and take turns in one process on
one thread. Memory is measured before, each side in processes of its own (``memory``). Whatever is measured is noted in
`pieces.json` as it ends: a call that is stopped, or ends after `--minutes`, is gone on with by the next. `report.md`
has the tables.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.generation.exactness import compare, floor
from benchmarks.generation.memory import measure, name_of, parts
from benchmarks.generation.models import MOST_FILMS, Side, build, write_weights
from benchmarks.generation.parting import where_searches_part
from benchmarks.generation.passes import differing, parting_name
from benchmarks.generation.pieces import Lengths, Piece, few_proposals, run
from benchmarks.generation.tables import markdown
from benchmarks.resumable import Table

logger = logging.getLogger(__name__)
NUM_REPEATS = 3
PIECES = ("memory", "passes")
SIDES: tuple[Side, ...] = ("published", "ours", "fast")
ALONE = ((0, 3), (3, 3), (6, 2))
"""First film and number of films that a repeat takes one by one; together those of a batch of 8."""


def pieces() -> list[Piece]:
    """Return all passes: first those that the published side takes part in, in turns, then batches of 32."""
    repeats = range(NUM_REPEATS)
    kinds: tuple[Lengths, ...] = ("realistic", "equal")
    return [
        *(
            piece
            for repeat in repeats
            for piece in (
                *(Piece(side, 1, lengths, ALONE[repeat], repeat) for lengths in kinds for side in SIDES),
                *(Piece(side, 8, lengths, (0, 8), repeat) for lengths in kinds for side in SIDES),
            )
        ),
        *(
            Piece(side, MOST_FILMS, lengths, (0, MOST_FILMS), repeat)
            for lengths in kinds
            for repeat in repeats
            for side in SIDES
            if side != "published"
        ),
    ]


def _pieces(text: str) -> tuple[str, ...]:
    chosen = tuple(text.split(","))
    if not set(chosen) <= set(PIECES):
        raise argparse.ArgumentTypeError(f"pieces are {', '.join(PIECES)}")
    return chosen


def main() -> None:
    """Measure what is missing and write the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, default=Path("bench-generation"))
    parser.add_argument("--minutes", type=float, default=60.0, help="stop after this long; the next call goes on")
    parser.add_argument("--pieces", type=_pieces, default=PIECES, help="memory, passes, or both with a comma")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    end = time.monotonic() + 60 * options.minutes
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    table = Table(options.folder / "pieces.json")
    write_weights(options.folder)
    if "memory" in options.pieces:
        _fill_until(end, table, {name_of(part): partial(measure, part, options.folder) for part in parts()})
    if "passes" in options.pieces and time.monotonic() < end:
        _fill_passes(end, table, options.folder)
    (options.folder / "report.md").write_text(markdown(table.rows))
    logger.info("tables in %s", options.folder / "report.md")


def _fill_passes(end: float, table: Table, folder: Path) -> None:
    """Measure what is missing of all that both sides do in one process."""
    sides = build(folder)
    table.fill("floor", floor)
    table.fill("exactness", lambda: compare(sides, folder))
    with torch.inference_mode():
        sides.ours.detector.detect(sides.inputs.films[:1])
    sides.ours.generator.decoder_for("fast")
    for repeat in range(NUM_REPEATS):
        for batch in (1, 4):
            for side in ("published", "ours"):
                name = f"{side}/batch{batch}/few-proposals/{repeat}"
                table.fill(name, lambda side=side, batch=batch: few_proposals(side, batch, sides))
    _fill_until(end, table, {piece.name: partial(run, piece, sides[piece.side], sides.inputs) for piece in pieces()})
    found = {parting_name(*each): partial(where_searches_part, *each, sides) for each in differing(table.rows)}
    _fill_until(end, table, found)


def _fill_until(end: float, table: Table, measures: Mapping[str, Callable[[], dict[str, Any]]]) -> None:
    """Measure one after the other what is missing, as long as there is time."""
    for name, take in measures.items():
        if time.monotonic() > end:
            logger.info("time is up; call again to go on")
            return
        table.fill(name, take)


if __name__ == "__main__":
    main()
