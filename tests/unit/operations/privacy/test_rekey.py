"""A new secret: other ids everywhere, the same drafts, and no place where ids of both secrets meet."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from crrg.config.base import Settings
from crrg.config.data import IngestConfig
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.errors import ConfigError
from crrg.ledger.beside import usual_name
from crrg.ledger.manifest import read_manifests
from crrg.operations.ingest.ingest import ingest
from crrg.operations.night import rewrite as night_rewrite
from crrg.operations.night.check_nights import check_nights
from crrg.operations.night.nightly import run_night
from crrg.operations.night.outcomes import inbox_outcomes
from crrg.operations.privacy import forget as forgetting
from crrg.operations.privacy.forget import forget
from crrg.operations.privacy.rekey import rekey
from crrg.storage import Storage
from tests.support.drawn_night import BUNDLE, PSEUDONYMS, StandInDrafter, dicom_bytes, night_config, png_bytes
from tests.support.forgetting import SETTINGS, decode_here, found_of
from tests.support.keys import NEW_KEY
from tests.support.zones import what_does_not_belong

NEW = Pseudonyms(NEW_KEY.encode())
FILMS = {
    "a/1.dcm": dicom_bytes(1, study="1", instance="11", patient="P1", PatientSex="F"),
    "a/2.dcm": dicom_bytes(2, study="1", instance="12", patient="P1", view="AP"),
    "b/1.dcm": dicom_bytes(3, study="2", instance="21", patient="P2", view="LATERAL"),
    "c.png": png_bytes(4),
    "d/cut.dcm": dicom_bytes(5, study="3", instance="31", patient="P3")[:900],
}


class Place:
    """An inbox and a root with two nights; the second adds a film to a study of the first."""

    def __init__(self, folder: Path) -> None:
        self.inbox, self.root = Storage(str(folder / "inbox")), Storage(str(folder / "root"))
        for key, data in FILMS.items():
            if key != "a/2.dcm":
                self.inbox.put(key, data)
        self.night("2026-11-20")
        self.inbox.put("a/2.dcm", FILMS["a/2.dcm"])
        self.night("2026-11-21")

    def night(self, date: str, pseudonyms: Pseudonyms = PSEUDONYMS, drafter: StandInDrafter | None = None):
        config = night_config(self.inbox, date=date, num_workers=0)
        return run_night(config, self.root, BUNDLE, pseudonyms, lambda: drafter or StandInDrafter())

    def rekey(self, **changes):
        return rekey(self.inbox.root, self.root, PSEUDONYMS, NEW, do=True, **changes)


def ids_of(pseudonyms: Pseudonyms) -> set[str]:
    return {
        *(pseudonyms.patient(f"P{number}") for number in (1, 2)),
        *(pseudonyms.study(f"2.25.8.{number}") for number in (1, 2)),
        *(pseudonyms.instance(f"2.25.9.{number}") for number in (11, 12, 21)),
        *(pseudonyms.object_key(key) for key in FILMS),
    }


def drafts_of(root: Storage) -> list[tuple[object, ...]]:
    """Return what was drafted and decided, without ids."""
    found = []
    for manifest in read_manifests(root):
        for file in manifest.files:
            for row in pq.read_table(io.BytesIO(root.get_verified(file.key, file.sha256))).to_pylist():
                plain = {name: value for name, value in row.items() if not name.endswith("_id") and name != "key_hmac"}
                found.append((manifest.date, file.kind, repr(plain)))
        for key, sha256 in root.get_json(manifest.index_key).items():
            found.append((manifest.date, len(root.get_verified(key, sha256)) if "/review-" not in key else "page"))
    return sorted(found, key=repr)


@pytest.fixture
def place(tmp_path, monkeypatch):
    decode_here(monkeypatch)
    return Place(tmp_path)


def test_all_nights_get_new_ids_and_keep_their_drafts(place):
    kept = [stored.key for stored in place.root.list_objects("results") if "/review/" in stored.key]
    # of the night with a replaced draft both work lists, the one from before lies there still
    pages = len({usual_name(key) for key in kept if "/films/" not in key})
    before = [entry for entry in drafts_of(place.root) if len(entry) == 3]
    place.root.put(".prefect/storage/0123", f'["{PSEUDONYMS.study("2.25.8.1")}"]'.encode())
    done = place.rekey()
    assert (done.num_nights, done.num_missing, done.is_done) == (2, 0, True)
    assert [entry for entry in drafts_of(place.root) if len(entry) == 3] == before
    assert found_of(place.root, ids_of(PSEUDONYMS)) == []
    for name in ids_of(NEW) - {NEW.object_key("d/cut.dcm")}:
        assert found_of(place.root, {name})
    assert {manifest.key_id for manifest in read_manifests(place.root)} == {NEW.key_id}
    inbox_id = NEW.object_key(place.inbox.root, "inbox")
    assert {manifest.inbox_id for manifest in read_manifests(place.root)} == {inbox_id}
    assert what_does_not_belong(Path(place.root.root)) == []
    assert check_nights(place.root).is_good
    assert pages == len([1 for key in place.root.list_objects("results") if "/review-" in key.key])
    # nothing is drafted again, a study goes on growing, and everything is still answered for
    drafter = StandInDrafter()
    assert place.night("2026-11-22", NEW, drafter).status == "nothing_new"
    place.inbox.put("a/3.dcm", dicom_bytes(9, study="1", instance="13", patient="P1"))
    assert place.night("2026-11-22", NEW, drafter).num_accepted == drafter.num_drafted == 1
    (late,) = read_manifests(place.root, "2026-11-22")
    assert {each.instance_id for each in late.superseded} == {NEW.instance("2.25.9.11"), NEW.instance("2.25.9.12")}
    outcomes = {each.file: each.outcome for each in inbox_outcomes(place.inbox.root, place.root, NEW)}
    assert set(outcomes.values()) == {"accept", "quarantine"}


def test_ids_of_two_secrets_never_meet(place):
    with pytest.raises(ConfigError, match="change over with crrg rekey"):
        place.night("2026-11-22", NEW)
    with pytest.raises(ConfigError, match="change over with crrg rekey"):
        inbox_outcomes(place.inbox.root, place.root, NEW)
    form = {"source": (place.inbox.root,), "dataset": "chest", "image_size": 64, "num_workers": 1}
    ingest(IngestConfig.model_validate(form), place.root, PSEUDONYMS)
    with pytest.raises(ConfigError, match="--new-secret"):
        ingest(IngestConfig.model_validate(form), place.root, NEW)
    made = ingest(IngestConfig.model_validate({**form, "new_secret": True}), place.root, NEW)
    assert made.num_accepted == 4
    table = f"{made.dataset.manifest_key.rpartition('/')[0]}/_acquisition.parquet"
    sexes = {row["instance_id"]: row["sex"] for row in pq.read_table(io.BytesIO(place.root.get(table))).to_pylist()}
    assert sexes.keys() >= {NEW.instance(f"2.25.9.{number}") for number in (11, 12, 21)}
    assert sexes.keys().isdisjoint(ids_of(PSEUDONYMS))
    assert {name for name, sex in sexes.items() if sex} == {NEW.instance("2.25.9.11")}
    place.rekey()
    with pytest.raises(ConfigError, match="change over with crrg rekey"):
        place.night("2026-11-22")
    with pytest.raises(ConfigError, match="are the same; set CRRG_HMAC_KEY to a new one"):
        rekey(place.inbox.root, place.root, NEW, NEW)
    with pytest.raises(ConfigError, match=r"nights were made with secret .*; give that secret as CRRG_OLD_HMAC_KEY"):
        rekey(place.inbox.root, place.root, Pseudonyms(b"x" * 32), PSEUDONYMS)


def test_a_change_that_was_cut_off_goes_on(place, monkeypatch):
    whole = drafts_of(place.root)
    done, commit = 0, night_rewrite.commit_manifest

    def cut(storage, manifest):
        nonlocal done
        done += 1
        if done == 2:
            raise KeyboardInterrupt
        return commit(storage, manifest)

    with monkeypatch.context() as patch:
        patch.setattr(night_rewrite, "commit_manifest", cut)
        with pytest.raises(KeyboardInterrupt):
            place.rekey()
    for pseudonyms in (PSEUDONYMS, NEW):
        with pytest.raises(ConfigError, match="change over with crrg rekey"):
            place.night("2026-11-22", pseudonyms)
    assert place.rekey().num_nights == 1
    assert [each for each in drafts_of(place.root) if len(each) == 3] == [each for each in whole if len(each) == 3]
    assert found_of(place.root, ids_of(PSEUDONYMS)) == []


def test_what_is_gone_from_the_inbox_is_left_out_only_where_that_is_said(place):
    place.inbox.delete("a/1.dcm")
    with pytest.raises(ConfigError, match="2 objects that nights read are not in the given inboxes"):
        place.rekey()
    assert {manifest.key_id for manifest in read_manifests(place.root)} == {PSEUDONYMS.key_id}
    assert place.rekey(drop_missing=True).num_missing == 2
    assert found_of(place.root, ids_of(PSEUDONYMS)) == []
    assert [manifest.num_accepted for manifest in read_manifests(place.root)] == [1, 0]
    assert check_nights(place.root).is_good
    # what is left of the study in the inbox is new
    assert place.night("2026-11-22", NEW).num_accepted == 1


def test_a_forgotten_patient_stays_forgotten_while_films_lie_in_the_inbox(place):
    forget([PSEUDONYMS.patient("P1")], place.root, SETTINGS, remove=True)
    done = place.rekey()
    assert done.num_lost_tombstones == 0
    for name in (NEW.patient("P1"), NEW.study("2.25.8.1"), NEW.instance("2.25.9.12"), NEW.object_key("a/1.dcm")):
        assert forget([name], place.root, Settings(hmac_key=NEW_KEY)).num_forgotten_before == 1
    place.inbox.put("again.dcm", dicom_bytes(9, study="1", instance="13", patient="P1"))
    assert place.night("2026-11-22", NEW).reasons == {"IDENTITY.FORGOTTEN": 1}


def test_a_removal_that_was_cut_off_is_finished_before_ids_change(place, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(forgetting, "forget_in_datasets", interrupted)
        with pytest.raises(KeyboardInterrupt):
            forget([PSEUDONYMS.patient("P1")], place.root, SETTINGS, remove=True)
    with pytest.raises(ConfigError, match="a removal of patients was interrupted; finish it under the old secret"):
        place.rekey()
    forget([PSEUDONYMS.patient("P1")], place.root, SETTINGS, remove=True)
    assert place.rekey().is_done


def interrupted(*_):
    raise KeyboardInterrupt


def test_a_page_that_is_written_again_still_says_what_was_found_of_its_night(place):
    def pages():
        return [place.root.get(manifest.review_key).decode() for manifest in read_manifests(place.root)]

    said = "the night was compared with nothing"
    assert [said in page for page in pages()] == [True, True]
    place.rekey()
    assert [said in page for page in pages()] == [True, True]


def test_a_refused_film_that_was_taken_out_of_the_inbox_costs_no_other_film_its_draft(place):
    place.inbox.put("e/1.dcm", dicom_bytes(6, study="1", instance="13", patient="P2"))
    place.night("2026-11-22")
    before = [manifest.num_accepted for manifest in read_manifests(place.root)]
    place.inbox.delete("e/1.dcm")
    assert place.rekey(drop_missing=True).num_missing == 1
    assert [manifest.num_accepted for manifest in read_manifests(place.root)] == before
    assert check_nights(place.root).is_good
    assert NEW.instance("2.25.9.12") in {
        row["instance_id"]
        for manifest in read_manifests(place.root)
        for file in manifest.files
        if file.kind == "reports"
        for row in pq.read_table(io.BytesIO(place.root.get(file.key))).to_pylist()
    }


def test_a_draft_that_is_left_out_lets_a_film_of_equal_pixels_be_drafted(place):
    place.inbox.put("e/1.dcm", dicom_bytes(7, study="4", instance="41", patient="P4"))
    place.inbox.put("f/1.dcm", dicom_bytes(7, study="5", instance="51", patient="P5"))
    assert place.night("2026-11-22").reasons == {"DUPLICATE.PIXELS": 1}
    place.inbox.delete("e/1.dcm")
    assert place.rekey(drop_missing=True).num_missing == 1
    assert place.night("2026-11-23", NEW).num_accepted == 1
    outcomes = {each.file: each.outcome for each in inbox_outcomes(place.inbox.root, place.root, NEW)}
    assert outcomes["f/1.dcm"] == "accept"
