"""The four stages with random weights, small and lively enough that films differ in what is said of them.

Needs torch, torchvision, transformers, tokenizers, pydantic, numpy, scikit-learn and OpenCV, and nothing of the rest.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from crrg.config.models import ClipArchitecture, DetectorArchitecture, GeneratorArchitecture, SelectorArchitecture
from crrg.config.paper import narrow_detector
from crrg.config.running import DecodingSettings
from crrg.config.stages import ClipTraining, DetectorTraining, GeneratorTraining, LoopConfig, SelectorTraining
from crrg.data.dataset.batches import FilmTable
from crrg.data.tokenizer import train_tokenizer
from crrg.domain.labels import FINDINGS, NUM_LABELS
from crrg.domain.regions import REGION_INDEX, REGIONS
from crrg.domain.report import Report
from crrg.domain.study import Film, ViewPosition
from crrg.inference.calibration import Calibration
from crrg.inference.consistency import SimilarityCurve
from crrg.inference.pipeline import ReportPipeline
from crrg.inference.regions import RegionThresholds
from crrg.models.backbone import normalise_films
from crrg.models.clip import ClipModel
from crrg.models.detector import RegionDetector
from crrg.models.region_heads import RegionSelector
from crrg.models.report_generator import ReportGenerator
from crrg.training.clip import clip_loss, train_clip_tokenizer
from crrg.training.clip_batches import ClipBatches
from crrg.training.detector import DetectorBatch, detector_loss
from crrg.training.phrase_batches import PhraseSampler, PhraseTable, phrase_flags
from crrg.training.phrase_loss import token_loss
from crrg.training.selector import RegionBatch, selector_loss

SIZE = 64
PHRASES = (
    "The lungs are clear.",
    "No pleural effusion.",
    "There is a small left pleural effusion.",
    "Mild right lower lobe opacity.",
    "The heart is mildly enlarged.",
)
DETECTOR = DetectorArchitecture(
    input_size=SIZE, width=8, anchor_sizes=(8, 16, 32), anchor_ratios=(0.5, 1.0, 2.0), num_proposals=40,
    num_training_rois=40, representation_size=32, roi_channels=8,
)  # fmt: skip
DETECTORS = {
    "crrg": DETECTOR,
    "with pyramid": DETECTOR.model_copy(update={"pyramid_channels": 16}),
    "paper": narrow_detector(4, 128),
}
SELECTOR = SelectorArchitecture(input_size=SIZE, width=8, detail_channels=8, feature_size=16, dropout=0.1)
GENERATOR = GeneratorArchitecture(
    num_layers=2, num_heads=4, hidden_size=64, vocab_size=300, max_length=20, feature_size=16
)
CLIP = ClipArchitecture(
    input_size=SIZE, image_width=8, text_layers=1, text_heads=2, text_hidden_size=32, text_vocab_size=500,
    max_text_length=24, projection_size=16, head_dropout=0.1,
)  # fmt: skip
CLIPS: dict[str, dict[str, Any]] = {
    "convolutions and BERT": {},
    "ResNet-50": {"image_tower": "resnet50"},
    "vision transformer and CLIP's text tower": {
        "image_tower": "vit", "patch_size": 16, "image_width": 32, "image_layers": (2,), "image_heads": (2,),
        "text_tower": "clip",
    },
    "Swin": {"image_tower": "swin", "image_width": 8, "image_layers": (1, 1), "image_heads": (1, 2), "window_size": 4},
}  # fmt: skip


def random_detector(architecture: DetectorArchitecture = DETECTOR, seed: int = 0) -> RegionDetector:
    """Return a detector in ``eval`` mode that finds most regions, each where it finds no other."""
    torch.manual_seed(seed)
    model = RegionDetector(architecture).eval()
    with torch.no_grad():
        _calibrate_normalisation(model.backbone)
        model.box_head.cls_score.weight.normal_(0, 4 / architecture.representation_size**0.5)
        model.box_head.bbox_pred.weight.normal_(0, 0.3 / architecture.representation_size**0.5)
        model.shape_prior.mean_boxes.copy_(boxes(1, 1)[0])
    return model


def random_selector(seed: int = 0) -> RegionSelector:
    """Return a selector in ``eval`` mode."""
    torch.manual_seed(seed)
    model = RegionSelector(SELECTOR).eval()
    with torch.no_grad():
        _calibrate_normalisation(model.backbone)
        model.region.weight.mul_(4)
        for head in (model.selection, model.abnormal, model.finding):
            head.layers[-1].weight.mul_(20)
    return model


def random_generator(seed: int = 3, **changes: Any) -> ReportGenerator:
    """Return a generator in ``eval`` mode whose phrases are of many lengths, as the end is made likely enough."""
    torch.manual_seed(seed)
    model = ReportGenerator(GENERATOR.model_copy(update=changes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
        end = model.decoder.transformer.wte.weight[0]
        model.decoder.transformer.ln_f.bias += 1.5 * end / end.square().sum()
    return model.eval()


def random_clip(seed: int = 0, **changes: Any) -> ClipModel:
    """Return a CLIP in ``eval`` mode."""
    torch.manual_seed(seed)
    model = ClipModel(ClipArchitecture.model_validate({**CLIP.model_dump(), **changes})).eval()
    with torch.no_grad():
        if changes.get("image_tower") in (None, "resnet50"):
            _calibrate_normalisation(model.image_tower)
    return model


def random_pipeline(device: torch.device, **decoding: Any) -> ReportPipeline:
    """Return a pipeline of random stages on a device; the same weights whatever the device."""
    tokenizer = train_tokenizer(PHRASES * 20, 300)
    clip_tokenizer = train_clip_tokenizer(list(PHRASES), 500)
    return ReportPipeline(
        bundle_id="random",
        detector=random_detector().to(device),
        selector=random_selector().to(device),
        generator=random_generator(vocab_size=tokenizer.vocab_size).to(device),
        tokenizer=tokenizer,
        clip=random_clip().to(device),
        clip_tokenizer=clip_tokenizer,
        thresholds=RegionThresholds(0.6, 0.6, 0.5, np.full(14, 0.9, dtype=np.float32)),
        calibration=Calibration(np.ones(14), np.zeros(14), np.full(14, 0.5)),
        similarity=SimilarityCurve(4.0, 0.0),
        decoding=DecodingSettings(**{"num_slots": 16, "num_beams": 3, **decoding}),
    )


def copy_on(module: nn.Module, device: torch.device) -> Any:
    """Return a copy of a network on a device."""
    return copy.deepcopy(module).to(device)


def films(number: int, size: int = SIZE, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return grey values ``[N, S, S]`` with large structures."""
    coarse = torch.rand((number, 1, 6, 6), generator=torch.Generator().manual_seed(seed)) * 255
    smooth = nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 255)
    return smooth[:, 0].to(torch.uint8).numpy()


def read_films(number: int, seed: int = 0) -> list[Film]:
    """Return films as a pipeline takes them."""
    return [
        Film(pixels, SIZE, SIZE, ViewPosition.PA, None, False, bytes([row % 256] * 32))
        for row, pixels in enumerate(films(number, seed=seed))
    ]


def boxes(number: int, size: float = SIZE) -> Tensor:
    """Return 29 boxes per film, a fifth of its side wide, on a grid that is shifted from film to film."""
    corners = torch.tensor([[0.13 * (i % 6), 0.16 * (i // 6)] for i in range(len(REGIONS))])
    shifts = torch.arange(number)[:, None, None] % 4 * 0.02
    moved = corners + shifts
    return torch.cat([moved, (moved + 0.2).clamp(max=1)], dim=2) * size


@dataclass(frozen=True)
class TrainingCase:
    """One stage that can be trained with ``crrg.training.loop.fit``.

    Attributes:
        module: Network on the device.
        make_batch: As ``fit`` takes it.
        loss_of: As ``fit`` takes it.
    """

    module: nn.Module
    make_batch: Callable[[int], Any]
    loss_of: Any


LOOP = LoopConfig(num_steps=4, batch_size=4, learning_rate=1e-3, log_every=1, clip_norm=1.0)


def detector_case(device: torch.device) -> TrainingCase:
    """Return the detector stage on drawn boxes, of which a film lacks one."""
    torch.manual_seed(0)
    model = RegionDetector(DETECTOR).to(device)
    model.fit_regions(boxes(40, 1.0).to(device))
    settings = DetectorTraining(architecture=DETECTOR, loop=LOOP)

    def make_batch(step: int) -> DetectorBatch:
        targets = boxes(settings.loop.batch_size)
        targets[0, 3] = torch.nan
        images = torch.from_numpy(films(settings.loop.batch_size, seed=step))[:, None]
        return DetectorBatch(images.to(device), targets.to(device))

    return TrainingCase(model, make_batch, detector_loss(model))


def selector_case(device: torch.device) -> TrainingCase:
    """Return the selector stage; a tenth of what is asked is unknown."""
    torch.manual_seed(0)
    model = RegionSelector(SELECTOR).to(device)
    settings = SelectorTraining(architecture=SELECTOR, loop=LOOP)

    def make_batch(step: int) -> RegionBatch:
        rng = np.random.default_rng(step)
        num = settings.loop.batch_size
        shapes = ((num, 29), (num, 29), (num, 29, 14), (num, 14))
        targets = [np.where(rng.random(shape) < 0.1, np.nan, rng.random(shape) < 0.5) for shape in shapes]
        tensors = [torch.from_numpy(array.astype(np.float32)).to(device) for array in targets]
        images = torch.from_numpy(films(num, seed=step))[:, None]
        return RegionBatch(images.to(device), boxes(num).to(device), *tensors)

    return TrainingCase(model, make_batch, selector_loss(model, settings))


def generator_case(device: torch.device) -> TrainingCase:
    """Return the generator stage on five phrases, told apart by their flags."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, len(PHRASES), 200)
    flags = np.array([phrase_flags(PHRASES[kind], False) for kind in kinds])
    table = PhraseTable(
        texts=[PHRASES[kind] for kind in kinds],
        film_index=np.arange(200),
        region_index=kinds.astype(np.int64),
        features=rng.normal(size=(200, 16)).astype(np.float32),
        reference_flags=flags,
        predicted_flags=np.round(flags),
    )
    tokenizer = train_tokenizer(table.texts, 300)
    architecture = GENERATOR.model_copy(update={"vocab_size": tokenizer.vocab_size, "max_length": 24})
    settings = GeneratorTraining(architecture=architecture, loop=LOOP.model_copy(update={"batch_size": 16}))
    torch.manual_seed(0)
    model = ReportGenerator(architecture)
    model.fit_feature_scale(torch.from_numpy(table.features))
    model = model.to(device)
    return TrainingCase(model, PhraseSampler(table, tokenizer, settings, 0).batch, token_loss(model))


def clip_case(device: torch.device) -> TrainingCase:
    """Return the CLIP stage with all its terms."""
    table = film_table(24)
    training = ClipTraining(architecture=CLIP, loop=LOOP)
    tokenizer = train_clip_tokenizer([report.text for report in table.texts], CLIP.text_vocab_size)
    torch.manual_seed(0)
    model = ClipModel(CLIP).to(device)
    make_batch = ClipBatches(table, tokenizer, training, seed=0).make
    return TrainingCase(model, make_batch, clip_loss(model, table, training, device))


CASES: dict[str, Callable[[torch.device], TrainingCase]] = {
    "detector": detector_case,
    "selector": selector_case,
    "generator": generator_case,
    "clip": clip_case,
}


def film_table(number: int) -> FilmTable:
    """Return films with a bright square that their report names."""
    images = films(number) // 2
    annotated = np.full((number, len(REGIONS), 4), np.nan, dtype=np.float32)
    labels = np.zeros((number, NUM_LABELS), dtype=np.int8)
    names = [FINDINGS[row % 4] for row in range(number)]
    for row in range(number):
        images[row, 8:24, 4 * (row % 4) : 4 * (row % 4) + 16] += np.uint8(30 * (row % 4 + 1))
        annotated[row, REGION_INDEX["left lung"]] = (4 * (row % 4), 8, 4 * (row % 4) + 16, 24)
        labels[row, row % 4] = 1
    reports = [Report(findings=f"There is {name.lower()}. Film {row}.") for row, name in enumerate(names)]
    numbers = [str(row) for row in range(number)]
    return FilmTable(
        images=images,
        original_sizes=np.full((number, 2), SIZE, dtype=np.int32),
        input_boxes_xyxy=annotated,
        phrases=[{"left lung": f"There is {name.lower()}."} for name in names],
        is_abnormal=np.zeros((number, len(REGIONS)), dtype=np.int8),
        labels=labels,
        reports=[report.text for report in reports],
        texts=reports,
        patient_ids=numbers,
        instance_ids=numbers,
    )


def _calibrate_normalisation(module: nn.Module) -> None:
    """Take the statistics of batch normalisation from films, so that the last layer tells them apart."""
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    for part in norms:
        part.momentum = None
        part.reset_running_stats()
    images = normalise_films(torch.from_numpy(films(16, seed=9))[:, None])
    module.train()
    module(images)
    module.eval()


def without_drop(case: TrainingCase) -> TrainingCase:
    """Return a case whose network drops nothing."""
    for part in case.module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    return replace(case)
