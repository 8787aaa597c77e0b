"""Where a stage starts from weights that somebody already has: what ``crrg import`` wrote, checked and fitted.

Weights of a whole stage bring their architecture with them; a backbone, language model or text tower brings its own
sizes and has to suit the rest of the stage. Nothing is read but small files before the stage is known to be unfinished.
What a stage started from, with its licence, stands in its ``config.json``, and so in the bundle and its model card.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from safetensors.torch import load
from torch import Tensor, nn

from crrg.config.base import FrozenConfig
from crrg.config.models import DetectorArchitecture, GeneratorArchitecture
from crrg.config.training import DetectorTraining, GeneratorTraining
from crrg.data.tokenizer import PhraseTokenizer, with_placeholder
from crrg.errors import ConfigError, ModelError
from crrg.models.detector import RegionDetector
from crrg.models.report_generator import ReportGenerator
from crrg.registry.imported import IMPORT_ID, import_config, import_id, import_report, import_vocabulary, read_import

logger = logging.getLogger(__name__)
Architecture = TypeVar("Architecture", bound=FrozenConfig)

GPT2_SIZES = ("num_layers", "num_heads", "hidden_size")
_FIRST_FILTERS = "body.0.weight"
_LANGUAGE_MODEL = "decoder.transformer."
_WORDS, _POSITIONS = f"{_LANGUAGE_MODEL}wte.weight", f"{_LANGUAGE_MODEL}wpe.weight"


@dataclass(frozen=True)
class Start:
    """One part of an imported folder.

    Attributes:
        folder: What the import wrote to.
        part: A stage, or ``resnet50``, ``gpt2``, ``bert``.
        source: What was imported.
        licence: What may be done with the weights.
        sha256: Digest of the weights.
        import_id: What the parts of one import share.
        config: Their ``config.json``.
    """

    folder: Path
    part: str
    source: str
    licence: str
    sha256: str
    import_id: str
    config: Mapping[str, Any]

    def identity(self) -> dict[str, str]:
        """Return what tells these weights from others, for the hash of a stage."""
        return {
            "part": self.part,
            "sha256": self.sha256,
            "tokenizer_sha256": str(self.config.get("tokenizer_sha256", "")),
        }

    def about(self) -> dict[str, str]:
        """Return what is said of these weights wherever what was trained from them goes."""
        origin = {"source": self.source, "licence": self.licence, IMPORT_ID: self.import_id}
        return {"part": self.part, "sha256": self.sha256, **origin}

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights, checked against their digest."""
        _, files = read_import(self.folder, self.part)
        return load(files["model.safetensors"])

    def has_vocabulary(self) -> bool:
        """Tell whether a vocabulary was imported with the weights."""
        return bool(self.config.get("tokenizer_sha256"))

    def vocabulary(self) -> bytes:
        """Return the bytes of ``tokenizer.json``.

        Raises:
            ConfigError: None was imported.
        """
        found = import_vocabulary(self.folder, self.part)
        if found is None:
            raise ConfigError(
                f"{self.source} was imported without its vocabulary; import it again with --tokenizer", self.part
            )
        return found


def find_start(folder: str, parts: Sequence[str], field: str) -> Start | None:
    """Return what a folder has for a stage; ``None`` for no folder.

    Args:
        folder: Of the form; empty starts from random weights.
        parts: What the stage can start from, the best first.
        field: Of the form's ``initial_weights``, for messages.

    Raises:
        ConfigError: The folder has nothing for it.
        ModelError: The folder was not written by an import.
    """
    if not folder:
        return None
    report = import_report(Path(folder))
    part = next((part for part in parts if part in report["stages"]), None)
    if part is None:
        raise ConfigError(
            f"the folder holds {', '.join(sorted(report['stages']))} of {report['source']}; "
            f"give one that holds {' or '.join(parts)}",
            f"initial_weights.{field}",
        )
    digest = str(report["stages"][part]["sha256"])
    config = import_config(Path(folder), part)
    return Start(Path(folder), part, report["source"], report["licence"], digest, import_id(report), config)


def start_parts(*starts: Start | None) -> dict[str, Any]:
    """Return the part of a stage's hash that names its first weights; empty for random ones."""
    found = [start.identity() for start in starts if start is not None]
    return {"initial_weights": found} if found else {}


def start_record(*starts: Start | None) -> dict[str, Any]:
    """Return the part of a stage's ``config.json`` and of its run that says where it started."""
    found = [start.about() for start in starts if start is not None]
    return {"initial_weights": found} if found else {}


def inherited_record(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a finished stage's ``config.json`` says of where it started, for the stage that learns on from it."""
    return {name: config[name] for name in ("initial_weights",) if name in config}


def imported_architecture(start: Start, kind: type[Architecture], changes: Mapping[str, Any]) -> Architecture:
    """Return the architecture of an imported stage with some fields changed.

    Raises:
        ConfigError: It is not valid, with these changes or at all.
    """
    try:
        return kind.model_validate({**start.config["architecture"], **changes})
    except (KeyError, TypeError, ValidationError) as error:
        raise ConfigError(f"the imported architecture cannot be trained: {error}", start.part) from error


def check_equal(field: str, ours: object, theirs: object, start: Start, way_out: str) -> None:
    """Refuse weights whose architecture differs from the stage's in a field that both must share.

    Raises:
        ConfigError: They differ.
    """
    if ours != theirs:
        raise ConfigError(
            f"{field} is {ours} in this training and {theirs} in the imported {start.part}; {way_out}", start.source
        )


def detector_start(settings: DetectorTraining, folder: str) -> tuple[DetectorTraining, Start | None]:
    """Return the detector's settings as its first weights need them, and these.

    Raises:
        ConfigError: They do not suit each other; the message names the field.
    """
    start = find_start(folder, ("detector", "resnet50"), "detector")
    if start is None:
        return settings, None
    if start.part == "detector":
        architecture = imported_architecture(start, DetectorArchitecture, {})
        theirs, ours = architecture.num_regions, settings.architecture.num_regions
        check_equal("num_regions", ours, theirs, start, "import a detector of the 29 regions")
        _say_what_changes(settings.architecture, architecture, start)
        return settings.model_copy(update={"architecture": architecture}), start
    way_out = "train at a preset with that backbone, such as base"
    check_equal("backbone", settings.architecture.backbone, "resnet50", start, way_out)
    return settings, start


def load_detector_start(model: RegionDetector, start: Start) -> None:
    """Load first weights into a detector; of ImageNet's filters for three colours the sum is taken.

    A grey film gives with it what it gives where it is shown to all three (the paper starts these filters afresh).

    Raises:
        ModelError: Names or shapes differ.
    """
    tensors = start.tensors()
    if start.part == "detector":
        load_strictly(model, tensors, start)
        return
    tensors[_FIRST_FILTERS] = tensors[_FIRST_FILTERS].sum(dim=1, keepdim=True)
    load_strictly(model.backbone, tensors, start)


def generator_start(
    settings: GeneratorTraining, folder: str, *, freeze: bool
) -> tuple[GeneratorTraining, Start | None]:
    """Return the generator's settings as its first weights need them, and these.

    Args:
        settings: Of the preset.
        folder: Of the form.
        freeze: Whether the language model is to stay as it is.

    Raises:
        ConfigError: They do not suit each other, the message names the field; or no vocabulary was imported.
    """
    start = find_start(folder, ("generator", "gpt2"), "generator")
    if start is None:
        return settings, None
    generator_vocabulary(start)
    ours = settings.architecture
    if start.part == "generator":
        architecture = imported_architecture(start, GeneratorArchitecture, {"freeze_language_model": freeze})
    else:
        longest = int(start.config["architecture"]["max_length"])
        if ours.max_length > longest:
            check_equal("max_length", ours.max_length, f"at most {longest}", start, "give weights with more positions")
        sizes = {name: start.config["architecture"][name] for name in GPT2_SIZES}
        architecture = GeneratorArchitecture.model_validate(
            {**ours.model_dump(), **sizes, "freeze_language_model": freeze}
        )
    _say_what_changes(ours, architecture, start)
    return settings.model_copy(update={"architecture": architecture}), start


def generator_vocabulary(start: Start) -> PhraseTokenizer:
    """Return the imported vocabulary, with the placeholder of de-identified text.

    Raises:
        ConfigError: None was imported.
    """
    return with_placeholder(start.vocabulary())


def load_generator_start(model: ReportGenerator, start: Start) -> None:
    """Load first weights into a generator; a word that only the new vocabulary has starts as the mean of the others.

    Raises:
        ConfigError: The weights are conditioned on features of another length.
        ModelError: Names or shapes differ.
    """
    tensors, own = start.tensors(), model.state_dict()
    if start.part == "gpt2":
        tensors = {f"{_LANGUAGE_MODEL}{name}": tensor for name, tensor in tensors.items()}
        tensors[_POSITIONS] = tensors[_POSITIONS][: len(own[_POSITIONS])]
        conditions = {name: tensor for name, tensor in own.items() if not _is_language_model(name)}
        tensors = {**conditions, **tensors}
    else:
        ours, theirs = model.architecture.feature_size, len(tensors["feature_mean"])
        check_equal("feature_size", ours, theirs, start, "train at a preset whose selector gives such features")
    words = tensors[_WORDS]
    num_new = len(own[_WORDS]) - len(words)
    if num_new > 0:
        tensors[_WORDS] = nn.functional.pad(words, (0, 0, 0, num_new))
        tensors[_WORDS][len(words) :] = words.mean(dim=0)
    load_strictly(model, tensors, start)


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], start: Start) -> None:
    """Load tensors by name; every name and shape must fit.

    Raises:
        ModelError: One does not.
    """
    try:
        module.load_state_dict(dict(tensors), strict=True)
    except RuntimeError as error:
        raise ModelError(
            f"the imported {start.part} does not fit this network: {str(error)[:400]}; import it again", start.source
        ) from error
    logger.info("starting from %s of %s (%s)", start.part, start.source, start.licence)


def _is_language_model(name: str) -> bool:
    return name.startswith(_LANGUAGE_MODEL) and ".uk." not in name and ".uv." not in name


def _say_what_changes(ours: FrozenConfig, theirs: FrozenConfig, start: Start) -> None:
    before, after = dict(ours), dict(theirs)
    changed = [f"{name} {after[name]} (preset {before[name]})" for name in after if after[name] != before[name]]
    if changed:
        logger.info("the architecture is that of the imported %s: %s", start.part, ", ".join(changed))
