"""Real networks of the smallest size, trained for a few steps, with a tracker and a registry that only remember."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from crrg.config.models import ClipArchitecture, DetectorArchitecture, GeneratorArchitecture, SelectorArchitecture
from crrg.config.references import StageResult
from crrg.config.running import DecodingSettings
from crrg.config.training import (
    ClipTraining,
    DetectorTraining,
    GeneratorTraining,
    LoopConfig,
    PresetTraining,
    SelectorTraining,
)
from crrg.training.tracker import NullTracker

LOOP = LoopConfig(num_steps=2, batch_size=4)


def smallest() -> PresetTraining:
    return PresetTraining(
        detector=DetectorTraining(
            architecture=DetectorArchitecture(
                input_size=32, width=4, anchor_sizes=(16,), roi_channels=8, representation_size=16, num_proposals=10
            ),
            loop=LOOP,
        ),
        selector=SelectorTraining(
            architecture=SelectorArchitecture(input_size=32, width=4, detail_channels=4, feature_size=16), loop=LOOP
        ),
        generator=GeneratorTraining(
            architecture=GeneratorArchitecture(num_layers=1, hidden_size=16, vocab_size=300, feature_size=16),
            loop=LoopConfig(num_steps=60, batch_size=16, learning_rate=1e-2),
            decoding=DecodingSettings(num_beams=1, max_tokens=8),
        ),
        clip=ClipTraining(
            architecture=ClipArchitecture(
                input_size=32, image_width=4, text_layers=1, text_hidden_size=16, text_vocab_size=300, projection_size=8
            ),
            loop=LOOP,
        ),
    )


def smallest_paper() -> PresetTraining:
    """Return the smallest stages for films of 64 pixels: the paper's map has a cell for 32."""
    ours = smallest()
    finder = ours.detector.architecture.model_copy(update={"input_size": 64})
    return ours.model_copy(update={"detector": ours.detector.model_copy(update={"architecture": finder})})


class Remembering(NullTracker):
    logged: dict[str, float] = {}  # noqa: RUF012 - shared by all stages of the module on purpose
    pictures: dict[str, bytes] = {}  # noqa: RUF012
    params: dict[str, Any] = {}  # noqa: RUF012

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.logged.update(metrics)

    def log_params(self, params: Mapping[str, Any]) -> None:
        self.params.update(params)

    def log_picture(self, name: str, png: bytes) -> None:
        self.pictures[name] = png


@contextmanager
def remembered(*_: object) -> Iterator[Remembering]:
    yield Remembering()


class Unregistered:
    def __init__(self, *_: object) -> None:
        pass

    def register_stage(self, result: StageResult) -> str:
        return f"of crrg-{result.part}"


def noting_start(fit: Callable[..., Any], before: dict[str, dict[str, Tensor]]) -> Callable[..., Any]:
    """Return a training that first notes a copy of the network's weights under the name of its stage."""

    def noted(module: nn.Module, *arguments: Any, **named: Any) -> Any:
        before[named["folder"].stage] = {name: each.clone() for name, each in module.state_dict().items()}
        return fit(module, *arguments, **named)

    return noted
