"""What the drafts of a joint round are worth: films count of whose labels something is known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.classification import rounds
from crrg.domain.film_labels import FilmLabels
from crrg.domain.labels import NUM_LABELS
from crrg.domain.study import Film, Pair, ViewPosition
from crrg.evaluation.clinical import read_labels
from tests.support.labelled_pair import labelled

SAID = "There is pulmonary edema and a right pleural effusion."


def score(pairs: list[Pair], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Score drafts that all say the same."""
    num = len(pairs)
    chances = np.tile(np.linspace(0, 1, num)[:, None], (1, NUM_LABELS))
    labels = FilmLabels(chances, chances[0], chances, chances)
    made = SimpleNamespace(reports=[(SAID, "")] * num, said=read_labels([SAID] * num))
    monkeypatch.setattr(rounds, "read_in_chunks", lambda *_: labels)
    pipeline: Any = SimpleNamespace(make_drafts=lambda _films: made)
    film = Film(np.zeros((4, 4), np.uint8), 4, 4, ViewPosition.PA, None, False, b"")
    return rounds.score_drafts_and_labels(pipeline, [(pair, film) for pair in pairs])


def test_drafts_are_not_held_against_reports_that_nobody_could_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read = [labelled({"Edema": 1}, "There is edema.", "report"), labelled({"Edema": 0}, "No edema.", "report")]
    # of four findings that were stated one is right; the reports do not speak of effusions
    assert score(read, monkeypatch)["f1"] == pytest.approx(2 / (4 + 1))
    unread = [labelled({}, "Lungenödem.", "none"), labelled({"Edema": 1}, "Lungenödem.", "none")]
    assert score([*read, *unread], monkeypatch)["f1"] == pytest.approx(2 * 2 / (5 + 2))
