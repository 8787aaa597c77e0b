from __future__ import annotations

import pytest

from crrg.exports.page_pictures import evidence_name
from crrg.ledger.ledger import read_ledger
from crrg.ledger.manifest import Manifest, read_manifests, run_prefix
from crrg.ledger.tables import read_table
from crrg.operations.night.digest import committed_digest
from crrg.storage import Storage
from tests.support.drawn_night import PSEUDONYMS, StandInDrafter, dicom_bytes, png_bytes, run_test_night

pytestmark = pytest.mark.usefixtures("decode_here")

FIRST, SECOND, THIRD = "2026-11-20", "2026-11-21", "2026-11-22"
STUDY = PSEUDONYMS.study("2.25.8.5")


def film(inbox: Storage, instance: str, view: str, seed: int) -> None:
    inbox.put(f"five/{instance}.dcm", dicom_bytes(seed, study="5", instance=instance, view=view))


def night(inbox: Storage, root: Storage, date: str, **changes: object) -> StandInDrafter:
    drafter = StandInDrafter()
    run_test_night(inbox, root, drafter, num_workers=0, date=date, **changes)
    return drafter


def views(root: Storage, manifest: Manifest, study: str = STUDY) -> dict[str, bool]:
    rows = [row for file in manifest.files if file.kind == "reports" for row in read_table(root, file).to_pylist()]
    return {row["view_position"]: row["is_primary"] for row in rows if row["study_id"] == study}


def document(root: Storage, manifest: Manifest) -> dict:
    return root.get_json(f"{run_prefix(manifest.date, manifest.run_id)}/documents/{STUDY}/report.json")


def test_late_film_makes_a_new_draft_of_the_whole_study_without_a_second_reading(inbox, root):
    film(inbox, "51", "AP", 100)
    inbox.put("other.png", png_bytes(1))
    night(inbox, root, FIRST)
    before = {found.key: root.get(found.key) for found in root.list_objects("results")}
    film(inbox, "52", "PA", 101)
    drafter = night(inbox, root, SECOND)
    assert drafter.num_drafted == 1
    old, new = read_manifests(root)
    assert views(root, old) == {"AP": True}
    assert views(root, new) == {"AP": False, "PA": True}
    assert [film["view_position"] for film in document(root, new)["films"]] == ["PA", "AP"]
    assert [(each.instance_id, each.date, each.run_id) for each in new.superseded] == [
        (PSEUDONYMS.instance("2.25.9.51"), FIRST, old.run_id)
    ]
    # but for the manifest, in whose place a later one of the same run says what was superseded, and the page's own mark
    marks = ("_manifest-", "/superseded.js")
    assert all(root.get(key) == data for key, data in before.items() if not any(mark in key for mark in marks))
    index = root.get_json(new.index_key)
    pictures = [key for key in index if key.endswith(".png")]
    assert len(pictures) == 2
    assert all(root.sha256(key) == index[key] for key in index)
    assert (new.num_accepted, new.num_inputs) == (1, 1)


def test_what_sentences_rest_on_moves_on_with_its_film(inbox, root):
    film(inbox, "51", "AP", 100)
    night(inbox, root, FIRST, evidence={"max_sentences": 2, "cells": 4})
    film(inbox, "52", "PA", 101)
    night(inbox, root, SECOND)
    for manifest, explained in zip(read_manifests(root), ({"51"}, {"51"}), strict=True):
        index = root.get_json(manifest.index_key)
        prefix = f"{run_prefix(manifest.date, manifest.run_id)}/review"
        names = {f"{prefix}/{evidence_name(PSEUDONYMS.instance(f'2.25.9.{number}'))}" for number in explained}
        assert {key for key in index if "/evidence/" in key} == names
        assert all(root.sha256(key) == index[key] for key in names)
        page = root.get(f"{prefix}/data-00000.js").decode()
        assert page.count('"evidence":"evidence/') == 1
        assert page.count('"evidence":null') == len(views(root, manifest)) - 1


def test_digest_over_all_nights_is_that_of_one_night_over_the_same_films_but_for_the_ids_order(inbox, root, tmp_path):
    film(inbox, "51", "AP", 100)
    night(inbox, root, FIRST)
    first = committed_digest(root, FIRST)
    film(inbox, "52", "PA", 101)
    night(inbox, root, SECOND)
    at_once = Storage(str(tmp_path / "at-once"))
    night(inbox, at_once, FIRST)
    assert committed_digest(root) == committed_digest(at_once)
    assert committed_digest(root, FIRST) == first


def test_third_film_finds_the_study_where_the_second_left_it(inbox, root):
    for date, instance, view, seed in ((FIRST, "51", "AP", 100), (SECOND, "52", "PA", 101), (THIRD, "53", "", 102)):
        film(inbox, instance, view, seed)
        night(inbox, root, date)
    first, second, third = read_manifests(root)
    assert len(document(root, third)["films"]) == 3
    assert {each.run_id for each in third.superseded} == {second.run_id}
    assert {each.run_id for each in second.superseded} == {first.run_id}
    assert len(third.superseded) == 2
    assert len(read_ledger(root).find_drafts_of(STUDY)) == 3


def test_second_run_of_the_same_night_merges_too(inbox, root):
    film(inbox, "51", "PA", 100)
    night(inbox, root, FIRST)
    film(inbox, "52", "AP", 101)
    night(inbox, root, FIRST)
    _, new = read_manifests(root, FIRST)
    assert views(root, new) == {"PA": True, "AP": False}


def test_resent_film_that_supersedes_takes_its_study_along(inbox, root):
    film(inbox, "51", "PA", 100)
    film(inbox, "52", "AP", 101)
    night(inbox, root, FIRST)
    inbox.put("again.dcm", dicom_bytes(177, study="5", instance="51", view="PA"))
    night(inbox, root, SECOND, resend_policy="supersede")
    old, new = read_manifests(root)
    assert views(root, new) == {"PA": True, "AP": False}
    assert len(new.superseded) == 2
    assert {each.run_id for each in new.superseded} == {old.run_id}


def test_lateral_that_arrives_late_leaves_the_draft_alone(inbox, root):
    film(inbox, "51", "PA", 100)
    night(inbox, root, FIRST)
    film(inbox, "52", "LATERAL", 101)
    night(inbox, root, SECOND)
    _, new = read_manifests(root)
    assert new.superseded == ()
    assert views(root, new) == {}


def test_a_film_that_moved_on_is_found_where_it_went_though_the_film_that_took_it_along_left_the_study(inbox, root):
    film(inbox, "52", "AP", 100)
    night(inbox, root, FIRST)
    film(inbox, "51", "PA", 101)
    night(inbox, root, SECOND)
    inbox.put("six.dcm", dicom_bytes(177, study="6", instance="51", view="PA"))
    night(inbox, root, SECOND, resend_policy="supersede")
    film(inbox, "53", "", 102)
    night(inbox, root, THIRD)
    (last,) = read_manifests(root, THIRD)
    assert set(views(root, last)) == {"AP", "UNKNOWN"}
