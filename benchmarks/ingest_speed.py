"""Speed of ingest (``make bench-ingest``): the whole of it beside the bare work on the same films in the same run.

Films of 2500 x 2048 pixels, uncompressed, JPEG lossless and JPEG 2000. Bare work is read, sha256, decode and resize in
warm processes; the ingest adds start of the decoding processes, every check, pseudonyms, Parquet and commit. Each pair
is measured in alternating rounds on one core and on two, and the best round counts. Then: memory of the parent from 200
to 2,000 films, and what 20 ms of latency per object costs on S3. Ends with status 1 where a bound is missed.
Run: ``python -m benchmarks.ingest_speed [--scale 0.1]``
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from benchmarks.ingest.films import ENCODINGS, write_films
from benchmarks.ingest.stores import BUCKET, bucket_of, relay

NUM_FILMS = {"uncompressed": 1000, "JPEG lossless": 640, "JPEG 2000": 64}
"""Enough that the second which every ingest needs to start does not count."""
MIN_SHARE = {"uncompressed": 0.65, "JPEG lossless": 0.80, "JPEG 2000": 0.80}
MIN_SECOND_CORE = 0.9
"""Least rate on two cores over twice the rate on one."""
MEMORY_FILMS = (200, 2000)
MAX_MEMORY_GROWTH = 1.15
S3_FILMS = 160
LATENCY_S = 0.020
MAX_LATENCY_COST = 0.10


@dataclass(frozen=True)
class Line:
    """One row of the result.

    Attributes:
        what: What was measured.
        figures: Its columns.
        bound: The bound in words.
        is_met: Whether it holds.
    """

    what: str
    figures: str
    bound: str
    is_met: bool


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=None, help="where films are drawn; kept if given")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the films, to try it out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("speed", "memory", "latency"), default=None)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="crrg-ingest-speed-"))
    parts: dict[str, Callable[[Path, float, int], Iterator[Line]]] = {
        "speed": speed, "memory": memory, "latency": latency
    }  # fmt: skip
    try:
        lines = [
            show(line)
            for name, measure in parts.items()
            if options.only in (None, name)
            for line in measure(folder, options.scale, options.rounds)
        ]
    finally:
        if options.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    return 0 if all(line.is_met for line in lines) else 1


def show(line: Line) -> Line:
    print(f"| {line.what} | {line.figures} | {line.bound} | {'met' if line.is_met else 'MISSED'} |", flush=True)
    return line


def speed(folder: Path, scale: float, rounds: int) -> Iterator[Line]:
    """Yield one line per encoding: rates, shares of the bare rate, and what a second core brings."""
    for encoding in ENCODINGS:
        source = folder / encoding.replace(" ", "-").lower()
        write_films(source, max(4, round(NUM_FILMS[encoding] * scale)), encoding)
        rates: dict[tuple[str, int], float] = {}
        for _ in range(rounds):
            for key in product(("bare", "ingest"), (1, 2)):
                rates[key] = max(rates.get(key, 0.0), rate(key[0], source, cores=key[1]))
        per_core = [rates["ingest", cores] / rates["bare", cores] for cores in (1, 2)]
        second = rates["ingest", 2] / (2 * rates["ingest", 1])
        figures = (
            f"one core: bare {rates['bare', 1]:.2f} films/s, ingest {rates['ingest', 1]:.2f} ({per_core[0]:.2f}); "
            f"two: {rates['bare', 2]:.2f}, {rates['ingest', 2]:.2f} ({per_core[1]:.2f}; {2 * second:.2f} times one)"
        )
        is_met = min(per_core) >= MIN_SHARE[encoding] and second >= MIN_SECOND_CORE
        bound = f"at least {MIN_SHARE[encoding]:.2f} of the bare rate, {2 * MIN_SECOND_CORE} times one core"
        yield Line(encoding, figures, bound, is_met)


def memory(folder: Path, scale: float, _: int) -> Iterator[Line]:
    """Yield one line: the parent's peak memory at two sizes of archive, with films of 512 x 420 pixels."""
    peaks = []
    for num_films in (round(films * scale) for films in MEMORY_FILMS):
        source = folder / f"small-{num_films}"
        write_films(source, num_films, "uncompressed", rows=512, columns=420, painted=96)
        peaks.append(measure("ingest", str(source), cores=2)["parent_peak_mb"])
    small, large = peaks
    figures = f"{small:.0f} MB at {MEMORY_FILMS[0] * scale:.0f} films, {large:.0f} MB at {MEMORY_FILMS[1] * scale:.0f}"
    yield Line(
        "parent's peak memory", figures, f"at most {MAX_MEMORY_GROWTH} times", large <= MAX_MEMORY_GROWTH * small
    )


def latency(folder: Path, scale: float, rounds: int) -> Iterator[Line]:
    """Yield one line: the time of an ingest from S3 through a relay, without and with latency."""
    num_films = max(4, round(S3_FILMS * scale))
    source = folder / "jpeg-lossless"
    write_films(source, num_films, "JPEG lossless")
    with bucket_of(sorted(source.glob("*.dcm"))[:num_films], folder / "store") as port:
        times: dict[float, list[float]] = {0.0: [], LATENCY_S: []}
        for _ in range(rounds):
            for delay_s, found in times.items():
                with relay(port, delay_s) as relay_port:
                    env = {"CRRG_S3_ENDPOINT": f"http://127.0.0.1:{relay_port}"}
                    found.append(measure("ingest", f"s3://{BUCKET}/films", cores=2, env=env)["wall_s"])
    without, with_latency = min(times[0.0]), min(times[LATENCY_S])
    cost = with_latency / without - 1
    figures = f"{num_films / without:.2f} films/s without, {num_films / with_latency:.2f} with ({cost:+.1%} time)"
    yield Line(f"S3, {1000 * LATENCY_S:.0f} ms per request", figures, "less than 10 %", cost < MAX_LATENCY_COST)


def rate(what: str, source: Path, cores: int = 1) -> float:
    """Return films per second."""
    figures = measure(what, str(source), cores=cores)
    return figures["films"] / figures["wall_s"]


def measure(what: str, source: str, *, cores: int, env: dict[str, str] | None = None) -> dict[str, float]:
    """Measure in a fresh process and, for an ingest, an empty root."""
    with tempfile.TemporaryDirectory(prefix="crrg-speed-root-") as root:
        command = [sys.executable, "-m", "benchmarks.ingest.measure", what, source, "--cores", str(cores)]
        # as on any machine, libraries are compiled once and not for every run
        usual = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        done = subprocess.run(
            [*command, "--root", root], check=True, stdout=subprocess.PIPE, text=True, env={**usual, **(env or {})}
        )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    if figures.get("accepted", figures["films"]) != figures["films"]:
        raise RuntimeError(f"only {figures['accepted']:.0f} of {figures['films']:.0f} films were accepted")
    return figures


if __name__ == "__main__":
    sys.exit(main())
