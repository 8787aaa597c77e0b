"""Reads what nights committed and counts it against what was sent, with pyarrow and json alone.

Nothing of the project is imported: what is believed here follows from the files and the documented layout
(``docs/operations.md``). Run: ``python -m benchmarks.soak.reader ROOT SENT``; prints what is wrong, ends with 1 then.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

NUM_REGIONS = 29


def manifests(root: Path) -> list[dict[str, Any]]:
    """Return the commits of all nights."""
    found = [json.loads(path.read_text()) for path in sorted(root.glob("results/date=*/_manifest-*.json"))]
    return [manifest for manifest in found if manifest["status"] == "committed"]


def rows(root: Path, manifest: dict[str, Any], kind: str, problems: list[str]) -> list[dict[str, Any]]:
    """Return the rows of one kind; files that are not the recorded ones are problems."""
    found: list[dict[str, Any]] = []
    for file in manifest["files"]:
        if file["kind"] != kind:
            continue
        path = root / file["key"]
        table = pq.read_table(path)
        if hashlib.sha256(path.read_bytes()).hexdigest() != file["sha256"] or table.num_rows != file["num_rows"]:
            problems.append(f"{kind}: a file is not the recorded one")
        found += table.to_pylist()
    return found


def check_manifest(root: Path, manifest: dict[str, Any]) -> tuple[list[dict[str, Any]], Counter[bytes], list[str]]:
    """Return a night's ledger rows, the inputs that it drafted, and what is wrong with it."""
    problems: list[str] = []
    ledger = rows(root, manifest, "ledger", problems)
    reports = rows(root, manifest, "reports", problems)
    regions = rows(root, manifest, "regions", problems)
    refused = rows(root, manifest, "quarantine", problems)
    counts = Counter(row["outcome"] for row in ledger)
    accepted, quarantined = manifest["num_accepted"], manifest["num_quarantined"]
    if manifest["num_inputs"] != accepted + quarantined + manifest["num_pending"]:
        problems.append("inputs are not accepted + quarantined + pending")
    if (counts["accepted"], counts["quarantined"], len(refused)) != (accepted, quarantined, quarantined):
        problems.append("ledger and quarantine hold other counts than the manifest")
    if Counter(row["reason"] for row in refused) != Counter(manifest["reasons"]):
        problems.append("reasons are other ones than the manifest's")
    if Counter(row["instance_id"] for row in regions) != {row["instance_id"]: NUM_REGIONS for row in reports}:
        problems.append(f"a draft has not exactly {NUM_REGIONS} regions")
    index = json.loads((root / manifest["index_key"]).read_text())
    wrong = [key for key, sha256 in index.items() if hashlib.sha256((root / key).read_bytes()).hexdigest() != sha256]
    if wrong:
        problems.append(f"{len(wrong)} documents or pictures are not the recorded ones")
    return ledger, Counter(row["source_digest"] for row in reports), problems


def check(root: Path, sent: Path) -> list[str]:
    """Return everything that is wrong: inputs lost, read twice, or ended otherwise than they must."""
    problems: list[str] = []
    outcomes: Counter[tuple[bytes, str, str]] = Counter()
    drafts: Counter[bytes] = Counter()
    for manifest in manifests(root):
        ledger, drafted, found = check_manifest(root, manifest)
        problems += [f"{manifest['date']}: {problem}" for problem in found]
        outcomes.update((row["source_digest"], row["outcome"], row["reason"].split(".")[0]) for row in ledger)
        drafts += drafted
    lines = [json.loads(line) for line in sent.read_text().splitlines()]
    expected = Counter(
        (bytes.fromhex(line["sha256"]), "quarantined" if line["kind"] else "accepted", line["kind"]) for line in lines
    )
    if missing := expected - outcomes:
        problems.append(f"{missing.total()} of {len(lines)} inputs are lost or ended otherwise: {endings(missing)}")
    if more := outcomes - expected:
        problems.append(f"{more.total()} outcomes are of no input, or came twice: {endings(more)}")
    wanted = Counter(bytes.fromhex(line["sha256"]) for line in lines if not line["kind"])
    if drafts != wanted:
        problems.append(f"{(wanted - drafts).total()} drafts are missing and {(drafts - wanted).total()} are too many")
    return problems


def endings(found: Counter[tuple[bytes, str, str]]) -> dict[str, int]:
    """Return how many there are of each outcome."""
    counts: Counter[str] = Counter()
    for (_, outcome, family), number in found.items():
        counts[f"{outcome} {family}".strip()] += number
    return dict(counts)


if __name__ == "__main__":
    wrong = check(Path(sys.argv[1]), Path(sys.argv[2]))
    print("\n".join(wrong) or "every input ended once, as it must")
    sys.exit(bool(wrong))
