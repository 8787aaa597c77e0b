"""The demo at full size: its figures reach their floors, and fall when every film is given another film's draft.

Takes as long as the demo, so it is one of the tests that are run by hand (``make e2e-full``).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from crrg.data.dataset.pairs import resolve_dataset
from crrg.evaluation.scorecard import Scorecard
from crrg.operations.demo import FRESH_DATASET, TRAINING_DATASET, score_night
from crrg.storage import Storage

pytestmark = [pytest.mark.e2e, pytest.mark.full, pytest.mark.timeout(2400)]

DEMO_ROOT = "CRRG_DEMO_ROOT"
"""Names the root of a finished demo to look at instead of running one."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    if finished := os.environ.get(DEMO_ROOT):
        return Storage(finished)
    folder = tmp_path_factory.mktemp("demo") / "root"
    crrg = Path(sys.executable).with_name("crrg")
    subprocess.run([crrg, "demo", "--root", str(folder)], check=True, timeout=2300)
    return Storage(str(folder))


def scorecard(root: Storage, *, permuted: bool = False) -> Scorecard:
    training, fresh = resolve_dataset(root, TRAINING_DATASET), resolve_dataset(root, FRESH_DATASET)
    return score_night("", training, fresh, root, permuted=permuted)


def margins_over(found: Scorecard, name: str) -> dict[str, float]:
    return {figure.baseline_name: figure.margin for figure in found if figure.name == name}


def smallest_margins(found: Scorecard) -> dict[str, float]:
    return {each.name: min(margins_over(found, each.name).values()) for each in found if each.margin is not None}


def test_every_figure_reaches_its_floor_and_beats_its_baseline(root: Storage) -> None:
    found = scorecard(root)
    margins = smallest_margins(found)
    assert found["detection/mean_region_iou"] >= 0.80
    assert margins["detection/mean_region_iou"] >= 0.15
    assert margins_over(found, "selection/f1")["always select"] >= 0.05
    assert margins["selection/f1"] > 0
    assert found["classification/mean_auc"] >= 0.80
    assert margins["classification/mean_auc"] >= 0.10
    assert margins["rgrg/bleu_4"] > 0
    assert margins["rgrg/rouge_l"] > 0
    assert found["clinical/micro_f1"] >= 0.40
    assert margins["clinical/micro_f1"] > 0


def test_a_permuted_night_falls_to_its_baselines(root: Storage) -> None:
    permuted = scorecard(root, permuted=True)
    margins = smallest_margins(permuted)
    assert margins["detection/mean_region_iou"] <= 0
    assert margins["selection/f1"] <= 0
    assert permuted["classification/mean_auc"] == pytest.approx(0.5, abs=0.06)
    assert margins["rgrg/bleu_4"] <= 0
    assert margins["rgrg/rouge_l"] <= 0
    assert margins["clinical/micro_f1"] <= 0
