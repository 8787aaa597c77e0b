"""Nights in processes of their own that something happens to, and the judgement of what they leave.

A night drafts with the stand-in of ``tests/support``: faults of stores and processes do not depend on the models. What
is left must equal an undisturbed night over the same inbox, byte by byte: one manifest, each input once, no waste that
a reader could see.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from crrg.ledger.manifest import read_manifests
from crrg.operations.digest import committed_digest
from crrg.operations.outcomes import inbox_outcomes
from crrg.storage import Storage
from tests.support.drawn_night import DATE, PSEUDONYMS, StandInDrafter, fill_inbox, run_test_night

LIMIT_S = 300.0
CHECKOUT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Undisturbed:
    """An inbox and what a night makes of it when nothing happens.

    Attributes:
        inbox: The films.
        digest: Of the committed results.
        contents: Bytes of every object that the manifest names.
    """

    inbox: Storage
    digest: str
    contents: Mapping[str, bytes]

    @classmethod
    def of(cls, inbox: Storage, root: Storage, num_films: int) -> Undisturbed:
        """Fill an inbox and run a night over it."""
        fill_inbox(inbox, num_films)
        summary = run_test_night(inbox, root, StandInDrafter())
        if summary.status != "committed":
            raise RuntimeError(f"the undisturbed night is {summary.status}")
        return cls(inbox, committed_digest(root), committed(root))

    def problems(self, root: Storage) -> list[str]:
        """Return how a root differs from the undisturbed one; nothing where all is well."""
        manifests = read_manifests(root, DATE)
        if len(manifests) != 1:
            return [f"{len(manifests)} manifests"]
        (manifest,) = manifests
        found = []
        if manifest.num_accepted + manifest.num_quarantined != manifest.num_inputs:
            found.append("inputs are not conserved")
        if committed_digest(root) != self.digest:
            found.append("another digest")
        if committed(root) != self.contents:
            found.append("other bytes")
        pending = sum(entry.outcome == "pending" for entry in inbox_outcomes(self.inbox.root, root, PSEUDONYMS))
        if pending:
            found.append(f"{pending} inputs lost")
        return found


def committed(root: Storage) -> dict[str, bytes]:
    """Return what the night's manifest names: tables, documents, pictures, pages."""
    (manifest,) = read_manifests(root, DATE)
    keys = [file.key for file in manifest.files] + list(root.get_json(manifest.index_key))
    return {key: root.get(key) for key in keys}


def start_night(
    inbox: Storage, root: Storage, log: Path, *, delay_s: float = 0.0, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a night; its output goes to the end of ``log``."""
    command = [sys.executable, "-m", "tests.support.drawn_night", inbox.root, root.root, str(delay_s)]
    with log.open("ab") as output:
        return subprocess.Popen(
            [*command, str(log.with_suffix(".started"))],
            cwd=CHECKOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def finish(inbox: Storage, root: Storage, log: Path, env: Mapping[str, str] | None = None) -> int:
    """Run nights until one has committed; return how many it took."""
    deadline_s = time.monotonic() + LIMIT_S
    for number in range(1, 1000):
        start_night(inbox, root, log, env=env).wait(timeout=LIMIT_S)
        if read_manifests(root, DATE):
            return number
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"no commit after {number} nights")
        time.sleep(0.5)
    raise AssertionError("unreachable: a deadline ends the loop")


def expire_lease(root: Storage) -> None:
    """Let the lease of a dead holder look two hours old, as a local store's clock shows it."""
    for stored in root.list_objects("leases"):
        os.utime(root.url(stored.key), (time.time() - 7200.0,) * 2)
