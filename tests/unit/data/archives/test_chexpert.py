"""The release's layout and its oddities, one test each; films are drawn, patients are invented."""

from __future__ import annotations

from pathlib import Path

import pytest

from crrg.data.archives.chexpert import ChexpertSource
from crrg.data.archives.source_kinds import detect_kind
from crrg.domain.labels import LABELS
from crrg.domain.source_kind import SourceKind
from crrg.domain.study import Split, ViewPosition
from crrg.storage import Storage
from tests.support.drawn_archives import PSEUDONYMS, build_pair, items_by_name, write_picture, write_table

# the release's own order of the labels, which is not ours
NAMES = (
    "No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,"
    "Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices"
)
HEADER = f"Path,Sex,Age,Frontal/Lateral,AP/PA,{NAMES}"
SMALL = "CheXpert-v1.0-small"
FIRST, SECOND, LATERAL = (
    "patient00001/study1/view1_frontal",
    "patient00002/study1/view1_frontal",
    "patient00001/study1/view2_lateral",
)
TRAIN_ROWS = [
    f"{SMALL}/train/{FIRST}.jpg,Female,68,Frontal,AP,,,-1.0,,,,0.0,,,,1.0,,,",
    f"{SMALL}/train/{LATERAL}.jpg,Female,68,Lateral,,,,-1.0,,,,0.0,,,,1.0,,,",
    f"{SMALL}/train/{SECOND}.jpg,Unknown,0,Frontal,PA,1.0,,,,,,,,,,,,,1.0",
]
VALID = "patient64541/study1/view1_frontal"
VALID_ROW = f"{SMALL}/valid/{VALID}.jpg,Male,73,Frontal,AP," + ",".join(
    "1.0" if name in ("Edema", "Lung Opacity") else "0.0" for name in NAMES.split(",")
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for shade, name in enumerate((FIRST, LATERAL, SECOND)):
        write_picture(tmp_path / "train" / f"{name}.jpg", shade)
    write_picture(tmp_path / "valid" / f"{VALID}.jpg", 9)
    write_table(tmp_path / "train.csv", HEADER, *TRAIN_ROWS)
    write_table(tmp_path / "valid.csv", HEADER, VALID_ROW)
    return tmp_path


def source_of(root: Path) -> ChexpertSource:
    return ChexpertSource(Storage(str(root)))


def item_of(root: Path, tail: str):
    return next(item for item in source_of(root).items() if item.instance_id == tail)


def test_the_release_is_recognised_by_its_tables(root):
    storage = Storage(str(root))
    assert detect_kind(storage, storage.list_folder()) is SourceKind.CHEXPERT


def test_a_folder_of_the_release_inside_the_root_is_recognised(tmp_path):
    write_table(tmp_path / "CheXpert-v1.0 batch 1 (validate & csv)" / "valid.csv", HEADER, VALID_ROW)
    storage = Storage(str(tmp_path))
    assert detect_kind(storage, storage.list_folder()) is SourceKind.CHEXPERT


def test_any_other_train_table_is_not_the_release(tmp_path):
    write_table(tmp_path / "train.csv", "file,No Finding", "a.png,1")
    assert not ChexpertSource.recognises(Storage(str(tmp_path)), ["train.csv"])


def test_paths_of_the_table_begin_with_another_folder_than_the_tree(tmp_path):
    write_picture(tmp_path / "CheXpert-v1.0 batch 2 (train 1)" / f"{FIRST}.jpg")
    write_table(tmp_path / "CheXpert-v1.0 batch 1 (validate & csv)" / "train.csv", HEADER, TRAIN_ROWS[0])
    (item,) = source_of(tmp_path).items()
    assert item.film is not None
    assert item.labels["Pleural Effusion"] == 1


def test_uncertain_stays_uncertain_and_blank_is_unmentioned(root):
    assert item_of(root, FIRST).labels == {"Cardiomegaly": -1, "Consolidation": 0, "Pleural Effusion": 1}


def test_the_release_orders_its_labels_in_its_own_way(root):
    labels = item_of(root, VALID).labels
    assert [name for name in LABELS if labels[name] == 1] == ["Lung Opacity", "Edema"]


def test_validation_has_a_value_for_every_label_and_none_uncertain(root):
    item = item_of(root, VALID)
    assert set(item.labels) == set(LABELS)
    assert set(item.labels.values()) == {0, 1}
    assert item.label_source == "radiologist"
    assert item_of(root, FIRST).label_source == "chexpert"


def test_airspace_opacity_is_lung_opacity(root):
    header = f"Path,{NAMES}".replace("Lung Opacity", "Airspace Opacity")
    write_table(root / "test_labels.csv", header, "test/patient64741/study1/view1_frontal.jpg,0,0,0,1" + ",0" * 10)
    write_picture(root / "test" / "patient64741" / "study1" / "view1_frontal.jpg", 20)
    item = item_of(root, "patient64741/study1/view1_frontal")
    assert item.labels["Lung Opacity"] == 1
    assert item.labels["Pleural Other"] == 0
    assert item.split is Split.TEST
    # the table of the test films has no column of the projection
    assert item.view_position is ViewPosition.UNKNOWN


def test_lateral_films_share_the_labels_of_their_study_and_are_marked(root):
    frontal, lateral = item_of(root, FIRST), item_of(root, LATERAL)
    assert lateral.view_position is ViewPosition.LATERAL
    assert not lateral.view_position.is_frontal
    assert frontal.view_position is ViewPosition.AP
    assert frontal.labels == lateral.labels
    assert frontal.study_id == lateral.study_id


@pytest.mark.parametrize(
    ("columns", "view"),
    [
        ("Frontal,PA", ViewPosition.PA),
        ("Frontal,LL", ViewPosition.UNKNOWN),
        ("Frontal,", ViewPosition.UNKNOWN),
        ("Lateral,LL", ViewPosition.LL),
        ("Lateral,RL", ViewPosition.LATERAL),
        ("Lateral,PA", ViewPosition.LATERAL),
    ],
)
def test_the_side_column_decides_where_the_columns_contradict(root, columns, view):
    write_table(root / "train.csv", HEADER, f"{SMALL}/train/{FIRST}.jpg,Male,50,{columns}" + "," * 14)
    assert item_of(root, FIRST).view_position is view


def test_unknown_sex_and_age_zero_refuse_nothing(root):
    pair = build_pair(source_of(root), item_of(root, SECOND))
    assert pair.labels == {"No Finding": 1, "Support Devices": 1}
    assert pair.film is not None
    assert "paediatric" not in pair.film.flags


def test_patients_are_named_in_the_path_and_studies_only_within_a_patient(root):
    first, second = (build_pair(source_of(root), item_of(root, name)) for name in (FIRST, SECOND))
    assert first.patient_id == PSEUDONYMS.patient("patient00001", "chexpert")
    assert first.patient_id != second.patient_id
    # both paths say study1
    assert first.study_id != second.study_id


def test_the_published_split_is_kept(root):
    assert [item_of(root, name).split for name in (FIRST, SECOND, VALID)] == [
        Split.TRAIN,
        Split.TRAIN,
        Split.VALIDATION,
    ]


def test_patients_of_the_5x200_list_are_the_test_split(root):
    write_table(root / "chexpert_5x200.csv", "Path,Edema", f"CheXpert-v1.0/train/{FIRST}.jpg,1")
    assert item_of(root, FIRST).split is item_of(root, LATERAL).split is Split.TEST
    assert item_of(root, SECOND).split is Split.TRAIN
    assert item_of(root, FIRST).label_source == "chexpert"


def test_a_row_whose_film_was_not_downloaded_is_named(root):
    (root / "train" / f"{SECOND}.jpg").unlink()
    problem = item_of(root, SECOND).problem
    assert problem is not None
    assert problem.code == "NO_PIXELS.NO_FILE"
    assert "patient00002" not in str(problem)


def test_a_row_without_path_is_named_and_a_film_named_twice_counts_once(root):
    write_table(root / "train.csv", HEADER, TRAIN_ROWS[0], TRAIN_ROWS[0], "," * 18)
    items = items_by_name(source_of(root))
    assert items["train.csv row 2"].problem.code == "PARSE.TABLE_ROW"
    assert sum(item.instance_id == FIRST for item in items.values()) == 1


def test_a_film_that_no_table_names_is_kept_without_labels(root):
    write_picture(root / "train" / "patient00003" / "study4" / "view1_lateral.jpg", 30)
    item = item_of(root, "patient00003/study4/view1_lateral")
    assert item.labels == {}
    assert item.view_position is ViewPosition.LATERAL
    assert item.split is None


def test_two_releases_in_one_folder_are_each_film_once(root):
    write_picture(root / "CheXpert-v1.0-small" / "train" / f"{FIRST}.jpg", 0)
    codes = [item.problem.code for item in source_of(root).items() if item.problem]
    assert codes == ["DUPLICATE.FORM"]


def test_leftovers_of_an_unpacker_are_no_films(root):
    (root / "train" / "patient00001" / "study1" / "._view1_frontal.jpg").write_bytes(b"\0\5\x16\7")
    (root / "train" / "patient00001" / "study1" / "Thumbs.db").write_bytes(b"x")
    assert len(items_by_name(source_of(root))) == 4
