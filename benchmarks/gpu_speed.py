"""Film to sentences and training steps on a GPU, model only: `python -m benchmarks.gpu_speed`.

The same random weights of the published size for our networks and for the straight re-implementation of the published
procedure (`benchmarks.generation`): detection and decoding of equally long sentences, ours at batches of 1, 8 and 32,
exact and fast (bfloat16), the published one film by film and 8 at once, in float32 and in the float16 that it was
published with. Then a training step of detector and CLIP in mixed precision, each beside the published way. Times are
wall time between waits for the GPU, the median of the repeats after one that is not counted. What does not fit into
`--seconds` is left out, and said so. `--size tiny --device cpu` tries the program, not the speed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.classification.speed_training import Sides as ClipSides
from benchmarks.generation import procedure
from benchmarks.generation.models import Ours, Words, _as, _make_lively, _select_a_third
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
from crrg.inference.decoding import decode_hypotheses
from crrg.models.backbone import normalise_films
from crrg.models.detector import RegionDetector
from crrg.models.region_heads import FeatureSelector
from crrg.models.report_generator import ReportGenerator
from crrg.training.detector import DetectorBatch, detector_loss

SEED = 20261124
NUM_WORDS = 27
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
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
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
            self.rows[name]["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
        print(f"{name}: {self.rows[name]}", flush=True)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def both_sides(sizes: ModelSizes, device: torch.device) -> tuple[FullModel, Ours]:
    """Return the published layout and ours with the same random weights."""
    published = full_model(SEED, sizes)
    _make_lively(published)
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
        detector=_as(stages["detector"].module.eval().to(device), RegionDetector),
        selector=_as(stages["selector"].module.eval().to(device), FeatureSelector),
        generator=_as(stages["generator"].module.eval().to(device), ReportGenerator),
        decoding=DecodingSettings.model_validate(stages["generator"].config["decoding"]),
        import_s=0.0,
    )
    return published.to(device), ours


class Numbers(Words):
    """Spells tokens as numbers; the last one ends a sentence."""

    def __init__(self, end_id: int) -> None:
        """Let a token end a sentence."""
        self.end_id = end_id


class Drafting:
    """Films to sentences on both sides.

    Attributes:
        said: The sentences of each pass by its name.
    """

    def __init__(self, clock: Clock, sizes: ModelSizes, num_films: int, num_words: int) -> None:
        """Draw weights and films."""
        self.clock, self.num_words = clock, num_words
        self.words = Numbers(sizes.vocab_size - 1)
        self.published, self.ours = both_sides(sizes, clock.device)
        self.films = torch.cat([random_film(100 + number) for number in range(num_films)]).to(clock.device)
        self.said: dict[str, list[str]] = {}

    @torch.inference_mode()
    def measure_ours(self, batch: int, precision: Precision) -> None:
        """Measure our networks on as many films at once."""
        films, device, name = self.films[:batch], self.clock.device, f"ours, {precision}, batch {batch}"
        num_slots = 1024 if device.type == "cuda" else 48
        settings = self.ours.decoding.model_copy(update={"precision": precision, "num_slots": num_slots})
        with autocast(device, precision):
            found = self.ours.detector.detect(films)
            judged = self.ours.selector(found.region_features)
        chosen = found.detected & (judged.selection_logits.float() > SELECTION_LOGIT)
        rows = judged.features.float()[chosen]
        given = rows, torch.zeros(len(rows), dtype=torch.long), torch.zeros(len(rows), 15), settings
        words, phrases = [self.num_words] * len(rows), []

        def detect() -> None:
            with autocast(device, precision):
                self.ours.detector.detect(films)

        def decode() -> None:
            phrases[:] = decode_hypotheses(self.ours.generator, self.words, *given, num_words=words)

        self.clock.take(f"detection, {name}", batch, detect)
        self.clock.take(f"decoding, {name}", batch, decode)
        self.said[name] = [found[0].text for found in phrases]

    @torch.no_grad()
    def measure_published(self, batch: int, dtype: torch.dtype | None) -> None:
        """Measure the published procedure on as many films at once, in mixed precision where a type is given."""
        name = f"published, {'float16' if dtype else 'float32'}, batch {batch}"
        with torch.autocast(self.clock.device.type, dtype=dtype) if dtype else nullcontext():
            films = normalise_films(self.films[:batch])
            _, detected, features = self.published.object_detector(films)
            logits = self.published.binary_classifier_region_selection.classifier(features)[..., 0]
            rows = features[detected & (logits > SELECTION_LOGIT)].float()
            words, found = [self.num_words] * len(rows), []

            def decode() -> None:
                model, end_id = self.published.language_model, self.words.end_id
                found[:] = procedure.beam_search(model, rows, end_id, num_words=words)

            self.clock.take(f"detection, {name}", batch, lambda: self.published.object_detector(films), 1)
            self.clock.take(f"decoding, {name}", batch, decode, 1)
        self.said[name] = [self.words.decode(tuple(each[0][1])) for each in found]


def measure_drafting(clock: Clock, sizes: ModelSizes, batches: Sequence[int], num_words: int) -> dict[str, Any]:
    """Measure both sides; return how many sentences they have in common."""
    drafting = Drafting(clock, sizes, max(batches), num_words)
    for batch in batches:
        drafting.measure_ours(batch, "exact")
        drafting.measure_ours(batch, "fast")
        if batch <= MOST_PUBLISHED:
            drafting.measure_published(batch, None)
            if clock.device.type == "cuda":
                drafting.measure_published(batch, torch.float16)
    return {"same sentences": _in_common(drafting.said)}


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
    parser.add_argument("--seconds", type=float, default=210.0, help="begin nothing new after this long")
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
