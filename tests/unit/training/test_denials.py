"""Labels that tell of findings and never of their absence are named before a head learns nothing from them."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from crrg.domain.labels import FINDINGS, LABELS
from crrg.training.denials import MIN_FILMS, seldom_denied, warn_of_denials

LESION, OEDEMA, FRACTURE = (LABELS.index(name) for name in ("Lung Lesion", "Edema", "Fracture"))


def labels_read_from_reports() -> np.ndarray:
    labels = np.full((4 * MIN_FILMS, len(LABELS)), -2, dtype=np.int8)
    labels[:, -1] = 1
    labels[:MIN_FILMS, LESION] = 1
    labels[:MIN_FILMS, OEDEMA] = 1
    labels[MIN_FILMS : 3 * MIN_FILMS, OEDEMA] = 0
    labels[: MIN_FILMS - 1, FRACTURE] = 1
    return labels


def test_findings_that_are_told_and_not_denied_are_found_and_rare_ones_and_no_finding_let_be() -> None:
    labels = labels_read_from_reports()
    assert seldom_denied(labels) == ["Lung Lesion"]
    assert seldom_denied(np.where(labels < 0, np.nan, labels).astype(np.float32)) == ["Lung Lesion"]
    labels[MIN_FILMS:, LESION] = 0
    assert seldom_denied(labels) == []
    assert seldom_denied(np.ones((MIN_FILMS, len(LABELS)), dtype=np.int8)) == list(FINDINGS)
    assert seldom_denied(np.zeros((0, len(LABELS)), dtype=np.int8)) == []


def test_the_warning_names_the_findings_and_the_way_out(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        warn_of_denials(labels_read_from_reports(), "clip")
    assert "than not to have them: Lung Lesion." in caplog.text
    assert "unmentioned_absent = true" in caplog.text
    caplog.clear()
    warn_of_denials(np.zeros((9, len(LABELS)), dtype=np.int8), "clip")
    assert caplog.text == ""
