"""Pictures drawn to fit an Open-i table's codes, with its text unchanged. The rows here are invented."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from crrg.data.phantom.openi_driven import findings_of_codes, read_openi_studies
from crrg.errors import ReportError
from crrg.operations.phantom import draw_phantom

HEADER = ("uid", "indication", "findings", "impression", "mesh_major")
ROWS = [
    ("11", "Cough", "Lungs are clear.", "Normal.", "normal"),
    ("12", "Pain", "Big heart, small left effusion.", "", "Cardiomegaly/severe;Pleural Effusion/left/small"),
    ("13", "", "", "", "Cardiomegaly"),
    ("14", "Fall", "Old granuloma.", "No acute disease.", "Calcified Granuloma/lung/upper lobe/right"),
    ("15", "Fall", "Text.", "Text.", "No Indexing"),
    ("16", "Dyspnea", 'Opacities, "hazy".', "Opacities.", "Opacity/lung/base/bilateral;Opacity/lung/lingula"),
]


def table(rows=ROWS, header=HEADER) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode()


def drawn(codes: str) -> list[tuple[str, str, str]]:
    findings, _ = findings_of_codes(codes, np.random.default_rng(0))
    return [(finding.kind, finding.side, finding.grade) for finding in findings]


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ("normal", []),
        ("Cardiomegaly/mild", [("enlarged_heart", "midline", "mild")]),
        ("Cardiomegaly/borderline", [("enlarged_heart", "midline", "mild")]),
        ("Pleural Effusion/right/large", [("pleural_effusion", "right", "severe")]),
        ("Costophrenic Angle/left/blunted", [("pleural_effusion", "left", "mild")]),
        (
            "Pneumothorax/bilateral/moderate",
            [("apical_pneumothorax", "left", "moderate"), ("apical_pneumothorax", "right", "moderate")],
        ),
        ("Pulmonary Edema/interstitial/mild", [("interstitial_edema", "bilateral", "mild")]),
        ("Density/thorax/left", []),
        ("Aorta/tortuous", []),
        ("Diaphragm/right/elevated", []),
        ("Catheters, Indwelling/abdomen/right", []),
    ],
)
def test_codes_become_findings(codes: str, expected: list):
    assert drawn(codes) == expected


def test_zone_and_side_follow_the_qualifiers():
    findings, _ = findings_of_codes(
        "Nodule/lung/upper lobe/right;Pneumonia/lung/lingula/left", np.random.default_rng(0)
    )
    assert {finding.regions[0] for finding in findings} == {"right upper lung zone", "left mid lung zone"}


def test_whether_codes_say_more_than_is_drawn():
    rng = np.random.default_rng(0)
    assert findings_of_codes("normal", rng)[1] is False
    assert findings_of_codes("Technical Quality of Image Unsatisfactory", rng)[1] is False
    assert findings_of_codes("Cardiomegaly;Scoliosis", rng)[1] is True
    assert findings_of_codes("Cardiomegaly", rng)[1] is False


def test_studies_keep_text_and_pass_over_what_has_none():
    studies = read_openi_studies(table(), 100, 1)
    assert [study.scene.index for study in studies] == [11, 12, 14, 16]
    for study in studies:
        row = next(row for row in ROWS if int(row[0]) == study.scene.index)
        assert (study.report.indication, study.report.findings, study.report.impression) == row[1:4]
        assert study.report.phrases == {}


def test_labels_are_those_of_the_picture():
    normal, sick, granuloma, opacity = (study.labels for study in read_openi_studies(table(), 100, 1))
    assert normal["No Finding"] == 1
    assert (sick["Cardiomegaly"], sick["Pleural Effusion"], sick["Edema"], sick["No Finding"]) == (1, 1, 0, 0)
    assert granuloma["No Finding"] is None
    assert granuloma["Lung Lesion"] == 0
    assert opacity["Lung Opacity"] == 1


def test_same_seed_chooses_the_same_studies():
    assert read_openi_studies(table(), 2, 4) == read_openi_studies(table(), 2, 4)
    assert len(read_openi_studies(table(), 2, 4)) == 2
    assert read_openi_studies(table(), 0, 4) == []


@pytest.mark.parametrize(
    "data", [table(header=("uid", "text", "a", "b", "c")), table([("x", "", "Text", "", "normal")])]
)
def test_another_table_is_refused(data: bytes):
    with pytest.raises(ReportError):
        read_openi_studies(data, 5, 1)


def test_cohort_with_real_text_is_written(tmp_path: Path):
    source = tmp_path / "reports.csv"
    source.write_bytes(table())
    assert draw_phantom(str(tmp_path / "out"), 10, 3, 48, reports=str(source)) == 4
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out/reports.csv").read_text())))
    assert rows[3]["findings"] == 'Opacities, "hazy".'
    truth = pq.read_table(tmp_path / "out/truth.parquet").to_pylist()
    assert [row["cardiomegaly"] for row in truth] == [0, 1, 0, 0]
    assert truth[2]["no_finding"] is None
    assert [entry["region"] for entry in truth[1]["regions"] if entry["is_abnormal"]] == [
        "left costophrenic angle",
        "left hemidiaphragm",
        "cardiac silhouette",
    ]


@pytest.mark.real
@pytest.mark.skipif("CRRG_OPEN_DATA" not in os.environ, reason="CRRG_OPEN_DATA is not set")
def test_open_data_gives_thousands_of_studies_and_every_finding():
    studies = read_openi_studies((Path(os.environ["CRRG_OPEN_DATA"]) / "openi/reports.csv").read_bytes(), 9999, 1)
    assert len(studies) > 3000
    present = {finding.label for study in studies for finding in study.scene.findings}
    assert len(present) == 13
