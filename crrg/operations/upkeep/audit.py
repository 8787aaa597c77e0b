"""What the audit says of nights, and whether it still says what it said.

The entry of a night is written before its commit and named by it: a night cannot be published unaudited, and whoever
cuts the audit off at its end is told by the manifests.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from crrg.config.references import NightPlan
from crrg.ledger.audit import AuditEntry, Chain, EntryRef, check_chain, write_audit
from crrg.ledger.manifest import Manifest, manifest_key, read_manifests
from crrg.operations.summaries import table
from crrg.storage import Storage, hash_json

NIGHT = "nightly"
NUM_SHOWN = 50


@dataclass(frozen=True)
class AuditCheck:
    """Whether the audit is whole.

    Attributes:
        num_entries: Entries that are there.
        head: The last one; remember it to notice later if the end was cut off.
        num_anchors: Manifests that name an entry.
        problems: What is wrong, as sentences; empty for a whole audit.
    """

    num_entries: int
    head: EntryRef
    num_anchors: int
    problems: tuple[str, ...]


def audit_night(plan: NightPlan, manifest: Manifest, inputs: Sequence[tuple[str, str]], storage: Storage) -> EntryRef:
    """Write the entry of a night that is about to be committed.

    Args:
        plan: The night.
        manifest: Its commit, as far as it is known.
        inputs: Pseudonym and version mark of every object it read.
        storage: The root.

    Raises:
        StorageError: The entry could not be written; the night must not be committed.
    """
    return write_audit(
        storage,
        NIGHT,
        subject=f"{plan.date}/{plan.run_id}",
        bundle_id=plan.bundle.bundle_id,
        inputs=(hash_json(sorted(inputs), 64),),
        outputs=(manifest_key(plan.date, plan.fencing),),
        writes={**{file.key: file.sha256 for file in manifest.files}, manifest.index_key: manifest.index_sha256},
        counts={
            "inputs": manifest.num_inputs,
            "accepted": manifest.num_accepted,
            "quarantined": manifest.num_quarantined,
            "pending": manifest.num_pending,
        },
    )


def verify_audit(storage: Storage, head: str = "") -> AuditCheck:
    """Check that no entry was edited, removed or put in between, and that no night lacks its entry.

    Args:
        storage: The root.
        head: Digest of an entry that was the last one at an earlier check; empty if none is remembered.
    """
    chain = check_chain(storage)
    problems = list(chain.problems)
    if head and head not in chain.digests.values():
        problems.append(f"the entry {head[:12]}… of an earlier check is missing; the log was truncated or rewritten")
    manifests = [manifest for manifest in read_manifests(storage) if manifest.audit is not None]
    written = _written(chain)
    problems += [problem for manifest in manifests for problem in _problems_of(manifest, chain, written)]
    return AuditCheck(len(chain.digests), chain.head, len(manifests), tuple(problems))


def check_markdown(check: AuditCheck) -> str:
    """Return the outcome of a check."""
    head = f"{check.num_entries} entries, {check.num_anchors} nights refer to theirs. Last entry: `{check.head.sha256}`"
    if not check.problems:
        return f"The audit log is complete and unaltered: {head}"
    return f"**The audit was tampered with**: {head}\n\n" + "\n".join(f"- {problem}" for problem in check.problems)


def entries_markdown(entries: Sequence[AuditEntry]) -> str:
    """Return the last entries as a table."""
    rows = [
        (each.number, each.at_utc[:19], each.action, each.actor, each.subject or "-", each.bundle_id[:12] or "-",
         _counts(each.counts))
        for each in entries[-NUM_SHOWN:]
    ]  # fmt: skip
    return table(("entry", "when (UTC)", "what", "who", "to what", "bundle", "counts"), rows) if rows else "No entry."


def _written(chain: Chain) -> dict[str, set[str]]:
    """Return every sha256 that was audited of each key: of runs that were written again, by whom they were."""
    written: dict[str, set[str]] = defaultdict(set)
    for entry in chain.entries.values():
        for key, sha256 in entry.writes.items():
            written[key].add(sha256)
    return written


def _problems_of(manifest: Manifest, chain: Chain, written: Mapping[str, set[str]]) -> list[str]:
    ref, night = manifest.audit, f"night {manifest.date}, commit {manifest.fencing}"
    if ref is None:
        return []
    if chain.digests.get(ref.number) != ref.sha256:
        return [f"{night}: its entry {ref.number} is not the one that was written for it"]
    named = {file.key: file.sha256 for file in manifest.files} | {manifest.index_key: manifest.index_sha256}
    changed = (key for key, sha256 in named.items() if key in written and sha256 not in written[key])
    return [f"{night}: {key} is not what was audited" for key in changed]


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items()) or "-"
