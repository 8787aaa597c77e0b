"""Where the searches for one sentence part: the first step at which they keep other hypotheses, how close it was.

Sentences that differ need not be near ties of the last step: hypotheses that lie nearer to each other than the rounding
may change places earlier, and what grows out of them differs by as much as it likes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks.generation import procedure
from benchmarks.generation.models import END_ID, Sides, Words
from benchmarks.generation.pieces import SELECTION_LOGIT, Lengths, num_words_of
from crrg.inference.beam import BeamSearch
from crrg.inference.decoding import decode_hypotheses
from crrg.models.backbone import normalise_films

NUM_BEAMS = 4
Candidates = dict[tuple[int, ...], float]
"""Continued hypotheses of a step and their summed log-probabilities, best first."""


@dataclass(frozen=True)
class Parting:
    """The first step at which two searches keep other hypotheses.

    Attributes:
        step: Words that the hypotheses had; -1 where the searches never part.
        gap: The published search's largest difference of two hypotheses that changed places there, per token.
        noise: Largest difference of the two searches' scores of the same hypothesis up to there, per token.
    """

    step: int
    gap: float
    noise: float


@torch.inference_mode()
def where_searches_part(lengths: Lengths, film: int, sentence: int, sides: Sides) -> dict[str, Any]:
    """Search for one sentence on both sides again and return where they part."""
    films, one = sides.inputs.films[film : film + 1], slice(sentence, sentence + 1)
    _, detected, features = sides.published.object_detector(normalise_films(films))
    logits = sides.published.binary_classifier_region_selection.classifier(features)[..., 0]
    selected = detected & (logits > SELECTION_LOGIT)
    own = sides.ours.selector(sides.ours.detector.detect(films).region_features).features
    wanted = num_words_of(lengths, sides.inputs, [film], selected)[one]
    published = _published_steps(sides, features[selected][one], wanted)
    return asdict(where_parted(published, _our_steps(sides, own[selected][one], wanted)))


def where_parted(published: Sequence[Candidates], ours: Sequence[Candidates], num_beams: int = NUM_BEAMS) -> Parting:
    """Compare two searches step by step."""
    noise = 0.0
    for step, (theirs, own) in enumerate(zip(published, ours, strict=False)):
        common = [abs(theirs[each] - own[each]) / len(each) for each in theirs.keys() & own.keys()]
        noise = max([noise, *common])
        kept, own_kept = _kept(theirs, num_beams), _kept(own, num_beams)
        if kept != own_kept:
            return Parting(step, _largest_swap(theirs, own, kept ^ own_kept) / (step + 2), noise)
    return Parting(-1, math.inf, noise)


def _largest_swap(theirs: Candidates, own: Candidates, changed: set[tuple[int, ...]]) -> float:
    """Return the published search's largest difference of two hypotheses that changed places; one of ``changed`` each.

    Infinite where one of ``changed`` is none of both searches' candidates: then it is no matter of places.
    """
    common = theirs.keys() & own.keys()
    if not changed <= common:
        return math.inf
    pairs = ((one, other) for one in changed for other in common - {one})
    swapped = [(one, other) for one, other in pairs if (theirs[one] > theirs[other]) != (own[one] > own[other])]
    return max((abs(theirs[one] - theirs[other]) for one, other in swapped), default=math.inf)


def _kept(candidates: Candidates, num_beams: int) -> set[tuple[int, ...]]:
    """Return the hypotheses that end within the first ranks, and the best of those that go on."""
    ends = [each for each in list(candidates)[:num_beams] if each[-1] == END_ID]
    return {*ends, *[each for each in candidates if each[-1] != END_ID][:num_beams]}


def _candidates(ids: Tensor, scores: Tensor, parents: Tensor, tokens: Tensor) -> Candidates:
    rows = zip(scores.tolist(), parents.tolist(), tokens.tolist(), strict=True)
    return {(*ids[parent].tolist(), token): score for score, parent, token in rows if math.isfinite(score)}


def _published_steps(sides: Sides, feature: Tensor, num_words: Sequence[int]) -> list[Candidates]:
    steps: list[Candidates] = []
    advance = procedure._advance

    def watched(found: Any, ids: Tensor, scores: Tensor, parents: Tensor, tokens: Tensor, end_id: int) -> Any:
        steps.append(_candidates(ids, scores[0], parents[0], tokens[0]))
        return advance(found, ids, scores, parents, tokens, end_id)

    with mock.patch.object(procedure, "_advance", watched):
        procedure.beam_search(sides.published.language_model, feature, END_ID, num_words=num_words)
    return steps


def _our_steps(sides: Sides, feature: Tensor, num_words: Sequence[int]) -> list[Candidates]:
    steps: list[Candidates] = []
    choose = BeamSearch.choose

    def watched(search: BeamSearch, scores: Tensor, parents: Tensor, tokens: Tensor) -> Any:
        ids = search.tokens[0, :, : int(search.lengths[0])]
        steps.append(_candidates(ids, scores[0], parents[0], tokens[0]))
        return choose(search, scores, parents, tokens)

    with mock.patch.object(BeamSearch, "choose", watched):
        decode_hypotheses(
            sides.ours.generator,
            Words(),
            feature,
            torch.zeros(1, dtype=torch.long),
            torch.zeros(1, 15),
            sides.ours.decoding,
            num_words=num_words,
        )
    return steps
