"""Where the paper's second and third stage start: with the sizes of the stage before, and with imported weights.

The heads judge what the detector hands on, and the language model reads what the heads make of it; so imported weights
of one are worth something only behind the part that they were trained with. Nothing is read but small files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from crrg.config.base import Stage
from crrg.config.models import DetectorArchitecture, SelectorArchitecture
from crrg.config.paper import feature_sizes
from crrg.config.resolved import (
    detector_settings,
    generator_settings,
    keep_changes,
    other_import,
    selector_settings,
)
from crrg.config.training import GeneratorTraining, SelectorTraining, TrainStageConfig
from crrg.registry.imported import IMPORT_ID
from crrg.training.initial_weights import (
    Start,
    check_equal,
    detector_start,
    find_start,
    generator_start,
    imported_architecture,
    start_record,
)


def check_paper_starts(stages: Iterable[Stage], config: TrainStageConfig) -> None:
    """Refuse sizes and imported weights of the paper's stages that do not suit each other, before any is trained.

    Args:
        stages: What is going to be trained.
        config: Form of the stages, its recipe ``paper``.

    Raises:
        ConfigError: They do not; the message names the field and the way out.
        ModelError: A folder was not written by an import.
    """
    wanted = set(stages)
    if "selector" not in wanted:
        return
    detector, start = detector_start(detector_settings(config), config.initial_weights.detector)
    keep_changes(config.detector.architecture, detector.architecture, "detector.architecture")
    selector, heads = paper_selector_start(config, _described(detector.architecture, start))
    if "generator" in wanted:
        paper_generator_start(config, _described(selector.architecture, heads))


def paper_selector_start(
    config: TrainStageConfig, detector_config: Mapping[str, Any]
) -> tuple[SelectorTraining, Start | None]:
    """Return the settings of the paper's heads for a detector, and their first weights; ``None`` for random ones.

    Args:
        config: Form of the stage.
        detector_config: The detector's ``config.json``, or what it is going to say.

    Raises:
        ConfigError: The imported heads do not belong to that detector, or the form wants other sizes.
        ModelError: The folder was not written by an import.
    """
    settings = selector_settings(config)
    sizes = feature_sizes(DetectorArchitecture.model_validate(detector_config["architecture"]))
    start = find_start(config.initial_weights.selector, ("selector",), "selector")
    if start is None:
        architecture = settings.architecture.model_copy(update=sizes)
    else:
        _check_same_import(start, "detector", detector_config)
        architecture = imported_architecture(start, SelectorArchitecture, {})
        for name, size in sizes.items():
            check_equal(name, size, dict(architecture)[name], start, "import it again")
    keep_changes(config.selector.architecture, architecture, "selector.architecture")
    return settings.model_copy(update={"architecture": architecture}), start


def paper_generator_start(
    config: TrainStageConfig, selector_config: Mapping[str, Any]
) -> tuple[GeneratorTraining, Start | None]:
    """Return the settings of the paper's language model behind heads, and its first weights; ``None`` for random ones.

    An imported language model stays as it is.

    Args:
        config: Form of the stage.
        selector_config: The heads' ``config.json``, or what it is going to say.

    Raises:
        ConfigError: The imported generator does not belong to those heads, the form wants other sizes, or no
            vocabulary was imported.
        ModelError: The folder was not written by an import.
    """
    folder = config.initial_weights.generator
    settings, start = generator_start(generator_settings(config), folder, freeze=bool(folder))
    if start is not None and start.part == "generator":
        _check_same_import(start, "selector", selector_config)
    read = {"feature_size": int(selector_config["architecture"]["feature_size"])}
    settings = settings.model_copy(update={"architecture": settings.architecture.model_copy(update=read)})
    keep_changes(config.generator.architecture, settings.architecture, "generator.architecture")
    return settings, start


def _described(architecture: DetectorArchitecture | SelectorArchitecture, start: Start | None) -> dict[str, Any]:
    """Return what the ``config.json`` of a part is going to say of its network and of where it starts."""
    return {"architecture": architecture.model_dump(mode="json"), **start_record(start)}


def _check_same_import(start: Start, reads: str, config: Mapping[str, Any]) -> None:
    """Refuse weights whose import another part, described by its ``config.json``, does not start from."""
    began = [each.get(IMPORT_ID) for each in config.get("initial_weights", []) if each["part"] == reads]
    if start.import_id not in began:
        raise other_import(start.part, reads)
