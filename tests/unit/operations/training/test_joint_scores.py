"""What the rounds of the joint stage judge drafts by, on films of which little is known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from crrg.config.references import StageResult
from crrg.config.training import TrainStageConfig
from crrg.data.dataset.pairs import write_dataset
from crrg.domain.labels import LabelValues
from crrg.domain.report import Report
from crrg.domain.study import Film, Pair, Split, ViewPosition
from crrg.operations.training.joint_loop import DRAFTS_F1, JointLoop, JointState
from crrg.storage import Storage
from crrg.training.tracker import NullTracker

FOUND: LabelValues = {"Edema": 1, "Fracture": 1}


def score(tmp_path, monkeypatch: pytest.MonkeyPatch, *films: tuple[str | None, LabelValues]) -> float:
    """Return the F1 of drafts that find edema and a fracture on each film."""
    pairs = [
        Pair(
            f"p{number}", f"s{number}", f"i{number}",
            Film(np.full((40, 40), number, np.uint8), 40, 40, ViewPosition.PA, None, False, bytes([number]) * 32),
            Report(findings=findings), (), labels, "table" if labels else "none", "folder", bytes([number]) * 32,
            Split.VALIDATION,
        )
        for number, (findings, labels) in enumerate(films)
    ]  # fmt: skip
    storage = Storage(str(tmp_path))
    dataset = write_dataset(storage, "demo", pairs, {"image_size": 64})
    pipeline = SimpleNamespace(make_drafts=lambda films: SimpleNamespace(said=[FOUND] * len(films)))
    loop = JointLoop(TrainStageConfig(dataset="demo"), dataset, {}, storage, NullTracker())
    monkeypatch.setattr(loop, "bundle", lambda *_: SimpleNamespace(bundle_id="b"))
    monkeypatch.setattr(loop, "decoding", lambda _: SimpleNamespace(model_dump=lambda **_: {}))
    monkeypatch.setattr(loop, "pipeline", lambda _: pipeline)
    stage = StageResult.model_construct(stage="clip", metrics={})
    return loop.score_parts(JointState(stage, stage))[DRAFTS_F1]


def test_what_nobody_looked_for_on_a_film_without_a_report_is_no_mistake(tmp_path, monkeypatch) -> None:
    assert score(tmp_path, monkeypatch, (None, {"Edema": 1}), (None, {})) == 1.0


def test_what_a_report_does_not_mention_is_a_mistake(tmp_path, monkeypatch) -> None:
    # on the first film two of all labels, on the second one of the one that is known
    assert score(tmp_path, monkeypatch, ("Edema.", {"Edema": 1}), (None, {"Edema": 0})) == pytest.approx(2 / 4)


def test_a_report_that_nobody_could_read_denies_nothing(tmp_path, monkeypatch) -> None:
    german = "Keine Ergüsse."
    assert score(tmp_path, monkeypatch, (german, {}), ("Edema, fracture.", {"Edema": 1, "Fracture": 1})) == 1.0


def test_films_of_which_nothing_is_known_score_nothing(tmp_path, monkeypatch) -> None:
    assert score(tmp_path, monkeypatch, (None, {})) == 0.0
