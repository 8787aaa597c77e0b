"""Speed of a night (``make bench-nightly``): the whole of it beside a plain loop over the same films in the same run.

The plain loop decodes and drafts with the same bundle on the same cores: no store, no ledger, no documents, no pages.
Rounds alternate; what counts is the middle one of their ratios, since a shared machine is now faster, now slower. Every
process takes a few other films the same way before the clock starts, and what that takes (models, libraries, a new
tracking database) is told apart. Then: what a Prefect server adds to a night (of more films, since what it adds does
not grow with them), and what 20 ms of latency per request costs where inbox and root lie on S3. On a GPU (``--device
cuda``) a night is held beside the model alone, too, which is given decoded films; on a CPU ``--only model`` shows that
without a bound, since decoders and model share the cores. Ends with status 1 where a bound is missed.
Run: ``python -m benchmarks.nightly_speed --root ROOT [--films 600] [--long-films 3000] [--device cuda]``; ROOT is one
that ``make demo`` or ``make quality`` made.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.ingest.stores import BUCKET, bucket_of, relay
from benchmarks.ingest_speed import LATENCY_S, MAX_LATENCY_COST, Line, show
from crrg.config.base import default_num_workers
from crrg.data.phantom.cohort import write_cohort
from crrg.registry.aliases import CHAMPION, recorded_alias
from crrg.storage import Storage
from deployments.services import start_prefect_server
from tests.support.keys import KEY

MIN_SHARE = 0.85
MAX_ORCHESTRATION = 0.05
NUM_WARM = 8
WARM, DRAWN, LONG = "warm", "drawn", "long"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="root with a champion")
    parser.add_argument("--folder", type=Path, default=None, help="where films are drawn; kept if given")
    parser.add_argument("--films", type=int, default=600)
    parser.add_argument("--long-films", type=int, default=3000, help="of the night on a Prefect server")
    parser.add_argument("--size", type=int, default=1024, help="their longer side, pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--only", choices=("model", "speed", "orchestration", "latency"), default=None)
    options = parser.parse_args()
    champion = recorded_alias(Storage(str(options.root)), CHAMPION)
    if champion is None:
        print("this root has no champion; make demo ROOT=... makes one", file=sys.stderr)
        return 2
    bundle = str(options.root.absolute() / champion.prefix)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="crrg-night-speed-"))
    try:
        parts: dict[str, Callable[[Passes, int], Iterator[Line]]] = {
            "model": model, "speed": speed, "orchestration": orchestration, "latency": latency
        }  # fmt: skip
        usual = [name for name in parts if name != "model" or options.device == "cuda"]
        lines = []
        for name in [options.only] if options.only else usual:
            cohort, num_films = (LONG, options.long_films) if name == "orchestration" else (DRAWN, options.films)
            draw(folder / WARM, NUM_WARM, 1, options.size)
            draw(folder / cohort, num_films, 0, options.size)
            passes = Passes(folder / cohort / "dicom", bundle, options.device)
            lines += [show(line) for line in parts[name](passes, options.rounds)]
    finally:
        if options.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    return 0 if all(line.is_met for line in lines) else 1


def draw(folder: Path, num_films: int, seed: int, size: int) -> None:
    """Draw a cohort where there is none."""
    if not folder.exists():
        write_cohort(Storage(str(folder)), num_films, seed, size, workers=default_num_workers())


@dataclass(frozen=True)
class Passes:
    """What every pass goes over, and with what.

    Attributes:
        films: Folder of the films.
        bundle: Folder of the bundle.
        device: Where its models run.
    """

    films: Path
    bundle: str
    device: str

    def measure(self, what: str, inbox: str, env: dict[str, str]) -> dict[str, float]:
        """Make one pass in a fresh process."""
        command = [sys.executable, "-m", "benchmarks.nightly.measure", what, inbox, "--bundle", self.bundle]
        warm = str(self.films.parent.parent / WARM / "dicom")
        done = subprocess.run(
            [*command, "--warm", warm, "--device", self.device],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "CRRG_HMAC_KEY": KEY, "PREFECT_LOGGING_LEVEL": "WARNING", **env},
        )
        figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return figures

    def in_turns(
        self, kinds: tuple[str, str], rounds: int, env: dict[str, str] | None = None
    ) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
        """Measure two kinds in turns, each in an empty root; return the figures of every round of both."""
        found: tuple[list[dict[str, float]], list[dict[str, float]]] = ([], [])
        for _ in range(rounds):
            for kind, measured in zip(kinds, found, strict=True):
                with tempfile.TemporaryDirectory(prefix="crrg-speed-root-") as root:
                    measured.append(self.measure(kind, str(self.films), {**(env or {}), "CRRG_ROOT": root}))
        counts = {figures["films"] for measured in found for figures in measured}
        if len(counts) != 1:
            raise RuntimeError(f"passes drafted different numbers of films: {sorted(counts)}")
        return found


def model(passes: Passes, rounds: int) -> Iterator[Line]:
    """Yield one line: studies per second of the model alone, on films that are decoded, and of a night."""
    is_bound = passes.device == "cuda"
    yield beside("model", passes, rounds, MIN_SHARE if is_bound else 0.0)


def speed(passes: Passes, rounds: int) -> Iterator[Line]:
    """Yield one line: studies per second of a plain loop and of a night."""
    yield beside("plain", passes, rounds, MIN_SHARE)


def beside(kind: str, passes: Passes, rounds: int, least: float) -> Line:
    """Return how fast a night is beside another pass over the same films; a bound of 0 is none."""
    other, night = passes.in_turns((kind, "night"), rounds)
    shares = [one["wall_s"] / whole["wall_s"] for one, whole in zip(other, night, strict=True)]
    share = statistics.median(shares)
    rates = [max(each["films"] / each["wall_s"] for each in found) for found in (other, night)]
    peaks, starts = ([max(each[name] for each in found) for found in (other, night)] for name in ("peak_mb", "start_s"))
    shown = (
        f"{kind} {rates[0]:.2f} films/s, night {rates[1]:.2f} at best; share {share:.2f} ({min(shares):.2f} to "
        f"{max(shares):.2f}); {starts[0]:.1f} and {starts[1]:.1f} s to start, {peaks[0]:.0f} and {peaks[1]:.0f} MB"
    )
    name = f"night of {night[0]['films']:.0f} films beside {kind}, {passes.device}"
    return Line(name, shown, f"at least {least}" if least else "no bound", share >= least)


def orchestration(passes: Passes, rounds: int) -> Iterator[Line]:
    """Yield one line: the time of a night without Prefect, and as a flow on a Prefect server."""
    with tempfile.TemporaryDirectory(prefix="crrg-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        server = start_prefect_server(Path(folder) / "prefect")
        try:
            night, flow = passes.in_turns(("night", "flow"), rounds, server.env)
        finally:
            server.stop()
    costs = [other["wall_s"] / one["wall_s"] - 1 for one, other in zip(night, flow, strict=True)]
    cost = statistics.median(costs)
    times = [min(each["wall_s"] for each in found) for found in (night, flow)]
    shown = f"{times[0]:.1f} s without, {times[1]:.1f} s with at best; {told(costs)}"
    name = f"Prefect server, night of {night[0]['films']:.0f} films"
    yield Line(name, shown, "less than 5 %", cost < MAX_ORCHESTRATION)


def latency(passes: Passes, rounds: int) -> Iterator[Line]:
    """Yield one line: a night whose inbox and root lie on S3, through a relay without and with latency."""
    paths = sorted(passes.films.rglob("*.dcm"))
    times: dict[float, list[float]] = {0.0: [], LATENCY_S: []}
    with bucket_of(paths, passes.films.parent / "store") as port:
        for number in range(rounds):
            for delay_s, found in times.items():
                with relay(port, delay_s) as relay_port:
                    env = {
                        "CRRG_S3_ENDPOINT": f"http://127.0.0.1:{relay_port}",
                        "CRRG_ROOT": f"s3://{BUCKET}/root-{number}-{1000 * delay_s:.0f}",
                    }
                    found.append(passes.measure("night", f"s3://{BUCKET}/films", env)["wall_s"])
    costs = [late / without - 1 for without, late in zip(*times.values(), strict=True)]
    cost = statistics.median(costs)
    rates = [len(paths) / min(found) for found in times.values()]
    shown = f"{rates[0]:.2f} films/s without, {rates[1]:.2f} with at best; {told(costs)}"
    yield Line(f"S3, {1000 * LATENCY_S:.0f} ms per request", shown, "less than 10 %", cost < MAX_LATENCY_COST)


def told(costs: list[float]) -> str:
    """Return what rounds cost: the middle one, and from where to where they go."""
    return f"{statistics.median(costs):+.1%} time ({min(costs):+.1%} to {max(costs):+.1%})"


if __name__ == "__main__":
    sys.exit(main())
