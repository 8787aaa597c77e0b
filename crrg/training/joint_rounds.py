"""Rounds in which generator and CLIP teach each other: CLIP ranks wordings, the generator learns the preferred ones.

The clinical check stands between them: a wording that states what the film does not have, or denies what it has, is
never preferred to a right one, however much CLIP likes it. Drafts and readings come in as values; who made them is the
caller's business.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch

from crrg.config.training import GeneratorTraining
from crrg.data.tokenizer import PhraseTokenizer, TextTokenizer
from crrg.domain.labels import LabelValues
from crrg.errors import NonFiniteLoss, PoorDrafts
from crrg.inference.reranking import Sides, prefer_text
from crrg.inference.statements import Labeler
from crrg.inference.zero_shot import encode_texts
from crrg.models.clip import ClipModel
from crrg.models.low_rank import low_rank_updates
from crrg.models.report_generator import ReportGenerator
from crrg.training.checkpoint import StageFolder
from crrg.training.loop import fit
from crrg.training.phrase_batches import PhraseBatch, PhraseSampler, PhraseTable
from crrg.training.phrase_loss import token_loss
from crrg.training.tracker import Tracker

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Round(Generic[T]):
    """One round and what it scored on validation films.

    Attributes:
        number: 0 is the state before the first round.
        state: What the round made.
        score: Higher is better.
    """

    number: int
    state: T
    score: float


def prefer_phrases(
    model: ClipModel,
    tokenizer: TextTokenizer,
    image_features: torch.Tensor,
    hypotheses: Sequence[Mapping[int, Sequence[str]]],
    labels: Sequence[LabelValues] | None,
    labeler: Labeler,
    sides: Sequence[Sides] | None = None,
) -> list[dict[int, str]]:
    """Choose, for each region of each film, the wording that is clinically right and likest to the film.

    Args:
        model: CLIP in ``eval`` mode.
        tokenizer: Its tokenizer.
        image_features: ``[N, D]`` of the films, by the same model.
        hypotheses: Per film, region index to wordings, the likeliest first.
        labels: What is known of each film; ``None`` leaves the clinical check out.
        labeler: Reads labels of a text.
        sides: Where each film has its findings, as far as its report says.

    Returns:
        Per film, region index to the wording.
    """
    texts = sorted({text for regions in hypotheses for found in regions.values() for text in found if text})
    place = {text: i for i, text in enumerate(texts)}
    features = encode_texts(model, tokenizer, texts)
    preferred: list[dict[int, str]] = []
    for row, regions in enumerate(hypotheses):
        known = labels[row] if labels is not None else None
        where = sides[row] if sides is not None else None
        chosen = {}
        for region, found in regions.items():
            worded = [text for text in found if text]
            if worded:
                cosines = (features[[place[text] for text in worded]] @ image_features[row]).tolist()
                chosen[region] = worded[prefer_text(worded, cosines, labeler, known, where)]
        preferred.append(chosen)
    return preferred


def finetune_generator(
    model: ReportGenerator,
    tokenizer: PhraseTokenizer,
    tables: tuple[PhraseTable, PhraseTable],
    settings: GeneratorTraining,
    folder: StageFolder,
    tracker: Tracker,
    *,
    preferred_share: float = 0.5,
    seed: int = 0,
) -> ReportGenerator:
    """Go on training a generator on real phrases mixed with preferred ones.

    Args:
        model: Trained generator; trained in place.
        tokenizer: Its tokenizer.
        tables: Real phrases, then preferred phrases.
        settings: Loop and shares; the learning rate should be a small part of the first training's.
        folder: Where training states go.
        tracker: Receives the curves.
        preferred_share: Share of the steps that are made of preferred phrases.
        seed: Seed of the order.

    Returns:
        The same generator in ``eval`` mode.
    """
    real, preferred = (PhraseSampler(table, tokenizer, settings, seed) for table in tables)
    device = model.feature_mean.device

    def batch_of(step: int) -> PhraseBatch:
        draw = np.random.default_rng([seed, 3, step]).random()
        return (preferred if draw < preferred_share else real).batch(step)

    with low_rank_updates(model.decoder, settings.lora_rank):
        fit(model, batch_of, token_loss(model), settings.loop, device=device, folder=folder, tracker=tracker)
    return model.eval()


def improve_until_still(
    first: T, score: Callable[[T], float], improve: Callable[[T, int], T], *, max_rounds: int, min_gain: float = 0.0
) -> list[Round[T]]:
    """Run rounds until the validation score stops improving, or a round leads nowhere.

    Args:
        first: State before the first round.
        score: State to validation score, higher is better.
        improve: State and round number (from 1) to the next state; where its drafts are not worth
            learning from (``PoorDrafts``) or its training diverges (``NonFiniteLoss``), it is the last.
        max_rounds: Most rounds.
        min_gain: A round that gains no more than this over the best one before is the last.

    Returns:
        All rounds, the one before the first included; the caller takes the best.
    """
    rounds = [Round(0, first, score(first))]
    for number in range(1, max_rounds + 1):
        best = max(rounds, key=lambda found: found.score)
        try:
            state = improve(best.state, number)
        except (PoorDrafts, NonFiniteLoss) as error:
            logger.warning("joint round %d is the last and is left out: %s", number, error)
            break
        rounds.append(Round(number, state, score(state)))
        logger.info("joint round %d: score %.4f, best before %.4f", number, rounds[-1].score, best.score)
        if rounds[-1].score <= best.score + min_gain:
            break
    return rounds
