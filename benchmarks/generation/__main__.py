"""Film to report beside the published procedure: `python -m benchmarks.generation`.

Both sides get the same random weights of the published size and the same drawn films, take turns in one process on one
thread, and every pass is noted in `pieces.json` as it ends: a call that is stopped, or ends after `--minutes`, is gone
on with by the next. `report.md` has the tables.
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

import torch

from benchmarks.generation.exactness import compare, floor
from benchmarks.generation.models import MOST_FILMS, build
from benchmarks.generation.pieces import Lengths, Piece, Side, few_proposals, run
from benchmarks.generation.tables import markdown
from benchmarks.resumable import Table

logger = logging.getLogger(__name__)
NUM_REPEATS = 3
SIDES: tuple[Side, ...] = ("published", "ours", "fast")
ALONE = ((0, 3), (3, 3), (6, 2))
"""First film and number of films that a repeat takes one by one at equal lengths; together those of a batch of 8."""


def pieces() -> list[Piece]:
    """Return all passes: first those that the published side takes part in, in turns, then batches of 32."""
    repeats = range(NUM_REPEATS)
    in_turns: tuple[tuple[int, Lengths], ...] = ((8, "realistic"), (8, "equal"), (1, "realistic"))
    wide: tuple[Lengths, ...] = ("realistic", "equal")
    return [
        *(
            piece
            for repeat in repeats
            for piece in (
                *(Piece(side, 1, "equal", ALONE[repeat], repeat) for side in SIDES),
                *(Piece(side, batch, lengths, (0, 8), repeat) for batch, lengths in in_turns for side in SIDES),
            )
        ),
        *(
            Piece(side, MOST_FILMS, lengths, (0, MOST_FILMS), repeat)
            for repeat in repeats
            for lengths in wide
            for side in SIDES
            if side != "published"
        ),
    ]


def main() -> None:
    """Measure what is missing and write the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, default=Path("bench-generation"))
    parser.add_argument("--minutes", type=float, default=60.0, help="stop after this long; the next call goes on")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    end = time.monotonic() + 60 * options.minutes
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    table = Table(options.folder / "pieces.json")
    sides = build(options.folder)
    table.fill("floor", floor)
    table.fill("exactness", lambda: compare(sides, options.folder))
    with torch.inference_mode():
        sides.detector.detect(sides.films[:1])
    sides.generator.decoder_for("fast")
    for repeat in range(NUM_REPEATS):
        for batch in (1, 4):
            for side in ("published", "ours"):
                name = f"{side}/batch{batch}/few-proposals/{repeat}"
                table.fill(name, lambda side=side, batch=batch: few_proposals(side, batch, sides))
    for piece in pieces():
        if time.monotonic() > end:
            logger.info("time is up; call again to go on")
            break
        table.fill(piece.name, lambda piece=piece: run(piece, sides))
    (options.folder / "report.md").write_text(markdown(table.rows))
    logger.info("tables in %s", options.folder / "report.md")


if __name__ == "__main__":
    main()
