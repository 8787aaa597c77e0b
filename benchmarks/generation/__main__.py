"""Film to report beside the published procedure: `python -m benchmarks.generation`.

Both sides get the same random weights of the published size and the same drawn films and take turns in one process on
one thread, in three repeats. Memory is measured before, each side in processes of its own (``memory``). The whole takes
about 54 minutes on two quiet cores (``plan``), and the command says how long it will take here. Whatever is measured is
noted as it ends, in a file of this processor, these libraries and this code: a call that is stopped, or ends after
`--minutes`, is gone on with by the next, and rows of another machine or program are never mixed in. `report.md` has the
tables.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.generation.exactness import compare, floor
from benchmarks.generation.memory import measure, name_of, num_at_once, parts
from benchmarks.generation.models import Sides, build, write_weights
from benchmarks.generation.parting import where_searches_part
from benchmarks.generation.passes import differing, parting_name
from benchmarks.generation.pieces import Piece, few_proposals, run
from benchmarks.generation.plan import NUM_REPEATS, estimate, pieces
from benchmarks.generation.tables import markdown
from benchmarks.resumable import Table, table_of
from benchmarks.resumable.identity import identity, of_crrg

logger = logging.getLogger(__name__)
PIECES = ("memory", "passes")
MEASURING = ("encoder", "exactness", "memory", "models", "parting", "pieces", "procedure", "published")
"""Modules of this package that decide what is measured; the others choose, and show, what is."""
Measures = dict[str, Callable[[], dict[str, Any]]]


def own_identity() -> dict[str, str]:
    """Return what the rows of this call are of."""
    own = [Path(__file__).with_name(f"{name}.py") for name in MEASURING]
    return identity([*own, *of_crrg("inference", "models", "importers/rgrg.py", "config/models.py", "config/paper.py")])


def _pieces(text: str) -> tuple[str, ...]:
    chosen = tuple(text.split(","))
    if not set(chosen) <= set(PIECES):
        raise argparse.ArgumentTypeError(f"pieces are {', '.join(PIECES)}")
    return chosen


def main() -> None:
    """Measure what is missing and write the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, default=Path(".make/generation"))
    parser.add_argument("--minutes", type=float, default=60.0, help="start nothing after this long; the next goes on")
    parser.add_argument("--pieces", type=_pieces, default=PIECES, help="memory, passes, or both with a comma")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    end = time.monotonic() + 60 * options.minutes
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    table = table_of(options.folder, own_identity())
    logger.info("%s on two cores that do nothing else", estimate(table.rows))
    write_weights(options.folder)
    if "memory" in options.pieces:
        fill_memory(end, table, options.folder)
    if "passes" in options.pieces and time.monotonic() < end:
        fill_passes(end, table, build(options.folder), options.folder)
    (options.folder / "report.md").write_text(markdown(table.rows))
    logger.info("%s; tables in %s", estimate(table.rows), options.folder / "report.md")


def fill_memory(end: float, table: Table, folder: Path) -> None:
    """Measure the memory that is missing, in as many processes at once as there is room for."""

    def unless_over(part: Piece) -> dict[str, Any] | None:
        return measure(part, folder) if time.monotonic() < end else None

    with ThreadPoolExecutor(num_at_once()) as pool:
        missing = [part for part in parts() if name_of(part) not in table.rows]
        started = {pool.submit(unless_over, part): name_of(part) for part in missing}
        for done in as_completed(started):
            if (row := done.result()) is not None:
                table.note(started[done], row)
                logger.info("%s in %.0f s", started[done], row["process_s"])


def fill_passes(end: float, table: Table, sides: Sides, folder: Path) -> None:
    """Measure what is missing of all that both sides do in one process, repeat by repeat."""
    table.fill("floor", floor)
    table.fill("exactness", lambda: compare(sides, folder))
    with torch.inference_mode():
        sides.ours.detector.detect(sides.inputs.films[:1])
    sides.ours.generator.decoder_for("fast")
    for repeat in range(NUM_REPEATS):
        _fill_until(end, table, one_repeat(repeat, sides))
        logger.info("%s", estimate(table.rows))
    found = {parting_name(*each): partial(where_searches_part, *each, sides) for each in differing(table.rows)}
    _fill_until(end, table, found)


def one_repeat(repeat: int, sides: Sides) -> Measures:
    """Return the measurements of a repeat by name, in their order."""
    few: Measures = {
        f"{side}/batch{batch}/few-proposals/{repeat}": partial(few_proposals, side, batch, sides)
        for batch in (1, 4)
        for side in ("published", "ours")
    }
    return {**few, **{each.name: partial(run, each, sides[each.side], sides.inputs) for each in pieces(repeat)}}


def _fill_until(end: float, table: Table, measures: Mapping[str, Callable[[], dict[str, Any]]]) -> None:
    """Measure one after the other what is missing, as long as there is time."""
    for name, take in measures.items():
        if time.monotonic() > end:
            logger.info("time is up; call again to go on")
            return
        table.fill(name, take)


if __name__ == "__main__":
    main()
