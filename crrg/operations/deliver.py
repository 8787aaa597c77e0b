"""Delivery: current drafts as FHIR, DICOM SR and Secondary Capture, under the identifiers of their sources.

Off unless ``CRRG_IDENTIFIED_ROOT`` names the identified zone; nothing identified is written anywhere else. The source
films are found again in the inbox by computing the HMAC of every key, checked against the digest the night recorded,
and their headers are held in memory only. What was delivered once is not delivered again; the same draft always gives
the same bytes under the same key and UID.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from crrg.config.base import Settings
from crrg.config.references import DeliverySummary
from crrg.config.running import DeliverConfig
from crrg.data.decoder_pool import DecodeOutcome, decode_many
from crrg.data.deidentify import Pseudonyms
from crrg.errors import ConfigError, Conflict, DataError, DigestMismatch, StorageError
from crrg.exports.delivered import Delivery
from crrg.exports.dicom_sr import structured_report
from crrg.exports.fhir import fhir_bundle
from crrg.exports.originals import read_original
from crrg.exports.secondary_capture import secondary_capture
from crrg.ledger.audit import write_audit
from crrg.ledger.inventory import InboxObject, list_inbox
from crrg.ledger.ledger import LedgerRow, Outcome, ledger_rows
from crrg.ledger.manifest import Manifest, read_manifests, run_prefix
from crrg.operations.dicom_send import Archive, WebArchive, find_archive, send_objects
from crrg.operations.secret import check_secret
from crrg.operations.stop import check_not_stopped
from crrg.storage import Storage, canonical_json, hash_json

if TYPE_CHECKING:
    from pydicom import Dataset

logger = logging.getLogger(__name__)

CAPTURE_SIZE = 1024
STUDIES_AT_ONCE = 32
_MAGIC = slice(128, 132)


@dataclass(frozen=True)
class _Draft:
    """A current study draft with what is known of its films' sources."""

    manifest: Manifest
    document: Mapping[str, Any]
    rows: Mapping[str, LedgerRow]

    @property
    def study_id(self) -> str:
        return str(self.document["study_id"])

    @property
    def films(self) -> Sequence[Mapping[str, Any]]:
        films: Sequence[Mapping[str, Any]] = self.document["films"]
        return films


@dataclass
class _Round:
    """What one delivery works with, and what it has done so far."""

    config: DeliverConfig
    storage: Storage
    zone: Storage
    archive: Archive | WebArchive | None
    inbox: Storage
    located: Mapping[str, InboxObject]
    num_studies: int = 0
    num_delivered: int = 0
    num_unchanged: int = 0
    num_sent: int = 0
    reasons: dict[str, int] = field(default_factory=dict)

    def refuse(self, draft: _Draft, error: DataError) -> None:
        """Count a study that cannot be delivered; the next delivery tries it again."""
        self.reasons[error.code] = self.reasons.get(error.code, 0) + 1
        logger.warning("study %s was not delivered: %s", draft.study_id, error.code)


def deliver(config: DeliverConfig, storage: Storage, settings: Settings) -> DeliverySummary:
    """Write, and send where asked, every current draft that was not delivered yet.

    Args:
        config: The form.
        storage: The pseudonymous root.
        settings: With the identified root and the secret of the pseudonyms.

    Returns:
        What happened, as counts; studies that could not be delivered are counted by reason and tried again next time.

    Raises:
        ConfigError: Delivery is off, or the identified root lies within the root.
        CrrgError: An operator wants it to stop; what was delivered so far stays delivered.
        StorageError: A store or the archive is out of reach; what was delivered so far stays delivered.
    """
    zone = identified_zone(storage, settings)
    titles = (config.called_title, config.calling_title)
    archive = find_archive(config.send_to, *titles, settings) if config.send_to else None
    inbox = storage.at(config.inbox).without_names()
    pseudonyms = Pseudonyms(settings.pseudonym_key())
    check_secret(storage, pseudonyms)
    located = {found.key_hmac: found for found in list_inbox(inbox, pseudonyms.object_key)}
    work = _Round(config, storage, zone, archive, inbox, located)
    drafts = _current_drafts(config, storage)
    while chunk := list(islice(drafts, STUDIES_AT_ONCE)):
        check_not_stopped(storage, f"{work.num_studies} studies are done")
        _deliver_chunk(chunk, work)
        logger.info("delivery: %d studies done", work.num_studies)
    return DeliverySummary(
        num_studies=work.num_studies,
        num_delivered=work.num_delivered,
        num_unchanged=work.num_unchanged,
        num_objects_sent=work.num_sent,
        reasons=work.reasons,
    )


def identified_zone(storage: Storage, settings: Settings) -> Storage:
    """Return the identified zone.

    Raises:
        ConfigError: It is not set, or lies within the root.
    """
    if not settings.identified_root:
        raise ConfigError(
            "delivery is off; set it to a place of its own (another bucket, key and policy) to switch it on",
            "CRRG_IDENTIFIED_ROOT",
        )
    zone = storage.at(settings.identified_root)
    inside, around = f"{zone.root.rstrip('/')}/", f"{storage.root.rstrip('/')}/"
    if inside.startswith(around) or around.startswith(inside):
        raise ConfigError("the identified root and the root must not lie within each other", "CRRG_IDENTIFIED_ROOT")
    return zone.without_names()


def _current_drafts(config: DeliverConfig, storage: Storage) -> Iterator[_Draft]:
    """Yield the drafts of the asked nights that no newer draft supersedes, in order of night and study."""
    manifests = read_manifests(storage)
    replaced = {(each.instance_id, each.run_id) for manifest in manifests for each in manifest.superseded}
    wanted = set(config.studies)
    rows: dict[str, LedgerRow] = {}
    for manifest in manifests:
        # A draft also shows films that an earlier night read.
        rows |= {
            row.instance_id: row
            for row in ledger_rows(storage, manifest)
            if row.outcome is Outcome.ACCEPTED and not row.is_carried
        }
        if config.date and manifest.date != config.date:
            continue
        index: dict[str, str] = _read_json(storage, manifest.index_key, manifest.index_sha256)
        prefix = f"{run_prefix(manifest.date, manifest.run_id)}/documents/"
        for key in sorted(key for key in index if key.startswith(prefix) and key.endswith("/report.json")):
            study_id = key.removeprefix(prefix).partition("/")[0]
            if wanted and study_id not in wanted:
                continue
            document = _read_json(storage, key, index[key])
            if any((film["instance_id"], manifest.run_id) in replaced for film in document["films"]):
                continue
            yield _Draft(
                manifest, document, {film["instance_id"]: rows[film["instance_id"]] for film in document["films"]}
            )


def _read_json(storage: Storage, key: str, sha256: str) -> Any:
    return json.loads(storage.get_verified(key, sha256))


def _deliver_chunk(drafts: Sequence[_Draft], work: _Round) -> None:
    """Deliver some studies; their films are decoded by the same child processes."""
    ready: list[tuple[_Draft, dict[str, bytes]]] = []
    for draft in drafts:
        work.num_studies += 1
        if draft.manifest.withheld and not work.config.withheld:
            work.refuse(draft, DataError(f"the night {draft.manifest.withheld}", draft.study_id, code="WITHHELD.NIGHT"))
            continue
        if not work.config.again and work.zone.exists(_note_key(draft, work.config)):
            work.num_unchanged += 1
            continue
        try:
            ready.append(
                (draft, {film["instance_id"]: _source(film["instance_id"], draft, work) for film in draft.films})
            )
        except DataError as error:
            work.refuse(draft, error)
    wanted = [data for _, sources in ready for data in sources.values()] if "sc" in work.config.forms else []
    decoded = decode_many(wanted, CAPTURE_SIZE, 1)
    with closing(decoded):
        for draft, sources in ready:
            pictures = {name: next(decoded) for name in sources} if wanted else {}
            try:
                _deliver_study(draft, sources, pictures, work)
            except DataError as error:
                work.refuse(draft, error)


def _deliver_study(
    draft: _Draft, sources: Mapping[str, bytes], pictures: Mapping[str, DecodeOutcome], work: _Round
) -> None:
    forms = work.config.forms
    originals = {name: read_original(data, name) for name, data in sources.items()}
    delivery = Delivery(draft.document, originals, datetime.fromisoformat(draft.manifest.committed_utc))
    objects = [structured_report(delivery)] if "sr" in forms else []
    for film in draft.films:
        if (picture := pictures.get(film["instance_id"])) is None:
            continue
        if isinstance(picture, DataError):
            raise picture
        objects.append(secondary_capture(delivery, film, picture.film.pixels))
    folder = delivery.primary.study_uid
    files = {f"{folder}/{each.SOPInstanceUID}.dcm": _file_bytes(each) for each in objects}
    if "fhir" in forms:
        files[f"{folder}/{delivery.uid('fhir')}.json"] = canonical_json(fhir_bundle(delivery))
    for key, data in files.items():
        work.zone.put(key, data)
    if work.archive is not None and objects:
        send_objects(objects, work.archive)
        work.num_sent += len(objects)
    write_audit(
        work.storage,
        "deliver",
        subject=draft.study_id,
        bundle_id=str(draft.document["bundle_id"]),
        inputs=tuple(sorted(draft.rows[name].source_digest.hex() for name in sources)),
        counts={"files": len(files), "sent": len(objects) if work.archive else 0},
    )
    work.zone.put(_note_key(draft, work.config), canonical_json({"forms": sorted(forms), "num_files": len(files)}))
    work.num_delivered += 1


def _note_key(draft: _Draft, config: DeliverConfig) -> str:
    """Return where a finished delivery is noted; another draft, form or archive makes it another delivery."""
    identity = hash_json([draft.document, sorted(config.forms), config.send_to, config.called_title])
    return f"delivered/{draft.study_id}-{identity}.json"


def _source(instance_id: str, draft: _Draft, work: _Round) -> bytes:
    """Return the bytes of a film's source as the night read them.

    Raises:
        DataError: It is gone, was replaced, or is no DICOM file.
        StorageError: The inbox is out of reach.
    """
    row = draft.rows.get(instance_id)
    found = work.located.get(row.key_hmac) if row else None
    if row is None or found is None:
        raise DataError(
            "the source is no longer in the inbox; put it back to deliver", instance_id, code="CHANGED.GONE"
        )
    try:
        data = work.inbox.get_verified(found.key, row.source_digest.hex())
    except DigestMismatch:
        raise DataError("the source was replaced since it was drafted", instance_id, code="CHANGED.REPLACED") from None
    except Conflict:
        raise DataError("the source is being replaced", instance_id, code="CHANGED.REPLACED") from None
    except StorageError as error:
        raise StorageError(error.reason, row.key_hmac, retryable=error.retryable) from None
    if data[_MAGIC] != b"DICM":
        raise DataError("PNG and JPEG films belong to no study of an archive", instance_id, code="IDENTITY.NO_DICOM")
    return data


def _file_bytes(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
