"""The composition of a drawn cohort: prevalence, severity, co-occurrence, patients."""

from __future__ import annotations

import numpy as np
import pytest

from crrg.data.phantom.difficulty import mild_share
from crrg.data.phantom.kinds import KINDS, drawn_finding
from crrg.data.phantom.sampler import patient_of, sample_scene
from crrg.domain.labels import FINDINGS
from crrg.domain.regions import REGIONS
from crrg.domain.study import ViewPosition

SCENES = [sample_scene(5, index) for index in range(3000)]
LABELS = np.array([[scene.labels[label] for label in FINDINGS] for scene in SCENES])


def share(label: str, given: str) -> tuple[float, float]:
    """Return the share of ``label`` among studies with and without ``given``."""
    column, other = LABELS[:, FINDINGS.index(label)], LABELS[:, FINDINGS.index(given)]
    return float(column[other == 1].mean()), float(column[other == 0].mean())


def test_scene_depends_on_seed_and_index_alone():
    assert sample_scene(5, 77) == SCENES[77]
    assert [sample_scene(6, index) for index in range(20)] != SCENES[:20]


def test_every_finding_has_a_realistic_prevalence():
    prevalence = dict(zip(FINDINGS, LABELS.mean(axis=0), strict=True))
    assert all(0.05 <= value <= 0.25 for value in prevalence.values()), prevalence


def test_normal_studies_are_between_a_third_and_two_fifths():
    assert 0.33 <= np.mean([not scene.findings for scene in SCENES]) <= 0.42


def test_at_least_a_third_of_positives_are_mild():
    assert mild_share(SCENES) >= 1 / 3


@pytest.mark.parametrize(
    ("label", "given"),
    [
        ("Atelectasis", "Pleural Effusion"),
        ("Edema", "Cardiomegaly"),
        ("Pleural Effusion", "Edema"),
        ("Support Devices", "Edema"),
        ("Support Devices", "Pneumothorax"),
        ("Lung Opacity", "Pneumonia"),
        ("Lung Opacity", "Consolidation"),
        ("Pneumothorax", "Fracture"),
    ],
)
def test_findings_that_belong_together_occur_together(label: str, given: str):
    with_it, without_it = share(label, given)
    assert with_it > 1.3 * without_it


def test_view_age_and_sex_do_not_depend_on_findings():
    ill = np.array([bool(scene.findings) for scene in SCENES])
    is_ap = np.array([scene.view_position is ViewPosition.AP for scene in SCENES])
    is_woman = np.array([scene.sex == "F" for scene in SCENES])
    age = np.array([scene.age_years for scene in SCENES])
    assert abs(is_ap[ill].mean() - is_ap[~ill].mean()) < 0.06
    assert abs(is_woman[ill].mean() - is_woman[~ill].mean()) < 0.06
    assert abs(age[ill].mean() - age[~ill].mean()) < 2.5


def test_some_patients_have_two_studies_and_keep_age_and_sex():
    by_patient: dict[int, list[int]] = {}
    for scene in SCENES:
        by_patient.setdefault(scene.patient_number, []).append(scene.index)
    counts = [len(indices) for indices in by_patient.values()]
    assert set(counts) == {1, 2}
    assert 0.1 < np.mean(np.array(counts) == 2) < 0.2
    first, second = next(indices for indices in by_patient.values() if len(indices) == 2)
    assert (SCENES[first].age_years, SCENES[first].sex) == (SCENES[second].age_years, SCENES[second].sex)


def test_patients_never_cross_a_block_of_four():
    assert all(patient_of(5, index) // 4 == index // 4 for index in range(400))


def test_findings_name_known_regions_and_kinds():
    for scene in SCENES:
        for finding in scene.findings:
            assert finding.kind in KINDS[finding.label]
            assert finding.regions
            assert set(finding.regions) <= set(REGIONS)
            assert 0 < finding.severity <= 1


@pytest.mark.parametrize("kind", [kind for kinds in KINDS.values() for kind in kinds])
@pytest.mark.parametrize("zone", ["upper", "mid", "lower"])
def test_every_kind_can_be_built_on_both_sides(kind: str, zone):
    for side in ("right", "left"):
        assert set(drawn_finding(kind, side, 0.9, zone).regions) <= set(REGIONS)


def test_no_finding_ignores_devices():
    for scene in SCENES[:500]:
        only_devices = all(finding.label == "Support Devices" for finding in scene.findings)
        assert scene.labels["No Finding"] == int(only_devices)
