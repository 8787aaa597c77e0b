"""A film is read the same alone and among a thousand, small or large, and nearly the same in halved tiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from crrg.config.models import DetectorArchitecture, SelectorArchitecture
from crrg.config.paper import narrow_detector, narrow_selector
from crrg.inference import regions
from crrg.inference.regions import RegionReadings, read_regions
from crrg.inference.tiles import LARGE_INPUT, MOST_FILMS, PIXEL_BYTES, TILE_SIZE, films_per_tile, tile_size
from crrg.models.detector import RegionDetector
from crrg.models.region_heads import AnySelector, FeatureSelector, RegionSelector
from tests.support.random_stages import DETECTOR, films, random_detector

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
SAME = 1e-5
GIB = 1 << 30
Stages = tuple[RegionDetector, AnySelector]


def large_stages() -> Stages:
    wide = {"input_size": LARGE_INPUT, "anchor_sizes": (48, 96, 192)}
    detector = random_detector(DetectorArchitecture.model_validate({**DETECTOR.model_dump(), **wide}))
    selector = SelectorArchitecture(input_size=LARGE_INPUT, width=4, detail_channels=0, feature_size=16)
    return detector, RegionSelector(selector).eval()


def large_paper_stages() -> Stages:
    detector = random_detector(narrow_detector(4, LARGE_INPUT))
    return detector, FeatureSelector(narrow_selector(4, LARGE_INPUT, 16)).eval()


def smallest_stages() -> Stages:
    detector = DetectorArchitecture(
        input_size=32, width=4, anchor_sizes=(8, 16), anchor_ratios=(0.7, 1.4), roi_channels=8, roi_size=2,
        representation_size=16, num_proposals=10, num_refinements=0,
    )  # fmt: skip
    selector = SelectorArchitecture(input_size=32, width=4, detail_channels=0, feature_size=16, roi_size=2)
    return random_detector(detector), RegionSelector(selector).eval()


def read(stages: Stages, images: np.ndarray[Any, np.dtype[np.uint8]]) -> RegionReadings:
    return read_regions(*stages, images, images)


def assert_same(found: RegionReadings, wanted: RegionReadings, *, atol: float = 0.0) -> None:
    """Compare probabilities as they are, boxes and features as shares of the largest."""
    for name, value in vars(wanted).items():
        size = max(1.0, float(np.abs(value).max()))
        np.testing.assert_allclose(vars(found)[name] / size, value / size, rtol=0, atol=atol, err_msg=name)


def rows(readings: RegionReadings, chosen: list[int]) -> RegionReadings:
    return RegionReadings(**{name: value[chosen] for name, value in vars(readings).items()})


@pytest.mark.parametrize("make", [large_stages, large_paper_stages])
def test_a_large_film_has_the_same_bits_alone_and_among_others(make: Callable[[], Stages]) -> None:
    stages, images = make(), films(5, LARGE_INPUT)
    many = read(stages, images)
    assert many.detected.any()
    assert np.ptp(many.scores, axis=0).max() > 0.01, "films differ, so that a mix-up would show"
    for chosen in ([2], [4, 1]):
        assert_same(read(stages, images[chosen]), rows(many, chosen))


def test_a_film_has_the_same_bits_alone_and_among_a_thousand() -> None:
    stages, images = smallest_stages(), films(1000, 32)
    many = read(stages, images)
    for row in (0, 517, 999):
        assert_same(read(stages, images[[row]]), rows(many, [row]))


def test_what_was_read_of_a_split_is_kept_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of half a million films the features have gigabytes; parts that are joined at the end would double them."""
    stages, images = smallest_stages(), films(40, 32)
    kept: list[Any] = []
    in_tiles = regions.in_tiles
    monkeypatch.setattr(regions, "in_tiles", lambda *given: kept.extend(in_tiles(*given)))
    readings = read(stages, images)
    assert kept == [None] * 3
    assert readings.features.shape[:2] == (40, 29)
    assert readings.features.dtype == np.float32


@pytest.mark.parametrize("make", [large_stages, large_paper_stages])
def test_halved_tiles_change_the_last_digits_alone(make: Callable[[], Stages], monkeypatch: pytest.MonkeyPatch) -> None:
    stages, images = make(), films(4, LARGE_INPUT)
    wanted, sizes, detect = read(stages, images), list[int](), stages[0].detect

    def cramped(tile: Tensor) -> Any:
        sizes.append(len(tile))
        if len(tile) > 2:
            raise torch.OutOfMemoryError
        return detect(tile)

    monkeypatch.setattr(regions, "tile_size", lambda *_, **__: 8)
    monkeypatch.setattr(stages[0], "detect", cramped)
    assert_same(read(stages, images), wanted, atol=SAME)
    assert sizes == [8, 4, 2, 2]


def test_a_cpu_reads_as_many_films_at_once_whatever_its_memory() -> None:
    assert films_per_tile(LARGE_INPUT - 1, CPU) == TILE_SIZE
    assert films_per_tile(LARGE_INPUT, CPU) == 1


@pytest.mark.parametrize(
    ("side", "free", "wanted"),
    [
        (512, 120 * GIB, MOST_FILMS),
        (512, 20 * GIB, MOST_FILMS),
        (512, 5 * GIB, 16),
        (512, 32 * PIXEL_BYTES * 512**2, 32),
        (512, 32 * PIXEL_BYTES * 512**2 - 1, 16),
        (1024, 5 * GIB, 4),
        (128, GIB // 2, MOST_FILMS),
        (512, 0, 1),
    ],
)
def test_a_gpu_reads_as_many_films_at_once_as_its_free_memory_takes(
    side: int, free: int, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = free // 4
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (free - kept, 140 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _device: kept + GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _device: GIB)
    assert films_per_tile(side, GPU) == wanted


@pytest.mark.parametrize(
    ("num_films", "most", "wanted"),
    [(1, 32, 1), (2, 32, 8), (15, 32, 8), (16, 32, 32), (300, 32, 32), (3, 8, 8), (1, 4, 1), (1, 2, 2), (1, 1, 1)],
)
def test_a_gpu_does_not_fill_up_few_films_to_many(
    num_films: int, most: int, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crrg.inference.tiles.free_memory", lambda _device: most * PIXEL_BYTES * 512**2)
    assert tile_size(num_films, 512, GPU, "exact", may_be_small=True) == wanted
    assert tile_size(num_films, 512, GPU, "exact", may_be_small=False) == most, "a night's digest"
    assert tile_size(num_films, 512, GPU, "fast", may_be_small=True) == most, "where small tiles would show"
    assert tile_size(num_films, 512, CPU, "exact", may_be_small=True) == films_per_tile(512, CPU)


def test_few_films_are_read_in_small_tiles_and_nearly_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    stages, images = smallest_stages(), films(40, 32)
    many, sizes, detect = read(stages, images), list[int](), stages[0].detect

    def counted(tile: Tensor) -> Any:
        sizes.append(len(tile))
        return detect(tile)

    def as_on_a_gpu(num_films: int, side: int, _device: torch.device, precision: Any, *, may_be_small: bool) -> int:
        assert not may_be_small
        return tile_size(num_films, side, GPU, precision, may_be_small=True)

    monkeypatch.setattr("crrg.inference.tiles.free_memory", lambda _device: 100 * GIB)
    monkeypatch.setattr(regions, "tile_size", as_on_a_gpu)
    monkeypatch.setattr(stages[0], "detect", counted)
    for num_films in (1, 9, 40):
        assert_same(read(stages, images[:num_films]), rows(many, list(range(num_films))), atol=SAME)
    assert sizes == [1, 8, 8, 32, 32]
