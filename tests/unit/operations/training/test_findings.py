"""Which findings drafts state is decided by a classifier over film and regions where validation films gain by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from crrg.config.models import FusionSettings
from crrg.config.overrides import DecodingOverrides
from crrg.config.references import BundleRef, DatasetRef
from crrg.data.dataset.pairs import read_pairs, resolve_dataset
from crrg.domain.bundle import BundleFiles
from crrg.domain.labels import FINDINGS, LABEL_INDEX, LABELS
from crrg.domain.study import Split
from crrg.inference.consistency import region_contradictions
from crrg.inference.pipeline import ReportPipeline
from crrg.inference.reconciling import film_signals, reconcile_flags, shown_findings
from crrg.inference.regions import RegionReadings, RegionThresholds
from crrg.operations.registry import assemble
from crrg.operations.training import fuse
from crrg.registry.bundle import read_bundle
from crrg.storage import Storage
from tests.support.drawn_bundle import draw_dataset, train_bundle
from tests.support.labelled_pair import labelled

EDEMA = LABEL_INDEX["Edema"]
NUM_FILMS = 120
DATASET = DatasetRef(name="d", version="v", manifest_key="", num_rows={})
TRUTH = np.arange(NUM_FILMS) % 3 == 0


class Reader:
    """Stands in for the pipeline: in ``films`` lies what film and regions say of edema, of nothing else anything."""

    thresholds = RegionThresholds(0.5, 0.5, 0.5, np.full(14, 0.5))

    def __init__(self, by_film: np.ndarray, by_region: np.ndarray) -> None:
        self.by_film, self.by_region, self.num_read = by_film, by_region, 0

    def read_labels(self, films: list[Any]) -> SimpleNamespace:
        logits = np.full((len(films), 14), -4.0)
        logits[:, EDEMA] = np.where(self.by_film[films], 4.0, -4.0)
        return SimpleNamespace(logits=logits)

    def read_regions(self, films: list[Any]) -> RegionReadings:
        self.num_read += len(films)
        shape = (len(films), 29)
        findings = np.full((*shape, 14), 0.01)
        findings[:, 4, EDEMA] = np.where(self.by_region[films], 0.9, 0.1)
        return RegionReadings(
            np.zeros((*shape, 4)), np.ones(shape), np.ones(shape, bool), np.zeros((*shape, 2)),
            np.zeros(shape), np.full(shape, 0.1), findings,
        )  # fmt: skip


def fitted(by_film: np.ndarray, by_region: np.ndarray, root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    reader = Reader(by_film, by_region)
    pairs = [
        (replace(labelled({**dict.fromkeys(FINDINGS, 0), "Edema": int(is_ill)}), patient_id=f"p{i}"), i)
        for i, is_ill in enumerate(TRUTH)
    ]
    monkeypatch.setattr(fuse, "sampled_films", lambda *_: pairs)
    monkeypatch.setattr(ReportPipeline, "from_bundle", lambda *_: reader)
    settings = FusionSettings(operating_point="specificity")
    found, again = (
        fuse.fit_findings(BundleFiles("b", {}, {}), DATASET, settings, "cpu", Storage(str(root))) for _ in range(2)
    )
    assert found is not None
    assert again == found
    assert reader.num_read == NUM_FILMS, "what was fitted is kept"
    return found


def test_regions_that_see_less_than_the_film_gain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half = TRUTH & (np.arange(NUM_FILMS) % 2 == 0)
    found = fitted(TRUTH, half, tmp_path, monkeypatch)
    assert found["num_films"] == NUM_FILMS
    assert found["settings"]["operating_point"] == "f1"
    assert set(found["labels"]) == set(LABELS)
    # 20 of 40 are stated, none wrongly: precision 1, recall 1/2
    assert found["metrics"]["findings/regions_micro_f1"] == pytest.approx(2 / 3)
    assert found["metrics"]["findings/reconciled_micro_f1"] == 1.0
    assert 0.2 < found["metrics"]["findings/gain_low"] < 1 / 3


def test_regions_that_see_all_of_it_gain_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unrelated = np.random.default_rng(0).random(NUM_FILMS) < 0.5
    found = fitted(unrelated, TRUTH, tmp_path, monkeypatch)["metrics"]
    assert found["findings/regions_micro_f1"] == 1.0
    assert found["findings/gain_low"] <= 0


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    folder = tmp_path_factory.mktemp("findings")
    storage = Storage(str(folder / "root"))
    draw_dataset(storage, folder / "source", "drawn", 0.5, 0.25)
    return storage


def bundle(root: Storage, **decoding: Any) -> BundleFiles:
    ref: BundleRef = train_bundle(root, "drawn", decoding=DecodingOverrides(**decoding))
    return read_bundle(root, ref)


def test_a_bundle_reconciles_where_it_is_told_to(root: Storage) -> None:
    pipeline = ReportPipeline.from_bundle(bundle(root, reconcile=True), torch.device("cpu"))
    assert pipeline.decoding.reconcile
    assert pipeline.findings is not None
    films = [pair.film for pair in read_pairs(root, resolve_dataset(root, "drawn"), Split.TEST) if pair.film]
    made, readings = pipeline.make_drafts(films), pipeline.read_regions(films)
    assert np.array_equal(made.region_flags, readings.flags(pipeline.thresholds))
    signals = film_signals(made.labels.logits, readings.finding_probabilities, readings.abnormal_probabilities)
    chances = pipeline.findings.probabilities(signals)
    expected = reconcile_flags(made.region_flags, readings.finding_probabilities, chances, pipeline.findings.thresholds)
    assert np.array_equal(made.flags, expected)
    assert not np.array_equal(made.flags, made.region_flags), "networks of this size differ somewhere"
    for row, draft in enumerate(pipeline.draft(films)):
        shown = [LABELS[i] for i in np.flatnonzero(shown_findings(made.region_flags[row]))]
        raised = tuple(flag for flag in draft.flags if "regions" in flag)
        assert raised == region_contradictions(made.said[row], shown)


@pytest.mark.parametrize(
    ("gain", "decoding", "is_used"),
    [
        ({"findings/gain_low": 0.01}, {}, True),
        ({"findings/gain_low": -0.01}, {}, False),
        ({}, {}, False),
        ({"findings/gain_low": 0.01}, {"reconcile": False}, False),
        ({"findings/gain_low": -0.01}, {"reconcile": True}, True),
        ({"findings/gain_low": 0.01}, {"compat": "rgrg"}, False),
    ],
)
def test_a_bundle_reconciles_where_validation_films_gain(
    root: Storage,
    monkeypatch: pytest.MonkeyPatch,
    gain: Mapping[str, float],
    decoding: Mapping[str, Any],
    is_used: bool,
) -> None:
    labels = bundle(root, reconcile=True).spec["findings"]["labels"]
    figures = {"findings/regions_micro_f1": 0.5, "findings/reconciled_micro_f1": 0.6, **gain}
    found = {"settings": {}, "dataset": "drawn", "num_films": 4, "metrics": figures, "labels": labels}
    monkeypatch.setattr(assemble, "fit_findings", lambda *_: found)
    made = bundle(root, **decoding)
    assert made.spec["decoding"]["reconcile"] is is_used
    assert made.spec.get("findings") == (found if is_used else None)
    pipeline = ReportPipeline.from_bundle(made, torch.device("cpu"))
    assert (pipeline.findings is not None) is is_used
    is_asked = decoding.get("reconcile") is not False and "compat" not in decoding
    assert ("findings/regions_micro_f1" in made.spec["metrics"]["generator"]) is is_asked
    assert ("film and regions show together" in made.files["model_card.md"].decode()) is is_used


def test_too_few_patients_for_an_interval_decide_nothing(root: Storage) -> None:
    made = bundle(root)
    assert resolve_dataset(root, "drawn").num_rows["validation"] < 6
    assert made.spec["decoding"]["reconcile"] is False
    assert "findings/gain_low" not in made.spec["metrics"]["generator"]
