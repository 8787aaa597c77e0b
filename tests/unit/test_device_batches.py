"""Batches halve where memory does not suffice."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from crrg.device import autocast, failures_named, in_batches, in_tiles, resolve_device
from crrg.errors import DeviceError, DeviceMemoryError
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


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes. Error code 12"),
        RuntimeError("not enough memory: you tried to allocate 8 bytes."),
        RuntimeError("could not create a primitive"),
        MemoryError(),
        torch.AcceleratorError("CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation' in the manual"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    ],
)
def test_memory_is_memory_whoever_was_asked_for_it(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    def work(first: int, last: int) -> int:
        if last - first > 1:
            raise error
        return first

    assert in_batches(3, 3, work) == [0, 1, 2]
    assert "continuing with batches of 1" in caplog.text


@pytest.mark.parametrize("said", ["shapes cannot be multiplied", "could not create a primitive descriptor for matmul"])
def test_another_error_is_not_taken_for_one_of_memory(said: str) -> None:
    def work(first: int, last: int) -> int:
        raise RuntimeError(said)

    with pytest.raises(RuntimeError, match=said):
        in_batches(4, 4, work)


def test_tiles_have_one_size_and_halve_themselves() -> None:
    sizes: list[int] = []

    def work(rows: NDArray[np.int64], num_real: int) -> list[int]:
        sizes.append(len(rows))
        if len(rows) > 4:
            raise torch.OutOfMemoryError("full")
        assert (rows[num_real:] == rows[num_real - 1]).all()
        return rows[:num_real].tolist()

    assert in_tiles(6, 16, work) == [[0, 1, 2, 3], [4, 5]]
    assert sizes == [16, 8, 4, 4], "with six films as well the tile is what is too large"
    assert in_tiles(0, 16, work) == []

    def never(rows: NDArray[np.int64], num_real: int) -> int:
        raise torch.OutOfMemoryError("full")

    with pytest.raises(DeviceError, match="a single film"):
        in_tiles(2, 4, never)


def test_a_gpu_computes_in_all_digits_unless_it_is_to_be_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    assert isinstance(autocast(cuda, "exact"), nullcontext)
    assert isinstance(autocast(cuda, "fast"), torch.autocast)
    assert isinstance(autocast(torch.device("cpu"), "fast"), nullcontext)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert resolve_device("cuda") == torch.device("cuda", 1), "threads of a second rank would else take the first GPU"
    assert not torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(...)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    ],
)
def test_a_lost_device_is_named_with_the_way_out(error: Exception) -> None:
    def work(first: int, last: int) -> int:
        raise error

    with pytest.raises(DeviceError, match="--device cpu") as found:
        in_batches(4, 4, work)
    assert not isinstance(found.value, DeviceMemoryError)
    with pytest.raises(DeviceError, match="--device cpu") as found, failures_named("take less"):
        raise error
    assert not isinstance(found.value, DeviceMemoryError)


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
