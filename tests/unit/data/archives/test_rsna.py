"""The challenge's layout and its oddities, one test each; films are drawn, identifiers are invented."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydicom.uid import JPEGBaseline8Bit

from crrg.data.archives.rsna import RsnaSource
from crrg.data.archives.source_kinds import detect_kind
from crrg.domain.source_kind import SourceKind
from crrg.domain.study import ViewPosition
from crrg.errors import DataError
from crrg.storage import Storage
from tests.support.dicom_builder import SECONDARY_CAPTURE, build_dicom
from tests.support.drawn_archives import (
    PSEUDONYMS,
    build_pair,
    drawn_pixels,
    items_by_name,
    jpeg_bytes,
    write_picture,
    write_table,
)

pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR AS")
FILMS = "stage_2_train_images"
NORMAL, OTHER, OPACITY = (f"{index:08d}-aaaa-4bbb-8ccc-000000000000" for index in range(3))
CLASSES = {NORMAL: "Normal", OTHER: "No Lung Opacity / Not Normal", OPACITY: "Lung Opacity"}
BOXES = [f"{NORMAL},,,,,0", f"{OTHER},,,,,0", f"{OPACITY},10.0,5.0,8.0,20.0,1", f"{OPACITY},30.0,6.0,9.0,21.0,1"]
LABELS_HEADER, CLASSES_HEADER = "patientId,x,y,width,height,Target", "patientId,class"


def challenge_dicom(patient_id: str, index: int) -> bytes:
    """A file as the challenge's converter wrote them: secondary capture, made-up UIDs, an age without a unit."""
    root = "1.2.276.0.7230010.3.1"
    return build_dicom(
        drawn_pixels(index),
        codestream=jpeg_bytes(index),
        syntax=JPEGBaseline8Bit,
        SOPClassUID=SECONDARY_CAPTURE,
        SOPInstanceUID=f"{root}.4.8323329.{1000 + index}.1517874290.22915",
        StudyInstanceUID=f"{root}.2.8323329.{1000 + index}.1517874290.22914",
        PatientID=patient_id,
        PatientName=patient_id,
        PatientAge="51",
        ConversionType="WSD",
        SeriesDescription="view: AP",
        ViewPosition="AP",
        PixelSpacing=[0.143, 0.143],
        LossyImageCompression="01",
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / FILMS).mkdir()
    (tmp_path / "stage_2_test_images").mkdir()
    for index, patient_id in enumerate(CLASSES):
        (tmp_path / FILMS / f"{patient_id}.dcm").write_bytes(challenge_dicom(patient_id, index))
    (tmp_path / "stage_2_test_images" / "99999999-aaaa-4bbb-8ccc-000000000000.dcm").write_bytes(b"not read")
    write_table(tmp_path / "stage_2_train_labels.csv", LABELS_HEADER, *BOXES)
    classes = [f"{name},{CLASSES[name]}" for name in (NORMAL, OTHER, OPACITY, OPACITY)]
    write_table(tmp_path / "stage_2_detailed_class_info.csv", CLASSES_HEADER, *classes)
    write_table(tmp_path / "stage_2_sample_submission.csv", "patientId,PredictionString")
    (tmp_path / "GCP Credits Request Link - RSNA.txt").write_text("not an input")
    return tmp_path


def source_of(root: Path) -> RsnaSource:
    return RsnaSource(Storage(str(root)))


def item_of(root: Path, patient_id: str):
    return items_by_name(source_of(root))[f"{FILMS}/{patient_id}.dcm"]


def test_the_challenge_is_recognised_by_its_table(root):
    storage = Storage(str(root))
    assert detect_kind(storage, storage.list_folder()) is SourceKind.RSNA


def test_films_of_the_test_stage_are_no_input(root):
    assert len(items_by_name(source_of(root))) == 3
    assert not any("test" in stored.key for stored in source_of(root).inventory())


def test_several_boxes_of_a_film_are_one_input_with_one_judgement(root):
    item = item_of(root, OPACITY)
    assert item.labels == {"Lung Opacity": 1, "Pneumonia": 1, "No Finding": 0}, "the target is positive with a box"
    assert item.label_source == "radiologist"


def test_a_box_of_an_opacity_is_never_a_region(root):
    assert all(item.regions == () for item in source_of(root).items())


def test_a_row_without_box_is_a_negative_judgement(root):
    assert item_of(root, NORMAL).labels == {"Lung Opacity": 0, "Pneumonia": 0, "No Finding": 1}


def test_abnormal_without_opacity_is_neither_normal_nor_free_of_every_opacity(root):
    labels = item_of(root, OTHER).labels
    assert labels == {"Pneumonia": 0, "No Finding": 0}
    assert "Lung Opacity" not in labels


def test_a_target_alone_does_not_tell_normal_from_abnormal(root):
    (root / "stage_2_detailed_class_info.csv").unlink()
    assert item_of(root, NORMAL).labels == item_of(root, OTHER).labels == {"Pneumonia": 0}
    assert item_of(root, OPACITY).labels["Lung Opacity"] == 1


def test_targets_written_as_numbers_with_a_point_are_the_same(root):
    rows = [f"{row}.0" for row in BOXES]
    write_table(root / "stage_2_train_labels.csv", LABELS_HEADER, *rows)
    assert item_of(root, OPACITY).labels["Lung Opacity"] == 1


@pytest.mark.parametrize(
    "rows",
    [
        [f"{NORMAL},,,,,0", f"{NORMAL},,,,,1"],
        [f"{NORMAL},1,2,3,4,0"],
        [f"{NORMAL},,,,,1"],
        [f"{NORMAL},,,,,7"],
    ],
    ids=["both targets", "box of a negative", "class says normal", "no such target"],
)
def test_tables_that_contradict_each_other_refuse_the_film(root, rows):
    write_table(root / "stage_2_train_labels.csv", LABELS_HEADER, *rows)
    problem = item_of(root, NORMAL).problem
    assert problem is not None
    assert problem.code == "INTEGRITY.LABELS"
    assert NORMAL not in str(problem)


def test_a_labelled_film_that_is_not_there_is_named(root):
    (root / FILMS / f"{OTHER}.dcm").unlink()
    missing = [item for item in source_of(root).items() if item.film is None]
    assert [item.problem.code for item in missing if item.problem] == ["NO_PIXELS.NO_FILE"]


def test_a_film_without_a_row_has_no_labels(root):
    write_picture(root / FILMS / "unknown.png")
    item = items_by_name(source_of(root))[f"{FILMS}/unknown.png"]
    assert item.labels == {}
    assert item.label_source == ""


def test_the_picture_made_of_a_dicom_film_is_no_second_film(root):
    write_picture(root / FILMS / f"{OPACITY}.png", 2)
    items = items_by_name(source_of(root))
    assert items[f"{FILMS}/{OPACITY}.dcm"].problem is None
    assert items[f"{FILMS}/{OPACITY}.png"].problem.code == "DUPLICATE.FORM"


def test_films_turned_into_png_are_found_by_their_stem(root):
    (root / FILMS / f"{OPACITY}.dcm").unlink()
    write_picture(root / FILMS / f"{OPACITY}.png")
    assert items_by_name(source_of(root))[f"{FILMS}/{OPACITY}.png"].labels["Lung Opacity"] == 1


def test_a_converted_file_with_made_up_uids_is_a_film_with_its_view(root):
    source = source_of(root)
    pair = build_pair(source, item_of(root, OPACITY))
    assert pair.film is not None
    assert pair.film.view_position is ViewPosition.AP
    assert not pair.film.polarity_inverted
    assert (pair.film.original_width, pair.film.original_height) == (50, 40)
    assert pair.patient_id == PSEUDONYMS.patient(OPACITY, "rsna")
    assert pair.study_id == PSEUDONYMS.study(OPACITY, "rsna")
    assert pair.report.text == ""
    assert pair.label_source == "radiologist"


def test_films_of_one_person_are_joined_by_the_list_of_names(root):
    entries = [
        {"subset_img_id": NORMAL, "img_id": "00000013_005.png", "StudyInstanceUID": "1.2", "orig_labels": []},
        {"subset_img_id": OPACITY, "img_id": "00000013_011.png", "StudyInstanceUID": "1.3", "orig_labels": []},
        {"subset_img_id": OTHER, "img_id": "00000021_000.png", "StudyInstanceUID": "1.4", "orig_labels": []},
    ]
    alone = {name: build_pair(source_of(root), item_of(root, name)) for name in CLASSES}
    assert len({pair.patient_id for pair in alone.values()}) == 3
    (root / "pneumonia-challenge-dataset-mappings_2018.json").write_text(json.dumps(entries))
    joined = {name: build_pair(source_of(root), item_of(root, name)) for name in CLASSES}
    assert joined[NORMAL].patient_id == joined[OPACITY].patient_id != joined[OTHER].patient_id
    assert joined[NORMAL].split is joined[OPACITY].split
    assert len({pair.study_id for pair in joined.values()}) == 3


def test_a_damaged_list_of_names_stops_the_archive(root):
    (root / "pneumonia-challenge-dataset-mappings_2018.json").write_text('[{"subset_img_id": "a"}]')
    with pytest.raises(DataError) as caught:
        list(source_of(root).items())
    assert caught.value.code == "PARSE.TABLE"
