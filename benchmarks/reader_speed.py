"""Which size of row group suits the training reader: random reads, windowed epochs and scans of 512 px films.

Run: ``python -m benchmarks.reader_speed [--films 512]``. The root is a local folder; the best of three rounds counts.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np

from crrg.config.references import DatasetRef
from crrg.data.dataset import parts
from crrg.data.dataset.pairs import read_tables, write_dataset
from crrg.data.dataset.reader import EpochOrder, PairReader
from crrg.data.images import pixel_digest
from crrg.domain.report import Report
from crrg.domain.study import Film, Pair, Split, ViewPosition
from crrg.storage import Storage

GROUP_ROWS = (4, 8, 16, 32, 64, 128)
SIDE = 512
WINDOW_ROWS = 256
NUM_RANDOM = 100
ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", type=int, default=512)
    options = parser.parse_args()
    print("| rows per group | random films/s | films/s of an epoch in windows of 256 | films/s of a scan |")
    print("| ---: | ---: | ---: | ---: |")
    for rows in GROUP_ROWS:
        parts.ROW_GROUP_ROWS = rows
        with tempfile.TemporaryDirectory(prefix="crrg-reader-speed-") as folder:
            storage = Storage(folder)
            dataset = write_dataset(storage, "speed", drawn_pairs(options.films), {"image_size": SIDE})
            rates = (random_reads(storage, dataset), epoch(storage, dataset, rows), scan(storage, dataset))
        print(f"| {rows} | {' | '.join(f'{rate:.0f}' for rate in rates)} |", flush=True)


def drawn_pairs(num_films: int) -> Iterator[Pair]:
    """Yield films of noise: their pixels are stored as they are, so that what they show makes no difference."""
    rng = np.random.default_rng(0)
    for index in range(num_films):
        pixels = rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
        film = Film(pixels, SIDE, SIDE, ViewPosition.PA, None, False, pixel_digest(pixels))
        name, report = f"{index:026d}", Report("The lungs are clear.", None, None)
        yield Pair(name, name, name, film, report, (), {}, "report", "folder", bytes(32), Split.TRAIN)


def random_reads(storage: Storage, dataset: DatasetRef) -> float:
    """Return films per second where neighbours in time have nothing in common."""
    rows = np.random.default_rng(1).integers(0, dataset.num_rows["train"], NUM_RANDOM).tolist()

    def read() -> int:
        reader = PairReader(storage, dataset, Split.TRAIN, cached_groups=1)
        return sum(reader[row].film is not None for row in rows)

    return best_rate(read)


def epoch(storage: Storage, dataset: DatasetRef, group_rows: int) -> float:
    """Return films per second of one epoch, the same number of films mixed at any size of row group."""
    window = max(1, WINDOW_ROWS // group_rows)

    def read() -> int:
        reader = PairReader(storage, dataset, Split.TRAIN, cached_groups=window)
        order = EpochOrder(reader.group_sizes, seed=0, window_groups=window)
        return sum(reader[row].film is not None for row in order)

    return best_rate(read)


def scan(storage: Storage, dataset: DatasetRef) -> float:
    """Return films per second in the order in which they lie."""
    return best_rate(lambda: sum(table.num_rows for table in read_tables(storage, dataset, Split.TRAIN)))


def best_rate(read: Callable[[], int]) -> float:
    """Return the best rate of several rounds."""
    rates = []
    for _ in range(ROUNDS):
        started_s = time.perf_counter()
        num_films = read()
        rates.append(num_films / (time.perf_counter() - started_s))
    return max(rates)


if __name__ == "__main__":
    main()
