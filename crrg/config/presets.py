"""Named sizes: ``tiny`` for a laptop and the tests, ``small`` for an evening, ``base`` for the paper's sizes.

And the two recipes, ours and the paper's.
"""

from __future__ import annotations

from crrg.config.base import Preset, Recipe
from crrg.config.models import (
    ClipArchitecture,
    DetectorArchitecture,
    GeneratorArchitecture,
    SelectorArchitecture,
)
from crrg.config.paper import (
    PAPER_DECODING,
    PAPER_DETECTOR,
    PAPER_GENERATOR,
    PAPER_SELECTOR,
    narrow_detector,
    narrow_generator,
    narrow_selector,
)
from crrg.config.paper_clip import PAPER_CLIP_TRAINING, PAPER_SWITCHES
from crrg.config.training import (
    Augmentation,
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


PAPER_AUGMENTATION = Augmentation(
    scale=0.0, stretch=0.0, shift=0.02, gamma=0.0, contrast=0.2, brightness=0.2, contrast_about="mean", noise=50**0.5,
    least_noise=10**0.5, unmoved_share=0.5, unexposed_share=0.5, noiseless_share=0.5,
)  # fmt: skip
"""As published (noise of variance 10 to 50; each change for half of the films), but for the turn of at most two
degrees, since films are never turned here, and the order: films are framed and shifted before the rest."""
PIXELS_PER_CHANNEL = 16
"""Of the narrowed paper: 8 base channels for films of 128 pixels, 16 for 256."""
LATER_RATE = 1e-3
"""Highest rate of the narrowed stages 2 and 3, where a language model of random weights has to be learnt as well."""


def stage_training(preset: Preset, recipe: Recipe) -> PresetTraining:
    """Return the settings of all stages at a named size by one of the two recipes.

    ``paper`` with ``base`` has the published sizes; at the other sizes the paper's networks are narrowed to films of
    the preset, with its lengths of training (``narrow_detector`` and its siblings).
    """
    ours = preset_training(preset)
    if recipe == "crrg":
        return ours
    found = _paper() if preset == "base" else _narrowed_paper(ours)
    return found.model_copy(update={"clip": clip_training(preset, recipe)})


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
    update = {"architecture": ours.architecture.model_copy(update=switches), "loop": ours.loop, "num_epochs": 0,
              "text_rate": ours.text_rate}  # fmt: skip
    return PAPER_CLIP_TRAINING.model_copy(update=update)


def _paper() -> PresetTraining:
    """Return RGRG's three stages with its sizes, batches and rates; as many steps as 20 epochs of its 166,521 films."""
    first = LoopConfig(num_steps=52_000, batch_size=16, accumulate=4, learning_rate=1e-3, clip_norm=0.0)
    second = first.model_copy(update={"learning_rate": 5e-5})
    third = second.model_copy(update={"batch_size": 2, "accumulate": 32})
    words = PAPER_GENERATOR.model_copy(update={"freeze_language_model": False})  # frozen where it was imported
    return PresetTraining(
        detector=DetectorTraining(architecture=PAPER_DETECTOR, loop=first, augmentation=PAPER_AUGMENTATION),
        selector=SelectorTraining(architecture=PAPER_SELECTOR, loop=second, augmentation=PAPER_AUGMENTATION),
        generator=GeneratorTraining(architecture=words, loop=third, decoding=PAPER_DECODING),
        clip=PAPER_CLIP_TRAINING,
    )


def _narrowed_paper(ours: PresetTraining) -> PresetTraining:
    """Return RGRG's three stages for films of a preset, with its batches of films and its numbers of steps.

    Gradients are not clipped at any size, as published.
    """
    size, words = ours.detector.architecture.input_size, ours.generator.architecture
    channels = max(1, size // PIXELS_PER_CHANNEL)
    detector, selector = narrow_detector(channels, size), narrow_selector(channels, size)
    generator = narrow_generator(
        words.hidden_size, words.num_layers, words.num_heads, selector.feature_size, words.vocab_size, words.max_length
    )
    loop = ours.detector.loop.model_copy(update={"clip_norm": 0.0})
    second = loop.model_copy(update={"num_steps": ours.selector.loop.num_steps, "learning_rate": LATER_RATE})
    third = loop.model_copy(update={"num_steps": ours.generator.loop.num_steps, "learning_rate": LATER_RATE})
    search = PAPER_DECODING.model_copy(update={"max_tokens": ours.generator.decoding.max_tokens})
    return PresetTraining(
        detector=DetectorTraining(architecture=detector, loop=loop, augmentation=PAPER_AUGMENTATION),
        selector=SelectorTraining(architecture=selector, loop=second, augmentation=PAPER_AUGMENTATION),
        generator=GeneratorTraining(architecture=generator, loop=third, decoding=search),
        clip=ours.clip,
    )


def _tiny() -> PresetTraining:
    return PresetTraining(
        detector=DetectorTraining(
            architecture=DetectorArchitecture(pyramid_channels=56, roi_channels=0),
            loop=LoopConfig(num_steps=300, batch_size=16, learning_rate=3e-3),
        ),
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
            text_rate=0.2,
        ),
    )


def _base_detector() -> DetectorTraining:
    """Return the paper's backbone and anchors with our box head, which has little more than half its weights."""
    return DetectorTraining(
        architecture=DetectorArchitecture(
            backbone="resnet50",
            input_size=PAPER_DETECTOR.input_size,
            anchor_sizes=PAPER_DETECTOR.anchor_sizes,
            anchor_ratios=PAPER_DETECTOR.anchor_ratios,
            roi_size=PAPER_DETECTOR.roi_size,
            roi_channels=256,
            representation_size=PAPER_DETECTOR.representation_size,
            num_proposals=300,
            num_training_rois=256,
        ),
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
