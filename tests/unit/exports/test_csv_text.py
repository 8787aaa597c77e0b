from __future__ import annotations

import csv
import io

import pytest

from crrg.domain.labels import LABELS
from crrg.exports.csv_text import csv_text
from crrg.exports.review import NightFacts, review_files
from crrg.exports.work_list import LIST_FILE, RefusedObject


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_is_a_formula(start):
    text = csv_text(("a", "b"), [(f"{start}cmd|' /C calc'!A1", -1.5)], quote_all=True)
    assert text.splitlines()[0] == '"a","b"'
    (row,) = list(csv.DictReader(io.StringIO(text, newline="")))
    assert row["a"].startswith(f"'{start}")
    assert row["b"] == "-1.5"


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_name_begins_no_new_cell_where_a_spreadsheet_parts_cells_otherwise(separator):
    name = f"film{separator}=cmd|' /C calc'!A1.dcm"
    text = csv_text(("file", "outcome"), [(name, "accept"), ("b.dcm", "accept")])
    assert text.splitlines()[2] == "b.dcm,accept"
    cells = [cell for row in csv.reader(io.StringIO(text), delimiter=separator) for cell in row]
    assert not [cell for cell in cells if cell.startswith("=")]
    assert next(csv.DictReader(io.StringIO(text)))["file"] == name


def test_work_list_has_a_row_per_study_and_per_refused_object_and_no_text():
    document = {
        "study_id": "s1", "films": [{"view_position": "PA", "instance_id": "i", "is_primary": True, "width": 1,
        "height": 1, "findings": "The heart.", "impression": "", "consistency": 0.5, "flags": [], "regions": []}],
        "labels": {label: int(label == "Edema") for label in LABELS}, "flags": ["=paediatric", "age_unknown"],
        "probabilities": dict.fromkeys(LABELS, 0.25), "consistency": 0.5,
        "thresholds": {}, "bundle_id": "b" * 32, "model_version": "7",
    }  # fmt: skip
    refused = [RefusedObject("-object", "VIEW.LATERAL", "a lateral film", "")]
    text = dict(review_files(NightFacts("2026-11-20", "b" * 32, "7", 0, {}), [document], refused))[LIST_FILE].decode()
    study, other = list(csv.DictReader(io.StringIO(text)))
    assert (study["id"], study["status"], study["positive_labels"], study["edema"]) == ("s1", "draft", "Edema", "0.25")
    assert study["flags"] == "'=paediatric"
    assert (other["id"], other["status"], other["reason"]) == ("'-object", "quarantined", "VIEW.LATERAL")
    assert "heart" not in text
