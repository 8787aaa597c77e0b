"""Nights beside somebody who fills the inbox (``make soak``): hours unattended, on the models of a finished root.

A generator in a process of its own puts drawn studies into the inbox, one in twenty bad; night follows night until all
are read. Run again, it goes on. Ends with 0 where every night ended with 0 or 3, no night took more memory than those
before it, and a reader that shares no code with the project finds every input exactly once; with 1 where not; with 3
where time was up before. Run:
``python -m benchmarks.soak --root ROOT --folder DIR [--studies 10000] [--minutes 120]``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from benchmarks.soak.reader import check, manifests
from crrg.registry.aliases import CHAMPION, recorded_alias
from crrg.storage import Storage
from tests.support.keys import KEY

FIRST_DATE = date(2026, 3, 1)
MAX_GROWTH = 1.25
"""A night's peak memory over that of the first full one."""
FULL_NIGHT = 100
"""Inputs from which a night has drafted a whole window of films, so that its memory says something."""
MAX_DISK_GB = 20.0
SETTLE_S = 2.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="root with a champion")
    parser.add_argument("--folder", type=Path, required=True, help="inbox, results and lists; kept")
    parser.add_argument("--studies", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=1024, help="longer side of the films, pixels")
    parser.add_argument("--minutes", type=float, default=120.0)
    options = parser.parse_args()
    champion = recorded_alias(Storage(str(options.root)), CHAMPION)
    if champion is None:
        print("this root has no champion; make demo ROOT=... makes one", file=sys.stderr)
        return 2
    options.folder.mkdir(parents=True, exist_ok=True)
    bundle = str(options.root.absolute() / champion.prefix)
    deadline_s = time.monotonic() + 60 * options.minutes
    with feeder(options) as feeding:
        is_over = run_nights(options.folder, bundle, feeding, deadline_s)
        fed = feeding.poll()
    return show(options, is_over=is_over, fed=fed)


def run_nights(folder: Path, bundle: str, feeding: subprocess.Popen[bytes], deadline_s: float) -> bool:
    """Run nights until all is sent and one finds nothing new; return whether that came before the deadline.

    That night begins once all of it has settled: one that leaves the last films pending finds nothing new either.
    """
    was_fed = False
    while time.monotonic() < deadline_s:
        is_fed = feeding.poll() is not None
        if is_fed and not was_fed:
            time.sleep(SETTLE_S)
        was_fed = is_fed
        if not run_night(folder, bundle)["inputs"] and is_fed:
            return True
    return False


@contextmanager
def feeder(options: argparse.Namespace) -> Iterator[subprocess.Popen[bytes]]:
    """Fill the inbox from another process as long as the block runs."""
    inbox, sent = options.folder / "inbox", options.folder / "sent.jsonl"
    inbox.mkdir(exist_ok=True)
    limits = ["--studies", str(options.studies), "--size", str(options.size)]
    command = [sys.executable, "-m", "benchmarks.soak.feed", str(inbox), str(sent), *limits]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()


def run_night(folder: Path, bundle: str) -> dict[str, Any]:
    """Run one night over what lies in the inbox; write down and return what it took."""
    done = nights(folder)
    day = (FIRST_DATE + timedelta(days=len(done))).isoformat()
    command = [
        sys.executable, "-m", "crrg.cli", "nightly", "--no-orchestrator", "--inbox", str(folder / "inbox"),
        "--date", day, "--model", bundle, "--settle-s", str(SETTLE_S), "--root", str(folder / "root"),
    ]  # fmt: skip
    started_s = time.monotonic()
    with (folder / "nights.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "CRRG_HMAC_KEY": KEY})
        _, status, usage = os.wait4(process.pid, 0)
    committed = [each for each in manifests(folder / "root") if each["date"] == day]
    night = {
        "date": day,
        "code": os.waitstatus_to_exitcode(status),
        "seconds": round(time.monotonic() - started_s, 1),
        "peak_mb": round(usage.ru_maxrss / 1024),
        "inputs": sum(manifest["num_inputs"] - manifest["num_pending"] for manifest in committed),
        "drafted": sum(manifest["num_accepted"] for manifest in committed),
    }
    with (folder / "nights.jsonl").open("a") as file:
        file.write(json.dumps(night) + "\n")
    print(night, flush=True)
    return night


def nights(folder: Path) -> list[dict[str, Any]]:
    """Return the nights that were run."""
    path = folder / "nights.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def show(options: argparse.Namespace, *, is_over: bool, fed: int | None) -> int:
    """Print what was done and what is wrong; return the exit status.

    Args:
        options: Where, and how many studies.
        is_over: Whether a night found nothing new after all was sent: whatever no night read is lost then.
        fed: How the generator ended; ``None`` where it was still at work.
    """
    folder, done = options.folder, nights(options.folder)
    sent = folder / "sent.jsonl"
    num_sent = len(sent.read_text().splitlines()) if sent.exists() else 0
    num_read = sum(night["inputs"] for night in done)
    seconds = sum(night["seconds"] for night in done)
    disk_gb = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9
    problems = [f"{night['date']} ended with {night['code']}" for night in done if night["code"] not in (0, 3)]
    busy = [night for night in done if night["inputs"]]
    full = [night for night in busy if night["inputs"] >= FULL_NIGHT]
    growth = max(night["peak_mb"] for night in full) / full[0]["peak_mb"] if full else 1.0
    if growth > MAX_GROWTH:
        problems.append(f"peak memory grew to {growth:.2f} of the first night's")
    if disk_gb > MAX_DISK_GB:
        problems.append(f"{disk_gb:.1f} GB of disk")
    if fed:
        problems.append(f"the generator ended with {fed} after {num_sent} studies")
    is_done = is_over and fed == 0
    if is_done:
        problems += check(folder / "root", sent)
    peaks = [night["peak_mb"] for night in busy] or [0]
    print(
        f"{num_read} of {options.studies} studies read in {len(busy)} nights, {seconds:.0f} s "
        f"({num_read / max(seconds, 1e-9):.2f} studies/s with the generator beside them); peak memory {min(peaks)} to "
        f"{max(peaks)} MB (of {len(full)} full nights at most {growth:.2f} of the first); {disk_gb:.1f} GB of disk"
    )
    print("\n".join(problems) or ("every input ended once, as it must" if is_done else "nothing wrong so far"))
    return 1 if problems else 0 if is_done else 3


if __name__ == "__main__":
    sys.exit(main())
