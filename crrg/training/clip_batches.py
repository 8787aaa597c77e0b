"""Batches of the CLIP stage: films as they might have been taken, and one of the many texts that are true of each.

At each step a film meets its whole report in a new order of sentences, or a few of its sentences; beside them stands
one affirming and one denying prompt per finding, so that the text tower learns reports and the short sentences of
zero-shot questions alike. Two views and two texts per study are drawn in ``study_sampling``. A batch is a pure function
of seed and step, and of the rank where several train together. Equal texts stand in it once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crrg.config.training import ClipTraining
from crrg.data.dataset.batches import FilmTable
from crrg.data.tokenizer import TextTokenizer
from crrg.domain.labels import FINDINGS, LABEL_INDEX, NEGATIVE, NUM_LABELS
from crrg.domain.regions import NUM_REGIONS, REGION_INDEX
from crrg.domain.sentences import split_sentences
from crrg.evaluation.labeler import label_sentence
from crrg.inference.prompts import prompt_pair
from crrg.inference.zero_shot import tokenize
from crrg.training.augment import augment_films
from crrg.training.order import rows_of_step
from crrg.training.paraphrase import paraphraser_of
from crrg.training.ranks import num_ranks, own_rows, own_seed
from crrg.training.study_sampling import StudyFilms, StudyTexts

_PROMPTS = tuple(prompt_pair(label) for label in FINDINGS)


@dataclass(frozen=True)
class ClipBatch:
    """One step's films and texts, for one rank.

    Attributes:
        images: uint8 ``[V * B, 1, S, S]``, grey values 0..255: all first views, then all second ones.
        labels: int64 ``[B, 14]``: 1, 0, -1 uncertain, -2 unmentioned.
        token_ids: int64 ``[U, L]``: every different text of the batch once.
        attention_mask: int64 ``[U, L]``.
        text_rows: int64 ``[T, B]``: where among them each study's texts are.
        prompt_rows: int64 ``[26]``: where 13 denying and then 13 affirming prompts are, in the order of ``FINDINGS``;
            empty where nothing is asked.
        text_ids: int64 ``[T, B]``: equal where texts are the same sentences, also on other ranks.
        source_ids: int64 ``[T, B]``: equal where texts were drawn from reports of the same sentences.
        study_ids: int64 ``[B]``: equal where films belong to one study, or a study was drawn twice.
        has_text: bool ``[B]``: which studies have a report at all.
        input_boxes_xyxy: float32 ``[B, 29, 4]`` in input pixels of the first view, NaN where un-annotated.
        region_labels: bool ``[B, 14, 29]``: which regions the report names for which finding.
    """

    images: Tensor
    labels: Tensor
    token_ids: Tensor
    attention_mask: Tensor
    text_rows: Tensor
    prompt_rows: Tensor
    text_ids: Tensor
    source_ids: Tensor
    study_ids: Tensor
    has_text: Tensor
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
        tokenizer: TextTokenizer,
        training: ClipTraining,
        seed: int,
        drafts: Mapping[str, str] | None = None,
        *,
        laterals: FilmTable | None = None,
    ) -> None:
        """Prepare the films.

        Args:
            films: Frontal training films.
            tokenizer: The model's.
            training: Shares of the kinds of text, batch size of a rank, text length, views.
            seed: Decides order, texts and augmentation.
            drafts: Instance id to generated report, where the joint stage mixes them in.
            laterals: Lateral films of the same studies, for a second view.
        """
        self._tables = [films] if laterals is None else [films, laterals]
        self._studies = StudyFilms(films, laterals, training.sampling.num_views)
        self._texts = StudyTexts(films, training, drafts or {}, paraphraser_of(training.paraphrases))
        self._labels = torch.from_numpy(np.concatenate([table.labels for table in self._tables]).astype(np.int64))
        phrases = [phrases for table in self._tables for phrases in table.phrases]
        self._region_labels = np.stack([label_regions(phrases) for phrases in phrases])
        self._tokenizer = tokenizer
        self._training = training
        self._seed = seed

    def __len__(self) -> int:
        """Return the number of studies: of films, where a study shows one view."""
        return len(self._studies)

    def make(self, step: int) -> ClipBatch:
        """Return the batch of a step, of this rank."""
        rng = np.random.default_rng([self._seed, 1, step, *own_seed()])
        size = self._training.loop.batch_size
        studies = own_rows(rows_of_step(len(self._studies), size * num_ranks(), self._seed, step))
        views = self._draw_views(studies, rng)
        members = self._studies.members
        drawn = [self._texts.draw(int(members[study][0]), rng) for study in studies]
        versions = list(zip(*drawn, strict=True))
        texts = [[each.text.lower() for each in version] for version in versions]
        prompts = [text.lower() for text in sample_prompts(rng)] if self._training.prompt_loss_weight else []
        distinct = list(dict.fromkeys(text for version in (*texts, prompts) for text in version))
        row_of = {text: row for row, text in enumerate(distinct)}
        token_ids, mask = tokenize(self._tokenizer, distinct, self._training.architecture.max_text_length)
        images, boxes = self._augment(views, rng)
        return ClipBatch(
            images=torch.from_numpy(images)[:, None],
            labels=self._labels[views[0]],
            token_ids=token_ids,
            attention_mask=mask,
            text_rows=torch.tensor([[row_of[text] for text in version] for version in texts]),
            prompt_rows=torch.tensor([row_of[text] for text in prompts], dtype=torch.int64),
            text_ids=torch.tensor([[each.text_id for each in version] for version in versions]),
            source_ids=torch.tensor([[each.source_id for each in version] for version in versions]),
            study_ids=torch.from_numpy(self._studies.ids[studies]),
            has_text=torch.tensor([bool(text) for text in texts[0]]),
            input_boxes_xyxy=torch.from_numpy(boxes),
            region_labels=torch.from_numpy(self._region_labels[views[0]]),
        )

    def _draw_views(self, studies: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the pictures ``[V, B]`` of studies."""
        if self._training.sampling.num_views == 1:
            return studies[None]
        return np.array([self._studies.draw_two(int(study), rng) for study in studies]).T

    def _augment(
        self, views: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Return the pictures ``[V * B, S, S]``, each changed on its own, and the boxes ``[B, 29, 4]`` of the first."""
        config = self._training.augmentation
        changed = [
            augment_films(self._pick("images", pictures), self._pick("input_boxes_xyxy", pictures), config, rng)
            for pictures in views
        ]
        return np.concatenate([images for images, _ in changed]), changed[0][1]

    def _pick(self, name: Literal["images", "input_boxes_xyxy"], pictures: NDArray[np.int64]) -> NDArray[Any]:
        """Return rows of frontal and lateral films alike; only those that are asked for are read."""
        first = getattr(self._tables[0], name)
        picked = first[np.minimum(pictures, len(first) - 1)]
        is_lateral = pictures >= len(first)
        if is_lateral.any():
            picked[is_lateral] = getattr(self._tables[1], name)[pictures[is_lateral] - len(first)]
        return picked


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
