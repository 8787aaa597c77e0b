"""Where the CLIP stages start from imported weights: a whole CLIP but for its label head, or a tower of either kind.

A text tower is taken over only together with its vocabulary: the weights of a word are of no use to another one.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from crrg.config.models import ClipArchitecture
from crrg.config.training import ClipTraining, InitialWeights
from crrg.data.published_tokenizers import PublishedTokenizer
from crrg.errors import ConfigError
from crrg.models.clip import ClipModel
from crrg.training.initial_weights import Start, check_equal, find_start, imported_architecture, load_strictly

logger = logging.getLogger(__name__)

PIXEL_FIELDS = ("pixel_scale", "pixel_mean", "pixel_std")
IMAGE_FIELDS = (
    "image_tower", "input_size", *PIXEL_FIELDS, "image_width", "image_layers", "image_heads", "patch_size",
    "window_size", "image_pooling",
)  # fmt: skip
"""What of an architecture belongs to the image tower."""
OWN_FIELDS = (
    "label_head", "head_dropout", "num_labels", "head_moves_tower", "text_dropout", "clamp_temperature", "logit_bias",
)  # fmt: skip
"""What of an architecture is the training's: its label head and switches that no imported tensor depends on."""
_IMAGE, _TEXT, _HEAD, _BIAS = "image_tower.", "text_tower.", "label_head.", "logit_bias"


@dataclass(frozen=True)
class ClipStart:
    """What a CLIP stage starts from.

    Attributes:
        image: A whole CLIP, one with films only, or ``resnet50``.
        text: ``bert``.
        is_whole: Whether ``image`` brings text tower and projections too.
    """

    image: Start | None
    text: Start | None
    is_whole: bool

    @property
    def starts(self) -> tuple[Start | None, Start | None]:
        """Both, for hash and record."""
        return self.image, self.text

    def vocabulary(self) -> PublishedTokenizer | None:
        """Return the imported vocabulary, or ``None`` where the text tower starts afresh with the dataset's own."""
        if self.image is not None and self.is_whole:
            return PublishedTokenizer(self.image.vocabulary(), self.image.config["tokenizer_kind"])
        return None if self.text is None else PublishedTokenizer(self.text.vocabulary(), "bert")


def clip_start(training: ClipTraining, form: InitialWeights) -> tuple[ClipTraining, ClipStart]:
    """Return the settings of a CLIP stage as its first weights need them, and these.

    Args:
        training: Of preset and recipe.
        form: Folders.

    Raises:
        ConfigError: Weights and settings do not suit each other; the message names the field.
    """
    image = find_start(form.clip, ("clip", "resnet50"), "clip")
    text = find_start(form.text_tower, ("bert",), "text_tower")
    ours = training.architecture
    changes: dict[str, Any] = {}
    is_whole = False
    if image is not None and image.part == "resnet50":
        way_out = "train at a preset with that tower, such as base"
        check_equal("image_tower", ours.image_tower, "resnet50", image, way_out)
        changes |= {name: image.config["architecture"][name] for name in PIXEL_FIELDS}
    elif image is not None:
        published = imported_architecture(image, ClipArchitecture, {})
        is_whole = published.text_tower != "none" and image.has_vocabulary()
        fields = set(IMAGE_FIELDS) if not is_whole else set(ClipArchitecture.model_fields) - set(OWN_FIELDS)
        changes |= published.model_dump(include=fields)
        if not is_whole:
            logger.info("only the image tower of %s is taken over, as no vocabulary was imported with it", image.source)
    if text is not None:
        changes |= _text_changes(ours, text, is_whole=is_whole)
    return _changed(training, changes), ClipStart(image, text, is_whole)


def load_clip_start(model: ClipModel, start: ClipStart) -> None:
    """Load first weights into a CLIP; its label head, and what no weights were given for, stay as they are.

    Raises:
        ModelError: Names or shapes differ.
    """
    own = model.state_dict()
    if start.image is not None and start.is_whole:
        theirs = {name: tensor for name, tensor in start.image.tensors().items() if not name.startswith(_HEAD)}
        kept = {name: tensor for name, tensor in own.items() if name.startswith(_HEAD) or name == _BIAS}
        load_strictly(model, {**kept, **theirs}, start.image)
    elif start.image is not None:
        load_strictly(model.image_tower, _image_tower_tensors(start.image), start.image)
    if start.text is not None:
        load_strictly(model.text_tower, start.text.tensors(), start.text)


def _image_tower_tensors(start: Start) -> dict[str, Tensor]:
    """Return the tensors of an image tower; a file of one has no more, that of a CLIP has."""
    tensors = start.tensors()
    if start.part == "resnet50":
        return tensors
    return {name.removeprefix(_IMAGE): tensor for name, tensor in tensors.items() if name.startswith(_IMAGE)}


def _text_changes(ours: ClipArchitecture, text: Start, *, is_whole: bool) -> Mapping[str, Any]:
    if is_whole:
        raise ConfigError(
            "the imported CLIP brings its own text tower; leave text_tower empty", "initial_weights.text_tower"
        )
    theirs = text.config["architecture"]
    check_equal("text_tower", ours.text_tower, "bert", text, "leave initial_weights.text_tower empty")
    if ours.max_text_length > theirs["text_positions"]:
        longest = f"at most {theirs['text_positions']}"
        check_equal("max_text_length", ours.max_text_length, longest, text, "give weights with more positions")
    text.vocabulary()
    return dict(theirs)


def _changed(training: ClipTraining, changes: Mapping[str, Any]) -> ClipTraining:
    if not changes:
        return training
    try:
        architecture = {**training.architecture.model_dump(), **changes}
        return ClipTraining.model_validate({**training.model_dump(), "architecture": architecture})
    except ValidationError as error:
        problems = "; ".join(str(found["msg"]) for found in error.errors())
        raise ConfigError(f"the imported weights do not suit this training: {problems}", "clip") from error
