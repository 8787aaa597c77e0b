"""Our architecture and the paper's, each trained by its own rules, stage by stage, on the same films.

Ours: every stage on the frozen ones before it. The paper's: the detector, then detector and heads, then all three
(``crrg.training.paper_together``). Each stage of both gets the same CPU seconds. What is chosen on validation films
after the last step (our thresholds) is part of the architecture and not of the budget; the paper's are fixed.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch

from benchmarks.generation_quality.budget import CPU, CpuClock, Effort, Limit, fit_within
from benchmarks.generation_quality.matching import Narrowed
from crrg.config.models import DecodingSettings
from crrg.config.paper import LOGIT_THRESHOLD_PROBABILITY, PAPER_DECODING
from crrg.config.references import DatasetRef
from crrg.config.training import GeneratorTraining, LoopConfig, PresetTraining
from crrg.data.dataset.batches import FilmTable, load_films
from crrg.data.tokenizer import PhraseTokenizer, train_tokenizer
from crrg.device import seed_everything
from crrg.domain.labels import NUM_LABELS
from crrg.domain.study import Split
from crrg.inference.regions import RegionReadings, RegionThresholds, read_regions
from crrg.models.detector import RegionDetector
from crrg.models.region_heads import AnySelector, FeatureSelector, RegionSelector
from crrg.models.report_generator import ReportGenerator
from crrg.storage import Storage
from crrg.training import detector as detecting
from crrg.training import paper_together
from crrg.training import selector as selecting
from crrg.training.generator import build_generator
from crrg.training.generator_scores import tuned
from crrg.training.phrase_batches import PhraseSampler, collect_phrases
from crrg.training.phrase_loss import phrase_loss
from crrg.training.read_films import ReadFilms
from crrg.training.region_films import with_boxes
from crrg.training.selector_scores import choose_thresholds, judge_films

NEVER = 2.0
"""No probability reaches it."""
NUM_VALIDATION_FILMS = 120


@dataclass(frozen=True)
class Parts:
    """Networks trained so far.

    Attributes:
        detector: After the first stage.
        selector: After the second.
        generator: After the third.
        thresholds: The selector's.
    """

    detector: RegionDetector | None = None
    selector: AnySelector | None = None
    generator: ReportGenerator | None = None
    thresholds: RegionThresholds | None = None


@dataclass(frozen=True)
class Order:
    """How a stage is to be trained.

    Attributes:
        rate: Highest learning rate.
        seed: Of weights, order and augmentation.
        limit: Where to end.
        is_trial: Whether only steps count, not what stages before say of the films: trials would read them again and
            again.
    """

    rate: float
    seed: int
    limit: Limit
    is_trial: bool = False

    def counted_from(self, start: CpuClock) -> CpuClock:
        """Return the clock that counts: from the start of the stage, or for a trial from now on."""
        return CpuClock() if self.is_trial else start


class Films:
    """The training and validation films of a dataset, and the vocabulary of the training phrases."""

    def __init__(self, storage: Storage, dataset: DatasetRef, vocab_size: int) -> None:
        """Name the dataset; films are read when they are first asked for."""
        self._storage = storage
        self._dataset = dataset
        self._vocab_size = vocab_size
        self._read: dict[tuple[Split, int], FilmTable] = {}

    def of(self, split: Split, size: int) -> FilmTable:
        """Return the films of a split at an input size; of the validation split the first 120."""
        if (split, size) not in self._read:
            limit = NUM_VALIDATION_FILMS if split == Split.VALIDATION else 0
            self._read[split, size] = load_films(self._storage, self._dataset, split, size, limit)
        return self._read[split, size]

    @functools.cached_property
    def tokenizer(self) -> PhraseTokenizer:
        """The vocabulary, which does not depend on any network."""
        films = load_films(self._storage, self._dataset, Split.TRAIN, 32)
        return train_tokenizer((text for row in films.phrases for text in row.values()), self._vocab_size)


class Contender(Protocol):
    """An architecture that can be trained."""

    name: str
    decoding: DecodingSettings

    def changes(self, stage: str) -> tuple[str, ...]:
        """Return the parts that a stage trains."""

    def train(self, stage: str, parts: Parts, films: Films, order: Order) -> tuple[Parts, Effort]:
        """Train a stage on the parts of the stages before; they may be changed."""

    def read(self, parts: Parts, films: Films, split: Split) -> ReadFilms:
        """Return what detector and selector say of the films of a split."""


class Ours:
    """``crrg``, at a preset's sizes."""

    def __init__(self, settings: PresetTraining, name: str = "crrg") -> None:
        """Keep the settings; their learning rates and numbers of steps are replaced."""
        self.name = name
        self.settings = settings
        self.decoding = settings.generator.decoding

    def changes(self, stage: str) -> tuple[str, ...]:
        """Return the stage's own part."""
        return (stage,)

    def train(self, stage: str, parts: Parts, films: Films, order: Order) -> tuple[Parts, Effort]:
        """Train one stage on frozen ones before it."""
        seed_everything(order.seed)
        steps = {"detector": self._detector, "selector": self._selector, "generator": self._generator}
        return steps[stage](parts, films, order)

    def read(self, parts: Parts, films: Films, split: Split) -> ReadFilms:
        """Return what detector and selector say of the films of a split."""
        assert parts.detector is not None
        assert parts.selector is not None
        assert parts.thresholds is not None
        table = films.of(split, self.settings.detector.architecture.input_size)
        images = films.of(split, self.settings.selector.architecture.input_size).images
        return ReadFilms(table, read_regions(parts.detector, parts.selector, table.images, images), parts.thresholds)

    def _detector(self, parts: Parts, films: Films, order: Order) -> tuple[Parts, Effort]:
        settings = self.settings.detector
        table = films.of(Split.TRAIN, settings.architecture.input_size)
        clock = CpuClock()
        model = RegionDetector(settings.architecture)
        effort = fit_detector(model, table, settings, order, clock)
        detecting.calibrate_shape(model, table, CPU)
        return replace(parts, detector=model), effort

    def _selector(self, parts: Parts, films: Films, order: Order) -> tuple[Parts, Effort]:
        assert parts.detector is not None
        loop = with_rate(self.settings.selector.loop, order.rate)
        settings = self.settings.selector.model_copy(update={"loop": loop})
        size, finder_size = settings.architecture.input_size, self.settings.detector.architecture.input_size
        clock = CpuClock()
        train = with_boxes(films.of(Split.TRAIN, size), films.of(Split.TRAIN, finder_size).images, parts.detector, CPU)
        model = selecting.build_selector(settings, train.targets, parts.detector, CPU)
        effort = fit_within(
            model,
            selecting.batch_maker(train, settings, order.seed, CPU),
            selecting.selector_loss(model, settings),
            loop,
            order.limit,
            order.counted_from(clock),
        )
        return replace(parts, selector=model, thresholds=self._thresholds(model, parts.detector, films)), effort

    def _thresholds(self, model: RegionSelector, detector: RegionDetector, films: Films) -> RegionThresholds:
        size, finder_size = model.architecture.input_size, detector.architecture.input_size
        seen = with_boxes(
            films.of(Split.VALIDATION, size), films.of(Split.VALIDATION, finder_size).images, detector, CPU
        )
        chosen = choose_thresholds(judge_films(model, seen, CPU), seen.targets)
        return RegionThresholds.from_config({"thresholds": chosen})

    def _generator(self, parts: Parts, films: Films, order: Order) -> tuple[Parts, Effort]:
        loop = with_rate(self.settings.generator.loop, order.rate)
        settings = self.settings.generator.model_copy(update={"loop": loop})
        tokenizer = films.tokenizer
        clock = CpuClock()
        read = self.read(parts, films, Split.TRAIN)
        table = collect_phrases(read.films, read.readings.features, read.readings.flags(read.thresholds))
        model = build_generator(settings, tokenizer, table.features.shape[1], None, features=table.features)
        effort = fit_within(
            model,
            PhraseSampler(table, tokenizer, settings, order.seed).batch,
            lambda batch: (phrase_loss(model, batch), {}),
            loop,
            order.limit,
            order.counted_from(clock),
        )
        chosen = tuned(model, tokenizer, self.read(parts, films, Split.VALIDATION), settings).thresholds
        return replace(parts, generator=model, thresholds=chosen), effort


class Papers:
    """``paper``, narrowed: RGRG's three stages."""

    def __init__(self, narrowed: Narrowed, settings: PresetTraining, name: str = "paper") -> None:
        """Keep the sizes; batch size, schedule and augmentation are those of our detector."""
        self.name = name
        self.narrowed = narrowed
        self.settings = settings
        self.decoding = PAPER_DECODING

    def changes(self, stage: str) -> tuple[str, ...]:
        """Return the stage's part and all before it, which learn on."""
        parts = ("detector", "selector", "generator")
        return parts[: parts.index(stage) + 1]

    def train(self, stage: str, parts: Parts, films: Films, order: Order) -> tuple[Parts, Effort]:
        """Train one stage, and those before it on."""
        seed_everything(order.seed)
        table = films.of(Split.TRAIN, self.narrowed.detector.input_size)
        if stage == "detector":
            clock = CpuClock()
            model = RegionDetector(self.narrowed.detector)
            effort = fit_detector(model, table, self.settings.detector, order, clock)
            return replace(parts, detector=model), effort
        words = None
        if stage == "generator":
            update = {"vocab_size": films.tokenizer.vocab_size}
            words = ReportGenerator(self.narrowed.generator.model_copy(update=update))
        clock = CpuClock()
        assert parts.detector is not None
        tokenizer = films.tokenizer if words is not None else None
        found = paper_together.find_proposals(parts.detector, table, tokenizer, self.narrowed.generator.max_length)
        heads = parts.selector or FeatureSelector(self.narrowed.selector)
        assert isinstance(heads, FeatureSelector)
        whole = paper_together.WholeModel(parts.detector, heads, words)
        loop = with_rate(self.settings.detector.loop, order.rate)
        effort = fit_within(
            whole,
            paper_together.batch_maker(found, loop.batch_size, self.settings.detector.augmentation, order.seed),
            paper_together.whole_loss(whole),
            loop,
            order.limit,
            order.counted_from(clock),
        )
        return Parts(whole.detector, whole.selector, whole.generator, fixed_thresholds()), effort

    def read(self, parts: Parts, films: Films, split: Split) -> ReadFilms:
        """Return what detector and heads say of the films of a split."""
        assert parts.detector is not None
        assert parts.selector is not None
        table = films.of(split, self.narrowed.detector.input_size)
        readings: RegionReadings = read_regions(parts.detector, parts.selector, table.images, table.images)
        return ReadFilms(table, readings, fixed_thresholds())


def fit_detector(model: RegionDetector, films: FilmTable, settings: Any, order: Order, clock: CpuClock) -> Effort:
    """Train a detector from random weights by the four losses of Faster R-CNN."""
    model.fit_regions(torch.from_numpy(films.input_boxes_xyxy / model.architecture.input_size))
    loop = with_rate(settings.loop, order.rate)
    settings = settings.model_copy(update={"loop": loop})
    return fit_within(
        model,
        detecting.batch_maker(films, settings, order.seed, CPU),
        detecting.detector_loss(model),
        loop,
        order.limit,
        clock,
    )


def fixed_thresholds() -> RegionThresholds:
    """Return the paper's thresholds: both heads at a logit of -1, findings never."""
    limit = LOGIT_THRESHOLD_PROBABILITY
    return RegionThresholds(limit, limit, limit, np.full(NUM_LABELS, NEVER, dtype=np.float32))


def with_rate(loop: LoopConfig, rate: float) -> LoopConfig:
    """Return the loop with another highest learning rate."""
    return loop.model_copy(update={"learning_rate": rate})


def drafting(contender: Contender, settings: PresetTraining) -> GeneratorTraining:
    """Return settings of the generator stage that draft as a contender does."""
    return settings.generator.model_copy(update={"decoding": contender.decoding})
