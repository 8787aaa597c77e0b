"""Notes beside the documents of drafts that newer ones replaced, and a work list that says so.

Documents stay as they are; what is written lies beside them and beside the old list, which nothing names from then on.
None of it counts before a manifest of the run names the index that comes of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from crrg.exports.documents import report_keys, study_of
from crrg.exports.superseded import NOTE_FILE, Replacement, study_note
from crrg.exports.work_list import LIST_FILE, marked_list
from crrg.ledger.beside import put_beside, usual_name
from crrg.ledger.manifest import Manifest, run_prefix
from crrg.ledger.object_index import ObjectIndex
from crrg.operations.night.documents import WRITERS
from crrg.operations.night.page_marks import Marks
from crrg.storage import Storage


class HeldFilm(NamedTuple):
    """A film that a run drafted, as its row of the report table says.

    Attributes:
        study_id: Pseudonym of the examination.
        instance_id: Pseudonym of the image.
        is_primary: Whether it stands for its study.
    """

    study_id: str
    instance_id: str
    is_primary: bool


def replaced_studies(films: Iterable[HeldFilm], marks: Marks) -> dict[str, Replacement]:
    """Return what replaced the draft of each study of which a film has a newer one.

    Args:
        films: The films of a run, in any order.
        marks: What replaced the draft of a film, by ``instance_id``.
    """
    studies: dict[str, Replacement] = {}
    for film in sorted(films, key=lambda film: (not film.is_primary, film.instance_id)):
        if film.instance_id in marks:
            studies.setdefault(film.study_id, marks[film.instance_id])
    return studies


def put_study_marks(
    storage: Storage, manifest: Manifest, studies: Mapping[str, Replacement], fencing: int
) -> tuple[dict[str, str], str]:
    """Put a note beside the documents of each replaced draft, and beside the work list one that names them.

    Args:
        storage: The root.
        manifest: The run.
        studies: What replaced the draft of a study, by ``study_id``.
        fencing: Number of the commit that will name what is written.

    Returns:
        What the manifest says of the new index, empty where there is nothing new; and the name of the list.

    Raises:
        DigestMismatch: Index or list are not what the manifest recorded.
        StorageError: The root is out of reach.
    """
    if not manifest.index_key:
        return {}, ""
    index: dict[str, str] = json.loads(storage.get_verified(manifest.index_key, manifest.index_sha256))
    notes = _put_notes(storage, index, studies)
    list_key = next((key for key in index if _is_list(key, manifest)), "")
    lists = _put_list(storage, list_key, index[list_key], studies) if list_key else {}
    kept = {key: sha256 for key, sha256 in index.items() if key != list_key and not _is_note(key, studies)}
    name = "".join(key.rpartition("/")[2] for key in lists)
    if kept | notes | lists == index:
        return {}, name
    prefix = run_prefix(manifest.date, manifest.run_id)
    key, sha256 = ObjectIndex(kept | notes | lists).put(storage, f"{prefix}/index-{fencing}.json")
    return {"index_key": key, "index_sha256": sha256}, name


def _put_notes(storage: Storage, index: Mapping[str, str], studies: Mapping[str, Replacement]) -> dict[str, str]:
    """Return key and sha256 of the notes of studies, those written that were not there."""
    there = {study_of(key): (key, sha256) for key, sha256 in index.items() if _is_note(key, studies)}

    def put(document_key: str, study_id: str) -> tuple[str, str]:
        data = study_note(study_id, studies[study_id])
        sha256 = hashlib.sha256(data).hexdigest()
        key, known = there.get(study_id, ("", ""))
        return (key if known == sha256 else put_beside(storage, _beside(document_key, NOTE_FILE), data)), sha256

    keys = {study_id: key for study_id, key in report_keys(index).items() if study_id in studies}
    with ThreadPoolExecutor(WRITERS, thread_name_prefix="write") as pool:
        return dict(pool.map(put, keys.values(), keys))


def _put_list(storage: Storage, key: str, sha256: str, studies: Mapping[str, Replacement]) -> dict[str, str]:
    """Return key and sha256 of a list that says which studies are replaced: the same one where it says so already."""
    before = storage.get_verified(key, sha256)
    data = marked_list(before, studies)
    return {key if data == before else put_beside(storage, usual_name(key), data): hashlib.sha256(data).hexdigest()}


def _is_note(key: str, studies: Container[str]) -> bool:
    return usual_name(key).endswith(f"/{NOTE_FILE}") and study_of(key) in studies


def _is_list(key: str, manifest: Manifest) -> bool:
    return bool(manifest.review_key) and usual_name(key) == _beside(manifest.review_key, LIST_FILE)


def _beside(key: str, name: str) -> str:
    return f"{key.rpartition('/')[0]}/{name}"
