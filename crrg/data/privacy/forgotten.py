"""Patients who were forgotten: what is kept of them is enough to refuse their films, and says nothing else.

``control/forgotten/<tombstone>.json`` is an object per patient, named by an HMAC of the patient's pseudonym: who has
the secret and a film of the patient can tell that it must not be read, nobody else can tell anything. Lists under
``control/forgotten/ids/`` hold HMACs of what went with them, so that who asks for a study or an image a second time is
told so. Who is forgotten, and what is removed, is the business of ``crrg.operations.privacy.forget``.

A tombstone is found by the secret it was made with alone. After a change of the secret, who still has the old one and a
film tells the patient by both (``Pseudonyms.earlier``); then the old tombstone gets a follower (``carry_over``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from crrg.config.references import DatasetRef
from crrg.data.dataset.pairs import successor_of
from crrg.data.map_ahead import map_ahead
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
        tombstones: What was found, of whichever secret; see ``read_forgotten``.
        met: Present pseudonyms of patients who were told by the secret before, by the tombstones of that one.
    """

    pseudonyms: Pseudonyms = field(compare=False)
    tombstones: frozenset[str] = frozenset()
    met: dict[str, str] = field(default_factory=dict, compare=False)

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

    def tell(self, patient_of: Callable[[Pseudonyms], str]) -> bool:
        """Return whether a patient was forgotten, under the present secret or under the one before where that is known.

        Args:
            patient_of: Makes the patient's pseudonym with a secret.
        """
        if not self.tombstones:
            return False
        patient_id, earlier = patient_of(self.pseudonyms), self.pseudonyms.earlier
        if earlier is not None and (tombstone := earlier.tombstone(patient_of(earlier))) in self.tombstones:
            self.met[tombstone] = patient_id
            return True
        return patient_id in self


def read_forgotten(storage: Storage, pseudonyms: Pseudonyms) -> ForgottenPatients:
    """Return who was forgotten under a root, as of now.

    Args:
        storage: The root.
        pseudonyms: The key under which patients were forgotten.
    """
    return ForgottenPatients(pseudonyms, frozenset(_tombstones(storage)))


def read_left_behind(storage: Storage, pseudonyms: Pseudonyms) -> dict[str, str]:
    """Return the tombstones of other secrets that nobody carried over, with the ``key_id`` of each.

    Args:
        storage: The root.
        pseudonyms: The present secret, under which nothing tells these patients.
    """
    names = _tombstones(storage)
    said = map_ahead(lambda name: storage.get_json(_key_of(name)), names)
    return {
        name: each["key_id"]
        for name, each in zip(names, said, strict=True)
        # one that was carried over from the present secret tells of a patient whom this secret knows as well
        if not each.get("followed_by") and pseudonyms.key_id not in (each["key_id"], *each.get("follows", ()))
    }


def carry_over(storage: Storage, pseudonyms: Pseudonyms, patients: Mapping[str, str]) -> None:
    """Make patients who were forgotten under an earlier secret forgotten ones under the present; twice changes nothing.

    Args:
        storage: The root.
        pseudonyms: The present secret.
        patients: Their present pseudonyms by their earlier tombstones.

    Raises:
        StorageError: The root is out of reach, or this process may write no tombstones.
    """
    for tombstone, patient_id in sorted(patients.items()):
        said = storage.get_json(_key_of(tombstone))
        if said.get("followed_by") != pseudonyms.key_id:
            write_tombstone(storage, pseudonyms, patient_id, {*said.get("follows", ()), said["key_id"]})
            storage.put_json(_key_of(tombstone), {**said, "followed_by": pseudonyms.key_id})


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


def write_tombstone(storage: Storage, pseudonyms: Pseudonyms, patient_id: str, follows: Collection[str] = ()) -> None:
    """Make a patient a forgotten one; a second call changes nothing, and what was noted of other secrets stays.

    Args:
        storage: The root.
        pseudonyms: The present secret.
        patient_id: Pseudonym of the patient.
        follows: ``key_id`` of each earlier secret under which the patient has a tombstone, too.
    """
    key = _key_of(pseudonyms.tombstone(patient_id))
    before = json.loads(storage.get_if_there(key) or b"{}")
    value = {**before, "key_id": pseudonyms.key_id, "schema_version": 1}
    if earlier := {*before.get("follows", ()), *follows}:
        value["follows"] = sorted(earlier)
    storage.put_json(key, value)


def _tombstones(storage: Storage) -> list[str]:
    return [name.removesuffix(".json") for name in storage.list_folder(PREFIX) if name.endswith(".json")]


def _key_of(tombstone: str) -> str:
    return f"{PREFIX}/{tombstone}.json"
