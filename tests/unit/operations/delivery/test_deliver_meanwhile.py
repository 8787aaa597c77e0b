"""Delivery while patients are removed, of nights of which documents are gone, and to where nights would read it."""

from __future__ import annotations

import pytest

from crrg.errors import ConfigError, StorageError
from crrg.ledger.manifest import read_manifests
from crrg.operations.delivery import deliver as delivery
from crrg.operations.delivery.deliver import deliver
from crrg.operations.privacy.forget import forget
from crrg.storage import Storage
from tests.support.delivered_night import DeliverableNight, film_bytes
from tests.support.drawn_night import PSEUDONYMS, StandInDrafter, run_test_night

pytest.importorskip("highdicom", reason="delivery needs the extra dicom")
STUDY = PSEUDONYMS.study("2.25.8.5")


@pytest.fixture
def night(tmp_path):
    return DeliverableNight(tmp_path)


def test_a_document_that_is_gone_keeps_no_other_back(night):
    (manifest,) = read_manifests(night.root)
    key = next(key for key in night.root.get_json(manifest.index_key) if key.endswith(f"{STUDY}/report.json"))
    whole = night.root.get(key)
    night.root.delete(key)
    summary = deliver(night.form(), night.root, night.settings)
    assert (summary.num_delivered, summary.reasons) == (1, {"INTEGRITY.GONE": 1})
    night.root.put(key, whole)
    assert deliver(night.form(), night.root, night.settings).num_delivered == 1


def test_an_older_document_that_is_gone_is_left_out(night):
    deliver(night.form(), night.root, night.settings)
    night.inbox.put("b/ap2.dcm", film_bytes(9, "5", "59", "AP"))
    run_test_night(night.inbox, night.root, StandInDrafter(), date="2026-11-21")
    older, _ = read_manifests(night.root)
    night.root.delete(next(key for key in night.root.get_json(older.index_key) if f"{STUDY}/report.json" in key))
    assert deliver(night.form(), night.root, night.settings).num_delivered == 1


@pytest.mark.parametrize("step", ["read_original", "structured_report", "fhir_bundle", "write_audit", "_send"])
def test_nothing_stays_of_a_patient_who_is_removed_while_documents_are_made(night, monkeypatch, step):
    done, pending = getattr(delivery, step), [1]

    def forget_first(*args, **named):
        if pending:
            pending.clear()
            forget([STUDY], night.root, night.settings, remove=True)
        return done(*args, **named)

    monkeypatch.setattr(delivery, step, forget_first)
    summary = deliver(night.form(), night.root, night.settings)
    assert summary.num_delivered == 0
    assert set(summary.reasons) == {"IDENTITY.FORGOTTEN"}
    assert night.zone.list_objects() == []


def test_documents_that_may_not_be_taken_back_are_said(night, monkeypatch):
    done = delivery._send

    def forget_first(*args):
        forget([STUDY], night.root, night.settings, remove=True)
        monkeypatch.setattr(Storage, "discard", lambda *_: False)
        return done(*args)

    monkeypatch.setattr(delivery, "_send", forget_first)
    with pytest.raises(StorageError, match="find them with crrg reidentify"):
        deliver(night.form(), night.root, night.settings)


@pytest.mark.parametrize("nested", ["inbox", "root"])
def test_zone_inbox_and_root_must_lie_apart(nested: str, night):
    settings = night.settings.model_copy(update={"identified_root": f"{getattr(night, nested).root}/delivered"})
    with pytest.raises(ConfigError, match=f"the {nested} must not be nested .*; give it another bucket, prefix or"):
        deliver(night.form(), night.root, settings)
