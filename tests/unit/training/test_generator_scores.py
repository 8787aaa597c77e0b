"""The score by which the generator's best weights are kept: only films count of which something is known."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from crrg.data.dataset.batches import UNMENTIONED
from crrg.domain.labels import LABEL_INDEX, NUM_LABELS
from crrg.training import generator_scores
from crrg.training.generator_scores import clinical_micro_f1

NOTHING: Any = None


def films(*rows: tuple[str, dict[str, int]], is_read: bool = True) -> Any:
    labels = np.full((len(rows), NUM_LABELS), UNMENTIONED, dtype=np.int8)
    for row, (_, known) in enumerate(rows):
        for label, value in known.items():
            labels[row, LABEL_INDEX[label]] = value
    read = np.array([is_read and bool(text) for text, _ in rows], dtype=bool)
    table = SimpleNamespace(labels=labels, has_read_report=read)
    return SimpleNamespace(films=table)


def score(drafts: list[str], validation: Any, monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(generator_scores, "draft_films", lambda *_: drafts)
    return clinical_micro_f1(NOTHING, NOTHING, validation, NOTHING)


def test_without_a_film_to_judge_there_is_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    assert math.isnan(score([], films(), monkeypatch))
    assert math.isnan(score(["There is edema."], films(("", {})), monkeypatch))


def test_only_what_is_known_of_a_film_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    drafts = ["There is edema and a right pleural effusion."] * 3
    told = films(("There is edema.", {"Edema": 1}), ("", {"Edema": 1}), ("", {}))
    # the report does not speak of an effusion; of the second film nobody asked for one, of the third for nothing
    assert score(drafts, told, monkeypatch) == pytest.approx(2 * 2 / (2 + 3))
    assert score(["The heart is normal."], films(("Normal.", {})), monkeypatch) == 1.0


def test_a_report_that_nobody_could_read_denies_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    unread = films(("Lungenödem.", {}), ("Kein Erguss.", {"Edema": 1}), is_read=False)
    assert score(["There is edema."] * 2, unread, monkeypatch) == 1.0
    assert math.isnan(score(["There is edema."], films(("Lungenödem.", {}), is_read=False), monkeypatch))
