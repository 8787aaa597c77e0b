from __future__ import annotations

import io
import os
import shutil
import threading
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from crrg.config.base import Settings
from crrg.config.data import IngestConfig
from crrg.data.dataset.pairs import read_manifest, read_pairs
from crrg.data.dataset.staging import StagedRows
from crrg.data.decoding.pool import decode_many
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.domain.study import Split
from crrg.errors import DigestMismatch, StorageError
from crrg.operations.ingest import run as ingest_run
from crrg.operations.ingest import tracking as ingest_tracking
from crrg.operations.ingest.ingest import ingest
from crrg.operations.upkeep.backup import back_up
from crrg.storage import Storage
from tests.support.dicom_builder import build_dicom
from tests.support.keys import KEY
from tests.support.store_hooks import before_reading

PSEUDONYMS = Pseudonyms(KEY.encode())


@pytest.fixture(autouse=True)
def decode_in_this_process(monkeypatch):
    monkeypatch.setattr(ingest_run, "decode_many", lambda items, size, _, **__: decode_many(items, size, 0))


@pytest.fixture
def objects_read(monkeypatch) -> list[str]:
    """Names of the objects that are read, in order of reading."""
    names: list[str] = []
    before_reading(monkeypatch, lambda stored: names.append(stored.key))
    return names


@pytest.fixture
def storage(tmp_path) -> Storage:
    return Storage(str(tmp_path / "root"))


@pytest.fixture
def films(tmp_path) -> Path:
    """Eight films of eight patients with reports, one of them broken."""
    folder = tmp_path / "films"
    folder.mkdir()
    for index in range(8):
        write_film(folder, index)
    (folder / "broken.dcm").write_bytes(b"no film")
    write_reports(folder, dict.fromkeys(range(8), "No pneumothorax."))
    return folder


def picture(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(200, 3800, (12, 15)).astype(np.float32)
    return cv2.resize(coarse, (90, 72), interpolation=cv2.INTER_CUBIC).clip(0, 4095).astype(np.uint16)


def write_film(folder: Path, index: int, name: str = "", pixels: np.ndarray | None = None, **tags: str) -> Path:
    values = {"SOPInstanceUID": f"1.2.3.{index}", "StudyInstanceUID": f"1.2.{index}", "PatientID": f"P-{index}"}
    path = folder / (name or f"f{index:02d}.dcm")
    path.write_bytes(build_dicom(picture(index) if pixels is None else pixels, **{**values, **tags}))
    return path


def write_reports(folder: Path, findings: dict[int, str]) -> None:
    lines = [f'f{index:02d}.dcm,"{text}"' for index, text in findings.items()]
    (folder / "reports.csv").write_text("\n".join(["file,findings", *lines]) + "\n")


def run(storage: Storage, source: Path, **settings: object):
    form = {"dataset": "x", "image_size": 64, **settings}
    return ingest(IngestConfig(source=str(source), **form), storage, PSEUDONYMS)


def rows_of(storage: Storage, summary) -> dict[str, tuple[Split, str | None]]:
    return {
        pair.instance_id: (split, pair.report.findings)
        for split in Split
        for pair in read_pairs(storage, summary.dataset, split)
    }


def instance(index: int) -> str:
    return PSEUDONYMS.instance(f"1.2.3.{index}")


def test_a_second_ingest_reads_the_new_films_only(films, storage, tmp_path, objects_read):
    run(storage, films)
    assert len(objects_read) == 9
    objects_read.clear()
    for index in (20, 21, 22):
        write_film(films, index)
    second = run(storage, films)
    assert sorted(objects_read) == ["f20.dcm", "f21.dcm", "f22.dcm"]
    assert (second.num_inputs, second.num_accepted, second.reasons) == (12, 11, {"NOT_DICOM.MARK": 1})
    # and what it makes is what reading everything would have made, to the fingerprint
    assert run(Storage(str(tmp_path / "other")), films).dataset.version == second.dataset.version


def test_changed_and_removed_objects_are_followed(films, storage, objects_read):
    first = run(storage, films)
    objects_read.clear()
    write_film(films, 3, pixels=picture(33))
    (films / "f05.dcm").unlink()
    (films / "broken.dcm").unlink()
    write_reports(films, dict.fromkeys((0, 1, 2, 3, 4, 6, 7), "No pneumothorax."))
    second = run(storage, films)
    assert objects_read == ["f03.dcm"]
    assert (second.num_accepted, second.num_quarantined) == (7, 0)
    before, after = rows_of(storage, first), rows_of(storage, second)
    assert set(before) - set(after) == {instance(5)}
    digests = {
        ref.dataset.version: {
            p.instance_id: p.film.pixel_digest for s in Split for p in read_pairs(storage, ref.dataset, s) if p.film
        }
        for ref in (first, second)
    }
    changed = {
        name for name, digest in digests[second.dataset.version].items()
        if digests[first.dataset.version].get(name) != digest
    }  # fmt: skip
    assert changed == {instance(3)}


def test_a_changed_report_reads_its_film_alone(films, storage, objects_read):
    run(storage, films)
    objects_read.clear()
    write_reports(films, {**dict.fromkeys(range(8), "No pneumothorax."), 2: "Left pleural effusion."})
    second = run(storage, films)
    assert objects_read == ["f02.dcm"]
    assert rows_of(storage, second)[instance(2)][1] == "Left pleural effusion."


def test_another_split_needs_no_reading_and_another_size_needs_all(films, storage, objects_read):
    first = run(storage, films, train_share=1.0, validation_share=0.0)
    objects_read.clear()
    second = run(storage, films, train_share=0.0, validation_share=0.0)
    assert objects_read == []
    assert {split for split, _ in rows_of(storage, second).values()} == {Split.TEST}
    assert rows_of(storage, first).keys() == rows_of(storage, second).keys()
    run(storage, films, image_size=65)
    assert len(objects_read) == 9


def test_rows_that_are_lost_are_read_again(films, storage, objects_read):
    first = run(storage, films)
    for entry in read_manifest(storage, first.dataset)["files"]:
        storage.put(entry["key"], b"damaged")
    objects_read.clear()
    write_film(films, 20)
    second = run(storage, films)
    assert second.num_accepted == 9
    assert len(set(objects_read)) == 10


def test_a_failed_ingest_leaves_no_thread_to_the_garbage_collector(films, storage, monkeypatch):
    rows = iter(range(3))

    def add(_self, _pair):
        if next(rows, None) is None:
            raise StorageError("the disk is full", "a part")

    monkeypatch.setattr(StagedRows, "add", add)
    # the error's traceback keeps every frame alive, as a reference cycle would
    with pytest.raises(StorageError) as failed:
        run(storage, films)
    left = [thread for thread in threading.enumerate() if thread.name.startswith("crrg-")]
    for thread in left:
        thread.join(5)
    assert [thread.name for thread in left if thread.is_alive()] == []
    assert failed.traceback


def test_the_oldest_of_equal_films_counts_whatever_its_name(films, storage):
    set_age(films / "f00.dcm", 100)
    resent = write_film(films, 0, "a-later-copy.dcm", SOPInstanceUID="1.2.3.77")
    set_age(resent, 50)
    conflict = write_film(films, 1, "a-conflict.dcm", pixels=picture(99))
    set_age(conflict, 50)
    set_age(films / "f01.dcm", 100)
    summary = run(storage, films)
    assert summary.reasons == {"DUPLICATE.PIXELS": 1, "IDENTITY.CONFLICT": 1, "NOT_DICOM.MARK": 1}
    refused = pq.read_table(io.BytesIO(storage.get(summary.quarantine_key))).to_pylist()
    names = {row["reason"]: row["key_hmac"] for row in refused}
    assert names["DUPLICATE.PIXELS"] == PSEUDONYMS.object_key("a-later-copy.dcm", "folder/films")
    assert names["IDENTITY.CONFLICT"] == PSEUDONYMS.object_key("a-conflict.dcm", "folder/films")


def test_a_copy_counts_once_the_first_is_gone(films, storage, tmp_path, objects_read):
    set_age(films / "f00.dcm", 100)
    set_age(write_film(films, 0, "copy.dcm", SOPInstanceUID="1.2.3.77"), 50)
    assert instance(77) not in rows_of(storage, run(storage, films))
    objects_read.clear()
    write_film(films, 20)
    assert instance(77) not in rows_of(storage, run(storage, films))
    assert objects_read == ["f20.dcm"]
    objects_read.clear()
    (films / "f00.dcm").unlink()
    third = run(storage, films)
    assert objects_read == ["copy.dcm"]
    assert instance(77) in rows_of(storage, third)
    assert run(Storage(str(tmp_path / "other")), films).dataset.version == third.dataset.version


def test_an_older_copy_that_turns_up_is_judged_afresh(films, storage, objects_read):
    set_age(films / "f00.dcm", 100)
    set_age(write_film(films, 0, "copy.dcm", SOPInstanceUID="1.2.3.77"), 50)
    run(storage, films)
    # the same bytes under the same mark, but the store says now that the copy is the older one
    set_age(write_film(films, 0, "oldest.dcm", SOPInstanceUID="1.2.3.78"), 500)
    second = run(storage, films)
    rows = rows_of(storage, second)
    assert instance(78) in rows
    assert not {instance(0), instance(77)} & set(rows)
    assert second.reasons["DUPLICATE.PIXELS"] == 2


def test_the_same_exposure_of_two_patients_stays_in_one_split(films, storage):
    brighter = (picture(0) * 0.8 + 100).astype(np.uint16)
    patients = [f"Q-{number}" for number in range(6)]
    for number, patient in enumerate(patients):
        pixels = cv2.resize(brighter, (90 + 6 * number, 72 + 5 * number), interpolation=cv2.INTER_AREA)
        write_film(films, 50 + number, pixels=pixels, PatientID=patient)
    summary = run(storage, films, train_share=0.34, validation_share=0.33)
    rows = rows_of(storage, summary)
    copies = {rows[instance(index)][0] for index in (0, *range(50, 56))}
    assert len(copies) == 1
    leaks = read_manifest(storage, summary.dataset)["ingest"]["leaks"]
    assert leaks["near_duplicate_pairs"] == 6
    assert leaks["groups_across_splits"] == 1
    assert leaks["rows_moved"] > 0
    assert len({rows[instance(index)][0] for index in range(8)}) > 1


def test_every_version_has_its_card(films, storage):
    summary = run(storage, films, train_share=1.0, validation_share=0.0)
    card = storage.get_json(summary.card_key)
    assert card["splits"]["train"] == {"rows": 8, "patients": 8, "studies": 8}
    assert (card["num_inputs"], card["num_accepted"], card["reasons"]) == (9, 8, {"NOT_DICOM.MARK": 1})
    assert card["view_positions"] == {"PA": 8}
    # all films are of one age; their headers say neither sex nor maker
    assert (card["age_bands"], card["sexes"]) == ({"60-79": 8, "unknown": 0}, {"unknown": 8})
    assert card["labels"]["Pneumothorax"] == {
        "positive": 0, "negative": 8, "uncertain": 0, "unmentioned": 0, "share_positive": 0.0
    }  # fmt: skip
    # "No pneumothorax." has two words
    assert card["words"]["findings"] == {"0": 0, "1": 8, "10": 0, "25": 0, "50": 0, "100": 0, "200": 0, "400": 0}
    folder = summary.card_key.rpartition("/")[0]
    text = storage.get(f"{folder}/card.md").decode()
    assert "| train | 8 | 8 | 8 |" in text
    assert "| 60-79 | 8 |" in text
    assert "pneumothorax." not in text.lower()
    sheet = cv2.imdecode(np.frombuffer(storage.get(f"{folder}/samples.png"), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert sheet.shape == (320, 960)
    named = {entry["key"]: entry["sha256"] for entry in read_manifest(storage, summary.dataset)["ingest"]["card"]}
    assert named == {
        f"{folder}/{name}": storage.sha256(f"{folder}/{name}") for name in ("card.json", "card.md", "samples.png")
    }


def test_a_new_version_is_a_tracked_run(films, storage, monkeypatch):
    logged: dict[str, object] = {}

    class Tracker:
        def log_params(self, params):
            logged.update(params)

        def log_metrics(self, metrics):
            logged.update(metrics)

        def log_text(self, name, text):
            logged[name] = text

        def log_picture(self, name, png):
            logged[name] = png

    class Opened:
        def __init__(self, settings, storage, experiment, run_name, tags):
            logged.update(tags, experiment=experiment)

        def __enter__(self):
            return Tracker()

        def __exit__(self, *_):
            return False

    monkeypatch.setattr(ingest_tracking, "open_tracker", Opened)
    form = IngestConfig(source=str(films), dataset="x", image_size=64)
    settings = Settings(root=storage.root)
    summary = ingest(form, storage, PSEUDONYMS, tracked_by=settings)
    assert logged["experiment"] == "ingest"
    assert logged["dataset_version"] == summary.dataset.version
    assert logged["ingest/num_accepted"] == 8
    assert logged["ingest/rows_moved"] == 0
    assert logged["refused/NOT_DICOM.MARK"] == 1
    assert logged["prevalence/Pneumothorax"] == 0
    assert {name for name in logged if name.startswith("card/")} == {
        f"card/{name}" for name in ("card.json", "card.md", "samples.png")
    }
    logged.clear()
    assert ingest(form, storage, PSEUDONYMS, tracked_by=settings).reused
    assert logged == {}


def test_the_same_rows_from_another_archive_are_the_same_version(films, storage, tmp_path):
    first = run(storage, films)
    shutil.copytree(films, tmp_path / "more" / "films")
    (tmp_path / "more" / "films" / "zz.dcm").write_bytes(b"no film either")
    second = run(storage, tmp_path / "more" / "films")
    assert second.dataset.version == first.dataset.version
    assert (first.num_quarantined, second.num_quarantined) == (1, 2)
    assert len(pq.read_table(io.BytesIO(storage.get(second.quarantine_key)))) == 2
    assert run(storage, tmp_path / "more" / "films").reused


def set_age(path: Path, age_s: int) -> None:
    os.utime(path, (1_700_000_000 - age_s, 1_700_000_000 - age_s))


def test_a_damaged_quarantine_is_not_backed_up(films, storage, tmp_path):
    summary = run(storage, films)
    back_up(storage, str(tmp_path / "copy"))
    storage.put(summary.quarantine_key, b"damaged")
    with pytest.raises(DigestMismatch):
        back_up(storage, str(tmp_path / "other"))
