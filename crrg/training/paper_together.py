"""The paper's second and third stage: detector, heads and language model learn together, on what the detector found.

Ours trains stage by stage on frozen ones before. The paper's heads have no network of their own, so that findings reach
the region features only where the heads' losses, and then the words', train the detector's backbone. Which proposal
speaks for a region is found once, by the detector of the stage before, and moves along with the augmented film.

Letters: ``N`` films, ``B`` films of a batch, ``R`` regions, ``P`` phrases of a batch, ``L`` tokens.

Source: stages and weights of the losses of RGRG (Tanida et al., CVPR 2023).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from crrg.config.training import Augmentation
from crrg.data.dataset.batches import FilmTable
from crrg.data.tokenizer import PhraseTokenizer
from crrg.device import in_batches
from crrg.domain.labels import NUM_LABELS
from crrg.domain.regions import REGION_INDEX
from crrg.models.detector import RegionDetector, TrainingSample
from crrg.models.region_heads import FeatureSelector
from crrg.models.report_generator import ReportGenerator
from crrg.training.augment import augment_films
from crrg.training.counted_loss import CountedLoss
from crrg.training.losses import masked_bce
from crrg.training.order import rows_of_step
from crrg.training.phrase_batches import IGNORED
from crrg.training.region_targets import RegionTargets, region_targets
from crrg.training.running_statistics import statistics_held

HEAD_WEIGHT = 5.0
WORD_WEIGHT = 2.0
SELECTION_POS_WEIGHT = 2.2
ABNORMAL_POS_WEIGHT = 6.0
FIND_BATCH = 32
FloatArray = NDArray[np.float32]


class WholeModel(nn.Module):
    """Detector and heads, and in the third stage the language model, as one network to train."""

    def __init__(
        self, detector: RegionDetector, selector: FeatureSelector, generator: ReportGenerator | None = None
    ) -> None:
        """Put trained or untrained parts together."""
        super().__init__()
        self.detector = detector
        self.selector = selector
        self.generator = generator


@dataclass(frozen=True)
class FoundFilms:
    """Films with the proposal that speaks for each region.

    Attributes:
        films: ``N`` films.
        proposals: float32 ``[N, R, 4]`` in input pixels; NaN where the region was not detected.
        targets: What is known of the regions.
        tokens: Per film, region index to the tokens of its phrase, begin and end included; empty without a vocabulary.
    """

    films: FilmTable
    proposals: FloatArray
    targets: RegionTargets
    tokens: list[dict[int, list[int]]]


@dataclass(frozen=True)
class WholeBatch:
    """Tensors of one step; NaN where unknown.

    Attributes:
        images: uint8 ``[B, 1, S, S]``.
        boxes: Annotated boxes ``[B, R, 4]``.
        proposals: ``[B, R, 4]``.
        selection: ``[B, R]``.
        abnormal: ``[B, R]``.
        film_index: Row of the batch of each phrase, int64 ``[P]``.
        region_index: int64 ``[P]``.
        token_ids: int64 ``[P, L]``.
        next_ids: int64 ``[P, L]``, -100 beyond the end.
        sample: What of the films teaches the detector, where that was chosen before; on the network's device.
    """

    images: Tensor
    boxes: Tensor
    proposals: Tensor
    selection: Tensor
    abnormal: Tensor
    film_index: Tensor
    region_index: Tensor
    token_ids: Tensor
    next_ids: Tensor
    sample: TrainingSample | None = None

    def to(self, device: torch.device) -> WholeBatch:
        """Return the batch on a device."""
        tensors: dict[str, Any] = {name: value.to(device) for name, value in vars(self).items() if name != "sample"}
        return replace(self, **tensors)


def find_proposals(
    detector: RegionDetector, films: FilmTable, tokenizer: PhraseTokenizer | None, max_length: int
) -> FoundFilms:
    """Let a detector say which proposal speaks for each region of films.

    Args:
        detector: In ``eval`` mode, its architecture hands region features on; decides the device.
        films: At the detector's input size.
        tokenizer: Spells the phrases; without it there are none to learn.
        max_length: Longest phrase, tokens.

    Raises:
        DeviceMemoryError: The device's memory does not suffice for one film.
    """
    device = next(detector.parameters()).device

    def find(first: int, last: int) -> Tensor:
        found = detector.find(torch.from_numpy(films.images[first:last])[:, None].to(device))
        assert found.proposals_xyxy is not None
        return torch.where(found.detected[..., None], found.proposals_xyxy, torch.nan).cpu()

    rows = in_batches(len(films), FIND_BATCH, find)
    tokens: list[dict[int, list[int]]] = [{} for _ in films.phrases]
    if tokenizer is not None:
        for spelled, phrases in zip(tokens, films.phrases, strict=True):
            ids = tokenizer.encode_phrases(list(phrases.values()), max_length)
            spelled.update(zip((REGION_INDEX[region] for region in phrases), ids, strict=True))
    return FoundFilms(films, torch.cat(rows).numpy(), region_targets(films), tokens)


def batch_maker(
    found: FoundFilms, batch_size: int, augmentation: Augmentation, seed: int
) -> Callable[[int], WholeBatch]:
    """Return the function from a step to its batch: augmented films, boxes and proposals moved along."""

    def make_batch(step: int) -> WholeBatch:
        films = found.films
        rows = rows_of_step(len(films), batch_size, seed, step)
        both = np.concatenate([films.input_boxes_xyxy[rows], found.proposals[rows]], axis=1)
        images, moved = augment_films(films.images[rows], both, augmentation, np.random.default_rng([seed, step, 1]))
        boxes, proposals = np.split(moved, 2, axis=1)
        is_lost = np.asarray(np.isnan(proposals).any(axis=-1))
        selection, abnormal = (
            torch.from_numpy(np.where(is_lost, np.nan, part[rows]).astype(np.float32))
            for part in (found.targets.selection, found.targets.abnormal)
        )
        phrases = [
            (place, region, ids)
            for place, row in enumerate(rows.tolist())
            for region, ids in found.tokens[row].items()
            if not is_lost[place, region]
        ]
        token_ids, next_ids = _spelled([ids for _, _, ids in phrases])
        places = torch.tensor([(place, region) for place, region, _ in phrases], dtype=torch.long).reshape(-1, 2)
        return WholeBatch(
            images=torch.from_numpy(images)[:, None],
            boxes=torch.from_numpy(np.ascontiguousarray(boxes)),
            proposals=torch.from_numpy(np.ascontiguousarray(proposals)),
            selection=selection,
            abnormal=abnormal,
            film_index=places[:, 0],
            region_index=places[:, 1],
            token_ids=token_ids,
            next_ids=next_ids,
        )

    return make_batch


def whole_loss(model: WholeModel) -> CountedLoss[WholeBatch]:
    """Return the weighted sum of the detector's losses, the heads' and the words', of a batch on any device.

    As in the detector stage (``detector_loss``), where a step has several batches they are looked at once more first,
    since how many anchors and proposals the detector's losses are means over depends on what is annotated.
    """
    device = next(model.parameters()).device

    def prepare(batch: WholeBatch) -> WholeBatch:
        with statistics_held(model):
            return replace(batch, sample=model.detector.sample(batch.images.to(device), batch.boxes.to(device)))

    def parts(batch: WholeBatch) -> dict[str, Tensor]:
        batch = batch.to(device)
        levels = model.detector.maps(batch.images)
        found = model.detector.losses(levels, batch.boxes, batch.sample)
        outputs = model.selector(model.detector.box_head.mean_features(levels, torch.nan_to_num(batch.proposals)))
        selection = masked_bce(outputs.selection_logits, batch.selection, SELECTION_POS_WEIGHT)
        abnormal = masked_bce(outputs.abnormal_logits, batch.abnormal, ABNORMAL_POS_WEIGHT)
        found |= {"selection": HEAD_WEIGHT * selection, "abnormal": HEAD_WEIGHT * abnormal}
        if model.generator is not None:
            features = outputs.features[batch.film_index, batch.region_index]
            said = word_loss(model.generator, features, batch) if len(features) else features.sum()
            found["words"] = WORD_WEIGHT * said
        return found

    def counts(batch: WholeBatch) -> dict[str, Tensor]:
        assert batch.sample is not None
        return {
            **batch.sample.counts(),
            "selection": torch.isfinite(batch.selection).sum(),
            "abnormal": torch.isfinite(batch.abnormal).sum(),
            **({} if model.generator is None else {"words": (batch.next_ids != IGNORED).sum()}),
        }

    return CountedLoss(parts, counts, prepare=prepare)


def word_loss(generator: ReportGenerator, features: Tensor, batch: WholeBatch) -> Tensor:
    """Return the cross-entropy of the next token of a batch's phrases under region features ``[P, F]`` alone."""
    no_flags = features.new_zeros(len(features), NUM_LABELS + 1)
    condition = generator.encode_condition(features, batch.region_index, no_flags)
    logits = generator(batch.token_ids, condition)
    return cross_entropy(logits.flatten(0, 1).float(), batch.next_ids.flatten(), ignore_index=IGNORED)


def _spelled(phrases: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Return phrases without their end and without their beginning ``[P, L]``; targets beyond the end are ignored."""
    if not phrases:
        nothing = torch.zeros(0, 0, dtype=torch.long)
        return nothing, nothing
    rows = [torch.tensor(ids, dtype=torch.long) for ids in phrases]
    token_ids = nn.utils.rnn.pad_sequence([row[:-1] for row in rows], batch_first=True)
    next_ids = nn.utils.rnn.pad_sequence([row[1:] for row in rows], batch_first=True, padding_value=IGNORED)
    return token_ids, next_ids
