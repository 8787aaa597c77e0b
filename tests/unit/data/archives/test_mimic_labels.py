"""Labels of the collection: which table counts, and what a value means."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.drawn_archives import build_pair
from tests.support.mimic_tree import LABEL_COLUMNS, P1, P2, S1, S2, A, C, MimicTree, item_of, small_tree, source_of

pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR")


@pytest.fixture
def tree(tmp_path: Path) -> MimicTree:
    return small_tree(tmp_path)


def test_plain_and_packed_tables_are_one_table(tree):
    chexpert = ("subject_id", "study_id", *LABEL_COLUMNS)
    tree.table("mimic-cxr-2.0.0-chexpert", chexpert, (P1, S1, *["0.0"] * 14), packed=False)
    assert set(item_of(tree, A).labels.values()) == {0}
    assert item_of(tree, C).labels == {}


def test_negbio_fills_what_chexpert_lacks(tree):
    tree.labels("chexpert", (P1, S1, {"Edema": "1.0"}))
    tree.labels("negbio", (P1, S1, {"Edema": "0.0"}), (P2, S2, {"Edema": "0.0"}))
    assert (item_of(tree, A).labels["Edema"], item_of(tree, A).label_source) == (1, "chexpert")
    assert (item_of(tree, C).labels["Edema"], item_of(tree, C).label_source) == (0, "negbio")


def test_hand_labels_come_first_and_call_the_opacity_by_its_other_name(tree):
    columns = ("study_id", "Airspace Opacity", *(name for name in LABEL_COLUMNS if name != "Lung Opacity"))
    tree.table("mimic-cxr-2.1.0-test-set-labeled", columns, (S1, "1.0", "", "0.0", *[""] * 11), packed=False)
    item = item_of(tree, A)
    assert item.label_source == "radiologist"
    assert {name: value for name, value in item.labels.items() if value is not None} == {
        "Lung Opacity": 1,
        "Cardiomegaly": 0,
    }
    assert item_of(tree, C).label_source == "chexpert"


def test_a_study_labelled_blank_is_unmentioned_not_labelled_again(tree):
    tree.labels("chexpert", (P1, S1, {}))
    pair = build_pair(source_of(tree), item_of(tree, A))
    assert pair.label_source == "chexpert"
    assert set(pair.labels.values()) == {None}


@pytest.mark.parametrize("value", ["2.0", "0.5", "?"])
def test_a_value_that_is_no_label_refuses_its_study_as_in_any_table(tree, value):
    tree.labels("chexpert", (P1, S1, {"Edema": value, "Pneumonia": "1"}), (P2, S2, {"Edema": "nan", "Pneumonia": "1"}))
    assert item_of(tree, A).problem.code == "INTEGRITY.LABELS"
    assert item_of(tree, A).labels == {}
    assert {name: value for name, value in item_of(tree, C).labels.items() if value is not None} == {"Pneumonia": 1}


def test_a_study_labelled_twice_counts_where_both_rows_agree(tree):
    twice = (P1, S1, {"Edema": "1.0"}), (P1, S1, {"Edema": "1"})
    tree.labels("chexpert", *twice)
    assert (item_of(tree, A).problem, item_of(tree, A).labels["Edema"]) == (None, 1)
    tree.labels("chexpert", *twice, (P1, S1, {"Edema": "0.0"}))
    assert item_of(tree, A).problem.code == "INTEGRITY.LABELS"
