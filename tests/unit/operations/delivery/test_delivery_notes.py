"""Nothing in the identified zone says which pseudonym belongs to which study, and notes are found all the same."""

from __future__ import annotations

import pytest

from crrg.data.privacy.deidentify import Pseudonyms
from crrg.errors import StorageError
from crrg.ledger.ledger import ledger_rows
from crrg.ledger.manifest import read_manifests
from crrg.operations.delivery import deliver as delivery
from crrg.operations.delivery.deliver import deliver
from crrg.operations.delivery.notes import NOTES
from crrg.operations.privacy.forget import forget
from crrg.operations.privacy.rekey import rekey
from crrg.storage import Storage
from tests.support.delivered_night import NUMBER, STUDY_UIDS, DeliverableNight
from tests.support.keys import KEY, NEW_KEY

pytest.importorskip("highdicom", reason="delivery needs the extra dicom")

OLD, NEW = Pseudonyms(KEY.encode()), Pseudonyms(NEW_KEY.encode())


@pytest.fixture
def night(tmp_path):
    return DeliverableNight(tmp_path)


def pseudonyms_of(night) -> set[str]:
    rows = [row for manifest in read_manifests(night.root) for row in ledger_rows(night.root, manifest)]
    return {name for row in rows for name in (row.patient_id, row.study_id, row.instance_id, row.key_hmac)} - {""}


def found_in_zone(night, names: set[str]) -> list[str]:
    objects = {stored.key: night.zone.get(stored.key) for stored in night.zone.list_objects()}
    return [key for key, data in objects.items() for name in names if name in key or name.encode() in data]


def delivered_as_before(night, monkeypatch) -> None:
    """Deliver with notes that are named as an earlier version named them."""
    with monkeypatch.context() as patch:
        named = lambda _pseudonyms, study_id, identity: f"{NOTES}/{study_id}-{identity}.json"  # noqa: E731
        patch.setattr(delivery, "note_key", named)
        deliver(night.form(forms=("fhir",)), night.root, night.settings)


def test_no_pseudonym_lies_in_the_identified_zone(night):
    deliver(night.form(forms=("fhir", "sr")), night.root, night.settings)
    assert len(night.zone.list_objects(NOTES)) == 2
    assert found_in_zone(night, pseudonyms_of(night)) == []


def test_notes_of_an_earlier_version_are_renamed_and_still_count(night, monkeypatch):
    delivered_as_before(night, monkeypatch)
    assert found_in_zone(night, pseudonyms_of(night))
    assert deliver(night.form(forms=("fhir",)), night.root, night.settings).num_unchanged == 2
    assert found_in_zone(night, pseudonyms_of(night)) == []
    assert len(night.zone.list_objects(NOTES)) == 2
    assert {night.zone.get_json(stored.key)["study"] for stored in night.zone.list_objects(NOTES)} == set(STUDY_UIDS)


def test_old_notes_that_may_not_be_removed_are_emptied_and_go_with_a_withdrawal(night, monkeypatch):
    def denied(self, key):
        raise StorageError("access denied", key)

    delivered_as_before(night, monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(Storage, "delete", denied)
        for _ in range(2):
            assert deliver(night.form(forms=("fhir",)), night.root, night.settings).num_unchanged == 2
    assert sorted(bool(stored.size) for stored in night.zone.list_objects(NOTES)) == [False, False, True, True]
    forget([OLD.patient(NUMBER)], night.root, night.settings, remove=True)
    assert night.zone.list_objects() == []


@pytest.mark.parametrize("is_renamed", [True, False])
def test_a_withdrawal_finds_notes_of_either_form_after_a_change_of_the_secret_too(night, monkeypatch, is_renamed):
    delivered_as_before(night, monkeypatch)
    if is_renamed:
        deliver(night.form(forms=("fhir",)), night.root, night.settings)
    rekey(night.inbox.root, night.root, OLD, NEW, do=True)
    settings = night.settings.model_copy(update={"hmac_key": type(night.settings.hmac_key)(NEW_KEY)})
    forget([NEW.patient(NUMBER)], night.root, settings, remove=True)
    assert night.zone.list_objects() == []


def test_a_withdrawal_finds_notes_that_are_not_renamed_yet(night, monkeypatch):
    delivered_as_before(night, monkeypatch)
    forget([OLD.patient(NUMBER)], night.root, night.settings, remove=True)
    assert night.zone.list_objects() == []
