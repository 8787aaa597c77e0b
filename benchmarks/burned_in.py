"""How well burned-in text is found: recall and false alarms on drawn films, time per film, hits on real films.

Run ``python -m benchmarks.burned_in``. Real films are only looked at where ``CRRG_OPEN_DATA`` points to them; who wants
to see the hits gives ``--sheet PATH``, a picture that stays out of the repository.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from crrg.data.privacy.burned_in import find_text
from tests.support.burned_text import (
    POSITIONS,
    SIDES,
    BurnedText,
    burn,
    drawn_grey,
    sample_marker,
    sample_text,
)

FILM_PIXELS = 1024
NUM_FILMS = 8
Sample = Callable[[np.random.Generator], BurnedText]


def main() -> None:
    """Measure and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num", type=int, default=400, help="texts and markers of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sheet", type=Path, default=None, help="where to write a picture of the hits on real films")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    films = [drawn_grey(index, FILM_PIXELS) for index in range(NUM_FILMS)]
    print_recall(films, options.num, options.seed)
    print_false_alarms(films, options.num, options.seed)
    print_time()
    folder = Path(os.environ.get("CRRG_OPEN_DATA", "/nonexistent"))
    if folder.is_dir():
        print_real(folder, options.sheet)


def print_recall(films: list[NDArray[np.uint8]], num: int, seed: int) -> None:
    """Print the share of burned-in rows that were found, by height, style, type face and compression."""
    rng = np.random.default_rng(seed)
    found: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for index in range(num):
        text = sample_text(rng)
        is_found = bool(find_text(burn(films[index % NUM_FILMS], text, rng)))
        # capitals are about 0.72 of the height that is asked for in all faces but the dotted one
        height = round(text.height * 0.72)
        keys = ["all", "height >= 12" if height >= 12 else "height < 12"]
        if height >= 12:
            keys += [f"style {text.style}", f"face {text.face}", f"JPEG {text.quality or 'none'}"]
            keys += ["turned" if text.place.endswith("turned") else "upright", f"noise {text.noise:g}"]
        for key in keys:
            total[key] += 1
            found[key] += is_found
    print("| text | found | of | recall |\n| --- | ---: | ---: | ---: |")
    for key in sorted(total):
        print(f"| {key} | {found[key]} | {total[key]} | {found[key] / total[key]:.3f} |")


def print_false_alarms(films: list[NDArray[np.uint8]], num: int, seed: int) -> None:
    """Print how many legal markers were taken for text, and how many films without any."""
    rng = np.random.default_rng(seed + 1)
    kinds: dict[str, Sample] = {
        "side and projection (L, R, AP, PA)": lambda rng: sample_marker(rng, SIDES),
        "position (PORTABLE, AP ERECT, ...)": lambda rng: sample_marker(rng, POSITIONS),
    }
    print("\n| marker | false alarms | of |\n| --- | ---: | ---: |")
    for kind, sample in kinds.items():
        hits = sum(bool(find_text(burn(films[index % NUM_FILMS], sample(rng), rng))) for index in range(num))
        print(f"| {kind} | {hits} | {num} |")
    clean = [drawn_grey(100 + index, 512) for index in range(num // 4)]
    print(f"| as drawn | {sum(bool(find_text(film)) for film in clean)} | {len(clean)} |")


def print_time() -> None:
    """Print the time per film of 2500 x 2048, 8 and 16 bits; the best of seven."""
    film = cv2.resize(drawn_grey(0, 1024), (2048, 2500), interpolation=cv2.INTER_CUBIC)
    noise = np.random.default_rng(0).normal(0, 3, film.shape)
    grey = np.clip(film + noise, 0, 255).astype(np.uint8)
    print("\n| film of 2500 x 2048 | ms |\n| --- | ---: |")
    for name, values in (("8 bits", grey), ("12 bits", grey.astype(np.uint16) * 16)):
        best_s = min(_time_s(values) for _ in range(7))
        print(f"| {name} | {best_s * 1000:.1f} |")


def print_real(folder: Path, sheet: Path | None) -> None:
    """Print how many real films are held back."""
    print("\n| real films | held back | of |\n| --- | ---: | ---: |")
    cells = []
    for name in ("covid-cxr", "nih", "vqa-rad-chest"):
        paths = sorted((folder / name / "images").glob("*"))
        hits = [(grey, rows) for grey in map(_read, paths) if (rows := find_text(grey))]
        print(f"| {name} | {len(hits)} | {len(paths)} |")
        cells += [_cell(grey, max(rows, key=lambda row: row.num_characters).box_xyxy) for grey, rows in hits]
    if sheet is not None:
        columns = 4
        cells += [np.zeros_like(cells[0])] * (-len(cells) % columns)
        lines = [np.hstack(cells[start : start + columns]) for start in range(0, len(cells), columns)]
        cv2.imwrite(str(sheet), np.vstack(lines))


def _time_s(values: NDArray[np.generic]) -> float:
    start_s = time.perf_counter()
    find_text(values)
    return time.perf_counter() - start_s


def _read(path: Path) -> NDArray[np.uint8]:
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), dtype=np.uint8)


def _cell(grey: NDArray[np.uint8], box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    x1, y1, x2, y2 = box
    cut = grey[max(0, y1 - 20) : y2 + 20, max(0, x1 - 20) : x2 + 20]
    scale = min(380 / cut.shape[1], 120 / cut.shape[0])
    shown = cv2.resize(cut, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    cell = np.zeros((124, 384), np.uint8)
    cell[: shown.shape[0], : shown.shape[1]] = shown
    return cell


if __name__ == "__main__":
    main()
