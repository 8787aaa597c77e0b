"""Pseudonyms of everything in an inbox or archive, computed anew: of films that no night knows under their key.

Films of a training cohort, of ``crrg predict``, and films that were moved after their night. Of a DICOM file its
beginning is read, of a picture the whole: its bytes are what identifies it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from crrg.data.archives.givers import Givers, read_given
from crrg.data.archives.source_kinds import detect_kind, source_class
from crrg.data.archives.sources import Source, SourceItem
from crrg.data.dicom.structure import looks_like_dicom
from crrg.data.dicom.study_words import find_study_words, read_head
from crrg.data.film_ids import Ids
from crrg.data.identity import DicomHeader
from crrg.data.map_ahead import map_ahead
from crrg.data.pairing import identify, text_digest
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.errors import DataError
from crrg.ledger.inventory import InboxObject
from crrg.progress import count_progress
from crrg.storage import FOREIGN_OBJECT, Storage, StoredObject

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Match:
    """Something in an archive that a pseudonym belongs to.

    Attributes:
        pseudonym: What was asked for.
        kind: ``patient``, ``study`` or ``instance``; ``row`` for what an archive says without a film, by its own name.
        item: What the archive says of it.
    """

    pseudonym: str
    kind: str
    item: SourceItem = field(repr=False)


def matches(
    inbox: Storage,
    objects: Mapping[str, InboxObject],
    wanted: Collection[str],
    pseudonyms: Pseudonyms,
    givers: Givers,
) -> Iterator[Match]:
    """Yield what pseudonyms belong to, as an ingest of this archive, a night over it or ``crrg predict`` names it.

    What is damaged or not given out, though others are, is passed over; how much that is is logged.

    Args:
        inbox: The archive.
        objects: What lies there, by key.
        wanted: The pseudonyms.
        pseudonyms: The key they were made with.
        givers: Other objects of the archive.

    Raises:
        StorageError: The store is out of reach, or gives nothing out.
    """
    source = source_class(detect_kind(inbox, inbox.list_folder()))(inbox)
    say, num_passed_over = count_progress("looking for ids", "objects"), 0
    named = map_ahead(lambda item: (item, _ids(item, source.site, inbox, pseudonyms, givers)), _items(source, objects))
    for number, (item, ids) in enumerate(named, start=1):
        say(number, max(number, len(objects)))
        if item.film is None and (name := pseudonyms.object_key(item.name, source.site)) in wanted:
            yield Match(name, "row", item)
        if ids is None:
            num_passed_over += 1
            continue
        for kind, pseudonym in (("patient", ids.patient_id), ("study", ids.study_id), ("instance", ids.instance_id)):
            if pseudonym in wanted:
                yield Match(pseudonym, kind, item)
    if num_passed_over:
        logger.warning("%d objects could not be read or have no identity; ids of theirs are not found", num_passed_over)


def _items(source: Source, objects: Mapping[str, InboxObject]) -> Iterator[SourceItem]:
    """Yield what the archive says of its inputs, and each other object by itself, as a night would read it."""
    left = dict(objects)
    try:
        for item in source.items():
            if item.film is not None:
                left.pop(item.film.key, None)
            yield item
    except DataError as error:
        logger.warning("the archive's tables are not used: %s", error)
    for found in left.values():
        yield SourceItem(found.key, StoredObject(found.key, found.size, found.modified_s, found.etag))


def _ids(item: SourceItem, site: str, inbox: Storage, pseudonyms: Pseudonyms, givers: Givers) -> Ids | None:
    """Return the pseudonyms of an input; of an archive that names all three nothing is read."""
    header, content = None, ""
    try:
        if item.film is None:
            content = text_digest(item).hex()
        elif not item.instance_id:
            header, content = _read(item.film, inbox, givers)
        return identify(item, header, site, content, pseudonyms)
    except DataError:
        return None


def _read(film: StoredObject, inbox: Storage, givers: Givers) -> tuple[DicomHeader | None, str]:
    """Return the identifiers of a DICOM file, or the digest of another."""
    head = read_head(inbox, film.key, film.size)
    if looks_like_dicom(head):
        words = find_study_words(inbox, film.key, film.size, head)
        return DicomHeader(words.patient_id, words.study_instance_uid, words.sop_instance_uid), ""
    data = read_given(lambda: inbox.get(film.key), film.key, inbox, givers, FOREIGN_OBJECT)
    return None, hashlib.sha256(data).hexdigest()
