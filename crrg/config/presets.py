"""Named sizes: ``tiny`` for a laptop and the tests, ``small`` for an evening, ``base`` for the paper's sizes.

And the CLIP stages' two recipes, ours and the paper's.
"""

from __future__ import annotations

from crrg.config.base import Preset, Recipe
from crrg.config.models import (
    ClipArchitecture,
    DetectorArchitecture,
    GeneratorArchitecture,
    SelectorArchitecture,
)
from crrg.config.paper import PAPER_DETECTOR, PAPER_GENERATOR, PAPER_SELECTOR
from crrg.config.paper_clip import PAPER_CLIP_TRAINING, PAPER_SWITCHES
from crrg.config.training import (
    ClipTraining,
    DetectorTraining,
    GeneratorTraining,
    LoopConfig,
    PresetTraining,
    SelectorTraining,
)


def preset_training(preset: Preset) -> PresetTraining:
    """Return the settings of all stages at a named size."""
    return _PRESETS[preset]()


def clip_training(preset: Preset, recipe: Recipe) -> ClipTraining:
    """Return the settings of the CLIP stages.

    ``paper`` with ``base`` is CXR-CLIP constant for constant. At the other sizes its losses, sampling and augmentation
    train the preset's own towers for the preset's own steps, so that recipes can be compared there.
    """
    ours = preset_training(preset).clip
    if recipe == "crrg":
        return ours
    if preset == "base":
        return PAPER_CLIP_TRAINING
    switches = {name: getattr(PAPER_CLIP_TRAINING.architecture, name) for name in PAPER_SWITCHES}
    update = {"architecture": ours.architecture.model_copy(update=switches), "loop": ours.loop, "num_epochs": 0}
    return PAPER_CLIP_TRAINING.model_copy(update=update)


def _tiny() -> PresetTraining:
    return PresetTraining(
        detector=DetectorTraining(loop=LoopConfig(num_steps=350, batch_size=16, learning_rate=3e-3)),
        selector=SelectorTraining(loop=LoopConfig(num_steps=440, batch_size=16, learning_rate=3e-3, weight_decay=5e-2)),
        generator=GeneratorTraining(
            architecture=GeneratorArchitecture(dropout=0.0),
            loop=LoopConfig(num_steps=600, batch_size=64, learning_rate=4e-3),
        ),
        clip=ClipTraining(loop=LoopConfig(num_steps=260, batch_size=32, learning_rate=3e-3)),
    )


def _small() -> PresetTraining:
    return PresetTraining(
        detector=DetectorTraining(
            architecture=DetectorArchitecture(
                input_size=256, anchor_sizes=(24, 40, 64, 96, 144), roi_size=7, roi_channels=64
            ),
            loop=LoopConfig(num_steps=1600, batch_size=16, learning_rate=3e-3),
        ),
        selector=SelectorTraining(
            architecture=SelectorArchitecture(input_size=256, feature_size=192),
            loop=LoopConfig(num_steps=2000, batch_size=16, learning_rate=3e-3, weight_decay=5e-2),
        ),
        generator=GeneratorTraining(
            architecture=GeneratorArchitecture(
                num_layers=4, hidden_size=256, vocab_size=2048, feature_size=192, dropout=0.0
            ),
            loop=LoopConfig(num_steps=3000, batch_size=64, learning_rate=2e-3),
        ),
        clip=ClipTraining(
            architecture=ClipArchitecture(input_size=256, text_hidden_size=192, projection_size=256),
            loop=LoopConfig(num_steps=1300, batch_size=32, learning_rate=3e-3),
        ),
    )


def _base_detector() -> DetectorTraining:
    return DetectorTraining(
        architecture=PAPER_DETECTOR.model_copy(update={"region_features": False}),
        loop=LoopConfig(num_steps=50_000, batch_size=16, learning_rate=1e-3),
    )


def _base() -> PresetTraining:
    return PresetTraining(
        detector=_base_detector(),
        selector=SelectorTraining(
            architecture=PAPER_SELECTOR.model_copy(
                update={"backbone": "resnet50", "width": 24, "region_embedding": True}
            ),
            loop=LoopConfig(num_steps=50_000, batch_size=16, learning_rate=5e-5),
        ),
        generator=GeneratorTraining(
            architecture=PAPER_GENERATOR.model_copy(
                update={
                    "max_length": 300,
                    "condition_on_findings": True,
                    "position_table": "wpe",
                    "freeze_language_model": False,
                }
            ),
            loop=LoopConfig(num_steps=200_000, batch_size=64, learning_rate=5e-5),
        ),
        clip=ClipTraining(
            architecture=ClipArchitecture(
                image_tower="resnet50",
                input_size=224,
                text_layers=12,
                text_heads=12,
                text_hidden_size=768,
                text_vocab_size=28996,
                max_text_length=256,
                text_dropout=0.1,
                projection_size=512,
            ),
            loop=LoopConfig(num_steps=30_000, batch_size=128, learning_rate=5e-5),
        ),
    )


_PRESETS = {"tiny": _tiny, "small": _small, "base": _base}
