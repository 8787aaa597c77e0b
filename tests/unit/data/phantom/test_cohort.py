"""The written cohort: layout, legal DICOM, scene graphs, the same bytes every time."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pydicom
import pytest

from crrg.data.phantom.cohort import REPORT_COLUMNS, TRUTH_SCHEMA, drawn_study, write_cohort
from crrg.data.phantom.dicom_writer import drawn_ids
from crrg.data.phantom.painter import paint
from crrg.data.phantom.sampler import sample_scene
from crrg.domain.labels import LABEL_COLUMNS, LABELS
from crrg.domain.regions import REGIONS
from crrg.errors import ConfigError
from crrg.operations.phantom import draw_phantom
from crrg.progress import listening

SEED, NUM, SIZE = 9, 24, 64


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    assert write_cohort(folder, NUM, SEED, SIZE) == NUM
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_layout_is_the_documented_one(root: Path):
    keys = files_of(root)
    assert {"reports.csv", "truth.parquet"} <= keys.keys()
    truth = pq.read_table(root / "truth.parquet").to_pylist()
    assert len(truth) == NUM
    for row in truth:
        assert row["file"] == f"dicom/{row['patient_id']}/{row['instance_id']}.dcm"
        assert row["file"] in keys
        assert f"scene_graphs/{row['instance_id']}_SceneGraph.json" in keys
    assert len(keys) == 2 * NUM + 2


def test_two_processes_write_the_bytes_of_one(root: Path, tmp_path: Path):
    write_cohort(tmp_path, NUM, SEED, SIZE, workers=2)
    assert files_of(tmp_path) == files_of(root)


def test_a_study_does_not_depend_on_where_the_cohort_starts(root: Path, tmp_path: Path):
    write_cohort(tmp_path, 4, SEED, SIZE, start=8)
    whole = files_of(root)
    part = {key: data for key, data in files_of(tmp_path).items() if "/" in key}
    assert len(part) == 8
    assert all(whole[key] == data for key, data in part.items())


def test_dicom_is_legal_and_holds_the_painted_values(root: Path):
    for row in pq.read_table(root / "truth.parquet").to_pylist():
        dataset = pydicom.dcmread(root / row["file"])
        scene = sample_scene(SEED, row["index"])
        film = paint(scene, SEED, SIZE)
        assert dataset.Modality in ("DX", "CR")
        assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID == row["instance_id"]
        assert dataset.StudyInstanceUID == row["study_id"]
        assert dataset.PatientID == row["patient_id"]
        assert (dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit) == (16, 12, 11)
        assert dataset.PhotometricInterpretation == film.photometric == row["photometric"]
        assert dataset.ViewPosition == scene.view_position.value == row["view_position"]
        assert dataset.BodyPartExamined == "CHEST"
        assert dataset.BurnedInAnnotation == "NO"
        assert float(dataset.PixelSpacing[0]) == pytest.approx(film.pixel_spacing_mm, abs=1e-5)
        assert dataset.PatientAge == f"{scene.age_years:03d}Y"
        assert all(len(uid) <= 64 for uid in (row["instance_id"], row["study_id"]))
        np.testing.assert_array_equal(dataset.pixel_array, film.pixels)


def test_some_files_are_implicit_some_computed_radiography():
    from crrg.data.phantom.dicom_writer import write_dicom

    film = paint(sample_scene(SEED, 0), SEED, 32)
    seen = set()
    for index in range(60):
        scene = sample_scene(SEED, index)
        data = write_dicom(film, scene, drawn_ids(scene, SEED), SEED)
        dataset = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
        seen.add((dataset.Modality, dataset.file_meta.TransferSyntaxUID.is_implicit_VR))
    assert {("DX", False), ("CR", False), ("DX", True)} <= seen


def test_truth_holds_exact_labels_boxes_and_findings(root: Path):
    table = pq.read_table(root / "truth.parquet")
    assert table.schema.equals(TRUTH_SCHEMA)
    for row in table.to_pylist():
        study = drawn_study(SEED, row["index"])
        assert [row[name] for name in LABEL_COLUMNS] == [study.scene.labels[label] for label in LABELS]
        assert [found["kind"] for found in row["drawn_findings"]] == [found.kind for found in study.scene.findings]
        assert [entry["region"] for entry in row["regions"]] == list(REGIONS)
        boxes = paint(study.scene, SEED, SIZE).boxes
        for entry in row["regions"]:
            assert tuple(entry["box_xyxy"]) == boxes[entry["region"]]
            assert entry["phrase"] == study.report.phrases.get(entry["region"])
            assert entry["is_abnormal"] == (entry["region"] in study.report.abnormal_regions)


def test_reports_name_the_studies_of_the_truth(root: Path):
    rows = list(csv.DictReader(io.StringIO((root / "reports.csv").read_text())))
    truth = pq.read_table(root / "truth.parquet").to_pylist()
    assert tuple(rows[0]) == REPORT_COLUMNS
    keys = ("patient_id", "study_id", "instance_id")
    assert [[row[key] for key in keys] for row in rows] == [[row[key] for key in keys] for row in truth]
    assert [row["findings"] for row in rows] == [drawn_study(SEED, row["index"]).report.findings for row in truth]


def test_scene_graph_has_the_published_fields(root: Path):
    for row in pq.read_table(root / "truth.parquet").to_pylist()[:8]:
        graph = json.loads((root / f"scene_graphs/{row['instance_id']}_SceneGraph.json").read_text())
        assert graph["image_id"] == row["instance_id"]
        assert [entry["bbox_name"] for entry in graph["objects"]] == list(REGIONS)
        for entry, region in zip(graph["objects"], row["regions"], strict=True):
            corners = [entry[f"original_{name}"] for name in ("x1", "y1", "x2", "y2")]
            np.testing.assert_allclose(corners, region["box_xyxy"], atol=1e-3)
            assert -1e-6 <= entry["x1"] < entry["x2"] <= 224.001
        phrased = {entry["region"]: entry for entry in row["regions"] if entry["phrase"]}
        assert {entry["bbox_name"] for entry in graph["attributes"]} == phrased.keys()
        for entry in graph["attributes"]:
            assert " ".join(entry["phrases"]) == phrased[entry["bbox_name"]]["phrase"]
            is_abnormal = any("nlp|yes|abnormal" in names for names in entry["attributes"])
            assert is_abnormal == phrased[entry["bbox_name"]]["is_abnormal"]
            assert is_abnormal != any("nlp|yes|normal" in names for names in entry["attributes"])
            assert len(entry["phrases"]) == len(entry["attributes"]) == len(entry["phrase_IDs"])


def test_progress_ends_at_the_number_of_studies(tmp_path: Path):
    seen: list[tuple[int, int]] = []
    with listening(lambda progress: seen.append((progress.num_done, progress.total))):
        assert draw_phantom(str(tmp_path), 18, 1, 32) == 18
    assert seen == [(16, 18), (18, 18)]


def test_empty_cohort_has_its_two_tables(tmp_path: Path):
    assert draw_phantom(str(tmp_path), 0, 1, 32) == 0
    assert pq.read_table(tmp_path / "truth.parquet").num_rows == 0
    assert (tmp_path / "reports.csv").read_text() == ",".join(REPORT_COLUMNS) + "\n"


@pytest.mark.parametrize("wrong", [{"num_studies": -1}, {"seed": -1}, {"size": 8}, {"reports": "no/such/table.csv"}])
def test_wrong_settings_are_refused(tmp_path: Path, wrong: dict):
    with pytest.raises(ConfigError):
        draw_phantom(str(tmp_path), **({"num_studies": 1, "seed": 1, "size": 32} | wrong))
