"""What a root holds of some patients: the ids by which their rows, documents and pictures are found.

Patients are found from any id of theirs; then everything counts that carries the patient's id, that of one of the
patient's studies, or that of an image in one of these. A refused film alone makes no study or image of others its
patient's: its header named it for both. Reads tables' id columns only; removes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from crrg.checked_json import parse_checked
from crrg.config.base import FrozenConfig
from crrg.data.dataset.pairs import list_versions, read_manifest, resolve_dataset
from crrg.data.parquet import read_columns, read_parquet
from crrg.data.privacy.forgotten import REASON
from crrg.ledger.ledger import ledger_rows
from crrg.ledger.manifest import night_dates, night_prefix, read_manifests, run_prefix
from crrg.operations.training.draft_store import DRAFTS
from crrg.storage import Storage

logger = logging.getLogger(__name__)

ID_COLUMNS = ("patient_id", "study_id", "instance_id")
Triple = tuple[str, str, str, str]
"""Patient, study, instance and object of the inbox; empty where unknown."""


class Traces(FrozenConfig):
    """Ids of patients and of everything that is theirs.

    Attributes:
        patients: Pseudonyms of the patients.
        studies: Of their studies.
        instances: Of the images in these.
        objects: HMACs of keys of objects that were asked for and belong to no known patient.
    """

    patients: frozenset[str] = frozenset()
    studies: frozenset[str] = frozenset()
    instances: frozenset[str] = frozenset()
    objects: frozenset[str] = frozenset()

    @property
    def ids(self) -> frozenset[str]:
        """Return all ids that must not be found any more."""
        return self.patients | self.studies | self.instances

    def has(self, row: Mapping[str, Any]) -> bool:
        """Return whether a row is theirs, by whichever of the id columns it has."""
        return (
            row.get("patient_id") in self.patients
            or row.get("study_id") in self.studies
            or row.get("instance_id") in self.instances
            or row.get("key_hmac") in self.objects
        )

    def joined(self, other: Traces) -> Traces:
        """Return the ids of both."""
        return Traces(
            patients=self.patients | other.patients,
            studies=self.studies | other.studies,
            instances=self.instances | other.instances,
            objects=self.objects | other.objects,
        )


def find_traces(storage: Storage, asked: Sequence[str]) -> tuple[Traces, tuple[str, ...]]:
    """Return what belongs to the patients of some ids, and the ids that nothing here belongs to.

    Args:
        storage: The root.
        asked: Pseudonyms of patients, studies, images or objects of the inbox.

    Raises:
        StorageError: The root is out of reach.
    """
    triples = set(_all_triples(storage))
    wanted = {each for each in asked if each}
    hits = [triple for triple in triples if wanted.intersection(triple)]
    patients = {triple[0] for triple in hits} - {""}
    objects = {triple[3] for triple in hits if not triple[0] and triple[3] in wanted}
    studies = {study for patient, study, _, _ in triples if patient in patients} - {""}
    instances = {
        instance for patient, study, instance, _ in triples if patient in patients or study in studies
    } - {""}  # fmt: skip
    found = {name for triple in hits for name in triple}
    traces = Traces(
        patients=frozenset(patients),
        studies=frozenset(studies),
        instances=frozenset(instances),
        objects=frozenset(objects),
    )
    return traces, tuple(each for each in asked if each not in found)


def refused_objects(storage: Storage) -> set[str]:
    """Return the HMACs of keys of objects of which only that is left: that they must not be read.

    Raises:
        StorageError: The root is out of reach.
    """
    return {triple[3] for triple, reason in _night_triples(storage) if reason == REASON}


def open_runs(storage: Storage) -> Iterator[tuple[str, str]]:
    """Yield date and run id of every run that did not come to its commit."""
    for date in night_dates(storage):
        committed = {manifest.run_id for manifest in read_manifests(storage, date)}
        for name in storage.list_folder(night_prefix(date)):
            run_id = name.removeprefix("run=")
            if name.startswith("run=") and run_id not in committed:
                yield date, run_id


def mentions(storage: Storage, key: str, ids: Iterable[str]) -> bool:
    """Return whether an object holds one of some ids: in a column of a table, else anywhere in its bytes.

    Of a damaged record of a run it is not known, so it counts as one that does.
    """
    data = storage.get(key)
    if key.startswith("results/") and _content(data) is None:
        return True
    wanted = {each.encode() for each in ids}
    if key.endswith(".parquet"):
        table = read_parquet(data).flatten()
        names = [name for name in table.column_names if name.rpartition(".")[2] in ID_COLUMNS]
        held = {value.encode() for name in names for value in table[name].to_pylist() if value}
        return not wanted.isdisjoint(held)
    return any(each in data for each in wanted)


def _night_triples(storage: Storage) -> Iterator[tuple[Triple, str]]:
    """Yield ids and reason of what nights read, also of nights that came to no commit."""
    for manifest in read_manifests(storage):
        for row in ledger_rows(storage, manifest):
            yield (row.patient_id, row.study_id, row.instance_id, row.key_hmac), row.reason
    for date, run_id in open_runs(storage):
        for stored in storage.list_objects(f"{run_prefix(date, run_id)}/shards"):
            record = _content(storage.get(stored.key))
            if record is None:
                logger.warning("a record of an unfinished run is damaged, a removal takes the run: %s", stored.key)
            for outcome in record["outcomes"] if record else ():
                ids = (outcome["patient_id"], outcome["study_id"], outcome["instance_id"], outcome["key_hmac"])
                yield ids, outcome["reason"]


def _content(record: bytes) -> dict[str, Any] | None:
    """Return what a record of an unfinished run says; ``None`` where it is damaged."""
    try:
        return parse_checked(record, lambda _value: None)
    except ValueError:
        return None


def _all_triples(storage: Storage) -> Iterator[Triple]:
    of_nights = {(triple, reason) for triple, reason in _night_triples(storage) if reason != REASON}
    drafted: dict[str, set[str]] = {}
    for (patient_id, study_id, instance_id, _), reason in of_nights:
        for name in (study_id, instance_id) if not reason else ():
            drafted.setdefault(name, set()).add(patient_id)
    for (patient_id, *names, key_hmac), _ in of_nights:
        study_id, instance_id = (name if patient_id in drafted.get(name, {patient_id}) else "" for name in names)
        yield patient_id, study_id, instance_id, key_hmac
    for name in storage.list_folder("datasets"):
        for version in list_versions(storage, name):
            yield from dataset_triples(storage, name, version)
    for stored in storage.list_objects(DRAFTS):
        if stored.key.endswith(".parquet"):
            yield from _table_triples(storage, stored.key)


def dataset_triples(storage: Storage, name: str, version: str) -> Iterator[Triple]:
    """Yield the ids of every row of a dataset version; only these columns are fetched.

    Raises:
        StorageError: It has a schema version that this program does not read.
    """
    for entry in read_manifest(storage, resolve_dataset(storage, name, version))["files"]:
        yield from _table_triples(storage, entry["key"])


def _table_triples(storage: Storage, key: str) -> Iterator[Triple]:
    with storage.open_binary(key) as file:
        rows = read_columns(file, ID_COLUMNS).to_pylist()
    for row in rows:
        yield row["patient_id"], row["study_id"], row["instance_id"], ""
