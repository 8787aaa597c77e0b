"""Patients removed everywhere: datasets, nights, documents, pages, records, delivered documents, logged pictures.

First the patients get tombstones, so that no night and no ingest takes a film of theirs any more; then it is noted what
has to go, so that a removal that was cut off anywhere is finished by the next one, whichever ids that is asked for.
Everything is removed by writing what stays anew and committing it; nothing is changed in place. What stays is a row of
the ledger per object that says that it must not be read, the tombstones, and an audit entry without any id. The audit
is append-only: older entries keep the pseudonyms that they were about. Models are not changed; those that were trained
on the patients are listed.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from crrg.config.base import FrozenConfig, Settings
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.data.privacy.forgotten import (
    REASON,
    SENTENCE,
    UNFINISHED,
    read_forgotten,
    read_forgotten_ids,
    write_forgotten_ids,
    write_tombstone,
)
from crrg.errors import ConfigError
from crrg.exports.parquet import REPORTS_SCHEMA
from crrg.ledger.audit import write_audit
from crrg.ledger.lease import Lease
from crrg.ledger.ledger import LedgerRow, Outcome, in_commit_order, ledger_rows
from crrg.ledger.manifest import Manifest, read_manifests, run_prefix
from crrg.ledger.tables import read_tables
from crrg.operations.delivery.deliver import identified_zone
from crrg.operations.delivery.withdraw import check_zone, delivered_of, withdraw
from crrg.operations.night.duplicates import freed_duplicates
from crrg.operations.night.rewrite import RunChange, no_night, remove_held, remove_unnamed, rewrite_night
from crrg.operations.privacy.forget_datasets import ancestors, forget_in_datasets, versions_holding
from crrg.operations.privacy.private_runs import forget_private_runs
from crrg.operations.privacy.secret import check_every_dataset_secret, check_secret
from crrg.operations.privacy.traces import Traces, find_traces, mentions, open_runs, refused_objects
from crrg.operations.privacy.trained_on import delete_pictures, models_trained_on
from crrg.operations.privacy.versioned import kept_versions
from crrg.storage import Storage, canonical_json, hash_json

logger = logging.getLogger(__name__)


class Removal(FrozenConfig):
    """What has to go, noted before anything goes and removed when all of it is gone.

    Attributes:
        traces: Ids of the patients and of what is theirs.
        versions: Dataset versions that held them, with those these were rewritten from.
        schema_version: Of this note.
    """

    traces: Traces
    versions: frozenset[str]
    schema_version: int = 1


@dataclass
class Forgetting:
    """What a removal would remove, or removed.

    Attributes:
        num_patients: Patients.
        num_studies: Their studies.
        num_images: Images in these.
        num_objects: Inbox objects that were asked for and of whose patient nothing is known.
        num_forgotten_before: Ids that were asked for and of whose patients nothing is left.
        dataset_rows: Rows by dataset and version.
        night_drafts: Drafted images by night; 0 where a night only refused something of theirs.
        num_delivered: Studies of which documents were delivered.
        num_sent: DICOM objects that an archive was sent, and must delete itself where it took them.
        num_sent_before: Those that it was sent of whomever before the secret was changed.
        num_withdrawn: Objects removed from the identified zone.
        num_pictures: Pictures removed from tracked runs.
        num_private_runs: Records removed from the private orchestrator.
        models: Checkpoints, bundles and registered versions that were trained on the patients.
        is_removed: Whether it is gone.
        old_versions: What buckets keep of what is removed, as sentences.
    """

    num_patients: int = 0
    num_studies: int = 0
    num_images: int = 0
    num_objects: int = 0
    num_forgotten_before: int = 0
    dataset_rows: dict[str, int] = field(default_factory=dict)
    night_drafts: dict[str, int] = field(default_factory=dict)
    num_delivered: int = 0
    num_sent: int = 0
    num_sent_before: int = 0
    num_withdrawn: int = 0
    num_pictures: int = 0
    num_private_runs: int = 0
    models: tuple[str, ...] = ()
    is_removed: bool = False
    old_versions: tuple[str, ...] = ()


def forget(ids: Sequence[str], storage: Storage, settings: Settings, *, remove: bool = False) -> Forgetting:
    """Find everything that a root holds of some patients; remove it where asked.

    Args:
        ids: Pseudonyms of patients, or of studies, images or inbox objects of theirs.
        storage: The root.
        settings: With the secret of the pseudonyms, the tracking server and the identified zone.
        remove: Whether to remove; otherwise nothing is changed.

    Returns:
        What goes; ids of patients who were forgotten before add nothing.

    Raises:
        ConfigError: Nothing here belongs to an id, another secret made a night or a dataset version, or documents were
            delivered to a zone that is not named.
        StorageError: A night is running, or a store or the tracking server is out of reach; run it again, it goes on
            where it was.
    """
    pseudonyms = Pseudonyms(settings.pseudonym_key())
    check_secret(storage, pseudonyms)
    check_every_dataset_secret(storage, pseudonyms)
    removal, num_forgotten_before = _removal(ids, storage, pseudonyms)
    delivered = delivered_of(storage, removal.traces.studies)
    check_zone(settings, delivered)
    found = _counted(removal, storage)
    found.num_forgotten_before = num_forgotten_before
    found.num_delivered, found.num_sent = delivered.num_studies, delivered.num_sent
    found.num_sent_before = delivered.num_sent_before
    places = {"root": storage}
    if settings.identified_root:
        places["identified zone"] = identified_zone(storage, settings)
    found.old_versions = kept_versions(places)
    found.models = models_trained_on(storage, settings, removal.versions)
    if remove and (removal.traces.ids or removal.traces.objects):
        _remove(removal, found, storage, settings, pseudonyms)
        found.is_removed = True
    return found


def _removal(ids: Sequence[str], storage: Storage, pseudonyms: Pseudonyms) -> tuple[Removal, int]:
    """Return what has to go: of the patients that are asked for, and of those whose removal was cut off.

    Beside it, how many ids were forgotten before.
    """
    begun = [Removal.model_validate_json(storage.get(stored.key)) for stored in storage.list_objects(UNFINISHED)]
    traces, unknown = find_traces(storage, ids)
    in_work = {name for each in begun for name in each.traces.ids | each.traces.objects}
    without_traces = dict.fromkeys(name for name in unknown if name not in in_work)
    _check_forgotten(without_traces, storage, pseudonyms)
    versions = {
        version
        for name, held, _ in versions_holding(storage, traces)
        for version in ancestors(storage, name, held)
    }  # fmt: skip
    for each in begun:
        traces, versions = traces.joined(each.traces), versions | each.versions
    return Removal(traces=traces, versions=frozenset(versions)), len(without_traces)


def _check_forgotten(names: Collection[str], storage: Storage, pseudonyms: Pseudonyms) -> None:
    """Check that ids without a trace are those of patients who were forgotten.

    Raises:
        ConfigError: Nothing here ever belonged to one of them, as far as is known.
    """
    if not names:
        return
    forgotten, others = read_forgotten(storage, pseudonyms), read_forgotten_ids(storage)
    objects = refused_objects(storage)
    for name in names:
        if not (name in forgotten or pseudonyms.tombstone(name) in others or name in objects):
            raise ConfigError("nothing belongs to this id; give one as shown in tables and on pages", name)


def _counted(removal: Removal, storage: Storage) -> Forgetting:
    traces = removal.traces
    return Forgetting(
        num_patients=len(traces.patients),
        num_studies=len(traces.studies),
        num_images=len(traces.instances),
        num_objects=len(traces.objects),
        dataset_rows={f"{name} version {version}": rows for name, version, rows in versions_holding(storage, traces)},
        night_drafts={
            f"{manifest.date} commit {manifest.fencing}": num_drafts
            for manifest, num_drafts in _runs_holding(storage, traces, _freed(storage, traces))
        },
    )


def _remove(removal: Removal, found: Forgetting, storage: Storage, settings: Settings, pseudonyms: Pseudonyms) -> None:
    traces = removal.traces
    note = f"{UNFINISHED}/{hash_json(sorted(traces.ids | traces.objects))}.json"
    with no_night(storage):
        for patient_id in sorted(traces.patients):
            write_tombstone(storage, pseudonyms, patient_id)
        write_forgotten_ids(storage, pseudonyms, traces.studies | traces.instances)
        storage.put(note, canonical_json(removal.model_dump(mode="json")))
    forget_in_datasets(storage, traces)
    freed = _freed(storage, traces)
    holding = [manifest for manifest, _ in _runs_holding(storage, traces, freed)]
    # the last commit first: what repeats a refusal is found by the run that made it
    for manifest in reversed(in_commit_order(holding)):
        rewrite_night(storage, manifest.date, manifest.run_id, _change(traces, freed))
        logger.info("night %s was rewritten without the patients", manifest.date)
    with no_night(storage) as lease:
        _remove_left_overs(storage, lease, traces)
        found.num_private_runs = forget_private_runs(storage, traces.ids)
    found.num_pictures = delete_pictures(storage, settings, removal.versions)
    found.num_withdrawn = withdraw(storage, settings, pseudonyms, traces.studies)
    counts = {
        "patients": len(traces.patients),
        "studies": len(traces.studies),
        "images": len(traces.instances),
        "datasets": len(found.dataset_rows),
        "nights": len(found.night_drafts),
        "models": len(found.models),
        "withdrawn": found.num_withdrawn,
        "pictures": found.num_pictures,
        "private_runs": found.num_private_runs,
    }
    write_audit(storage, "forget", counts=counts)
    for stored in storage.list_objects(UNFINISHED):
        storage.delete(stored.key)


def _runs_holding(storage: Storage, traces: Traces, freed: Collection[LedgerRow]) -> list[tuple[Manifest, int]]:
    """Return the committed runs that know the patients or hold such rows, with the number of drafts of the patients."""
    found = []
    for manifest in read_manifests(storage):
        reports = read_tables(storage, manifest.files, "reports", REPORTS_SCHEMA).select(["study_id", "instance_id"])
        num_drafts = sum(traces.has(row) for row in reports.to_pylist())
        is_named = any(each.instance_id in traces.instances for each in manifest.superseded)
        is_known = any(_is_theirs(row, traces) or row in freed for row in ledger_rows(storage, manifest))
        if num_drafts or is_named or is_known:
            found.append((manifest, num_drafts))
    return found


def _is_theirs(row: LedgerRow, traces: Traces) -> bool:
    """Return whether a row is of the patients and does not only say so any more."""
    ids = {name: getattr(row, name) for name in ("patient_id", "study_id", "instance_id", "key_hmac")}
    return row.reason != REASON and traces.has(ids)


def _freed(storage: Storage, traces: Traces) -> frozenset[LedgerRow]:
    """Return rows of other patients' objects that were refused since a film of these patients has the same pixels."""
    rows = (row for manifest in read_manifests(storage) for row in ledger_rows(storage, manifest))
    return freed_duplicates(rows, lambda row: _is_theirs(row, traces))


def _change(traces: Traces, freed: Collection[LedgerRow]) -> RunChange:
    def ledger_row(row: LedgerRow) -> LedgerRow | None:
        if _is_theirs(row, traces):
            return _refused(row)
        return None if row in freed else row

    return RunChange(
        keeps_draft=lambda row: not traces.has(row),
        ledger_row=ledger_row,
        detail=SENTENCE,
        keeps_mark=lambda instance_id: instance_id not in traces.instances,
    )


def _refused(row: LedgerRow) -> LedgerRow:
    """Return what is kept of an object: which one it is, and that it must not be read."""
    return replace(
        row,
        source_digest=b"",
        pixel_digest=b"",
        patient_id="",
        study_id="",
        instance_id="",
        outcome=Outcome.QUARANTINED,
        reason=REASON,
        is_carried=False,
    )


def _remove_left_overs(storage: Storage, lease: Lease, traces: Traces) -> None:
    """Remove unfinished runs that read the patients, and what no manifest of a night names; no night may be running.

    Raises:
        StorageError: A night took over meanwhile, or the root is out of reach.
    """
    for date, run_id in list(open_runs(storage)):
        keys = [stored.key for stored in storage.list_objects(run_prefix(date, run_id))]
        texts = [key for key in keys if "/plan/" in key or "/shards/" in key]
        is_named = any(name in key for key in keys for name in traces.studies | traces.instances)
        if is_named or any(mentions(storage, key, traces.ids) for key in texts):
            remove_held(lease, keys, storage.delete)
    remove_unnamed(storage, lease)
