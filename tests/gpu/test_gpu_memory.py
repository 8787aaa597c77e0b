"""A GPU whose memory does not suffice, and one that fails."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import torch

from crrg.domain.study import DraftReport, Film
from crrg.errors import DeviceError, DeviceMemoryError
from crrg.inference import regions
from crrg.inference.pipeline import ReportPipeline
from crrg.inference.tiles import MOST_FILMS
from crrg.models.detector import RegionDetector
from tests.support.random_stages import random_detector, random_pipeline, read_films

pytestmark = pytest.mark.gpu
SAME = 1e-3
LittleMemory = Callable[[ReportPipeline, float], AbstractContextManager[None]]
LOST = """
import sys
import torch
from crrg.device import in_batches
from crrg.errors import DeviceError, DeviceMemoryError

def work(first, last):
    there = torch.zeros(2, device=sys.argv[1])
    if there.device.type == "cpu":
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")
    there[torch.tensor([9], device=there.device)].sum().item()

try:
    in_batches(4, 4, work)
except DeviceError as error:
    assert not isinstance(error, DeviceMemoryError)
    print(error)
"""


@pytest.fixture
def little_memory(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> LittleMemory:
    """Leave memory for about so many films of a tile; on a CPU, which has no such limit, refuse larger tiles."""

    @contextmanager
    def limited(pipeline: ReportPipeline, num_films: float) -> Iterator[None]:
        if device.type == "cuda":
            limit = cuda_need(pipeline, num_films)
            torch.cuda.empty_cache()
            torch.cuda.set_per_process_memory_fraction(limit / torch.cuda.get_device_properties(device).total_memory)
            try:
                yield
            finally:
                torch.cuda.set_per_process_memory_fraction(1.0)
            return
        maps = RegionDetector.maps

        def cramped(detector: RegionDetector, images: torch.Tensor) -> object:
            if len(images) > num_films:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return maps(detector, images)

        with monkeypatch.context() as patch:
            patch.setattr(regions, "tile_size", lambda *_: MOST_FILMS)  # as many as a GPU reads at once
            patch.setattr(RegionDetector, "maps", cramped)
            yield

    return limited


def cuda_need(pipeline: ReportPipeline, num_films: float) -> float:
    """Return the bytes that the process needs to read so many films at once, by those of one and of two."""
    used = []
    for number in (1, 2):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        images = torch.zeros(number, 1, WIDE, WIDE, dtype=torch.uint8, device="cuda")
        pipeline.detector.detect(images)
        used.append(torch.cuda.max_memory_reserved())
        del images
    return used[0] + (num_films - 1) * max(used[1] - used[0], 1 << 20)


WIDE = 1024
"""Side of the films, pixels: small ones need less than the least piece of memory that torch asks a GPU for."""


def wide_pipeline(device: torch.device) -> ReportPipeline:
    """Return a pipeline whose detector reads films so large that a tile of them needs memory worth the name."""
    pipeline = random_pipeline(device)
    architecture = pipeline.detector.architecture.model_copy(
        update={"input_size": WIDE, "anchor_sizes": (64, 128, 256)}
    )
    object.__setattr__(pipeline, "detector", random_detector(architecture).to(device))
    return pipeline


def assert_same(found: list[DraftReport], wanted: list[DraftReport]) -> None:
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine.findings == theirs.findings
        assert mine.probabilities == pytest.approx(theirs.probabilities, abs=SAME)
        for region, other in zip(mine.regions, theirs.regions, strict=True):
            assert region.box_xyxy == pytest.approx(other.box_xyxy, abs=0.02)


def test_tiles_are_halved_and_drafts_stay_the_same(
    device: torch.device, little_memory: LittleMemory, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline = wide_pipeline(device)
    films: list[Film] = read_films(6)
    wanted = pipeline.draft(films)
    caplog.clear()
    with little_memory(pipeline, 1.9):
        found = pipeline.draft(films)
    assert "out of memory; continuing with batches of" in caplog.text
    assert_same(found, wanted)
    caplog.clear()
    assert_same(pipeline.draft(films), wanted)
    assert not caplog.text, "what was short is there again"


def test_where_one_film_is_too_much_the_cpu_goes_on(device: torch.device, little_memory: LittleMemory) -> None:
    pipeline, films = wide_pipeline(device), read_films(3)
    wanted = pipeline.draft(films)
    with little_memory(pipeline, 0.3), pytest.raises(DeviceMemoryError, match="--device cpu"):
        pipeline.draft(films)
    assert_same(wide_pipeline(torch.device("cpu")).draft(films), wanted)


def test_a_gpu_that_fails_is_named(device: torch.device) -> None:
    """In a process of its own, as the GPU of a process that saw it fail does nothing more."""
    found = subprocess.run(
        [sys.executable, "-c", LOST, device.type], capture_output=True, text=True, timeout=200, check=False
    )
    assert found.returncode == 0, found.stderr[-2000:]
    assert "the device has failed" in found.stdout
    assert "--device cpu" in found.stdout
    assert issubclass(DeviceMemoryError, DeviceError)
