"""Cases of a night as a flow whose Prefect server, or whose tracking server, is away for all or part of it."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.faults.cases import DELAY_S, NUM_FILMS, Ending, Finding, judged
from benchmarks.faults.nights import Night, NotingDrafter, Undisturbed, decode_here, start_night
from crrg.config.base import Settings
from crrg.operations.spool import PREFIX, send_waiting
from crrg.registry.aliases import ResolvedBundle
from crrg.storage import Storage
from crrg.tracking.client import mlflow_client
from deployments.services import Service, free_port, start_mlflow, start_prefect_server
from tests.support.drawn_night import BUNDLE, DATE, night_config
from tests.support.keys import KEY

LOCK_S = 60.0


class PlatformCases:
    """Cases on a folder, through Prefect."""

    def __init__(self, folder: Path) -> None:
        """Run the undisturbed night without any server."""
        self.folder = folder
        inbox = Storage(str(folder / "inbox"))
        self.undisturbed = Undisturbed.of(inbox, Storage(str(folder / "undisturbed")), NUM_FILMS)

    def prefect_away(self, number: int) -> Finding:
        """Run a night whose server was never there, or dies in the middle of it."""
        name = f"prefect-{number}"
        if number % 2 == 0:
            return self._without_prefect(name, no_prefect(), None, 0.0)
        server = start_prefect_server(self.folder / name)
        try:
            dies_after_s = random.Random(number).uniform(1.0, 6.0)
            return self._without_prefect(name, server.env, server, dies_after_s)
        finally:
            server.stop(0)

    def prefect_locked(self, number: int) -> Finding:
        """Hold a write lock on the database of a night's Prefect server for a minute."""
        name = f"locked-{number}"
        server = start_prefect_server(self.folder / name)
        root = self._root(name)
        try:
            own = {**server.env, "CRRG_HMAC_KEY": KEY}
            log = Path(f"{root.root}.log")
            night = start_night(self.undisturbed.inbox, root, log, delay_s=3 * DELAY_S, env=own, through=run_flow)
            wait_until_it_began(night, log)
            held_s = hold_database(self.folder / name / "prefect.db", night)
            code = night.wait()
        finally:
            server.stop(0)
        return self._judged(root, code, {"database locked": int(held_s > 0)})

    def mlflow_away(self, number: int) -> Finding:
        """Run a night whose tracking server was never there, or dies in the middle; then let its run be sent."""
        folder = self.folder / f"mlflow-{number}"
        env, server = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{free_port()}"}, None
        if number % 2 == 1:
            server = start_mlflow(folder)
            env = server.env
        root = self._root(f"mlflow-{number}")
        dies_after_s = random.Random(number).uniform(1.0, 6.0)
        env = {**env, **no_prefect(), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
        try:
            code, said = self._night(root, env, server, dies_after_s)
        finally:
            if server is not None:
                server.stop(0)
        problems = []
        waited = any(stored.size for stored in root.list_objects(PREFIX))
        if waited and "waits in the spool" not in said:
            problems.append("nothing says that the run waits")
        server = start_mlflow(folder)
        try:
            settings = Settings(root=root.root, mlflow_tracking_uri=server.url)
            send_waiting(root, settings)
            num_runs = runs_of_the_night(settings, root)
        finally:
            server.stop(0)
        # a server that dies while it is told of the night is told once more: better twice than never
        if not 1 <= num_runs <= 1 + (waited and number % 2):
            problems.append(f"{num_runs} runs of the night")
        return self._judged(root, code, {"mlflow away": int(waited)}, problems, interrupted=0)

    def _root(self, name: str) -> Storage:
        return Storage(str(self.folder / f"{name}-root"))

    def _without_prefect(self, name: str, env: dict[str, str], server: Service | None, dies_after_s: float) -> Finding:
        root = self._root(name)
        code, said = self._night(root, env, server, dies_after_s)
        problems = []
        if "the Prefect server does not answer" not in said:
            problems.append("nothing says that the server was away")
        return self._judged(root, code, {"prefect away": 1}, problems)

    def _judged(
        self, root: Storage, code: int, injected: dict[str, int], problems: Sequence[str] = (), *, interrupted: int = 1
    ) -> Finding:
        """Judge one night, which goes on by itself; its shard at work may be done again where the server is away."""
        ending = Ending([code], what="the night")
        log = Path(f"{root.root}.log")
        return judged(self.undisturbed, root, log, [ending], injected, interrupted=interrupted, problems=problems)

    def _night(
        self, root: Storage, env: dict[str, str], server: Service | None, dies_after_s: float
    ) -> tuple[int, str]:
        """Run the flow; end the server some time after the night began. Return the exit code and the log."""
        log = Path(f"{root.root}.log")
        own = {**env, "CRRG_HMAC_KEY": KEY}
        night = start_night(self.undisturbed.inbox, root, log, delay_s=3 * DELAY_S, env=own, through=run_flow)
        if server is not None:
            wait_until_it_began(night, log)
            time.sleep(dies_after_s)
            server.stop(0)
        return night.wait(), log.read_text()


def wait_until_it_began(night: Night, log: Path) -> None:
    """Return when a night has said its first word of itself, or has ended."""
    while "night" not in (log.read_text() if log.exists() else "") and night.is_running:
        time.sleep(0.1)


def hold_database(path: Path, night: Night) -> float:
    """Keep everybody else from writing to a SQLite database for a minute; return for how long the night ran meanwhile.

    Args:
        path: The database.
        night: Runs as a flow of the server whose database it is.
    """
    with contextlib.closing(sqlite3.connect(path, timeout=LOCK_S, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        started_s = time.monotonic()
        ran_s = 0.0
        while (held_s := time.monotonic() - started_s) < LOCK_S:
            ran_s = held_s if night.is_running else ran_s
            time.sleep(0.2)
        holder.execute("ROLLBACK")
    return ran_s


def no_prefect() -> dict[str, str]:
    """Return variables that name a Prefect server where none is."""
    return {"PREFECT_API_URL": f"http://127.0.0.1:{free_port()}/api"}


def runs_of_the_night(settings: Settings, root: Storage) -> int:
    """Return how many runs the tracking server holds of the night."""
    client = mlflow_client(settings, root)
    experiment = client.get_experiment_by_name("nightly")
    if experiment is None:
        return 0
    return sum(run.info.run_name == f"nightly-{DATE}" for run in client.search_runs([experiment.experiment_id]))


def run_flow(inbox: Storage, root: Storage, delay_s: float, num_workers: int) -> None:
    """Run the flow of a night in this process, with the stand-in for the models; the root is the environment's."""
    os.environ["CRRG_ROOT"] = root.root
    from crrg.operations.night import steps as night_steps
    from flows.__main__ import main

    decode_here(num_workers)
    resolved = ResolvedBundle(ref=BUNDLE, registry_available=True)
    night_steps.__dict__.update(
        bundle_pipeline=lambda *_: NotingDrafter(delay_s),
        resolve_bundle=lambda *_: resolved,
        read_image_size=lambda *_: NotingDrafter.image_size,
    )
    main("nightly", night_config(inbox, num_workers=num_workers).model_dump_json())
