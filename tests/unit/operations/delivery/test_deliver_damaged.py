"""Damage to one night keeps no draft of another from being delivered, and is counted where it matters."""

from __future__ import annotations

import pytest

from crrg.ledger.manifest import read_manifests
from crrg.operations.delivery.deliver import deliver
from crrg.operations.night import feed as night_feed
from tests.support.delivered_night import DeliverableNight, film_bytes
from tests.support.drawn_night import StandInDrafter, run_test_night
from tests.support.spoiled_objects import spoil

LATER = "2026-11-21"


@pytest.fixture
def night(tmp_path, monkeypatch):
    """Two nights: the second adds a film to the study of one film, and brings a study of its own."""
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)
    made = DeliverableNight(tmp_path)
    made.inbox.put("c/ap.dcm", film_bytes(4, "6", "62", "AP"))
    made.inbox.put("d/pa.dcm", film_bytes(5, "7", "71", "PA"))
    run_test_night(made.inbox, made.root, StandInDrafter(), date=LATER, num_workers=0)
    return made


def first_index(night) -> str:
    return read_manifests(night.root)[0].index_key


def form(night):
    return night.form(forms=("fhir",))


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_night_whose_index_is_damaged_keeps_no_other_back(night, is_gone):
    key = first_index(night)
    data = spoil(night.root, key, is_gone)
    # of its two studies one is not current any more
    summary = deliver(form(night), night.root, night.settings)
    assert (summary.num_delivered, summary.reasons) == (2, {"INTEGRITY.GONE" if is_gone else "INTEGRITY.DIGEST": 1})
    night.root.put(key, data)
    summary = deliver(form(night), night.root, night.settings)
    assert (summary.num_delivered, summary.num_unchanged, summary.reasons) == (1, 2, {})


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_damaged_document_that_was_replaced_is_nobodys_failure(night, is_gone):
    index = night.root.get_json(first_index(night))
    later = night.root.get_json(read_manifests(night.root, LATER)[0].index_key)
    studies = {key.split("/")[-2] for key in later if key.endswith("/report.json")}
    (key,) = [key for key in index if key.endswith("/report.json") and key.split("/")[-2] in studies]
    spoil(night.root, key, is_gone)
    summary = deliver(form(night), night.root, night.settings)
    assert (summary.num_delivered, summary.reasons) == (3, {})


def test_the_draft_that_a_delivered_one_replaces_may_lie_in_a_damaged_night(night):
    spoil(night.root, first_index(night), is_gone=False)
    again = night.form(forms=("fhir",), date=LATER)
    assert deliver(again, night.root, night.settings).num_delivered == 2
