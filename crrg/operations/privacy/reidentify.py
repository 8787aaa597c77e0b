"""The source of a pseudonym, found by computing pseudonyms anew; nothing anywhere stores the way back.

The ledger tells which object of the inbox a patient, study, image or object pseudonym belongs to, by the HMAC of the
object's key; only those objects are read. For ids that no night knows there, those of training films and of films that
were moved since, the pseudonyms of everything in the inbox or archive are computed. Who knows the secret and may read
the inbox could do this anyway; here it is done in the open: every question is audited, with the pseudonyms that were
asked for and without what they mean.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from crrg.data.archives.givers import Givers, read_given
from crrg.data.archives.source_kinds import source_class
from crrg.data.dicom.structure import looks_like_dicom
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.domain.source_kind import SourceKind
from crrg.errors import DataError
from crrg.exports.originals import read_original
from crrg.ledger.audit import write_audit
from crrg.ledger.inventory import InboxObject, list_inbox
from crrg.ledger.ledger import LedgerRow, ledger_rows
from crrg.ledger.manifest import read_manifests
from crrg.operations.privacy.recomputed import Match, matches
from crrg.operations.privacy.secret import check_secret
from crrg.storage import Storage

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """An object of the inbox and whom it belongs to; never logged, never stored.

    Attributes:
        pseudonym: What was asked for.
        kind: ``patient``, ``study``, ``instance``, ``object``, or ``row`` for a row that an ingest refused.
        file: The object's key in the inbox; of a report without a film the name by which its row goes: the file that
            it names, or its place.
        patient_id: PatientID of the source, or of the archive's tables; empty for PNG and JPEG films by themselves.
        study_uid: StudyInstanceUID of the source, or what the archive's tables call the study.
        accession_number: Accession number of the source.
        reason: Why the inbox kept the identity back, as a code; empty where the source was read.
    """

    pseudonym: str
    kind: str
    file: str = field(repr=False)
    patient_id: str = field(default="", repr=False)
    study_uid: str = field(default="", repr=False)
    accession_number: str = field(default="", repr=False)
    reason: str = ""


def reidentify(
    inbox_url: str, pseudonyms_asked: Sequence[str], storage: Storage, pseudonyms: Pseudonyms
) -> list[Source]:
    """Return the sources of pseudonyms, in the order asked, then by file.

    Args:
        inbox_url: The inbox that the nights read, or the archive of an ingest.
        pseudonyms_asked: Ids of patients, studies, images or refused objects and rows, as tables and pages show them.
        storage: The root with the ledger.
        pseudonyms: The key the nights ran with.

    Returns:
        One entry per object; pseudonyms that nothing in the inbox belongs to any more have none. An object that the
        inbox keeps back, though it gives out others, has its file and a reason.

    Raises:
        ConfigError: There is no such inbox, or the nights were made with another secret.
        StorageError: Inbox or root is out of reach, or the inbox gives nothing out; the question itself is audited
            first.
    """
    check_secret(storage, pseudonyms)
    asked = list(dict.fromkeys(pseudonyms_asked))
    write_audit(storage, "reidentify", inputs=tuple(asked), counts={"asked": len(asked)})
    inbox = storage.at(inbox_url).without_names()
    objects = list_inbox(inbox, pseudonyms.object_key)
    located = {found.key_hmac: found for found in objects}
    if not located.keys() >= set(asked):
        located = _of_ingests(inbox, objects, pseudonyms) | located
    rows = {row.key_hmac: row for manifest in read_manifests(storage) for row in ledger_rows(storage, manifest)}
    givers = Givers(inbox, located.values())
    found = [
        _source(pseudonym, kind, located[key_hmac], inbox, givers)
        for pseudonym in asked
        for kind, key_hmac in _objects(pseudonym, rows.values(), located)
    ]
    if left := set(asked) - {each.pseudonym for each in found}:
        logger.info(
            "%d of these ids are in no night over this inbox: looking at its %d objects", len(left), len(objects)
        )
        by_key = {each.key: each for each in objects}
        found += [_matched(match, by_key, inbox, givers) for match in matches(inbox, by_key, left, pseudonyms, givers)]
    return sorted(found, key=lambda each: (asked.index(each.pseudonym), each.file))


def _of_ingests(inbox: Storage, objects: Iterable[InboxObject], pseudonyms: Pseudonyms) -> dict[str, InboxObject]:
    """Return objects by the pseudonyms under which an ingest refuses them, whatever kind of archive it read here."""
    sites = {source_class(kind)(inbox).site for kind in SourceKind}
    return {pseudonyms.object_key(found.key, site): found for found in objects for site in sites}


def _objects(pseudonym: str, rows: Iterable[LedgerRow], located: dict[str, InboxObject]) -> Iterable[tuple[str, str]]:
    if pseudonym in located:
        yield "object", pseudonym
    for row in rows:
        ids = {row.patient_id: "patient", row.study_id: "study", row.instance_id: "instance"}
        if pseudonym and pseudonym in ids and row.key_hmac in located:
            yield ids[pseudonym], row.key_hmac


def _matched(match: Match, by_key: Mapping[str, InboxObject], inbox: Storage, givers: Givers) -> Source:
    """Return what a match leads to; what the file does not say of itself the archive's tables may."""
    item = match.item
    if item.film is None:
        return Source(match.pseudonym, match.kind, item.name, item.patient_id, item.study_id)
    found = _source(match.pseudonym, match.kind, by_key[item.film.key], inbox, givers)
    return replace(found, patient_id=found.patient_id or item.patient_id, study_uid=found.study_uid or item.study_id)


def _source(pseudonym: str, kind: str, found: InboxObject, inbox: Storage, givers: Givers) -> Source:
    try:
        data = read_given(lambda: inbox.get(found.key), found.key, inbox, givers, found.key_hmac)
    except DataError as reason:
        return Source(pseudonym, kind, found.key, reason=reason.code)
    givers.note(found)
    try:
        header = read_original(data, pseudonym).header if looks_like_dicom(data) else None
    except DataError:
        header = None
    if header is None:
        return Source(pseudonym, kind, found.key)
    return Source(
        pseudonym,
        kind,
        found.key,
        str(header.PatientID),
        str(header.StudyInstanceUID),
        str(header.AccessionNumber or ""),
    )
