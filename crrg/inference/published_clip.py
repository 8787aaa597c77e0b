"""Published CLIP models as they were published: their framing of a film, their prompts, their zero-shot rule.

Both rules are a softmax over a label's denying and affirming sentence on plain cosines, without the temperature; what
they give ranks films and is no probability to act on. "No Finding" has no sentence of its own, since "no No Finding"
turns the answer round: it is one minus the highest abnormality. Our own models are asked by ``zero_shot``.

Source: CXR-CLIP (You et al., MICCAI 2023); CheXzero (Tiu et al., 2022); the pair about pneumonia: BioViL (Boecking et
al., ECCV 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crrg.data.framing import Framing, frame_film
from crrg.data.published_tokenizers import PublishedTokenizer
from crrg.device import in_tiles
from crrg.domain.study import Film
from crrg.errors import ModelError
from crrg.inference.prompts import PromptPair
from crrg.inference.tiles import tile_size
from crrg.inference.zero_shot import encode_texts, zero_shot_labels
from crrg.models.clip import ClipModel, load_clip

FloatArray = NDArray[np.float64]
PLAIN_COSINES = 1.0
"""The inverse temperature of both zero-shot rules."""


def cxr_clip_prompts(label: str) -> PromptPair:
    """Return CXR-CLIP's sentences about a label: its name, and "No" before it."""
    if label == "Pneumonia":
        return PromptPair(("Findings suggesting pneumonia.",), ("No evidence of pneumonia",))
    return PromptPair((label,), (f"No {label}",))


def chexzero_prompts(label: str) -> PromptPair:
    """Return CheXzero's sentences about a label: its name, and "no" before it."""
    return PromptPair((label,), (f"no {label}",))


PROMPTS: Mapping[str, Callable[[str], PromptPair]] = {"cxr-clip": cxr_clip_prompts, "chexzero": chexzero_prompts}


@dataclass(frozen=True)
class PublishedReading:
    """What a published model says of films.

    Attributes:
        image_features: ``[N, D]``, length 1.
        label_logits: ``[N, K]`` of a fine-tuned classifier, in its own order of labels; ``[N, 0]`` without one.
    """

    image_features: Tensor
    label_logits: Tensor


@dataclass(frozen=True)
class PublishedClip:
    """An imported CLIP, ready to read films and texts.

    Attributes:
        model: Towers and projections.
        source: What was published: ``cxr-clip`` or ``chexzero``.
        licence: What may be done with its weights.
        framing: How a film becomes its square.
        tokenizer: Its vocabulary; ``None`` where none was given at import.
    """

    model: ClipModel
    source: str
    licence: str
    framing: Framing
    tokenizer: PublishedTokenizer | None

    @classmethod
    def from_files(cls, config: Mapping[str, Any], files: Mapping[str, bytes], device: torch.device) -> PublishedClip:
        """Build the model from what ``crrg import`` wrote.

        Args:
            config: Content of ``config.json``.
            files: ``model.safetensors`` and, where a vocabulary was given, ``tokenizer.json``.
            device: Where to put it.

        Raises:
            ModelError: A part is missing or does not fit.
        """
        try:
            data = files.get("tokenizer.json")
            return cls(
                model=load_clip(config, files["model.safetensors"], device),
                source=config["imported_from"],
                licence=config["licence"],
                framing=config["framing"],
                tokenizer=None if data is None else PublishedTokenizer(data, config["tokenizer_kind"]),
            )
        except KeyError as error:
            raise ModelError(f"the imported model lacks {error}; import it again", "clip") from error

    @torch.inference_mode()
    def read_films(self, films: Sequence[Film]) -> PublishedReading:
        """Run the image tower over films, each in a tile of fixed shape."""
        architecture, device = self.model.architecture, self.model.logit_scale.device
        none = torch.zeros(0, architecture.projection_size), torch.zeros(0, architecture.num_labels)

        def read(rows: NDArray[np.int64], num_real: int) -> tuple[Tensor, Tensor]:
            framed = [frame_film(films[row].pixels, architecture.input_size, self.framing) for row in rows[:num_real]]
            squares = np.stack(framed)[rows - rows[0]]
            reading = self.model.read_films(torch.from_numpy(squares)[:, None].to(device))
            return reading.image_features[:num_real].cpu(), reading.label_logits[:num_real].cpu()

        size = tile_size(len(films), architecture.input_size, device, "exact", may_be_small=True)
        parts = in_tiles(len(films), size, read)
        features, logits = zip(none, *parts, strict=True)
        return PublishedReading(torch.cat(features), torch.cat(logits))

    def zero_shot(self, films: Sequence[Film], labels: Sequence[str]) -> dict[str, FloatArray]:
        """Ask films about labels by the published rule.

        Args:
            films: Any number of films.
            labels: Label names or any finding in words.

        Returns:
            Label to scores ``[N]`` in 0..1, close to 0.5 since the cosines are not spread by a temperature.

        Raises:
            ModelError: The model has no text tower, or no vocabulary was given when it was imported.
        """
        return {label: scores.numpy().astype(np.float64) for label, scores in self.ask(films, labels).items()}

    def ask(self, films: Sequence[Film], labels: Sequence[str]) -> dict[str, Tensor]:
        """Return what ``zero_shot`` does, as tensors on the CPU."""
        return zero_shot_labels(
            self.model,
            self._speller(),
            self.read_films(films).image_features,
            labels,
            prompts_of=PROMPTS[self.source],
            scale=PLAIN_COSINES,
        )

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return the features of texts ``[N, D]``, of length 1.

        Raises:
            ModelError: The model has no text tower, or no vocabulary was given when it was imported.
        """
        return encode_texts(self.model, self._speller(), texts)

    def label_probabilities(self, films: Sequence[Film]) -> FloatArray:
        """Return what a fine-tuned classifier says of films, ``[N, K]`` in its own order of labels, not calibrated.

        Raises:
            ModelError: The checkpoint has no classifier.
        """
        if self.model.architecture.label_head == "none":
            raise ModelError("this checkpoint has no classifier; ask it by zero_shot", self.source)
        probabilities: FloatArray = self.read_films(films).label_logits.sigmoid().numpy().astype(np.float64)
        return probabilities

    def _speller(self) -> PublishedTokenizer:
        if self.model.architecture.text_tower == "none":
            raise ModelError("this is a fine-tuned classifier without a text tower; it knows no prompts", self.source)
        if self.tokenizer is None:
            raise ModelError(
                "no vocabulary was given when this model was imported, so it cannot read texts; "
                "import it again with --tokenizer (cxr-clip: Bio_ClinicalBERT's vocab.txt; chexzero: CLIP's merges)",
                self.source,
            )
        return self.tokenizer
