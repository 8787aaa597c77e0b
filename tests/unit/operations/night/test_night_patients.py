"""Films of different patients never share a draft, whatever study their headers name."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from crrg.config.references import BundleRef
from crrg.ledger.ledger import LedgerRow, ledger_rows, read_ledger
from crrg.ledger.manifest import Manifest, read_manifests, run_prefix
from crrg.ledger.tables import read_table
from crrg.operations.night.check_nights import check_nights
from crrg.operations.night.digest import committed_digest
from crrg.operations.night.nightly import run_night
from crrg.operations.night.patients import StudyPatients
from crrg.storage import Storage
from tests.support.drawn_night import BUNDLE, PSEUDONYMS, StandInDrafter, dicom_bytes, night_config

pytestmark = pytest.mark.usefixtures("decode_here")

FIRST, SECOND, THIRD = "2026-11-20", "2026-11-21", "2026-11-22"
STUDY = PSEUDONYMS.study("2.25.8.5")
NEWER = BundleRef(bundle_id="c" * 32, prefix="models/bundles/newer", model_version="8")


def film(inbox: Storage, key: str, patient: str, *, instance: str = "", seed: int = 0, study: str = "5") -> None:
    """Put a film whose key tells instance and picture, unless said otherwise."""
    number = instance or str(50 + ord(key[0]) - ord("a"))
    data = dicom_bytes(seed or int(number), study=study, instance=number, patient=patient)
    inbox.put(f"{key}.dcm", data)


def night(inbox: Storage, root: Storage, date: str, bundle: BundleRef = BUNDLE, **changes: object) -> None:
    drafter = StandInDrafter()
    drafter.bundle_id = bundle.bundle_id
    config = night_config(inbox, date=date, num_workers=0, **changes)
    run_night(config, root, bundle, PSEUDONYMS, lambda: drafter)
    assert check_nights(root).is_good


def outcomes(root: Storage, manifest: Manifest) -> dict[str, str]:
    """Return reason by patient, as the ledger of a run has them."""
    names = {PSEUDONYMS.patient(name): name for name in ("P1", "P2", "P3")}
    return {names[row.patient_id]: row.reason for row in ledger_rows(root, manifest)}


def refused(root: Storage, manifest: Manifest) -> dict[str, str]:
    """Return detail by instance of what a run refused."""
    rows = [row for file in manifest.files if file.kind == "quarantine" for row in read_table(root, file).to_pylist()]
    return {row["instance_id"]: row["detail"] for row in rows}


def films_of(root: Storage, manifest: Manifest, study: str = STUDY) -> list[str]:
    """Return the instances in a study's document."""
    document = root.get_json(f"{run_prefix(manifest.date, manifest.run_id)}/documents/{study}/report.json")
    return sorted(each["instance_id"] for each in document["films"])


def instances(*numbers: int) -> list[str]:
    return sorted(PSEUDONYMS.instance(f"2.25.9.{number}") for number in numbers)


def drafts_of(root: Storage) -> list[LedgerRow]:
    return read_ledger(root).find_drafts_of(STUDY)


@pytest.mark.parametrize("shard_size", [1, 2, 100])
def test_study_of_two_patients_is_the_first_ones_draft_whatever_the_shards(inbox, root, shard_size):
    for key, patient in (("a", "P1"), ("b", "P2"), ("c", "P1"), ("d", "P2")):
        film(inbox, key, patient)
    night(inbox, root, FIRST, shard_size=shard_size)
    (manifest,) = read_manifests(root)
    assert outcomes(root, manifest) == {"P1": "", "P2": "IDENTITY.CONFLICT"}
    assert films_of(root, manifest) == instances(50, 52)
    assert (manifest.num_accepted, manifest.num_quarantined) == (2, 2)
    details = refused(root, manifest)
    assert sorted(details) == instances(51, 53)
    assert all("another patient" in detail and "send it again" in detail for detail in details.values())


def test_shard_size_changes_no_digest(inbox, tmp_path):
    for key, patient in (("a", "P2"), ("b", "P1"), ("c", "P2"), ("d", "P3")):
        film(inbox, key, patient)
    film(inbox, "e", "P1", seed=51)
    digests = set()
    for size in (1, 3, 100):
        root = Storage(str(tmp_path / f"root-{size}"))
        night(inbox, root, FIRST, shard_size=size)
        digests.add(committed_digest(root))
    assert len(digests) == 1


def test_equal_film_of_a_refused_one_is_drafted(inbox, root):
    film(inbox, "a", "P1")
    film(inbox, "b", "P2", seed=77)
    film(inbox, "c", "P3", seed=77, study="6")
    night(inbox, root, FIRST)
    (manifest,) = read_manifests(root)
    assert outcomes(root, manifest) == {"P1": "", "P2": "IDENTITY.CONFLICT", "P3": ""}


def test_film_of_another_patient_on_a_later_night_leaves_the_draft_alone(inbox, root):
    film(inbox, "a", "P1")
    night(inbox, root, FIRST)
    film(inbox, "b", "P2")
    night(inbox, root, SECOND)
    film(inbox, "c", "P1")
    night(inbox, root, THIRD, resend_policy="supersede")
    first, second, third = read_manifests(root)
    assert outcomes(root, second) == {"P2": "IDENTITY.CONFLICT"}
    assert second.superseded == ()
    assert films_of(root, third) == instances(50, 52)
    assert {each.run_id for each in third.superseded} == {first.run_id}


def test_refused_film_is_not_read_again_by_itself(inbox, root):
    film(inbox, "a", "P1")
    film(inbox, "b", "P2")
    night(inbox, root, FIRST)
    night(inbox, root, FIRST)
    night(inbox, root, SECOND)
    assert len(read_manifests(root)) == 1
    night(inbox, root, SECOND, reread_studies=(STUDY,), resend_policy="supersede")
    assert outcomes(root, read_manifests(root)[1]) == {"P2": "IDENTITY.CONFLICT"}
    assert [row.patient_id for row in drafts_of(root)] == [PSEUDONYMS.patient("P1")]


def test_newer_bundle_that_reads_the_study_again_keeps_it_with_its_patient(inbox, root):
    for key, patient in (("a", "P2"), ("b", "P1"), ("c", "P2")):
        film(inbox, key, patient)
    night(inbox, root, FIRST)
    night(inbox, root, SECOND, NEWER, reread_date=FIRST)
    manifest = read_manifests(root)[1]
    assert outcomes(root, manifest) == {"P2": "", "P1": "IDENTITY.CONFLICT"}
    assert films_of(root, manifest) == instances(50, 52)


def test_corrected_patient_is_refused_by_name_and_taken_where_it_may_supersede(inbox, root):
    film(inbox, "a", "P1")
    film(inbox, "b", "P1")
    night(inbox, root, FIRST)
    film(inbox, "a", "P2")
    film(inbox, "b", "P2")
    night(inbox, root, SECOND)
    second = read_manifests(root)[1]
    assert outcomes(root, second) == {"P2": "IDENTITY.CONFLICT"}
    assert all("resend_policy" in detail for detail in refused(root, second).values())
    night(inbox, root, THIRD, reread_studies=(STUDY,), resend_policy="supersede")
    first, _, third = read_manifests(root)
    assert outcomes(root, third) == {"P2": ""}
    assert films_of(root, third) == instances(50, 51)
    assert {(each.instance_id, each.run_id) for each in third.superseded} == {
        (name, first.run_id) for name in instances(50, 51)
    }


def test_study_of_which_only_one_film_was_corrected_stays_as_it_is(inbox, root):
    film(inbox, "a", "P1")
    film(inbox, "b", "P1")
    night(inbox, root, FIRST)
    film(inbox, "corrected", "P2", instance="50")
    night(inbox, root, SECOND, resend_policy="supersede")
    second = read_manifests(root)[1]
    assert outcomes(root, second) == {"P2": "IDENTITY.CONFLICT"}
    assert second.superseded == ()
    assert {row.patient_id for row in drafts_of(root)} == {PSEUDONYMS.patient("P1")}


def test_corrected_study_takes_no_film_along_that_stays_refused(inbox, root):
    film(inbox, "a", "P1")
    film(inbox, "b", "P1")
    night(inbox, root, FIRST)
    film(inbox, "c", "P2", instance="50")
    film(inbox, "d", "P3", instance="51")
    night(inbox, root, SECOND, resend_policy="supersede")
    second = read_manifests(root)[1]
    assert outcomes(root, second) == {"P2": "", "P3": "IDENTITY.CONFLICT"}
    assert films_of(root, second) == instances(50)
    assert {each.instance_id for each in second.superseded} == set(instances(50, 51))


def test_one_image_of_two_patients_in_one_night_is_drafted_for_the_first_and_then_a_duplicate(inbox, root):
    film(inbox, "a", "P1")
    film(inbox, "b", "P2", instance="50")
    night(inbox, root, FIRST)
    (manifest,) = read_manifests(root)
    assert outcomes(root, manifest) == {"P1": "", "P2": "DUPLICATE.RESENT"}


def test_film_that_was_another_patients_study_leaves_the_rest_of_its_old_one_a_draft(inbox, root):
    film(inbox, "a", "P1")
    film(inbox, "b", "P1")
    night(inbox, root, FIRST)
    film(inbox, "a", "P2", study="6")
    night(inbox, root, SECOND, resend_policy="supersede")
    film(inbox, "c", "P1")
    film(inbox, "d", "P2", study="6")
    night(inbox, root, THIRD)
    _, second, third = read_manifests(root)
    other = PSEUDONYMS.study("2.25.8.6")
    assert (films_of(root, second, other), films_of(root, second)) == (instances(50), instances(51))
    assert (films_of(root, third, other), films_of(root, third)) == (instances(50, 53), instances(51, 52))
    assert {(each.instance_id, each.run_id) for each in third.superseded} == {
        (name, second.run_id) for name in instances(50, 51)
    }


def test_draft_of_two_patients_of_an_earlier_version_takes_no_film_until_it_is_read_again(inbox, root, monkeypatch):
    film(inbox, "a", "P1")
    film(inbox, "b", "P2")
    with monkeypatch.context() as before:
        before.setattr(StudyPatients, "may_have", lambda *_: True)
        night(inbox, root, FIRST)
    film(inbox, "c", "P1")
    night(inbox, root, SECOND)
    night(inbox, root, THIRD, NEWER, reread_date=FIRST)
    film(inbox, "d", "P1")
    night(inbox, root, THIRD, NEWER)
    first, second, third, fourth = read_manifests(root)
    assert outcomes(root, second) == {"P1": "IDENTITY.CONFLICT"}
    assert (outcomes(root, third), films_of(root, third)) == ({"P1": "", "P2": "IDENTITY.CONFLICT"}, instances(50))
    assert {(each.instance_id, each.run_id) for each in third.superseded} == {
        (name, first.run_id) for name in instances(50, 51)
    }
    assert (outcomes(root, fourth), films_of(root, fourth)) == ({"P1": ""}, instances(50, 53))


def test_night_that_was_cut_off_over_a_study_of_two_patients_comes_to_the_same_end(inbox, root, tmp_path, monkeypatch):
    for key, patient in (("a", "P1"), ("b", "P2"), ("c", "P2"), ("d", "P1")):
        film(inbox, key, patient)
    with monkeypatch.context() as broken:
        broken.setattr("crrg.operations.night.commit.write_ledger", Mock(side_effect=OSError("cut off")))
        with pytest.raises(OSError, match="cut off"):
            night(inbox, root, FIRST, shard_size=1)
    night(inbox, root, FIRST, shard_size=1)
    whole = Storage(str(tmp_path / "whole"))
    night(inbox, whole, FIRST, shard_size=4)
    assert committed_digest(root) == committed_digest(whole)
    assert outcomes(root, read_manifests(root)[0]) == {"P1": "", "P2": "IDENTITY.CONFLICT"}
