"""A film that is its earlier version again, after another version of it was drafted, is read again; a store's mark of a
version is that of its bytes, so that it is known."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from crrg.config.references import NightSummary
from crrg.ledger.ledger import read_ledger
from crrg.ledger.manifest import read_manifests
from crrg.operations.night.check_nights import check_nights
from crrg.operations.night.nightly import plan_night, release_night
from crrg.operations.night.outcomes import inbox_outcomes
from crrg.storage import Storage
from tests.support.drawn_night import (
    BUNDLE,
    PSEUDONYMS,
    StandInDrafter,
    dicom_bytes,
    night_config,
    run_test_night,
)

pytestmark = pytest.mark.usefixtures("decode_here")

DATES = [f"2026-11-{day}" for day in range(20, 26)]
KEY = "five/film.dcm"
IMAGE = PSEUDONYMS.instance("2.25.9.51")


def send(inbox: Storage, version: int, **tags: str) -> None:
    """Put a version of the film; as in a bucket, the same bytes have the same mark."""
    inbox.put(KEY, dicom_bytes(version, study="5", instance="51", **tags))
    os.utime(inbox.url(KEY), (1_700_000_000 + version,) * 2)


def night(inbox: Storage, root: Storage, date: str, policy: str = "supersede") -> NightSummary:
    return run_test_night(inbox, root, StandInDrafter(), num_workers=0, date=date, resend_policy=policy)


@pytest.fixture
def replaced(inbox: Storage, root: Storage) -> tuple[Storage, Storage]:
    """Return inbox and root of a film of which two versions were drafted, the second in place of the first."""
    for version, date in ((1, DATES[0]), (2, DATES[1])):
        send(inbox, version)
        assert night(inbox, root, date).num_accepted == 1
    return inbox, root


def test_the_first_version_again_replaces_the_second(replaced):
    inbox, root = replaced
    send(inbox, 1)
    assert [each.outcome for each in inbox_outcomes(inbox.root, root, PSEUDONYMS)] == ["pending"]
    assert night(inbox, root, DATES[2]).num_accepted == 1
    first, second, third = read_manifests(root)
    assert [(each.date, each.run_id) for each in third.superseded] == [(DATES[1], second.run_id)]
    draft = read_ledger(root).find_draft(IMAGE)
    assert draft is not None
    assert draft.run_id == third.run_id != first.run_id
    assert night(inbox, root, DATES[3]).status == "nothing_new"
    assert [each.outcome for each in inbox_outcomes(inbox.root, root, PSEUDONYMS)] == ["accept"]
    assert check_nights(root).is_good


def test_it_goes_forth_and_back_as_often_as_it_is_sent(replaced):
    inbox, root = replaced
    for version, date in ((1, DATES[2]), (2, DATES[3]), (1, DATES[4])):
        send(inbox, version)
        assert night(inbox, root, date).num_accepted == 1
        assert night(inbox, root, date).status == "nothing_new"


def test_where_it_may_not_replace_it_is_refused_once(replaced):
    inbox, root = replaced
    send(inbox, 1)
    assert night(inbox, root, DATES[2], "conflict").reasons == {"IDENTITY.CONFLICT": 1}
    assert night(inbox, root, DATES[3], "conflict").status == "nothing_new"


def test_a_night_that_was_cut_off_over_it_goes_on(replaced):
    inbox, root = replaced
    send(inbox, 1)
    config = night_config(inbox, num_workers=0, date=DATES[2], resend_policy="supersede")
    plans = []
    for _ in range(2):
        plans.append(plan_night(config, root, BUNDLE, PSEUDONYMS))
        release_night(plans[-1], root)
    assert plans[0].num_new == 1
    assert (plans[0].run_id, plans[0].num_new) == (plans[1].run_id, plans[1].num_new)


def test_a_version_whose_draft_stands_is_left_alone(inbox, root):
    send(inbox, 1)
    night(inbox, root, DATES[0])
    # the same film under another header is no other draft
    send(inbox, 1, InstitutionName="elsewhere")
    os.utime(inbox.url(KEY), (1_700_000_009,) * 2)
    assert night(inbox, root, DATES[1]).reasons == {"DUPLICATE.RESENT": 1}
    send(inbox, 1)
    assert night(inbox, root, DATES[2]).status == "nothing_new"


def test_what_another_object_has_shown_again_meanwhile_is_read_once(replaced):
    inbox, root = replaced
    inbox.put("other.dcm", dicom_bytes(1, study="5", instance="51"))
    assert night(inbox, root, DATES[2]).num_accepted == 1
    send(inbox, 1)
    assert night(inbox, root, DATES[3]).reasons == {"DUPLICATE.RESENT": 1}
    assert night(inbox, root, DATES[4]).status == "nothing_new"


def test_another_inbox_that_has_an_object_of_the_same_key_sends_nothing_back(replaced, tmp_path: Path):
    inbox, root = replaced
    other = Storage(str(tmp_path / "other"))
    send(other, 3)
    assert night(other, root, DATES[2]).num_accepted == 1
    # each lies where it lay, and neither replaces the other's draft every night
    for place in (inbox, other):
        assert night(place, root, DATES[3]).status == "nothing_new"
    send(inbox, 1)
    assert night(inbox, root, DATES[4]).num_accepted == 1
