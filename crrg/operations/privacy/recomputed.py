"""Pseudonyms of everything in an inbox or archive, computed anew: of films that no night knows under their key.

Films of a training cohort, of ``crrg predict``, and films that were moved after their night. Of a DICOM file its
beginning is read, of a picture the whole: its bytes are what identifies it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from crrg.data.archives.source_kinds import detect_kind, source_class
from crrg.data.archives.sources import Source, SourceItem
from crrg.data.dicom.structure import looks_like_dicom
from crrg.data.dicom.study_words import find_study_words, read_head
from crrg.data.identity import DicomHeader
from crrg.data.pairing import identify, text_digest
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.errors import DataError
from crrg.ledger.inventory import InboxObject
from crrg.storage import Storage, StoredObject


@dataclass(frozen=True)
class Match:
    """Something in an archive that a pseudonym belongs to.

    Attributes:
        pseudonym: What was asked for.
        kind: ``patient``, ``study`` or ``instance``.
        item: What the archive says of it.
    """

    pseudonym: str
    kind: str
    item: SourceItem = field(repr=False)


def matches(
    inbox: Storage, objects: Mapping[str, InboxObject], wanted: Collection[str], pseudonyms: Pseudonyms
) -> Iterator[Match]:
    """Yield what pseudonyms belong to, as an ingest of this archive, a night over it or ``crrg predict`` names it.

    Args:
        inbox: The archive.
        objects: What lies there, by key.
        wanted: The pseudonyms.
        pseudonyms: The key they were made with.

    Raises:
        DataError: A table of the archive cannot be read.
        StorageError: The store is out of reach.
    """
    source = source_class(detect_kind(inbox, inbox.list_folder()))(inbox)
    for item in _items(source, objects):
        try:
            ids = _ids(item, source.site, inbox, pseudonyms)
        except DataError:
            continue
        for kind, pseudonym in (("patient", ids[0]), ("study", ids[1]), ("instance", ids[2])):
            if pseudonym in wanted:
                yield Match(pseudonym, kind, item)


def _items(source: Source, objects: Mapping[str, InboxObject]) -> Iterator[SourceItem]:
    """Yield what the archive says of its inputs, and each other object by itself, as a night would read it."""
    left = dict(objects)
    for item in source.items():
        if item.film is not None:
            left.pop(item.film.key, None)
        yield item
    for found in left.values():
        yield SourceItem(found.key, StoredObject(found.key, found.size, found.modified_s, found.etag))


def _ids(item: SourceItem, site: str, inbox: Storage, pseudonyms: Pseudonyms) -> tuple[str, str, str]:
    header, content = None, ""
    if item.film is None:
        content = text_digest(item).hex()
    else:
        head = read_head(inbox, item.film.key, item.film.size)
        if looks_like_dicom(head):
            words = find_study_words(inbox, item.film.key, item.film.size, head)
            header = DicomHeader(words.patient_id, words.study_instance_uid, words.sop_instance_uid)
        else:
            content = hashlib.sha256(inbox.get(item.film.key)).hexdigest()
    ids = identify(item, header, site, content, pseudonyms)
    return ids.patient_id, ids.study_id, ids.instance_id
