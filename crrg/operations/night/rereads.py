"""What a night reads again because somebody asked: objects of a date, of some studies, or drafted by older bundles.

Only what still lies in the inbox as it was can be read again. What the night's own bundle has drafted already is left
alone, so that asking twice changes nothing; what it failed to read is not, but for what this same night refused. How an
older draft is marked is not known here.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass

from crrg.config.references import NightPlan
from crrg.config.running import NightlyConfig
from crrg.data.refusals import is_failure
from crrg.ledger.inventory import InboxObject
from crrg.ledger.ledger import Ledger, LedgerRow, Outcome
from crrg.ledger.manifest import Manifest, read_manifests
from crrg.storage import Storage


@dataclass(frozen=True)
class Reread:
    """An object that is read again.

    Attributes:
        found: The object.
        run_id: Run that read it last.
    """

    found: InboxObject
    run_id: str


def find_rereads(
    config: NightlyConfig, night: NightPlan, objects: Iterable[InboxObject], ledger: Ledger, storage: Storage
) -> list[Reread]:
    """Return the objects that the form asks to read again; none where it asks for nothing.

    Args:
        config: The form.
        night: Its date and bundle.
        objects: What lies in the inbox and is known.
        ledger: What earlier nights did.
        storage: The root.

    Raises:
        StorageError: The root is out of reach.
    """
    if not any(asked_rereads(config)):
        return []
    versions = {each.bundle.bundle_id: each.bundle.model_version for each in read_manifests(storage) if each.bundle}
    studies = frozenset(config.reread_studies)

    def is_asked(row: LedgerRow) -> bool:
        if row.date == config.reread_date or row.study_id in studies:
            return True
        is_draft = row.outcome is Outcome.ACCEPTED
        return is_draft and _is_older(versions.get(row.bundle_id, ""), config.reread_older_than_bundle)

    rereads = []
    for found in objects:
        seen, row = ledger.find(found.key_hmac, found.etag), last_reading(found.key_hmac, found.etag, ledger)
        if seen is None or row is None:
            continue
        # what was sent again is drafted by an earlier night than the one that saw it last
        is_wanted = is_asked(row) or seen.date == config.reread_date
        if is_wanted and _may_end_otherwise(row, night):
            rereads.append(Reread(found, row.run_id))
    return rereads


def not_found(
    date: str, studies: Iterable[str], known: Container[str], manifests: Iterable[Manifest], kind: str
) -> tuple[str, ...]:
    """Return what was asked for by name and is not there, as sentences; such a request would end like a done one.

    Args:
        date: The night that was asked for; empty for none.
        studies: Pseudonyms of studies that were asked for.
        known: Those that there are.
        manifests: All nights that were committed.
        kind: What a known study has, for the sentence.
    """
    said = []
    if date and not any(manifest.date == date for manifest in manifests):
        said.append(f"no night of {date} was committed; crrg status shows the last ones")
    asked = set(studies)
    if unknown := sum(study_id not in known for study_id in asked):
        said.append(f"{unknown} of {len(asked)} ids belong to no {kind}; give pseudonyms of studies")
    return tuple(said)


def asked_rereads(config: NightlyConfig) -> tuple[str, list[str], int]:
    """Return what a form asks to read again: date, studies in order, version; all empty where it asks for nothing."""
    return config.reread_date, sorted(config.reread_studies), config.reread_older_than_bundle


def last_reading(key_hmac: str, etag: str, ledger: Ledger) -> LedgerRow | None:
    """Return the row that drafted or refused an object in this version; its draft where it is that film sent again.

    ``None`` for a new object, and for one whose image another object or version has replaced since.
    """
    row = ledger.find(key_hmac, etag)
    if row is None or not row.is_of_a_draft:
        return row
    draft = ledger.find_draft(row.instance_id)
    return draft if draft is not None and draft.key_hmac == key_hmac and draft.shows_as(row) else None


def _may_end_otherwise(row: LedgerRow, night: NightPlan) -> bool:
    """Whether another bundle would draft now, or what another night refused may be readable: a codec is there since."""
    is_failed = row.outcome is Outcome.QUARANTINED and is_failure(row.reason)
    return row.bundle_id != night.bundle.bundle_id or (is_failed and row.date != night.date)


def _is_older(model_version: str, limit: int) -> bool:
    """Whether a bundle's registered version is below a limit; an unregistered bundle counts as older than any."""
    return limit > 0 and (not model_version.isdecimal() or int(model_version) < limit)
