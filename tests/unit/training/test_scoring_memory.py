"""Where memory is short, films are found and judged in smaller batches in training as well, with the same outcome."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from crrg.config.paper import narrow_detector
from crrg.errors import DeviceMemoryError
from crrg.training.detector import detect_films
from crrg.training.paper_together import find_proposals
from crrg.training.region_films import RegionFilms
from crrg.training.region_targets import region_targets
from crrg.training.selector_scores import judge_films
from tests.support.random_stages import boxes, film_table, films, random_detector, random_selector

CPU = torch.device("cpu")
NUM_FILMS = 40


def cramped(work: Callable[..., Any], sizes: list[int], most: int = 8) -> Callable[..., Any]:
    """Return what a device does that has no memory for more than ``most`` films."""

    def worked(images: Tensor, *others: Tensor) -> Any:
        sizes.append(len(images))
        if len(images) > most:
            raise torch.OutOfMemoryError
        return work(images, *others)

    return worked


def test_a_detector_is_scored_in_smaller_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images, sizes = random_detector(), films(NUM_FILMS), list[int]()
    wanted = detect_films(model, images, CPU)
    monkeypatch.setattr(model, "detect", cramped(model.detect, sizes))
    found = detect_films(model, images, CPU)
    assert sizes == [32, 16, *[8] * 5]
    assert torch.equal(found.detected, wanted.detected)
    torch.testing.assert_close(found.input_boxes_xyxy, wanted.input_boxes_xyxy, rtol=0, atol=1e-3)
    monkeypatch.setattr(model, "detect", cramped(model.detect, sizes, most=0))
    with pytest.raises(DeviceMemoryError, match="a single film"):
        detect_films(model, images, CPU)


def test_a_selector_is_scored_in_smaller_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    table, model, sizes = film_table(NUM_FILMS), random_selector(), list[int]()
    read = RegionFilms(films(NUM_FILMS), boxes(NUM_FILMS).numpy(), region_targets(table))
    wanted = judge_films(model, read, CPU)
    monkeypatch.setattr(model, "forward", cramped(model.forward, sizes))
    found = judge_films(model, read, CPU)
    assert sizes == [32, 16, *[8] * 5]
    for name, value in vars(wanted).items():
        np.testing.assert_allclose(vars(found)[name], value, atol=1e-5, err_msg=name)


def test_the_paper_finds_its_proposals_in_smaller_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    model, table, sizes = random_detector(narrow_detector(1, 64, 16)), film_table(NUM_FILMS), list[int]()
    wanted = find_proposals(model, table, None, 0)
    monkeypatch.setattr(model, "find", cramped(model.find, sizes))
    found = find_proposals(model, table, None, 0)
    assert sizes == [32, 16, *[8] * 5]
    np.testing.assert_allclose(found.proposals, wanted.proposals, atol=1e-3)
