"""An ingest and a night over a Ray cluster of two nodes on this machine, beside one process (``make scale-out``).

Everything real but the films: a Prefect server, two Ray nodes with one processor each, the flows as ``crrg`` runs them.
Prints which shard ran on which node and whether every way made the same dataset and the same night; fails where not.
One ingest over Ray is killed and run again. The models are trained for a few steps only: their drafts are nonsense, and
the same nonsense is expected everywhere. Needs the extra ``ray``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crrg.config.base import Settings, default_num_workers
from crrg.config.running import Gate, RetrainConfig
from crrg.data.dataset.pairs import read_manifest, resolve_dataset
from crrg.data.phantom.cohort import write_cohort
from crrg.operations.night.digest import committed_digest
from crrg.operations.summaries import table
from crrg.operations.training.retrain import retrain
from crrg.storage import Storage
from deployments.services import CHECKOUT, Service, start_prefect_server, start_ray_node
from tests.support.keys import KEY

DATE = "2026-03-01"
DATASET = "drawn"
KILLED = "killed"
NUM_DAMAGED = 3
SHARDS_BEFORE_KILL = 3
LIMIT_S = 600.0


@dataclass(frozen=True)
class Place:
    """A way to run shards, and the root it writes to.

    Attributes:
        name: For people.
        root: Its root.
        fan_out: The part of the forms.
    """

    name: str
    root: Storage
    fan_out: dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One flow run: what it made and who did it.

    Attributes:
        place: Where.
        digest: Of what was committed.
        duration_s: Wall time, the start of the flow's process included.
        shards: Rows of the artifact's table: shard, films, refused, done by.
    """

    place: Place
    digest: str
    duration_s: float
    shards: list[list[str]]

    @property
    def row(self) -> tuple[str, ...]:
        """Its row in the printed table."""
        nodes = Counter(shard[3].split(",")[0] for shard in self.shards)
        who = "; ".join(f"{node}: {count}" for node, count in sorted(nodes.items())) or "no shards"
        return self.place.name, self.digest[:16], f"{self.duration_s:.0f} s", who


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", type=int, default=240, help="drawn films")
    parser.add_argument("--size", type=int, default=1024, help="their longer side, pixels")
    parser.add_argument("--image-size", type=int, default=256, help="longest stored side, pixels")
    parser.add_argument("--shard-size", type=int, default=30)
    parser.add_argument("--num-steps", type=int, default=4, help="training steps of every stage")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="crrg-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        raise SystemExit(measure(arguments, Path(folder)))


def measure(arguments: argparse.Namespace, folder: Path) -> int:
    source = draw(arguments, folder / "films")
    with platform(folder) as (env, places):
        form = {
            "source": [str(source)],
            "dataset": DATASET,
            "image_size": arguments.image_size,
            "shard_size": arguments.shard_size,
            "seed": arguments.seed,
        }
        ingests = [run_ingest(place, form, env) for place in places]
        ingests.append(run_killed(places[-1], {**form, "dataset": KILLED}, env))
        say_runs("ingest", ingests)
        bundle = train(places[0].root, arguments)
        night = {
            "inbox": str(source / "dicom"),
            "date": DATE,
            "settle_s": 0,
            "shard_size": arguments.shard_size,
            "image_size": arguments.image_size,
            "model": bundle,
            "device": "cpu",
        }
        nights = [run_night(place, night, env) for place in places]
        say_runs("night", nights)
    differing = [run.place.name for runs in (ingests, nights) for run in runs if run.digest != runs[0].digest]
    idle = [
        runs[2].place.name for runs in (ingests, nights) if len({row[3].split(",")[0] for row in runs[2].shards}) != 2
    ]
    print(
        f"other than in one process: {', '.join(differing) or 'none'}; a node without work: {', '.join(idle) or 'none'}"
    )
    return bool(differing or idle)


def draw(arguments: argparse.Namespace, folder: Path) -> Path:
    """Draw a cohort, and damage some copies of its films."""
    write_cohort(Storage(str(folder)), arguments.films, arguments.seed, arguments.size, workers=default_num_workers())
    films = sorted((folder / "dicom").rglob("*.dcm"))[:NUM_DAMAGED]
    for number, film in enumerate(films):
        data = film.read_bytes()
        (film.parent / f"damaged-{number}.dcm").write_bytes(data[: len(data) // 2])
    print(f"{arguments.films} drawn films of {arguments.size} px, {NUM_DAMAGED} damaged, seed {arguments.seed}")
    return folder


@contextmanager
def platform(folder: Path) -> Iterator[tuple[dict[str, str], list[Place]]]:
    """Start a Prefect server and two Ray nodes; end them."""
    roots = {name: Storage(str(folder / name)) for name in ("one", "two", "ray")}
    with ExitStack() as stack:

        def begin(service: Service) -> Service:
            stack.callback(service.stop)
            return service

        server = begin(start_prefect_server(folder / "prefect"))
        env = {**server.env, "CRRG_HMAC_KEY": KEY, "OMP_NUM_THREADS": "1", "PREFECT_LOGGING_LEVEL": "WARNING"}
        os.environ.update(env)
        node_env = {**env, "CRRG_ROOT": roots["ray"].root}
        head = begin(start_ray_node(folder / "a", env=node_env))
        begin(start_ray_node(folder / "b", env=node_env, head=head))
        env |= head.env
        yield (
            env,
            [
                Place("one process", roots["one"], {}),
                Place("two processes", roots["two"], {"task_runner": "processes", "max_processes": 2}),
                Place("Ray, two nodes", roots["ray"], {"task_runner": "ray", "ray_address": head.url}),
            ],
        )


def run_ingest(place: Place, form: dict[str, Any], env: dict[str, str]) -> Run:
    duration_s = run_flow("ingest", place, form, env)
    return Run(place, dataset_digest(place.root, form["dataset"]), duration_s, shard_rows("ingest"))


def run_night(place: Place, form: dict[str, Any], env: dict[str, str]) -> Run:
    duration_s = run_flow("nightly", place, form, env)
    return Run(place, committed_digest(place.root, DATE), duration_s, shard_rows("nightly"))


def run_killed(place: Place, form: dict[str, Any], env: dict[str, str]) -> Run:
    """Kill an ingest when some shards are staged, and run it again."""
    child = start_flow("ingest", place, form, env)
    deadline_s = time.monotonic() + LIMIT_S
    while len(staged_shards(place.root)) < SHARDS_BEFORE_KILL:
        if child.poll() is not None or time.monotonic() > deadline_s:
            raise SystemExit("the ingest ended before it could be killed")
        time.sleep(0.05)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    again = run_ingest(place, form, env)
    kept = sum(row[3] == "an earlier run" for row in again.shards)
    print(f"killed after {SHARDS_BEFORE_KILL} shards, run again: {kept} of {len(again.shards)} shards were kept")
    left = len(staged_shards(place.root))
    print(f"staged shards left: {left}")
    return Run(Place(f"{place.name}, killed, again", place.root, {}), again.digest, again.duration_s, again.shards)


def staged_shards(root: Storage) -> list[str]:
    return [stored.key for stored in root.list_objects("staging") if "/shard-" in stored.key]


def run_flow(name: str, place: Place, form: dict[str, Any], env: dict[str, str]) -> float:
    started_s = time.monotonic()
    child = start_flow(name, place, form, env)
    if child.wait(LIMIT_S):
        raise SystemExit(f"{name} in {place.name} ended with code {child.returncode}")
    return time.monotonic() - started_s


def start_flow(name: str, place: Place, form: dict[str, Any], env: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a flow as ``crrg`` would: in a process of its own, on the server that the environment names."""
    config = json.dumps({**form, "fan_out": place.fan_out})
    return subprocess.Popen(
        [sys.executable, "-m", "flows", name, config],
        cwd=CHECKOUT,
        env={**os.environ, **env, "CRRG_ROOT": place.root.root, "PYTHONPATH": str(CHECKOUT)},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def shard_rows(key: str) -> list[list[str]]:
    """Return the table of shards from the newest artifact of a flow."""
    from prefect.artifacts import Artifact

    artifact = Artifact.get(key=key)
    lines = str(artifact.data if artifact else "").partition("| shard |")[2].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def dataset_digest(root: Storage, name: str) -> str:
    """Return a digest over the version, the bytes of every part, and the refusals of a dataset."""
    dataset = resolve_dataset(root, name)
    manifest = read_manifest(root, dataset)
    (refusals,) = root.list_objects(f"quarantine/{name}")
    parts = [dataset.version, *(file["sha256"] for file in manifest["files"]), root.sha256(refusals.key)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def train(root: Storage, arguments: argparse.Namespace) -> str:
    """Train the four stages for a few steps; return the folder of their bundle."""
    gate = Gate(
        min_region_iou=0, min_label_auc=0, min_clinical_f1=0, min_zero_shot_auc=0, max_drop=1, max_zero_shot_drop=1
    )
    form = RetrainConfig(
        dataset=DATASET, num_steps=arguments.num_steps, seed=arguments.seed, evaluation_limit=3, promote="never",
        gate=gate, device="cpu",
    )  # fmt: skip
    result = retrain(form, root, Settings(root=root.root))
    return root.url(result.evaluation.bundle.prefix)


def say_runs(what: str, runs: Sequence[Run]) -> None:
    print()
    print(table((what, "digest", "took", "shards by"), [run.row for run in runs]))
    print()
    print(table(("shard", "films", "refused", "done by"), runs[2].shards), flush=True)


if __name__ == "__main__":
    main()
