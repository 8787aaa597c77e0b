"""Patients who were forgotten: what is kept of them is enough to refuse their films, and says nothing else.

``control/forgotten/<tombstone>.json`` is an object per patient, named by an HMAC of the patient's pseudonym: who has
the secret and a film of the patient can tell that it must not be read, nobody else can tell anything. Lists under
``control/forgotten/ids/`` hold HMACs of what went with them, so that who asks for a study or an image a second time is
told so. Who is forgotten, and what is removed, is the business of ``crrg.operations.privacy.forget``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from crrg.config.references import DatasetRef
from crrg.data.dataset.pairs import successor_of
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.errors import IdentityError, StorageError
from crrg.storage import Storage, canonical_json, hash_json

PREFIX = "control/forgotten"
IDS = f"{PREFIX}/ids"
UNFINISHED = "control/forgetting"
"""Where a removal is noted by the ids of what has to go, until all of it is gone."""
REASON = "IDENTITY.FORGOTTEN"
SENTENCE = "the patient was removed on request; nothing of the film is kept"


@dataclass(frozen=True)
class ForgottenPatients:
    """Tells whether a patient was forgotten; two are equal where they know the same patients.

    Attributes:
        pseudonyms: The key under which patients were forgotten.
        tombstones: What was found; see ``read_forgotten``.
    """

    pseudonyms: Pseudonyms = field(compare=False)
    tombstones: frozenset[str] = frozenset()

    def __contains__(self, patient_id: str) -> bool:
        """Return whether a patient, by pseudonym, was forgotten."""
        return bool(self.tombstones) and self.pseudonyms.tombstone(patient_id) in self.tombstones

    def check(self, patient_id: str) -> None:
        """Refuse a film of a forgotten patient.

        Raises:
            IdentityError: IDENTITY.FORGOTTEN; the message holds no id.
        """
        if patient_id in self:
            raise IdentityError(SENTENCE, code=REASON)


def read_forgotten(storage: Storage, pseudonyms: Pseudonyms) -> ForgottenPatients:
    """Return who was forgotten under a root, as of now.

    Args:
        storage: The root.
        pseudonyms: The key under which patients were forgotten.
    """
    names = (name for name in storage.list_folder(PREFIX) if name.endswith(".json"))
    return ForgottenPatients(pseudonyms, frozenset(name.removesuffix(".json") for name in names))


def is_removed_from(storage: Storage, dataset: DatasetRef) -> bool:
    """Return whether somebody was, or just now is being, removed from a version: nothing may be made of it any more.

    Args:
        storage: The root.
        dataset: A version that was found to count.
    """
    # asked first, since the note of a removal goes last: once it is gone, the version is retired
    is_under_way = bool(storage.list_objects(UNFINISHED))
    return is_under_way or successor_of(storage, dataset.name, dataset.version) != dataset.version


def check_still_whole(storage: Storage, dataset: DatasetRef) -> None:
    """Check that nobody was removed from a version; called before what was made of it is written.

    Args:
        storage: The root.
        dataset: A version that was found to count.

    Raises:
        StorageError: Somebody was, or is being removed.
    """
    if is_removed_from(storage, dataset):
        reason = f"a patient was removed while this ran (version {dataset.version}); run it again on the newest version"
        raise StorageError(reason, f"dataset {dataset.name}", retryable=True)


def read_forgotten_ids(storage: Storage) -> frozenset[str]:
    """Return the tombstones of studies and images that went; of those that an earlier program removed none is kept.

    Args:
        storage: The root.
    """
    lists = (storage.get_json(stored.key)["ids"] for stored in storage.list_objects(IDS))
    return frozenset(each for found in lists for each in found)


def write_forgotten_ids(storage: Storage, pseudonyms: Pseudonyms, names: Iterable[str]) -> None:
    """Note that studies and images went; a second call changes nothing."""
    tombstones = sorted(pseudonyms.tombstone(name) for name in names)
    if tombstones:
        value = {"ids": tombstones, "key_id": pseudonyms.key_id, "schema_version": 1}
        storage.put(f"{IDS}/{hash_json(tombstones)}.json", canonical_json(value))


def write_tombstone(storage: Storage, pseudonyms: Pseudonyms, patient_id: str) -> None:
    """Make a patient a forgotten one; a second call changes nothing."""
    key = f"{PREFIX}/{pseudonyms.tombstone(patient_id)}.json"
    storage.put(key, canonical_json({"key_id": pseudonyms.key_id, "schema_version": 1}))
