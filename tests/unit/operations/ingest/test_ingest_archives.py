"""Collections with labels but no reports through a whole ingest: every input is a row or has a reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crrg.config.data import IngestConfig
from crrg.data.dataset.pairs import read_pairs
from crrg.data.decoding.pool import decode_many
from crrg.domain.study import Split
from crrg.operations.ingest import run as ingest_run
from crrg.operations.ingest.ingest import ingest
from crrg.storage import Storage
from tests.support.dicom_builder import build_dicom, gradient
from tests.support.drawn_archives import PSEUDONYMS, write_picture, write_table

CHEXPERT_ROWS = [
    "x/train/patient00001/study1/view1_frontal.jpg,Male,50,Frontal,PA,,1.0,-1.0",
    "x/train/patient00002/study1/view1_frontal.jpg,Male,50,Frontal,PA,,0.0,",
    "x/train/patient00003/study1/view1_frontal.jpg,Male,50,Frontal,PA,1.0,,",
]


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    rsna, chexpert = tmp_path / "rsna", tmp_path / "chexpert"
    for shade, name in enumerate(("a", "b", "c")):
        write_picture(rsna / "stage_2_train_images" / f"{name}.png", 2 * shade)
    write_picture(rsna / "stage_2_train_images" / "a.jpg", 9)
    rows = ("a,1,2,3,4,1", "b,,,,,0", "c,5,5,5,5,0", "gone,,,,,0")
    write_table(rsna / "stage_2_train_labels.csv", "patientId,x,y,width,height,Target", *rows)
    for shade, row in enumerate(CHEXPERT_ROWS[:2]):
        write_picture(chexpert / row.split(",")[0].removeprefix("x/"), 20 + 2 * shade)
    header = "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Edema,Fracture"
    write_table(chexpert / "train.csv", header, *CHEXPERT_ROWS)
    return tmp_path


def test_films_without_reports_are_rows_with_labels(archives, monkeypatch):
    monkeypatch.setattr(ingest_run, "decode_many", lambda items, size, _, **__: decode_many(items, size, 0))
    storage = Storage(str(archives / "root"))
    sources = tuple(str(archives / name) for name in ("rsna", "chexpert"))
    form = IngestConfig(source=sources, dataset="labelled", image_size=64, num_workers=1, max_failure_rate=0.5)
    summary = ingest(form, storage, PSEUDONYMS)
    assert summary.reasons == {"DUPLICATE.FORM": 1, "INTEGRITY.LABELS": 1, "NO_PIXELS.NO_FILE": 2}
    assert (summary.num_inputs, summary.num_accepted) == (8, 4)
    pairs = {pair.study_id: pair for split in Split for pair in read_pairs(storage, summary.dataset, split)}
    assert {pair.source for pair in pairs.values()} == {"rsna", "chexpert"}
    assert all(pair.report.text == "" and pair.film is not None for pair in pairs.values())
    opacity = pairs[PSEUDONYMS.study("a", "rsna")]
    assert opacity.labels == {"Lung Opacity": 1, "Pneumonia": 1, "No Finding": 0}
    assert opacity.regions == ()
    uncertain = pairs[PSEUDONYMS.study("patient00001/study1", "chexpert")]
    assert uncertain.labels == {"Edema": 1, "Fracture": -1}
    assert uncertain.label_source == "chexpert"


def test_an_addendum_makes_a_new_version_and_reads_only_its_film_again(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(ingest_run, "decode_many", lambda items, size, _, **__: decode_many(items, size, 0))
    storage, folder = Storage(str(tmp_path / "root")), tmp_path / "archive"
    for number in range(3):
        uids = {"SOPInstanceUID": f"1.2.3.{number}", "StudyInstanceUID": f"1.2.{number}", "PatientID": f"P-{number}"}
        (folder / f"p{number}").mkdir(parents=True)
        data = build_dicom(gradient(40 + number, 50), **uids, AccessionNumber=f"A-{number}")
        (folder / f"p{number}" / "film").write_bytes(data)
    first = [f"A-{number},final,IMPRESSION: Text {number},P-{number}" for number in range(4)]
    write_table(folder / "ris.csv", "accession_number,status,report,patient_id", *first)
    form = IngestConfig(source=(str(folder),), dataset="ris", image_size=64, num_workers=1)
    earlier = ingest(form, storage, PSEUDONYMS)
    write_table(folder / "ris.csv", "accession_number,status,report,patient_id", *first, "A-1,addendum,A nodule.,")
    caplog.set_level("INFO")
    later = ingest(form, storage, PSEUDONYMS)
    assert "1 objects read" in caplog.text
    assert "A-1" not in caplog.text
    assert later.reasons == {}
    card = json.loads(storage.get(later.card_key))
    assert card["joins"] == {"films_without_text": 0, "texts_without_film": 1, "texts_without_findings": 4}
    for summary, text in ((earlier, "Text 1"), (later, "Text 1 A nodule.")):
        pairs = [pair for split in Split for pair in read_pairs(storage, summary.dataset, split)]
        impressions = {pair.study_id: pair.report.impression for pair in pairs}
        assert len(impressions) == 4
        assert impressions[PSEUDONYMS.study("1.2.1")] == text
