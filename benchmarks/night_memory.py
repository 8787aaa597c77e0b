"""Memory of a night over inputs of different number: `python -m benchmarks.night_memory [--inputs 1000 10000 100000]`.

Every night runs in a fresh process over tiny films, with the stand-in of ``tests/support`` for the models and decoding
in its own process, so that what grows is what the night itself keeps. Ends with 1 where an input costs more than 4 kB.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.faults.nights import decode_here
from crrg.ledger.manifest import read_manifests
from crrg.storage import Storage
from tests.support.drawn_night import StandInDrafter, png_bytes, run_test_night

MAX_BYTES_PER_INPUT = 4096
SHARD_SIZE = 200


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--one", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.inputs[0])))
        return 0
    found = []
    print("| inputs | peak memory, MB | s |\n| ---: | ---: | ---: |")
    for number in options.inputs:
        with tempfile.TemporaryDirectory(prefix="crrg-night-memory-") as folder:
            command = [sys.executable, "-m", "benchmarks.night_memory", "--one", folder, "--inputs", str(number)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found.append(json.loads(done.stdout.splitlines()[-1]))
        print(f"| {number} | {found[-1]['peak_mb']:.0f} | {found[-1]['seconds']:.0f} |", flush=True)
    first, last = found[0], found[-1]
    growth = 2**20 * (last["peak_mb"] - first["peak_mb"]) / max(1, options.inputs[-1] - options.inputs[0])
    print(f"\n{growth:.0f} bytes per input")
    return 1 if growth > MAX_BYTES_PER_INPUT else 0


def measure(folder: Path, number: int) -> dict[str, float]:
    """Fill an inbox, run a night over it, and return its peak memory and time."""
    decode_here(0)
    inbox, root = folder / "inbox", Storage(str(folder / "root"))
    for index in range(number):
        path = inbox / f"{index // 1000:03d}" / f"{index:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png_bytes(index))
    started_s = time.monotonic()
    run_test_night(Storage(str(inbox)), root, StandInDrafter(), num_workers=0, shard_size=SHARD_SIZE)
    (manifest,) = read_manifests(root)
    if manifest.num_accepted != number:
        raise RuntimeError(f"{manifest.num_accepted} of {number} films were drafted")
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"peak_mb": peak_mb, "seconds": time.monotonic() - started_s}


if __name__ == "__main__":
    sys.exit(main())
