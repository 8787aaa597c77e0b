"""Batches of the CLIP stage: films as they might have been taken, and one of the many texts that are true of each.

At each step a film meets its whole report in a new order of sentences, or a few of its sentences; beside them stands
one affirming and one denying prompt per finding, so that the text tower learns reports and the short sentences of
zero-shot questions alike. A batch is a pure function of seed and step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crrg.config.training import ClipTraining
from crrg.data.batches import FilmTable
from crrg.data.tokenizer import PhraseTokenizer
from crrg.domain.labels import FINDINGS, LABEL_INDEX, NEGATIVE, NUM_LABELS
from crrg.domain.regions import NUM_REGIONS, REGION_INDEX
from crrg.domain.sentences import split_sentences
from crrg.evaluation.labeler import label_sentence
from crrg.inference.prompts import prompt_pair
from crrg.inference.zero_shot import tokenize
from crrg.training.augment import augment_films
from crrg.training.losses import same_text
from crrg.training.order import rows_of_step

MAX_EXCERPT_SENTENCES = 4
_PROMPTS = tuple(prompt_pair(label) for label in FINDINGS)


@dataclass(frozen=True)
class ClipBatch:
    """One step's films and texts.

    Attributes:
        images: uint8 ``[B, 1, S, S]``, grey values 0..255.
        labels: int64 ``[B, 14]``: 1, 0, -1 uncertain, -2 unmentioned.
        token_ids: int64 ``[B + 26, L]``: a text per film, then 13 denying and 13 affirming prompts in the order of
            ``FINDINGS``.
        attention_mask: int64 ``[B + 26, L]``.
        has_text: bool ``[B]``: which films have a report at all.
        matches: float32 ``[B, B]``: 1 where text j (column) is true of film i (row), as far as is known.
        input_boxes_xyxy: float32 ``[B, 29, 4]`` in input pixels, NaN where un-annotated.
        region_labels: bool ``[B, 14, 29]``: which regions the report names for which finding.
    """

    images: Tensor
    labels: Tensor
    token_ids: Tensor
    attention_mask: Tensor
    has_text: Tensor
    matches: Tensor
    input_boxes_xyxy: Tensor
    region_labels: Tensor

    def to(self, device: torch.device) -> ClipBatch:
        """Return the batch on a device."""
        return ClipBatch(**{f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)})


class ClipBatches:
    """Makes the batch of any step from a table of films."""

    def __init__(
        self,
        films: FilmTable,
        tokenizer: PhraseTokenizer,
        training: ClipTraining,
        seed: int,
        drafts: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare the films.

        Args:
            films: Training films.
            tokenizer: The model's.
            training: Shares of the kinds of text, batch size, text length.
            seed: Decides order, texts and augmentation.
            drafts: Instance id to generated report, where the joint stage mixes them in.
        """
        self._films = films
        self._labels = torch.from_numpy(films.labels.astype(np.int64))
        self._region_labels = np.stack([label_regions(phrases) for phrases in films.phrases])
        self._tokenizer = tokenizer
        self._training = training
        self._seed = seed
        self._sentences = [split_sentences(report.text) for report in films.texts]
        known = drafts or {}
        self._drafts = [split_sentences(known.get(instance_id, "")) for instance_id in films.instance_ids]

    def make(self, step: int) -> ClipBatch:
        """Return the batch of a step."""
        rng = np.random.default_rng([self._seed, 1, step])
        rows = rows_of_step(len(self._films), self._training.loop.batch_size, self._seed, step)
        texts = [self._text(int(row), rng) for row in rows]
        token_ids, mask = tokenize(
            self._tokenizer, [*texts, *sample_prompts(rng)], self._training.architecture.max_text_length
        )
        images, boxes = augment_films(
            self._films.images[rows], self._films.input_boxes_xyxy[rows], self._training.augmentation, rng
        )
        return ClipBatch(
            images=torch.from_numpy(images)[:, None],
            labels=self._labels[rows],
            token_ids=token_ids,
            attention_mask=mask,
            has_text=torch.tensor([bool(text) for text in texts]),
            matches=match_texts(texts, rows),
            input_boxes_xyxy=torch.from_numpy(boxes),
            region_labels=torch.from_numpy(self._region_labels[rows]),
        )

    def _text(self, row: int, rng: np.random.Generator) -> str:
        """Return a text for a film; empty where it has neither report nor draft."""
        sentences = self._sentences[row]
        if self._drafts[row] and rng.random() < self._training.draft_share:
            sentences = self._drafts[row]
        order = rng.permutation(len(sentences))
        if rng.random() < self._training.excerpt_share:
            order = order[: rng.integers(1, MAX_EXCERPT_SENTENCES + 1)]
        return " ".join(sentences[i] for i in order)


def label_regions(phrases: Mapping[str, str]) -> NDArray[np.bool_]:
    """Return bool ``[14, 29]``: which regions a report names for which finding, surely or possibly."""
    named = np.zeros((NUM_LABELS, NUM_REGIONS), dtype=bool)
    for region, phrase in phrases.items():
        for sentence in split_sentences(phrase):
            for label, value in label_sentence(sentence).items():
                if value != NEGATIVE:
                    named[LABEL_INDEX[label], REGION_INDEX[region]] = True
    return named


def place_findings(input_boxes_xyxy: Tensor, region_labels: Tensor, num_cells: int, size: int) -> Tensor:
    """Return bool ``[B, 14, n, n]``: the places of each finding's regions on a map of ``num_cells`` a side.

    Args:
        input_boxes_xyxy: ``[B, 29, 4]`` in input pixels; NaN rows cover nothing.
        region_labels: bool ``[B, 14, 29]``.
        num_cells: Side of the map.
        size: Side of the input, pixels.
    """
    step = size / num_cells
    starts = torch.arange(num_cells, device=input_boxes_xyxy.device) * step
    x1, y1, x2, y2 = (input_boxes_xyxy[..., i, None] for i in range(4))
    columns = (starts + step > x1) & (starts < x2)
    rows = (starts + step > y1) & (starts < y2)
    covered = (rows[..., :, None] & columns[..., None, :]).float()
    return torch.einsum("blr,brhw->blhw", region_labels.float(), covered) > 0


def sample_prompts(rng: np.random.Generator) -> list[str]:
    """Return one denying wording per finding, then one affirming wording per finding."""
    denying = [pair.negative[rng.integers(len(pair.negative))] for pair in _PROMPTS]
    return denying + [pair.positive[rng.integers(len(pair.positive))] for pair in _PROMPTS]


def match_texts(texts: Sequence[str], rows: NDArray[np.int64]) -> Tensor:
    """Return ``[B, B]``: 1 where text j is known to be true of film i.

    A text is true of its own film and of every film whose text is the same word for word.

    Args:
        texts: One per film.
        rows: Which film each one is; a film drawn twice matches both its texts.
    """
    _, words = np.unique(texts, return_inverse=True)
    return (same_text(torch.from_numpy(words)) | same_text(torch.from_numpy(rows))).float()
