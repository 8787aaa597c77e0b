"""Films are read in all digits, and in smaller tiles where memory is short."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from crrg.config.models import DecodingSettings, DetectorArchitecture, SelectorArchitecture
from crrg.domain.study import Film, ViewPosition
from crrg.inference import pipeline, regions
from crrg.inference.pipeline import ReportPipeline
from crrg.inference.regions import read_regions
from crrg.models.detector import RegionDetector
from crrg.models.region_heads import RegionSelector

FULL = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes. Error code 12"
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 64, 64), dtype=np.uint8)


def stages() -> tuple[RegionDetector, RegionSelector]:
    torch.manual_seed(0)
    detector = RegionDetector(
        DetectorArchitecture(
            input_size=64, width=8, anchor_sizes=(8, 16, 32), anchor_ratios=(0.5, 1.0, 2.0), num_proposals=20,
            representation_size=32, roi_channels=8,
        )
    )  # fmt: skip
    selector = RegionSelector(SelectorArchitecture(input_size=64, width=4, detail_channels=0, feature_size=8))
    return detector.eval(), selector.eval()


def cramped(work: Callable[[Tensor], Any], sizes: list[int]) -> Callable[[Tensor], Any]:
    """Return what a machine does that has no memory for more than four films."""

    def worked(images: Tensor) -> Any:
        sizes.append(len(images))
        if len(images) > 4:
            raise RuntimeError(FULL)
        return work(images)

    return worked


def test_few_films_are_read_in_smaller_tiles_where_memory_is_short(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    detector, selector = stages()
    wanted = read_regions(detector, selector, IMAGES, IMAGES)
    sizes: list[int] = []
    monkeypatch.setattr(detector, "detect", cramped(detector.detect, sizes))
    found = read_regions(detector, selector, IMAGES, IMAGES)
    assert sizes == [16, 8, 4, 4]
    assert "out of memory; continuing with batches of 4" in caplog.text
    for name, value in vars(wanted).items():
        np.testing.assert_allclose(vars(found)[name], value, rtol=1e-5, atol=1e-4, err_msg=name)


class StandInClip(nn.Module):
    architecture = SimpleNamespace(input_size=32)

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.sizes: list[int] = []

    def read_films(self, images: Tensor) -> Any:
        def read(films: Tensor) -> Any:
            means = films.float().mean(dim=(1, 2, 3))[:, None]
            return SimpleNamespace(image_features=means, label_logits=means.expand(-1, 14))

        return cramped(read, self.sizes)(images)


def drafting(**parts: Any) -> ReportPipeline:
    made = object.__new__(ReportPipeline)
    for name, part in parts.items():
        object.__setattr__(made, name, part)
    return made


def films(number: int) -> list[Film]:
    return [Film(IMAGES[i], 64, 64, ViewPosition.PA, None, False, bytes([i] * 32)) for i in range(number)]


def test_labels_are_read_in_smaller_tiles_where_memory_is_short() -> None:
    clip = StandInClip()
    made = drafting(
        clip=clip, calibration=SimpleNamespace(probabilities=lambda logits: logits), decoding=DecodingSettings()
    )
    reading = made.read_labels(films(6))
    assert clip.sizes == [16, 8, 4, 4]
    assert reading.image_features[:, 0].tolist() == pytest.approx(IMAGES[:6].mean(axis=(1, 2)).tolist(), rel=0.05)
    assert reading.probabilities.shape == (6, 14)


@pytest.mark.parametrize("precision", ["exact", "fast"])
def test_films_are_read_as_precisely_as_phrases_are_decoded(precision: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def recorded(_device: torch.device, wanted: str) -> nullcontext[None]:
        asked.append(wanted)
        return nullcontext()

    for module in (pipeline, regions):
        monkeypatch.setattr(module, "autocast", recorded)
    detector, selector = stages()
    made = drafting(
        clip=StandInClip(), calibration=SimpleNamespace(probabilities=lambda logits: logits),
        detector=detector, selector=selector, visibility=None, decoding=DecodingSettings(precision=precision),
    )  # fmt: skip
    made.read_regions(films(2))
    made.read_labels(films(2))
    assert asked
    assert set(asked) == {precision}
    asked.clear()
    read_regions(detector, selector, IMAGES[:2], IMAGES[:2])
    assert asked == ["exact"], "as for choosing thresholds and training the generator"
