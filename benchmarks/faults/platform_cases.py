"""Cases of a night as a flow whose Prefect server is away for all or part of it."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from benchmarks.faults.cases import DELAY_S, NUM_FILMS, Finding
from benchmarks.faults.nights import Undisturbed, decode_here, start_night
from crrg.registry.aliases import ResolvedBundle
from crrg.storage import Storage
from deployments.services import Service, free_port, start_prefect_server
from tests.support.drawn_night import BUNDLE, StandInDrafter, night_config

SECRET = "k" * 32
"""The key of the undisturbed night's pseudonyms."""


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
            return self._night(name, {"PREFECT_API_URL": f"http://127.0.0.1:{free_port()}/api"}, None, 0.0)
        server = start_prefect_server(self.folder / name)
        try:
            dies_after_s = random.Random(number).uniform(1.0, 6.0)
            return self._night(name, server.env, server, dies_after_s)
        finally:
            server.stop(0)

    def _night(self, name: str, env: dict[str, str], server: Service | None, dies_after_s: float) -> Finding:
        root, log = Storage(str(self.folder / f"{name}-root")), self.folder / f"{name}.log"
        own = {**env, "CRRG_HMAC_KEY": SECRET}
        night = start_night(self.undisturbed.inbox, root, log, delay_s=3 * DELAY_S, env=own, through=run_flow)
        if server is not None:
            while "night" not in log.read_text() and night.is_running:
                time.sleep(0.1)
            time.sleep(dies_after_s)
            server.stop(0)
        code = night.wait()
        problems = [] if code == 0 else [f"the night ended with {code}"]
        if "goes on without it" not in log.read_text():
            problems.append("nothing says that the server was away")
        return Finding(problems + self.undisturbed.problems(root), {"prefect away": 1})


def run_flow(inbox: Storage, root: Storage, delay_s: float, num_workers: int) -> None:
    """Run the flow of a night in this process, with the stand-in for the models; the root is the environment's."""
    os.environ["CRRG_ROOT"] = root.root
    from crrg.operations import night_steps
    from flows.__main__ import main

    decode_here(num_workers)
    resolved = ResolvedBundle(ref=BUNDLE, registry_available=True)
    night_steps.__dict__.update(bundle_pipeline=lambda *_: StandInDrafter(delay_s), resolve_bundle=lambda *_: resolved)
    main("nightly", night_config(inbox, num_workers=num_workers).model_dump_json())
