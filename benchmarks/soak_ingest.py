"""Put many randomly damaged films through the decoding processes: each must end in one outcome, none may stop the run.

Run: ``make soak-ingest`` or ``python -m benchmarks.soak_ingest --films 10000``. Films are those of the drawn corpus in
``tests/support``; damages are bytes flipped, cut, spliced with another film, header fields and lengths overwritten,
elements doubled. Film number ``i`` depends on the seed and ``i`` alone; finished blocks are kept in a file, so that a
stopped run goes on where it was. Ends with 1 where a film got no outcome or the reader did not foresee one.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from crrg.data.decoding.limits import InputLimits
from crrg.data.decoding.pool import decode_many
from crrg.data.film import DecodedFilm
from tests.support.film_corpus import Variant
from tests.support.film_corpus_coding import legal_codings
from tests.support.film_corpus_display import legal_displays

BLOCK = 250
IMAGE_SIZE = 256
UNFORESEEN = ("DECODE.UNEXPECTED", "DECODE.CRASH", "DECODE.TIMEOUT")
Generator = np.random.Generator
Damage = Callable[[bytes, bytes, Generator], bytes]


def flip_header(data: bytes, _: bytes, rng: Generator) -> bytes:
    """Overwrite some bytes of the first kilobyte."""
    return _overwrite(data, rng, min(1024, len(data)), int(rng.integers(1, 9)))


def flip_anywhere(data: bytes, _: bytes, rng: Generator) -> bytes:
    """Overwrite some bytes anywhere."""
    return _overwrite(data, rng, len(data), int(rng.integers(1, 65)))


def flip_one_bit(data: bytes, _: bytes, rng: Generator) -> bytes:
    """Turn one bit of the first two kilobytes."""
    place = int(rng.integers(0, min(2048, len(data))))
    return data[:place] + bytes([data[place] ^ 1 << int(rng.integers(0, 8))]) + data[place + 1 :]


def cut(data: bytes, _: bytes, rng: Generator) -> bytes:
    """Drop the end."""
    return data[: int(rng.integers(0, len(data)))]


def drop_part(data: bytes, _: bytes, rng: Generator) -> bytes:
    """Drop some bytes in the middle."""
    start = int(rng.integers(0, len(data)))
    return data[:start] + data[start + int(rng.integers(1, 512)) :]


def splice(data: bytes, other: bytes, rng: Generator) -> bytes:
    """Go on with another film from some place."""
    return data[: int(rng.integers(1, len(data)))] + other[int(rng.integers(0, len(other))) :]


def double_part(data: bytes, _: bytes, rng: Generator) -> bytes:
    """Write some bytes of the header twice, elements among them."""
    start = int(rng.integers(0, min(1500, len(data))))
    part = data[start : start + int(rng.integers(2, 256))]
    return data[:start] + part * int(rng.integers(2, 5)) + data[start + len(part) :]


def lie_of_length(data: bytes, _: bytes, rng: Generator) -> bytes:
    """Put a large or odd number where a length or a size may stand."""
    place = int(rng.integers(0, max(1, min(1500, len(data) - 4))))
    lies = (b"\xff\xff\xff\xff", b"\xff\xff", b"\0\0", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\x01", b"\xfe\xff\x00\xe0")
    lie = lies[int(rng.integers(0, len(lies)))]
    return data[:place] + lie + data[place + len(lie) :]


def fill_with_noise(data: bytes, _: bytes, rng: Generator) -> bytes:
    """Replace a stretch of the last three quarters by noise."""
    start = int(rng.integers(len(data) // 4, len(data)))
    length = int(rng.integers(1, 2048))
    return data[:start] + rng.bytes(min(length, len(data) - start)) + data[start + length :]


def _overwrite(data: bytes, rng: Generator, below: int, number: int) -> bytes:
    damaged = bytearray(data)
    for place in rng.integers(0, below, number):
        damaged[int(place)] = int(rng.integers(0, 256))
    return bytes(damaged)


DAMAGES: tuple[Damage, ...] = (
    flip_header,
    flip_anywhere,
    flip_one_bit,
    cut,
    drop_part,
    splice,
    double_part,
    lie_of_length,
    fill_with_noise,
)


def damaged_film(films: list[Variant], seed: int, index: int) -> tuple[str, bytes]:
    """Return the name of the damage and film number ``index``."""
    rng = np.random.default_rng([seed, index])
    film, other = (films[int(rng.integers(0, len(films)))].data for _ in range(2))
    damage = DAMAGES[index % len(DAMAGES)]
    damaged = damage(film, other, rng)
    if rng.random() < 0.2:
        damaged = DAMAGES[int(rng.integers(0, len(DAMAGES)))](damaged or b"\0", other, rng)
    return damage.__name__, damaged


def run_block(films: list[Variant], seed: int, first: int, number: int, num_workers: int) -> dict[str, Any]:
    """Decode a block and count what became of it, by damage and by reason code."""
    jobs = [damaged_film(films, seed, index) for index in range(first, first + number)]
    started = time.perf_counter()
    counts: Counter[str] = Counter()
    unforeseen = []
    for place, ((name, _), outcome) in enumerate(
        zip(jobs, decode_many((data for _, data in jobs), IMAGE_SIZE, num_workers), strict=True)
    ):
        code = "accepted" if isinstance(outcome, DecodedFilm) else outcome.code
        counts[f"{name}|{code}"] += 1
        if code in UNFORESEEN:
            unforeseen.append(first + place)
    return {
        "films": sum(counts.values()),
        "counts": dict(counts),
        "unforeseen": unforeseen,
        "seconds": time.perf_counter() - started,
    }


def print_table(blocks: list[dict[str, Any]]) -> int:
    """Print what became of the films; return the exit code."""
    total: Counter[str] = Counter()
    families: Counter[str] = Counter()
    for block in blocks:
        for key, number in block["counts"].items():
            name, code = key.split("|")
            total[code] += number
            families[f"{name}|{code.split('.')[0]}"] += number
    columns = sorted({key.split("|")[1] for key in families}, key=lambda family: (family != "accepted", family))
    print("| damage | films | " + " | ".join(columns) + " |")
    print("| --- |" + " ---: |" * (len(columns) + 1))
    for damage in DAMAGES:
        numbers = [families[f"{damage.__name__}|{family}"] for family in columns]
        print(f"| {damage.__name__} | {sum(numbers)} | " + " | ".join(map(str, numbers)) + " |")
    num_films = sum(total.values())
    unforeseen = [index for block in blocks for index in block["unforeseen"]]
    seconds = sum(float(block["seconds"]) for block in blocks)
    most = InputLimits.max_pixels
    print(f"\n{num_films} films run, {num_films} outcomes, {seconds:.0f} s; pixels at most {most:,} each")
    print(f"crashed, hung or unforeseen: {len(unforeseen)} {unforeseen[:20] if unforeseen else ''}")
    print("codes: " + ", ".join(f"{code} {number}" for code, number in total.most_common()))
    return 1 if unforeseen else 0


def main() -> int:
    """Run what is not yet in the record, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--films", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--record", type=Path, default=Path(".make/soak-ingest.jsonl"))
    chosen = parser.parse_args()
    with warnings.catch_warnings():
        # pydicom remarks on what is odd on purpose
        warnings.simplefilter("ignore")
        films = [*legal_codings(), *legal_displays()]
    films = [film for film in films if len(film.data) < 2**19]
    chosen.record.parent.mkdir(parents=True, exist_ok=True)
    lines = chosen.record.read_text().splitlines() if chosen.record.exists() else []
    done = {block["first"]: block for block in map(json.loads, lines) if block["seed"] == chosen.seed}
    for first in range(0, chosen.films, BLOCK):
        number = min(BLOCK, chosen.films - first)
        if first in done and done[first]["films"] == number:
            continue
        block = {"first": first, "seed": chosen.seed} | run_block(films, chosen.seed, first, number, chosen.workers)
        with chosen.record.open("a") as record:
            record.write(json.dumps(block) + "\n")
        done[first] = block
        print(f"{first + number} of {chosen.films}", flush=True)
    return print_table([block for first, block in sorted(done.items()) if first < chosen.films])


if __name__ == "__main__":
    raise SystemExit(main())
