"""Delivery: current drafts as FHIR, DICOM SR and Secondary Capture, under the identifiers of their sources.

Off unless ``CRRG_IDENTIFIED_ROOT`` names the identified zone; nothing identified is written anywhere else. The source
films are found again in the inbox by computing the HMAC of every key, checked against the digest the night recorded,
and their headers are held in memory only. What was delivered once is not delivered again; the same draft always gives
the same bytes under the same key and UID. A study that cannot be delivered is counted under a reason and the others go
on; a store or an archive that is away for all ends the delivery.
"""

from __future__ import annotations

import io
import logging
import struct
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from crrg.config.base import Settings
from crrg.config.references import DeliverySummary
from crrg.config.running import DeliverConfig
from crrg.data.archives.givers import Givers
from crrg.data.decoding.pool import DecodeOutcome, decode_many
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.data.privacy.forgotten import read_forgotten
from crrg.errors import ConfigError, CrrgError, DataError, IdentityError, StorageError
from crrg.exports.delivered import Delivery
from crrg.exports.dicom_sr import structured_report
from crrg.exports.fhir import fhir_bundle
from crrg.exports.originals import OriginalFilm, read_original
from crrg.exports.secondary_capture import secondary_capture
from crrg.ledger.audit import write_audit
from crrg.ledger.inventory import InboxObject, list_inbox
from crrg.operations.delivery.allowed import check_allowed
from crrg.operations.delivery.dicom_send import REFUSED, Archive, WebArchive, find_archive, send_objects
from crrg.operations.delivery.notes import note_key, rename_notes
from crrg.operations.delivery.source_films import read_source
from crrg.operations.extras import check_installed
from crrg.operations.night.current_drafts import CommittedDrafts, StudyDraft
from crrg.operations.privacy.secret import check_secret
from crrg.operations.root import overlap
from crrg.operations.stop import check_not_stopped
from crrg.progress import count_progress
from crrg.storage import Storage, canonical_json, hash_json

if TYPE_CHECKING:
    from pydicom import Dataset

logger = logging.getLogger(__name__)

CAPTURE_SIZE = 1024
STUDIES_AT_ONCE = 32
_NESTED = "must not be nested in each other; give it another bucket, prefix or folder"
_UNMAKEABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, struct.error)
"""What the libraries that write documents raise where a source's header does not suit them."""
# it quotes values in its remarks: they must reach neither a log nor a terminal
logging.getLogger("highdicom").setLevel(logging.CRITICAL + 1)


@dataclass
class _Work:
    """What one delivery works with, and what it has done so far."""

    config: DeliverConfig
    storage: Storage
    zone: Storage
    archive: Archive | WebArchive | None
    inbox: Storage
    located: Mapping[str, InboxObject]
    givers: Givers
    drafts: CommittedDrafts
    pseudonyms: Pseudonyms
    num_studies: int = 0
    num_delivered: int = 0
    num_unchanged: int = 0
    num_sent: int = 0
    reasons: dict[str, int] = field(default_factory=dict)

    def refuse(self, study_id: str, error: CrrgError) -> None:
        """Count a study that cannot be delivered; the next delivery tries it again."""
        self.reasons[error.code] = self.reasons.get(error.code, 0) + 1
        logger.warning("study %s was not delivered: %s (%s)", study_id, error.code, error.reason)

    @contextmanager
    def one_study(self, study_id: str) -> Iterator[None]:
        """Count what is about one study alone, and go on; what would befall every study is raised."""
        try:
            yield
        except DataError as error:
            self.refuse(study_id, error)
        except StorageError as error:
            if error.code != REFUSED:
                raise
            self.refuse(study_id, error)


def deliver(config: DeliverConfig, storage: Storage, settings: Settings, *, is_typed: bool = False) -> DeliverySummary:
    """Write, and send where asked, every current draft that was not delivered yet.

    Args:
        config: The form.
        storage: The pseudonymous root.
        settings: With the identified root and the secret of the pseudonyms.
        is_typed: Whether the form was given to this very process, and not to an orchestrator (``check_allowed``).

    Returns:
        What happened, as counts; studies that could not be delivered are counted by reason and tried again next time.

    Raises:
        ConfigError: Delivery is off, the identified root lies within the root or the inbox, the archive is not one that
            may be sent to, or a library of the extra is missing.
        CrrgError: An operator wants it to stop; what was delivered so far stays delivered.
        StorageError: A store or the archive is out of reach; what was delivered so far stays delivered.
    """
    zone = identified_zone(storage, settings)
    if {"sr", "sc"} & set(config.forms):
        check_installed("highdicom", "dicom", "forms")
    titles = (config.called_title, config.calling_title)
    archive = find_archive(config.send_to, *titles, settings) if config.send_to else None
    if archive:
        check_allowed(config.send_to, settings, is_typed=is_typed)
    inbox = storage.at(config.inbox).without_names()
    if overlap(zone, inbox):
        raise ConfigError(f"the identified root and the inbox {_NESTED}", "CRRG_IDENTIFIED_ROOT")
    pseudonyms = Pseudonyms(settings.pseudonym_key())
    check_secret(storage, pseudonyms)
    rename_notes(zone, pseudonyms)
    located = {found.key_hmac: found for found in list_inbox(inbox, pseudonyms.object_key)}
    givers = Givers(inbox, located.values())
    work = _Work(config, storage, zone, archive, inbox, located, givers, CommittedDrafts(storage), pseudonyms)
    for said in (not_found := work.drafts.not_found(config)):
        logger.warning("asked to deliver: %s", said)
    say = count_progress("delivery", "studies")
    drafts = work.drafts.current(config, work.refuse)
    while chunk := list(islice(drafts, STUDIES_AT_ONCE)):
        check_not_stopped(storage, f"{work.num_studies} studies are done")
        _deliver_chunk(chunk, work)
        say(work.num_studies)
    return DeliverySummary(
        num_studies=work.num_studies,
        num_delivered=work.num_delivered,
        num_unchanged=work.num_unchanged,
        num_objects_sent=work.num_sent,
        reasons=work.reasons,
        not_found=not_found,
    )


def identified_zone(storage: Storage, settings: Settings) -> Storage:
    """Return the identified zone.

    Raises:
        ConfigError: It is not set, or lies within the root, or a key is given for it that would encrypt nothing.
    """
    if not settings.identified_root:
        raise ConfigError(
            "delivery is off; set it to a separate place (another bucket, key and policy) to switch it on",
            "CRRG_IDENTIFIED_ROOT",
        )
    zone = storage.at(settings.identified_root, kms_key_id=settings.identified_kms_key_id)
    if overlap(zone, storage):
        raise ConfigError(f"the identified root and the root {_NESTED}", "CRRG_IDENTIFIED_ROOT")
    return zone.without_names()


def _deliver_chunk(drafts: Sequence[StudyDraft], work: _Work) -> None:
    """Deliver some studies; their films are decoded by the same child processes."""
    ready: list[tuple[StudyDraft, dict[str, bytes]]] = []
    for draft in drafts:
        work.num_studies += 1
        with work.one_study(draft.study_id):
            if draft.manifest.withheld and not work.config.withheld:
                raise DataError(f"the night {draft.manifest.withheld}", draft.study_id, code="WITHHELD.NIGHT")
            if not work.config.again and work.zone.exists(_note_key(draft, work)):
                work.num_unchanged += 1
                continue
            _check_patient(draft)
            read = partial(read_source, inbox=work.inbox, located=work.located, givers=work.givers)
            names = [film["instance_id"] for film in draft.films]
            sources = {name: read(name, draft.rows.get(name)) for name in names}
            ready.append((draft, sources))
    wanted = [data for _, sources in ready for data in sources.values()] if "sc" in work.config.forms else []
    decoded = decode_many(wanted, CAPTURE_SIZE, 1)
    with closing(decoded):
        for draft, sources in ready:
            pictures = {name: next(decoded) for name in sources} if wanted else {}
            with work.one_study(draft.study_id):
                _deliver_study(draft, sources, pictures, work)


def _check_patient(draft: StudyDraft) -> None:
    """Check that a draft is of one patient.

    Raises:
        IdentityError: IDENTITY.CONFLICT.
    """
    if len({row.patient_id for row in draft.rows.values()}) > 1:
        reason = "its films are of several patients; correct the wrong header and send that film again"
        raise IdentityError(reason, draft.study_id, code="IDENTITY.CONFLICT")


def _deliver_study(
    draft: StudyDraft, sources: Mapping[str, bytes], pictures: Mapping[str, DecodeOutcome], work: _Work
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote the source's values
        originals = {name: read_original(data, name) for name, data in sources.items()}
        delivery = _delivery(draft, originals, work)
        delivery = replace(delivery, replaced=_replaced(draft, delivery, work))
        objects, files, failure = _documents(delivery, pictures, work.config.forms)
    # a header that never suits fails at every delivery: what lies there already is not worth another entry
    if failure and not (work.config.again and files) and all(_lies_in(work.zone, *file) for file in files.items()):
        raise failure
    noted = _note_key(draft, work)
    with _unless_forgotten(draft, (*files, noted), work):
        # before anything leaves: wherever it is cut off, a later removal knows what may lie in the zone or an archive
        write_audit(
            work.storage,
            "deliver",
            subject=draft.study_id,
            bundle_id=str(draft.document["bundle_id"]),
            inputs=tuple(sorted(draft.rows[name].source_digest.hex() for name in sources)),
            counts={"files": len(files), "sent": len(objects) if work.archive else 0},
        )
        for key, data in files.items():
            work.zone.put(key, data)
        if (refusal := failure or _send(objects, draft, work)) is not None:
            raise refusal
        note = {"forms": sorted(work.config.forms), "num_files": len(files), "study": delivery.primary.study_uid}
        work.zone.put(noted, canonical_json(note))
    work.num_delivered += 1


def _lies_in(zone: Storage, key: str, data: bytes) -> bool:
    return zone.exists(key) and zone.get(key) == data


@contextmanager
def _unless_forgotten(draft: StudyDraft, keys: Sequence[str], work: _Work) -> Iterator[None]:
    """Deliver within the block, and take it back where the patient was removed meanwhile.

    A removal makes the patient a forgotten one before it looks into the zone: what it did not find there is found here.

    Args:
        draft: The study.
        keys: What the block writes into the zone.
        work: The delivery.

    Raises:
        IdentityError: The patient was removed.
        StorageError: So it was, and this process may not take back what it wrote.
    """
    patients = {row.patient_id for row in draft.rows.values()}
    _check_remembered(patients, work)
    try:
        yield
    finally:
        try:
            _check_remembered(patients, work)
        except DataError:
            left = [key for key in keys if not work.zone.discard(key)]
            if left:
                reason = "its patient was removed meanwhile, but this process may not delete its documents; "
                raise StorageError(f"{reason}find them with crrg reidentify and delete them", draft.study_id) from None
            raise


def _check_remembered(patients: Iterable[str], work: _Work) -> None:
    forgotten = read_forgotten(work.storage, work.pseudonyms)
    for patient_id in patients:
        forgotten.check(patient_id)


def _delivery(draft: StudyDraft, originals: Mapping[str, OriginalFilm], work: _Work) -> Delivery:
    zone = ZoneInfo(work.config.timezone) if work.config.timezone else UTC
    return Delivery(draft.document, originals, datetime.fromisoformat(draft.manifest.committed_utc), zone=zone)


def _documents(
    delivery: Delivery, pictures: Mapping[str, DecodeOutcome], forms: Sequence[str]
) -> tuple[list[Dataset], dict[str, bytes], DataError | None]:
    """Return the DICOM objects of a draft, every document by its key, and why there are no DICOM objects.

    FHIR asks less of a header and of films, so that it is made also where they are not.

    Raises:
        DataError: DOCUMENT.FAILED or DOCUMENT.INVALID where a header does not let the FHIR document be written.
    """
    folder = delivery.primary.study_uid
    files: dict[str, bytes] = {}
    if "fhir" in forms:
        with _made_of_header(delivery):
            files[_fhir_key(delivery)] = canonical_json(fhir_bundle(delivery))
    try:
        with _made_of_header(delivery):
            objects = [structured_report(delivery)] if "sr" in forms else []
            for film in delivery.films:
                if (picture := pictures.get(film["instance_id"])) is None:
                    continue
                if isinstance(picture, DataError):
                    raise picture
                objects.append(secondary_capture(delivery, film, picture.film.pixels))
            files |= {f"{folder}/{each.SOPInstanceUID}.dcm": _file_bytes(each) for each in objects}
    except DataError as error:
        return [], files, error
    return objects, files, None


@contextmanager
def _made_of_header(delivery: Delivery) -> Iterator[None]:
    """Name what a source's header does not let the block write.

    Raises:
        DataError: DOCUMENT.FAILED.
    """
    try:
        yield
    except _UNMAKEABLE as error:
        reason = f"the source's header does not let a document be written ({type(error).__name__})"
        raise DataError(reason, str(delivery.document["study_id"]), code="DOCUMENT.FAILED") from None


def _replaced(draft: StudyDraft, delivery: Delivery, work: _Work) -> dict[str, Delivery]:
    """Return the newest older draft of a study that was delivered, for each form that can name one."""
    found: dict[str, Delivery] = {}
    keys = {"sr": lambda each: f"{each.primary.study_uid}/{each.uid('sr')}.dcm", "fhir": _fhir_key}
    asked = [form for form in work.config.forms if form in keys]
    for older in work.drafts.older(draft):
        if not all(film["instance_id"] in delivery.originals for film in older.films):
            continue
        earlier = _delivery(older, delivery.originals, work)
        if earlier.uid("sr") == delivery.uid("sr"):
            # the same draft under a corrected patient, which takes the wrong one's place
            continue
        found |= {form: earlier for form in asked if form not in found and work.zone.exists(keys[form](earlier))}
        if len(found) == len(asked):
            break
    return found


def _fhir_key(delivery: Delivery) -> str:
    return f"{delivery.primary.study_uid}/{delivery.uid('fhir')}.json"


def _send(objects: Sequence[Dataset], draft: StudyDraft, work: _Work) -> StorageError | None:
    """Send where asked; return the refusal of an object, since others of the study may be stored then.

    Raises:
        StorageError: The archive is away, or takes nothing from us.
    """
    if work.archive is None or not objects:
        return None
    # UIDs stay where a header was corrected, so that an archive may hold the same draft of the wrong one
    may_be_held = len(draft.patients) < 2 and not work.config.again
    try:
        num_stored = send_objects(objects, work.archive, may_be_held=may_be_held)
    except StorageError as error:
        if error.code != REFUSED:
            raise
        return error
    work.num_sent += num_stored
    if num_held := len(objects) - num_stored:
        logger.info("study %s: the archive held %d of %d objects already", draft.study_id, num_held, len(objects))
    return None


def _note_key(draft: StudyDraft, work: _Work) -> str:
    """Return where a finished delivery is noted; another draft, patient, form or archive makes it another delivery."""
    config, patients = work.config, [list(draft.patients)] if len(draft.patients) > 1 else []
    identity = hash_json([draft.document, sorted(config.forms), config.send_to, config.called_title, *patients])
    return note_key(work.pseudonyms, draft.study_id, identity)


def _file_bytes(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
