"""What the audit says of nights, and whether it still says what it said.

The entry of a night is written before its commit and named by it: a night cannot be published unaudited, and whoever
cuts the audit off at its end is told by the manifests. Entries hold the digest of the manifest that follows, so that a
manifest that was put in its place, or beside it, is told by them. Nights from before nights were audited are taken up
by entries of their own before the first that is audited; from then on a night without any is somebody else's.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from crrg.config.references import NightPlan
from crrg.ledger.audit import (
    ADOPT,
    NIGHT,
    RESTORE,
    REWRITE,
    SEAL,
    SUPERSEDE,
    AuditEntry,
    Chain,
    EntryRef,
    check_chain,
    has_action,
    last_number,
    write_audit,
)
from crrg.ledger.lease import lease_key, unsealed_leases
from crrg.ledger.manifest import (
    Manifest,
    audited_digest,
    audited_writes,
    manifest_key,
    parse_manifest_key,
)
from crrg.operations.summaries import table
from crrg.operations.upkeep.backup_nights import night_pointers, pointed_manifests
from crrg.storage import Storage, hash_json

NUM_SHOWN = 50
_OF_RUNS = (NIGHT, REWRITE, SUPERSEDE, ADOPT)


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


def audit_night(
    plan: NightPlan,
    manifest: Manifest,
    inputs: Sequence[tuple[str, str]],
    earlier: Sequence[Manifest],
    storage: Storage,
) -> EntryRef:
    """Write the entry of a night that is about to be committed.

    Args:
        plan: The night.
        manifest: Its commit, as far as it is known.
        inputs: Pseudonym and version mark of every object it read.
        earlier: The committed runs of all nights before it.
        storage: The root.

    Raises:
        StorageError: The entry could not be written; the night must not be committed.
    """
    _take_up(earlier, storage)
    return write_audit(
        storage,
        NIGHT,
        subject=f"{plan.date}/{plan.run_id}",
        bundle_id=plan.bundle.bundle_id,
        inputs=(hash_json(sorted(inputs), 64),),
        outputs=(manifest_key(plan.date, plan.fencing),),
        writes={**_named(manifest), **audited_writes(manifest)},
        counts={
            "inputs": manifest.num_inputs,
            "accepted": manifest.num_accepted,
            "quarantined": manifest.num_quarantined,
            "pending": manifest.num_pending,
        },
    )


def verify_audit(storage: Storage, head: str = "") -> AuditCheck:
    """Check that no entry was edited, removed or put in between, and that nights are those that entries tell of.

    Every manifest and all that it names must have been audited for its run, and what was audited must be committed.

    Args:
        storage: The root.
        head: Digest of an entry that was the last one at an earlier check; empty if none is remembered.
    """
    # in this order: an entry of before was committed, sealed or held by now, and a commit of now has its entry by then
    newest, held, nights = last_number(storage), unsealed_leases(storage), night_pointers(storage)
    chain = check_chain(storage)
    problems = list(chain.problems)
    if head and head not in chain.digests.values():
        problems.append(f"the entry {head[:12]}… of an earlier check is missing; the log was truncated or rewritten")
    manifests, trail = pointed_manifests(nights), _trail(chain)
    for manifest in manifests:
        content = json.loads(nights[manifest_key(manifest.date, manifest.fencing)])
        problems += _problems_of(manifest, audited_digest(content), chain, trail)
    problems += _lost_commits(manifests, chain, trail, held, newest)
    return AuditCheck(
        len(chain.digests), chain.head, sum(each.audit is not None for each in manifests), tuple(problems)
    )


def check_markdown(check: AuditCheck) -> str:
    """Return the outcome of a check."""
    head = f"{check.num_entries} entries, {check.num_anchors} nights refer to theirs. Last entry: `{check.head.sha256}`"
    if not check.problems and not check.num_entries:
        return "The audit log has no entry yet: nothing was verified. If nights ran here, this is not their root."
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


def _take_up(earlier: Sequence[Manifest], storage: Storage) -> None:
    """Write entries of the nights from before nights were audited, once the first one is about to be; once only."""
    if not earlier or any(each.audit for each in earlier) or has_action(storage, NIGHT):
        return
    nights = night_pointers(storage)
    for manifest in pointed_manifests(nights):
        key = manifest_key(manifest.date, manifest.fencing)
        writes = {**_named(manifest), key: audited_digest(json.loads(nights[key]))}
        write_audit(storage, ADOPT, subject=f"{manifest.date}/{manifest.run_id}", writes=writes)


def _named(manifest: Manifest) -> dict[str, str]:
    """Return key and sha256 of tables and index; the index names the rest."""
    index = {manifest.index_key: manifest.index_sha256} if manifest.index_key else {}
    return {file.key: file.sha256 for file in manifest.files} | index


def _trail(chain: Chain) -> dict[str, list[AuditEntry]]:
    """Return the entries of every run, by date and run as they name it, in order."""
    trail: dict[str, list[AuditEntry]] = defaultdict(list)
    for _, entry in sorted(chain.entries.items()):
        if entry.action in _OF_RUNS:
            trail[entry.subject].append(entry)
    return dict(trail)


def _problems_of(manifest: Manifest, digest: str, chain: Chain, trail: Mapping[str, Sequence[AuditEntry]]) -> list[str]:
    """Return what is wrong with a manifest that counts.

    Args:
        manifest: The manifest.
        digest: By which the audit knows it.
        chain: The audit.
        trail: Its entries by run.
    """
    ref, night = manifest.audit, f"night {manifest.date}, commit {manifest.fencing}"
    entries = trail.get(f"{manifest.date}/{manifest.run_id}", ())
    begun = [entry.number for entry in entries if entry.action == NIGHT]
    if ref is not None and (ref.number not in begun or chain.digests.get(ref.number) != ref.sha256):
        return [f"{night}: its entry {ref.number} is not the one that was written for it"]
    if ref is None and begun:
        return [f"{night}: it does not name its entry {begun[-1]}"]
    if not entries:
        # before the first night that was audited, those before it have no entries yet
        is_earlier = not any(entry.action == NIGHT for entry in chain.entries.values())
        return [] if is_earlier else [f"{night}: no entry was written for it"]
    written: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        for key, sha256 in entry.writes.items():
            written[key].add(sha256)
    changed = [key for key, sha256 in _named(manifest).items() if sha256 not in written[key]]
    # entries of earlier programs say nothing of manifests
    is_known = any(parse_manifest_key(key) for key in written)
    if not changed and is_known and digest not in written[manifest_key(manifest.date, manifest.fencing)]:
        changed = ["its manifest"]
    return [f"{night}: {each} is not what was audited" for each in changed]


def _lost_commits(
    manifests: Iterable[Manifest],
    chain: Chain,
    trail: Mapping[str, Sequence[AuditEntry]],
    held: Container[str],
    newest: int,
) -> list[str]:
    """Return which commits are neither there, nor followed by another of their run, nor known to have come to nothing.

    Args:
        manifests: What counts of all nights.
        chain: The audit.
        trail: Its entries by run.
        held: Keys of the leases under which somebody may commit yet.
        newest: Number of the last entry that was written before these were looked for.
    """
    current = {f"{each.date}/{each.run_id}": each.fencing for each in manifests}
    sealed = {key for entry in chain.entries.values() if entry.action == SEAL for key in entry.outputs}
    restored = max((entry.number for entry in chain.entries.values() if entry.action == RESTORE), default=0)
    commits = sorted(
        (entry.number, key, run) for run, entries in trail.items() for entry in entries for key in entry.writes
    )
    last = {key: number for number, key, _ in commits}
    problems = []
    for number, key, run in commits:
        place = parse_manifest_key(key)
        if place is None or current.get(run, 0) >= place[1] or key in sealed or lease_key(*place) in held:
            continue
        # a backup that was made while a night committed has the entry alone, and its number is given again
        if restored < number <= newest and last[key] == number:
            problems.append(f"night {place[0]}, commit {place[1]}: what entry {number} says was committed is not there")
    return problems


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items()) or "-"
