"""Architectures of one size: the paper's narrowed until it has as many parameters as ours, and how far they differ."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn

from crrg.config.models import DetectorArchitecture, GeneratorArchitecture, SelectorArchitecture
from crrg.config.paper import (
    FEATURES_PER_CHANNEL,
    PUBLISHED_BASE_CHANNELS,
    narrow_detector,
    narrow_generator,
    narrow_selector,
)
from crrg.config.training import PresetTraining
from crrg.models.detector import RegionDetector
from crrg.models.region_heads import FeatureSelector, RegionSelector
from crrg.models.report_generator import ReportGenerator

PARTS = ("detector", "selector", "generator")
TOLERANCE = 0.1
INPUT_SHARE = 2
"""The paper's map has a cell per 32 pixels; films of twice our side keep as many cells as a small film can give."""
LEAST_WIDTH = 16
READING = "detector and selector"
Width = TypeVar("Width")


@dataclass(frozen=True)
class Narrowed:
    """The paper's three networks at another size, or three others that are compared with ours.

    Attributes:
        detector: ResNet-50 of few channels, and all of the paper's rules.
        selector: The two heads.
        generator: The language model.
    """

    detector: DetectorArchitecture
    selector: SelectorArchitecture
    generator: GeneratorArchitecture


def num_parameters(architecture: object) -> int:
    """Return how many parameters the network of an architecture has; ``TypeError`` for what is none."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build(architecture).parameters())


def build(architecture: object) -> nn.Module:
    """Return a network with random weights."""
    match architecture:
        case DetectorArchitecture():
            return RegionDetector(architecture)
        case SelectorArchitecture(backbone="detector"):
            return FeatureSelector(architecture)
        case SelectorArchitecture():
            return RegionSelector(architecture)
        case GeneratorArchitecture():
            return ReportGenerator(architecture)
        case _:
            raise TypeError(f"no architecture: {type(architecture).__name__}")


def narrow_to(ours: PresetTraining, vocab_size: int, base_channels: int = 0) -> Narrowed:
    """Return the paper's networks with as many parameters as ours.

    Detector and selector are matched together: the paper's heads read the detector's own features, ours have a network
    of their own, so that what ours spends on it goes into the paper's backbone.

    Args:
        ours: Our networks.
        vocab_size: Tokens of the vocabulary that both learn.
        base_channels: Channels of the backbone's first layer; 0 takes the closest in the published proportions. The
            width of box head and region feature, 16 times as many as published, then makes up for what is left.
    """
    size = INPUT_SHARE * ours.detector.architecture.input_size
    wanted = {part: num_parameters(architecture) for part, architecture in _ours(ours, vocab_size).items()}
    reading = wanted["detector"] + wanted["selector"]
    pairs = [(width, FEATURES_PER_CHANNEL * width) for width in range(1, PUBLISHED_BASE_CHANNELS + 1)]
    base = base_channels or closest(pairs, lambda pair: _readers(size, *pair), reading)[0]
    usual = max(LEAST_WIDTH, FEATURES_PER_CHANNEL * base)
    pairs = [(base, width) for width in range(max(LEAST_WIDTH, usual // 2), 2 * usual + 1)]
    _, feature_size = closest(pairs, lambda pair: _readers(size, *pair), reading)
    words = ours.generator.architecture

    def wording(width: int) -> GeneratorArchitecture:
        return narrow_generator(width, words.num_layers, words.num_heads, feature_size, vocab_size, words.max_length)

    widths = range(LEAST_WIDTH, 2 * words.hidden_size + 1, words.num_heads)
    width = closest(widths, lambda width: (wording(width),), wanted["generator"])
    return Narrowed(*_readers(size, base, feature_size), wording(width))


def networks_of(settings: PresetTraining, vocab_size: int) -> Narrowed:
    """Return the networks of one of ours, to be compared with the first."""
    return Narrowed(**_ours(settings, vocab_size))


def compare_sizes(
    ours: PresetTraining,
    other: Narrowed,
    vocab_size: int,
    name: str = "paper",
    way_out: str = "name other --paper-channels",
) -> dict[str, dict[str, int]]:
    """Return the parameters of both by part, of detector and selector together, and in all.

    Args:
        ours: Our networks.
        other: What they are compared with.
        vocab_size: Tokens of the vocabulary that both learn.
        name: Of what they are compared with.
        way_out: For the message.

    Raises:
        AssertionError: They differ by more than a tenth in what finds and reads regions, in what words them, or in all.
    """
    sizes = {
        part: {"crrg": num_parameters(architecture), name: num_parameters(getattr(other, part))}
        for part, architecture in _ours(ours, vocab_size).items()
    }
    sums = {READING: PARTS[:2], "all": PARTS}
    sizes |= {
        title: {which: sum(sizes[part][which] for part in parts) for which in ("crrg", name)}
        for title, parts in sums.items()
    }
    for part in (READING, "generator", "all"):
        each = sizes[part]
        if abs(each[name] / each["crrg"] - 1) > TOLERANCE:
            raise AssertionError(
                f"{part}: {each[name]} parameters beside {each['crrg']}, more than {TOLERANCE:.0%} apart; {way_out}"
            )
    return sizes


def _readers(size: int, base: int, feature_size: int) -> tuple[DetectorArchitecture, SelectorArchitecture]:
    return narrow_detector(base, size, feature_size), narrow_selector(base, size, feature_size)


def _ours(ours: PresetTraining, vocab_size: int) -> dict[str, Any]:
    architectures = {part: getattr(ours, part).architecture for part in PARTS}
    update = {"vocab_size": vocab_size, "feature_size": architectures["selector"].feature_size}
    return {**architectures, "generator": architectures["generator"].model_copy(update=update)}


def closest(widths: Sequence[Width], make: Callable[[Width], Iterable[object]], wanted: int) -> Width:
    """Return the one of increasing widths whose networks together come closest to a number of parameters."""

    def size(width: Width) -> int:
        return sum(num_parameters(architecture) for architecture in make(width))

    place = bisect.bisect_left(widths, wanted, hi=len(widths) - 1, key=size)
    return min(widths[max(0, place - 1) : place + 1], key=lambda width: abs(size(width) - wanted))
