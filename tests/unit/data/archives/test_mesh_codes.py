from __future__ import annotations

import numpy as np
import pytest

from crrg.data.archives.mesh_codes import MeshCode, findings_of, labels_of_codes, read_codes
from crrg.data.phantom.openi_driven import _KINDS_OF_HEADING, findings_of_codes
from crrg.domain.labels import FINDINGS


def test_codes_are_headings_with_qualifiers():
    assert read_codes("Pleural Effusion/left/small; Scoliosis ;") == (
        MeshCode("Pleural Effusion", frozenset({"left", "small"})),
        MeshCode("Scoliosis", frozenset()),
    )
    assert read_codes("") == ()


@pytest.mark.parametrize(
    ("text", "findings"),
    [
        ("Cardiomegaly/mild", {"Cardiomegaly"}),
        ("Hydropneumothorax/right", {"Pneumothorax", "Pleural Effusion"}),
        ("Thickening/pleura/apex", {"Pleural Other"}),
        ("Thickening/bronchi", set()),
        ("Mediastinum/prominent", {"Enlarged Cardiomediastinum"}),
        ("Mediastinum/shift", set()),
        ("Stents/coronary vessels;Sutures/lung", {"Support Devices"}),
        ("Scoliosis/thoracic vertebrae;normal", set()),
    ],
)
def test_headings_name_findings(text, findings):
    assert findings_of(read_codes(text)) == findings


def test_an_uncoded_finding_of_an_abnormal_study_is_unmentioned():
    assert labels_of_codes(read_codes("Opacity/lung/base")) == {"Lung Opacity": 1, "No Finding": 0}


def test_a_device_alone_says_nothing_of_other_findings():
    assert labels_of_codes(read_codes("Catheters, Indwelling/right")) == {"Support Devices": 1}


def test_a_certain_code_outweighs_a_borderline_one_in_any_order():
    for text in ("Cardiomegaly/borderline;Cardiomegaly", "Cardiomegaly;Cardiomegaly/borderline"):
        assert labels_of_codes(read_codes(text))["Cardiomegaly"] == 1
    assert labels_of_codes(read_codes("Cardiomegaly/borderline")) == {"Cardiomegaly": -1}


def test_a_code_outside_the_labels_states_nothing():
    assert labels_of_codes(read_codes("Granuloma/lung/base")) == {}


def test_what_is_drawn_of_a_code_has_the_label_that_the_code_states():
    rng = np.random.default_rng(0)
    compared = set()
    for heading in _KINDS_OF_HEADING:
        for qualifier in ("", "lung", "pleura", "enlarged", "prominent", "ribs", "mediastinum"):
            text = f"{heading}/{qualifier}"
            stated = findings_of(read_codes(text))
            drawn = {finding.label for finding in findings_of_codes(text, rng)[0]}
            if stated and drawn:
                assert drawn == stated, text
                compared |= stated
    assert compared == set(FINDINGS)
