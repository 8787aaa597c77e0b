"""Film to sentences and training steps on a GPU, model only: `python -m benchmarks.gpu_speed`.

The same random weights of the published size for our networks and for the straight re-implementation of the published
procedure (`benchmarks.generation`): detection and decoding of sentences, equally long ones and ones of drawn lengths,
ours at batches of 1, 8 and 32, exact and fast (bfloat16), with as many slots as a bundle of these settings has, the
published one film by film and 8 at once, in float32 and in the float16 that it was published with. Then a training step
of detector and CLIP in mixed precision, each beside the published way. Times are wall time between waits for the GPU,
the median of the repeats after one that is not counted. Only the side that is measured lies on the GPU; its weights,
`weights_gib`, are part of the peak of memory, `peak_gib`, and so is what it keeps from earlier measurements: `held_gib`
is all that lay there before. What does not fit into `--seconds` is left out, and said so. `--size tiny --device cpu`
tries the program, not the speed.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.classification.speed_training import Sides as ClipSides
from benchmarks.generation import procedure
from benchmarks.generation.models import (
    LONGEST,
    MEDIAN,
    SHORTEST,
    SPREAD,
    Ours,
    Words,
    _as,
    _favour_small_anchors,
    _make_lively,
    _select_a_third,
)
from benchmarks.generation.pieces import SELECTION_LOGIT
from benchmarks.generation.published import PUBLISHED_SIZES, FullModel, ModelSizes, full_model, random_film
from benchmarks.training_step import drawn_batch, torchvisions_way
from crrg.config.base import Precision
from crrg.config.models import DecodingSettings
from crrg.config.paper import PAPER_DETECTOR
from crrg.device import autocast, resolve_device
from crrg.domain.report import Report
from crrg.importers.rgrg import stages_of
from crrg.importers.torch_file import TorchContents
from crrg.inference.decoding import DecodedPhrase, decode_hypotheses
from crrg.models.backbone import normalise_films
from crrg.models.detector import RegionDetector
from crrg.models.region_heads import FeatureSelector
from crrg.models.report_generator import ReportGenerator
from crrg.training.detector import DetectorBatch, detector_loss

SEED = 20261124
NUM_WORDS = 27
GIB = 2**30
REPEATS = 3
MOST_PUBLISHED = 8
TARGETS = "at batch 32: at most 5 ms a film, 30 times the published film by film, 6 times it at 8 films together"


@dataclass
class Clock:
    """Measures until the time is up.

    Attributes:
        device: What is waited for.
        until: By ``time.monotonic``, when nothing new is begun.
        rows: What was measured.
        left_out: Names of what was not.
    """

    device: torch.device
    until: float
    rows: dict[str, dict[str, float]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def take(self, name: str, number: int, work: Callable[[], Any], repeats: int = REPEATS) -> None:
        """Note the milliseconds of each of ``number`` things that ``work`` does, and the peak of memory."""
        if time.monotonic() > self.until:
            self.left_out.append(name)
            return
        self._wait()
        held = 0
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            held = torch.cuda.memory_allocated()
        taken = []
        try:
            for _ in range(1 + repeats):
                start = time.perf_counter()
                work()
                self._wait()
                taken.append(time.perf_counter() - start)
                if time.monotonic() > self.until:
                    break
        except torch.OutOfMemoryError:
            self.left_out.append(f"{name} (memory)")
            return
        self.rows[name] = {"ms": 1000 * median(taken[1:] or taken) / number, "repeats": max(1, len(taken) - 1)}
        if self.device.type == "cuda":
            self.rows[name] |= {"peak_gib": torch.cuda.max_memory_allocated() / GIB, "held_gib": held / GIB}
        print(f"{name}: {self.rows[name]}", flush=True)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def both_sides(sizes: ModelSizes) -> tuple[FullModel, Ours]:
    """Return the published layout and ours with the same random weights, on the CPU."""
    published = full_model(SEED, sizes)
    _make_lively(published)
    _favour_small_anchors(published)
    _select_a_third(published, torch.cat([random_film(100 + number) for number in range(2)]))
    names: dict[tuple[int, torch.Size], str] = {}
    tensors, aliases = {}, {}
    for name, tensor in published.state_dict().items():
        first = names.setdefault((tensor.data_ptr(), tensor.shape), name)
        if first == name:
            tensors[name] = tensor
        else:
            aliases[name] = first
    stages = {stage.stage: stage for stage in stages_of(TorchContents(tensors, aliases, {}))}
    ours = Ours(
        detector=_as(stages["detector"].module.eval(), RegionDetector),
        selector=_as(stages["selector"].module.eval(), FeatureSelector),
        generator=_as(stages["generator"].module.eval(), ReportGenerator),
        decoding=DecodingSettings.model_validate(stages["generator"].config["decoding"]),
        import_s=0.0,
    )
    return published, ours


def drawn_lengths(num_films: int, longest: int) -> Tensor:
    """Return how many words the sentence of each region of each film has ``[N, 29]``, log-normal as in the protocol."""
    drawn = np.exp(np.random.default_rng(SEED).normal(np.log(MEDIAN), SPREAD, size=(num_films, 29)))
    return torch.from_numpy(drawn.round().clip(SHORTEST, longest).astype(np.int64))


def weights_gib(modules: Sequence[nn.Module]) -> float:
    """Return the memory that the weights of modules take, shared ones once."""
    kept = {tensor.data_ptr(): tensor.nbytes for module in modules for tensor in module.state_dict().values()}
    return sum(kept.values()) / GIB


class Numbers(Words):
    """Spells tokens as numbers; the last one ends a sentence."""

    def __init__(self, end_id: int) -> None:
        """Let a token end a sentence."""
        self.end_id = end_id


class Drafting:
    """Films to sentences on both sides; only the side that is measured lies on the device.

    Attributes:
        said: The sentences of equal and of drawn lengths, of each pass by its name.
        weights_gib: Memory that the weights of each side take.
    """

    def __init__(self, clock: Clock, sizes: ModelSizes, num_films: int, num_words: int) -> None:
        """Draw weights, films and lengths."""
        self.clock, self.num_words = clock, num_words
        self.words = Numbers(sizes.vocab_size - 1)
        self.published, self.ours = both_sides(sizes)
        self.films = torch.cat([random_film(100 + number) for number in range(num_films)]).to(clock.device)
        self.lengths = drawn_lengths(num_films, min(LONGEST, sizes.num_positions // 2))
        self.said: dict[str, dict[str, list[str]]] = defaultdict(dict)
        networks = self.ours.detector, self.ours.selector, self.ours.generator
        self.weights_gib = {"ours": weights_gib(networks), "published": weights_gib([self.published])}

    @torch.inference_mode()
    def measure_ours(self, batches: Sequence[int]) -> None:
        """Measure our networks on as many films at once, exact and fast."""
        own = self.ours
        # copies, so that what they keep for later goes with them
        detector, selector, generator = (
            copy.deepcopy(own.detector).to(self.clock.device),
            copy.deepcopy(own.selector).to(self.clock.device),
            copy.deepcopy(own.generator).to(self.clock.device),
        )
        there = replace(own, detector=detector, selector=selector, generator=generator)
        for batch in batches:
            for precision in get_args(Precision):
                self._measure_ours(there, batch, precision)

    def _measure_ours(self, ours: Ours, batch: int, precision: Precision) -> None:
        films, device, name = self.films[:batch], self.clock.device, f"ours, {precision}, batch {batch}"
        settings = ours.decoding.model_copy(update={"precision": precision})
        with autocast(device, precision):
            found = ours.detector.detect(films)
            judged = ours.selector(found.region_features)
        chosen = found.detected & (judged.selection_logits.float() > SELECTION_LOGIT)
        rows = judged.features.float()[chosen]
        given = rows, torch.zeros(len(rows), dtype=torch.long), torch.zeros(len(rows), 15), settings

        def detect() -> None:
            with autocast(device, precision):
                ours.detector.detect(films)

        self.clock.take(f"detection, {name}", batch, detect)
        for kind, words in self._lengths(chosen).items():
            phrases: list[list[DecodedPhrase]] = []

            def decode(words: list[int] = words, phrases: list[list[DecodedPhrase]] = phrases) -> None:
                phrases[:] = decode_hypotheses(ours.generator, self.words, *given, num_words=words)

            self.clock.take(f"decoding{kind}, {name}", batch, decode)
            self.said[kind][name] = [found[0].text for found in phrases]

    @torch.no_grad()
    def measure_published(self, batches: Sequence[int]) -> None:
        """Measure the published procedure on as many films at once, on a GPU in mixed precision, too."""
        there = copy.deepcopy(self.published).to(self.clock.device)
        for batch in batches:
            self._measure_published(there, batch, None)
            if self.clock.device.type == "cuda":
                self._measure_published(there, batch, torch.float16)

    def _measure_published(self, published: FullModel, batch: int, dtype: torch.dtype | None) -> None:
        name = f"published, {'float16' if dtype else 'float32'}, batch {batch}"
        with torch.autocast(self.clock.device.type, dtype=dtype) if dtype else nullcontext():
            films = normalise_films(self.films[:batch])
            _, detected, features = published.object_detector(films)
            logits = published.binary_classifier_region_selection.classifier(features)[..., 0]
            chosen = detected & (logits > SELECTION_LOGIT)
            rows = features[chosen].float()
            self.clock.take(f"detection, {name}", batch, lambda: published.object_detector(films), 1)
            for kind, words in self._lengths(chosen).items():
                found: list[Any] = []

                def decode(words: list[int] = words, found: list[Any] = found) -> None:
                    model, end_id = published.language_model, self.words.end_id
                    found[:] = procedure.beam_search(model, rows, end_id, num_words=words)

                self.clock.take(f"decoding{kind}, {name}", batch, decode, 1)
                self.said[kind][name] = [self.words.decode(tuple(each[0][1])) for each in found]

    def _lengths(self, chosen: Tensor) -> dict[str, list[int]]:
        """Return the words of the sentences of chosen regions ``[B, 29]``, equally many and drawn ones."""
        drawn: list[int] = self.lengths[: len(chosen)][chosen.cpu()].tolist()
        return {"": [self.num_words] * len(drawn), " of drawn lengths": drawn}


def measure_drafting(clock: Clock, sizes: ModelSizes, batches: Sequence[int], num_words: int) -> dict[str, Any]:
    """Measure both sides, one after the other; return how many sentences they have in common."""
    drafting = Drafting(clock, sizes, max(batches), num_words)
    for side, own in (
        (drafting.measure_ours, batches),
        (drafting.measure_published, [batch for batch in batches if batch <= MOST_PUBLISHED]),
    ):
        side(own)
        gc.collect()
        if clock.device.type == "cuda":
            torch.cuda.empty_cache()
    shared = {f"same sentences{kind}": _in_common(said) for kind, said in drafting.said.items()}
    return {**shared, "weights_gib": drafting.weights_gib}


def _in_common(said: dict[str, list[str]]) -> dict[str, str]:
    """Return of each pass how many of its sentences are those of the published one in float32, film by film."""
    wanted = said.get("published, float32, batch 8") or next(
        (texts for name, texts in said.items() if name.startswith("published, float32")), []
    )
    return {
        name: f"{sum(a == b for a, b in zip(texts, wanted, strict=False))} of {min(len(texts), len(wanted))}"
        for name, texts in said.items()
    }


def measure_detector_step(clock: Clock, is_tiny: bool, batch: int) -> None:
    """Measure a step of the paper's detector without its optimiser, ours and torchvision's way."""
    architecture = PAPER_DETECTOR
    if is_tiny:
        architecture = architecture.model_copy(update={"resnet_width": 4, "representation_size": 64})
    films, boxes = (part.to(clock.device) for part in drawn_batch(batch, architecture.input_size))
    for name, way in (("ours", nullcontext()), ("torchvision's way", torchvisions_way())):
        torch.manual_seed(0)
        model = RegionDetector(architecture).to(clock.device).train()
        model.fit_regions(boxes / architecture.input_size)

        def step(model: RegionDetector = model) -> None:
            with autocast(clock.device):
                loss, _ = detector_loss(model)(DetectorBatch(films, boxes))
            loss.backward()
            model.zero_grad()

        with way:
            clock.take(f"detector step, {name}, batch {batch}", batch, step)


def measure_clip_step(clock: Clock, batch: int) -> None:
    """Measure a CLIP step of the paper's recipe, of both sides."""
    reports = [Report(findings=f"The lungs are clear. There is a small effusion, number {row}.") for row in range(64)]
    sides = ClipSides(batch, [*reports] * (1 + batch // 64), device=clock.device)
    for side in ("published", "same maths", "our recipe"):
        network, loss_of = sides.losses()[side]
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.0)

        def step(loss_of: Callable[[], Tensor] = loss_of, optimizer: torch.optim.AdamW = optimizer) -> None:
            with autocast(clock.device):
                loss = loss_of()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        clock.take(f"CLIP step, {side}, batch {batch}", batch, step)


def main() -> int:
    """Measure, print a table and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=("published", "tiny"), default="published")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=300.0, help="begin nothing new after this long")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    clock = Clock(resolve_device(options.device), time.monotonic() + options.seconds)
    is_tiny = options.size == "tiny"
    found: dict[str, Any] = {"size": options.size, "torch": torch.__version__, "device": str(clock.device)}
    if clock.device.type == "cuda":
        found["name"] = torch.cuda.get_device_name()
    sizes = ModelSizes() if is_tiny else PUBLISHED_SIZES
    found |= measure_drafting(clock, sizes, options.batches, 5 if is_tiny else NUM_WORDS)
    measure_detector_step(clock, is_tiny, min(8, max(options.batches)))
    if not is_tiny:
        measure_clip_step(clock, 128)
    found |= {"milliseconds": clock.rows, "left out": clock.left_out, "targets": TARGETS}
    print(json.dumps(found, indent=1))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
