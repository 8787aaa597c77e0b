from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydantic import ValidationError

from crrg.config.data import IngestConfig
from crrg.data.dataset.pairs import read_manifest, read_pairs
from crrg.data.decoding.pool import decode_many
from crrg.data.phantom.cohort import write_cohort
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.domain.boxes import box_iou
from crrg.domain.labels import LABELS
from crrg.domain.study import Split, ViewPosition
from crrg.errors import ConfigError, CrrgError, StorageError
from crrg.operations import stop
from crrg.operations.ingest import run as ingest_run
from crrg.operations.ingest.ingest import ingest
from crrg.storage import Storage
from tests.support.dicom_builder import build_dicom, gradient
from tests.support.keys import KEY
from tests.support.store_hooks import before_reading

PSEUDONYMS = Pseudonyms(KEY.encode())


@pytest.fixture
def storage(tmp_path) -> Storage:
    return Storage(str(tmp_path / "root"))


@pytest.fixture(autouse=True)
def decode_in_this_process(monkeypatch):
    """Children are the subject of test_decoder_pool; here they would only cost their start."""
    monkeypatch.setattr(ingest_run, "decode_many", lambda items, size, _, **__: decode_many(items, size, 0))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(str(folder), 16, 3, 64)
    return str(folder)


def run(storage, source, **settings):
    form = {"dataset": "x", "image_size": 64, **settings}
    return ingest(IngestConfig(source=source, **form), storage, PSEUDONYMS)


def pairs_of(storage, summary):
    return [pair for split in Split for pair in read_pairs(storage, summary.dataset, split)]


def quarantine_of(storage, summary):
    return pq.read_table(io.BytesIO(storage.get(summary.quarantine_key))).to_pylist()


def write_table(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_picture(path: Path, seed: int) -> None:
    """Write a smooth random film; other seeds give films that do not look alike."""
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 15), dtype=np.uint8)
    Image.fromarray(coarse).resize((50, 40), Image.Resampling.BILINEAR).save(path)


def uid(index: int) -> dict[str, str]:
    return {"SOPInstanceUID": f"1.2.3.{index}", "StudyInstanceUID": f"1.2.{index}", "PatientID": f"P-{index}"}


def test_a_drawn_cohort_becomes_pairs_with_boxes_and_labels(cohort, storage, monkeypatch):
    monkeypatch.setattr(ingest_run, "decode_many", decode_many)
    summary = run(storage, cohort)
    assert (summary.num_inputs, summary.num_accepted, summary.num_quarantined) == (16, 16, 0)
    truth = pq.read_table(f"{cohort}/truth.parquet").to_pylist()
    by_instance = {pair.instance_id: pair for pair in pairs_of(storage, summary)}
    for row in truth:
        pair = by_instance[PSEUDONYMS.instance(row["instance_id"])]
        assert pair.patient_id == PSEUDONYMS.patient(row["patient_id"])
        assert pair.study_id == PSEUDONYMS.study(row["study_id"])
        assert (pair.film.original_height, pair.film.original_width) == (row["height"], row["width"])
        assert pair.film.view_position.value == row["view_position"]
        assert pair.film.polarity_inverted == (row["photometric"] == "MONOCHROME1")
        assert pair.label_source == "drawn"
        assert len(pair.labels) == 14
        assert pair.labels["Edema"] == row["edema"]
        assert len(pair.regions) == 29
        for ours, theirs in zip(pair.regions, row["regions"], strict=True):
            assert (ours.region, ours.phrase) == (theirs["region"], theirs["phrase"])
            assert box_iou(np.array(ours.box_xyxy), np.array(theirs["box_xyxy"])) > 0.95
        assert pair.report.findings or pair.report.impression


def test_lungs_are_dark_whatever_the_stored_polarity(cohort, storage):
    pairs = pairs_of(storage, run(storage, cohort))
    assert {pair.film.polarity_inverted for pair in pairs} == {True, False}
    normal = [pair for pair in pairs if pair.labels["No Finding"]]
    assert normal
    for pair in normal:
        boxes = {region.region: [round(value) for value in region.box_xyxy] for region in pair.regions}
        lung, abdomen = (boxes[name] for name in ("right mid lung zone", "abdomen"))
        mean = [pair.film.pixels[y1:y2, x1:x2].mean() for x1, y1, x2, y2 in (lung, abdomen)]
        assert mean[0] < mean[1]


def test_the_same_inputs_are_not_read_twice(cohort, storage, monkeypatch):
    first = run(storage, cohort)
    other = run(storage, cohort, seed=1)
    monkeypatch.setattr(ingest_run, "decode_many", lambda *_, **__: pytest.fail("decoded again"))
    again = run(storage, cohort)
    assert again.reused
    assert again.dataset == first.dataset != other.dataset
    assert (again.num_inputs, again.num_accepted) == (16, 16)


def test_a_patient_is_in_one_split_only(tmp_path, storage):
    folder = tmp_path / "films"
    folder.mkdir()
    rows = []
    for index in range(40):
        write_picture(folder / f"f{index:02d}.png", index)
        rows.append({"file": f"f{index:02d}.png", "patient_id": str(index // 3)})
    write_table(folder / "table.csv", rows)
    splits = {}
    for pair in pairs_of(storage, run(storage, str(folder), train_share=0.5, validation_share=0.25)):
        splits.setdefault(pair.patient_id, set()).add(pair.split)
    assert len(splits) == 14
    assert all(len(found) == 1 for found in splits.values())
    assert len({next(iter(found)) for found in splits.values()}) == 3


def test_a_folder_with_a_table(tmp_path, storage):
    folder = tmp_path / "films"
    folder.mkdir()
    for index in range(5):
        write_picture(folder / f"f{index}.png", index)
    (folder / "sub").mkdir()
    (folder / "sub" / "chest.dcm").write_bytes(build_dicom(**uid(1)))
    (folder / "sub" / "hip.dcm").write_bytes(build_dicom(BodyPartExamined="HIP", **uid(2)))
    (folder / "sub" / "cut.dcm").write_bytes(build_dicom(**uid(3))[:-100])
    (folder / "nobody.dcm").write_bytes(build_dicom(gradient(30, 30), **{**uid(4), "PatientID": None}))
    (folder / "LICENSE.txt").write_text("not an input")
    write_table(
        folder / "reports.csv",
        [
            {"file": "f0.png", "patient_id": "a", "findings": "Left pleural effusion.", "view": "AP Supine"},
            {"file": "f1.png", "patient_id": "a", "findings": "", "view": "Lateral"},
            {"file": "f2.png", "patient_id": "b", "findings": "No pneumothorax.", "view": ""},
            {"file": "chest.dcm", "patient_id": "z", "findings": "Seen by Dr Quux on 01/02/2020.", "view": ""},
            {"file": "nobody.dcm", "patient_id": "c", "findings": "", "view": ""},
            {"file": "gone.png", "patient_id": "d", "findings": "The lungs are clear.", "view": ""},
            {"file": "gone2.png", "patient_id": "e", "findings": "", "view": ""},
        ],
    )
    summary = run(storage, str(folder))
    assert summary.num_inputs == 11
    assert summary.num_accepted == 8
    assert summary.reasons == {"BODY_PART.NOT_CHEST": 1, "PARSE.TRUNCATED": 1, "REPORT.NO_FILM": 1}
    assert summary.failure_rate == pytest.approx(2 / 10)
    assert not summary.is_over_limit
    pairs = pairs_of(storage, summary)
    site = "folder/films"
    by_text = {pair.report.findings: pair for pair in pairs}
    effusion = by_text["Left pleural effusion."]
    assert effusion.patient_id == PSEUDONYMS.patient("a", site)
    assert effusion.film.view_position is ViewPosition.AP
    assert effusion.labels == {"Pleural Effusion": 1, "No Finding": 0}
    assert effusion.label_source == "report"
    lateral = [pair for pair in pairs if pair.film and pair.film.view_position is ViewPosition.LATERAL]
    assert [pair.patient_id for pair in lateral] == [effusion.patient_id]
    masked = by_text["Seen by Dr <deid> on <deid>."]
    assert masked.patient_id == PSEUDONYMS.patient("P-1")
    assert by_text["The lungs are clear."].film is None
    assert PSEUDONYMS.patient("c", site) in {pair.patient_id for pair in pairs}
    assert all(set(pair.labels) <= set(LABELS) for pair in pairs)


def test_films_that_came_before_are_refused(tmp_path, storage):
    folder = tmp_path / "films"
    folder.mkdir()
    (folder / "a.dcm").write_bytes(build_dicom(**uid(1)))
    (folder / "b.dcm").write_bytes(build_dicom(**uid(2)))
    (folder / "c.dcm").write_bytes(build_dicom(gradient(44, 44), **uid(1)))
    summary = run(storage, str(folder))
    assert summary.reasons == {"DUPLICATE.PIXELS": 1, "IDENTITY.CONFLICT": 1}
    assert [pair.instance_id for pair in pairs_of(storage, summary)] == [PSEUDONYMS.instance("1.2.3.1")]


def test_case_notes_are_never_findings_and_groups_stay_together(tmp_path, storage):
    folder = tmp_path / "cases"
    folder.mkdir()
    rows = []
    for index in range(30):
        write_picture(folder / f"p{index}.png", index)
        rows.append(
            {
                "image": f"p{index}.png",
                "patientid": str(index),
                "case_group": str(index // 10),
                "view": "PA",
                "clinical_notes": "Fever since March. There is consolidation in the right lower lobe.",
            }
        )
    write_table(folder / "metadata.csv", rows)
    summary = run(storage, str(folder), train_share=0.4, validation_share=0.3)
    pairs = pairs_of(storage, summary)
    assert {pair.report.findings for pair in pairs} == {None}
    assert {pair.report.impression for pair in pairs} == {"There is consolidation in the right lower lobe."}
    assert all(pair.labels == {"Consolidation": 1, "No Finding": 0} for pair in pairs)
    groups = {PSEUDONYMS.patient(str(index), "folder/cases"): index // 10 for index in range(30)}
    splits = {}
    for pair in pairs:
        splits.setdefault(groups[pair.patient_id], set()).add(pair.split)
    assert all(len(found) == 1 for found in splits.values())


def test_openi_reports_are_rows_without_film(tmp_path, storage):
    folder = tmp_path / "openi"
    folder.mkdir()
    empty = {"indication": "", "findings": "", "impression": "", "mesh_major": "normal", "r2gen_split": ""}
    write_table(
        folder / "reports.csv",
        [
            {"uid": "1", **empty, "findings": "There are no XXXX of a pleural effusion.", "r2gen_split": "val"},
            {"uid": "2", **empty, "impression": "Borderline cardiomegaly.", "r2gen_split": "test"},
            {"uid": "3", **empty, "indication": "Cough."},
        ],
    )
    summary = run(storage, str(folder))
    assert summary.reasons == {"REPORT.EMPTY": 1}
    (validation,) = read_pairs(storage, summary.dataset, Split.VALIDATION)
    assert validation.report.findings == "There are no <deid> of a pleural effusion."
    assert validation.film is None
    assert validation.source == "openi"
    (test,) = read_pairs(storage, summary.dataset, Split.TEST)
    assert test.labels["Cardiomegaly"] is not None


def test_several_sources_become_one_dataset(tmp_path, cohort, storage):
    folder = tmp_path / "films"
    folder.mkdir()
    write_picture(folder / "a.png", 0)
    summary = run(storage, (f"phantom:{cohort}", f"folder:{folder}"))
    assert {pair.source for pair in pairs_of(storage, summary)} == {"phantom", "folder"}
    assert summary.num_accepted == 17


def test_nothing_of_a_person_leaves_ingest(tmp_path, storage, caplog):
    folder = tmp_path / "films"
    folder.mkdir()
    (folder / "CANARY^FILE.dcm").write_bytes(build_dicom(PatientID="CANARY-1", PatientName="Canary^Zebedee"))
    (folder / "CANARY^HIP.dcm").write_bytes(build_dicom(BodyPartExamined="CANARYHIP", PatientID="CANARY-2"))
    write_table(folder / "reports.csv", [{"file": "CANARY^FILE.dcm", "findings": "Mr Canary has an effusion."}])
    with caplog.at_level("DEBUG"):
        summary = run(storage, str(folder))
    assert summary.num_accepted == 1
    everything = [stored.key.encode() + storage.get(stored.key) for stored in storage.list_objects()]
    everything.append(caplog.text.encode())
    everything.append(repr(quarantine_of(storage, summary)).encode())
    assert all(b"canary" not in blob.lower() and b"zebedee" not in blob.lower() for blob in everything)
    (pair,) = pairs_of(storage, summary)
    assert pair.report.findings == "Mr <deid> has an effusion."
    (refused,) = quarantine_of(storage, summary)
    assert refused["key_hmac"] == PSEUDONYMS.object_key("CANARY^HIP.dcm", "folder/films")
    assert refused["reason"] == "BODY_PART.NOT_CHEST"


def test_an_ingest_that_accepts_nothing_says_why_in_the_quarantine(tmp_path, storage):
    folder = tmp_path / "films"
    folder.mkdir()
    (folder / "hip.dcm").write_bytes(build_dicom(BodyPartExamined="HIP"))
    with pytest.raises(CrrgError, match=r"none of 1 inputs was accepted: BODY_PART\.NOT_CHEST 1"):
        run(storage, str(folder))
    (record,) = storage.list_objects("quarantine")
    assert pq.read_table(io.BytesIO(storage.get(record.key))).column("reason").to_pylist() == ["BODY_PART.NOT_CHEST"]
    assert storage.list_objects("datasets") == []


def test_a_lost_input_fails_the_run(tmp_path, storage, monkeypatch):
    folder = tmp_path / "films"
    folder.mkdir()
    for index in range(3):
        write_picture(folder / f"{index}.png", index)

    def lose_one(items, size, _, **__):
        outcomes = decode_many(items, size, 0)
        next(outcomes)
        yield from outcomes

    monkeypatch.setattr(ingest_run, "decode_many", lose_one)
    with pytest.raises(CrrgError, match="an input is lost; nothing was committed"):
        run(storage, str(folder))
    assert not any(stored.key.endswith("_manifest.json") for stored in storage.list_objects("datasets"))


def test_a_film_that_goes_away_is_named_and_a_store_that_fails_is_not_hidden(tmp_path, storage, monkeypatch):
    folder = tmp_path / "films"
    folder.mkdir()
    for index in range(2):
        write_picture(folder / f"{index}.png", index)

    def lose_one(stored):
        if stored.key == "1.png":
            (folder / "1.png").unlink(missing_ok=True)

    before_reading(monkeypatch, lose_one)
    assert run(storage, str(folder)).reasons == {"CHANGED.GONE": 1}

    def fail(stored):
        if stored.key == "0.png":
            raise StorageError("away", stored.key, retryable=True)

    before_reading(monkeypatch, fail)
    with pytest.raises(StorageError, match="away") as raised:
        run(storage, str(folder), image_size=65)
    assert "0.png" not in str(raised.value)


def test_a_film_that_is_replaced_after_the_listing_is_named(tmp_path, storage, monkeypatch):
    folder = tmp_path / "films"
    folder.mkdir()
    for index in range(2):
        write_picture(folder / f"{index}.png", index)

    def replace_second(stored):
        if stored.key == "1.png":
            write_picture(folder / "1.png", 7)

    before_reading(monkeypatch, replace_second)
    assert run(storage, str(folder)).reasons == {"CHANGED.REPLACED": 1}
    monkeypatch.undo()
    assert run(storage, str(folder)).num_accepted == 2


def test_manifest_says_what_was_done(cohort, storage):
    summary = run(storage, cohort)
    manifest = read_manifest(storage, summary.dataset)
    assert manifest["image_size"] == 64
    assert manifest["schema_version"] == 1
    assert manifest["ingest"]["num_inputs"] == 16
    assert manifest["settings"]["pseudonym_key_id"] == PSEUDONYMS.key_id
    assert cohort not in str(manifest)


def test_the_form_refuses_what_makes_no_sense(storage, tmp_path):
    with pytest.raises(ValidationError):
        IngestConfig(source=())
    with pytest.raises(ValidationError):
        IngestConfig(source="x", train_share=0.9, validation_share=0.2)
    with pytest.raises(ConfigError):
        run(storage, str(tmp_path / "nothing"))


def test_no_ingest_begins_while_an_operator_wants_work_to_stop(storage, cohort):
    storage.put("control/STOP", b"")
    with pytest.raises(CrrgError, match="control/STOP: stopped by an operator, nothing was read; remove this object"):
        run(storage, cohort)
    assert [stored.key for stored in storage.list_objects()] == ["control/STOP"]


def test_an_ingest_ends_between_two_films_once_an_operator_wants_work_to_stop(storage, cohort, tmp_path, monkeypatch):
    def decode_some(items, size, _, **__):
        for number, outcome in enumerate(decode_many(items, size, 0)):
            if number == 5:
                storage.put("control/STOP", b"")
            yield outcome

    with monkeypatch.context() as patch:
        patch.setattr(stop, "LOOK_EVERY_S", 0.0)
        patch.setattr(ingest_run, "decode_many", decode_some)
        with pytest.raises(CrrgError, match="control/STOP: stopped by an operator, nothing of this pass is kept"):
            run(storage, cohort)
    assert not [stored.key for stored in storage.list_objects("datasets/x") if stored.key.endswith("manifest.json")]
    storage.delete("control/STOP")
    undisturbed = run(Storage(str(tmp_path / "undisturbed")), cohort)
    assert run(storage, cohort).dataset.version == undisturbed.dataset.version
