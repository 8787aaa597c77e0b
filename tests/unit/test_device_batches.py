"""Batches halve where memory does not suffice."""

from __future__ import annotations

import pytest
import torch

from crrg.device import in_batches
from crrg.errors import DeviceError
from crrg.inference.pipeline import ReportPipeline


def worker(most: int, calls: list[tuple[int, int]]):  # type: ignore[no-untyped-def]
    def work(first: int, last: int) -> list[int]:
        calls.append((first, last))
        if last - first > most:
            raise torch.OutOfMemoryError("full")
        return list(range(first, last))

    return work


def test_all_rows_come_once_and_in_order() -> None:
    calls: list[tuple[int, int]] = []
    assert in_batches(10, 8, worker(3, calls)) == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    assert calls[:3] == [(0, 8), (0, 4), (0, 2)]
    assert in_batches(0, 8, worker(3, calls)) == []


def test_a_single_row_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(DeviceError, match="memory"):
        in_batches(4, 4, worker(0, []))


def test_a_lost_device_is_named_with_the_way_out() -> None:
    def work(first: int, last: int) -> int:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(DeviceError, match="--device cpu"):
        in_batches(4, 4, work)


def test_a_pipeline_drafts_in_halves_whatever_stage_ran_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def draft(self: ReportPipeline, films: list[str]) -> list[str]:
        sizes.append(len(films))
        if len(films) > 3:
            raise torch.OutOfMemoryError("full")
        return [f"draft of {film}" for film in films]

    monkeypatch.setattr(ReportPipeline, "_draft", draft)
    pipeline = object.__new__(ReportPipeline)
    films = [f"film {number}" for number in range(7)]
    assert pipeline.draft(films) == [f"draft of {film}" for film in films]  # type: ignore[arg-type]
    assert sizes == [7, 3, 3, 1]
    assert pipeline.draft([]) == []
