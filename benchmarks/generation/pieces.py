"""What is measured: whole passes from films to de-duplicated reports, ours and the published procedure's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from benchmarks.generation import procedure
from benchmarks.generation.models import END_ID, EQUAL_LENGTH, Inputs, Ours, Side, Sides, Words
from benchmarks.generation.published import FullModel
from crrg.inference.decoding import decode_hypotheses
from crrg.inference.dedup import deduplicate, token_similarity
from crrg.models.backbone import normalise_films

Lengths = Literal["equal", "realistic"]
SELECTION_LOGIT = -1.0
FEW_PROPOSALS = 150


@dataclass(frozen=True)
class Piece:
    """One pass.

    Attributes:
        side: Who computes.
        batch: Films at once.
        lengths: 28 words in every sentence, or as many as were drawn for it.
        films: First film and number of films.
        repeat: Which repetition.
    """

    side: Side
    batch: int
    lengths: Lengths
    films: tuple[int, int]
    repeat: int

    @property
    def name(self) -> str:
        """Key in the table."""
        return f"{self.side}/batch{self.batch}/{self.lengths}/films{self.films[0]}+{self.films[1]}/{self.repeat}"


class Stages:
    """CPU and wall seconds per stage of a pass."""

    def __init__(self) -> None:
        self.cpu: dict[str, float] = {}
        self.wall: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the time of the block to a stage."""
        cpu, wall = time.process_time(), time.perf_counter()
        yield
        self.cpu[stage] = self.cpu.get(stage, 0.0) + time.process_time() - cpu
        self.wall[stage] = self.wall.get(stage, 0.0) + time.perf_counter() - wall

    def so_far(self, stage: str) -> dict[str, float]:
        """Return the seconds of a stage by clock."""
        return {"cpu_s": self.cpu.get(stage, 0.0), "wall_s": self.wall.get(stage, 0.0)}


def run(piece: Piece, model: FullModel | Ours, inputs: Inputs, stages: Stages | None = None) -> dict[str, Any]:
    """Make one pass and return its times, de-duplication also film by film, and its sentences.

    Args:
        piece: Which pass.
        model: The networks of its side.
        inputs: Films and what else both sides are given.
        stages: What is told where a stage begins and ends.
    """
    stages = stages or Stages()
    reports: list[list[list[Any]]] = []
    first, count = piece.films
    kept: list[list[str]] = []
    own: dict[str, list[float]] = {"cpu_s": [], "wall_s": []}
    for start in range(first, first + count, piece.batch):
        films = list(range(start, min(start + piece.batch, first + count)))
        one_pass = _published if isinstance(model, FullModel) else _ours
        found = one_pass(piece, model, inputs, films, stages)
        reports += found
        for report in found:
            before = stages.so_far("deduplication")
            with stages("deduplication"):
                kept.append(_deduplicated(piece, inputs, [sentence[0] for sentence in report]))
            after = stages.so_far("deduplication")
            for clock in own:
                own[clock].append(after[clock] - before[clock])
    times = {"cpu_s": stages.cpu, "wall_s": stages.wall, "deduplication": own}
    return {**times, "num_films": count, "reports": reports, "kept": kept}


def _deduplicated(piece: Piece, inputs: Inputs, sentences: list[str]) -> list[str]:
    if piece.side == "published":
        return procedure.deduplicate(sentences, inputs.published_encoder)
    return deduplicate(sentences, similarity=token_similarity(inputs.encoder))


def _published(
    piece: Piece, model: FullModel, inputs: Inputs, films: Sequence[int], stages: Stages
) -> list[list[list[Any]]]:
    with torch.no_grad():
        with stages("detection"):
            _, detected, features = model.object_detector(normalise_films(inputs.films[list(films)]))
        with stages("selection"):
            logits = model.binary_classifier_region_selection.classifier(features)[..., 0]
            selected = detected & (logits > SELECTION_LOGIT)
        with stages("decoding"):
            found = procedure.beam_search(
                model.language_model,
                features[selected],
                END_ID,
                num_words=num_words_of(piece.lengths, inputs, films, selected),
            )
    sentences = [[Words().decode(tuple(item[0][1])), item[0][0], item[0][0] - item[1][0]] for item in found]
    return _by_film(sentences, selected)


def _ours(piece: Piece, model: Ours, inputs: Inputs, films: Sequence[int], stages: Stages) -> list[list[list[Any]]]:
    with torch.inference_mode():
        with stages("detection"):
            found = model.detector.detect(inputs.films[list(films)])
        with stages("selection"):
            if found.region_features is None:
                raise AssertionError("the paper's detector hands region features on")
            judged = model.selector(found.region_features)
            selected = found.detected & (judged.selection_logits > SELECTION_LOGIT)
        with stages("decoding"):
            number = int(selected.sum())
            settings = model.decoding.model_copy(update={"precision": "fast" if piece.side == "fast" else "exact"})
            phrases = decode_hypotheses(
                model.generator,
                Words(),
                judged.features[selected],
                torch.zeros(number, dtype=torch.long),
                torch.zeros(number, 15),
                settings,
                num_words=num_words_of(piece.lengths, inputs, films, selected),
            )
    sentences = [[item[0].text, item[0].logprob, item[0].logprob - item[1].logprob] for item in phrases]
    return _by_film(sentences, selected)


def num_words_of(lengths: Lengths, inputs: Inputs, films: Sequence[int], selected: Tensor) -> list[int]:
    """Return how many words each selected region's sentence is made to have."""
    rows, regions = torch.nonzero(selected, as_tuple=True)
    if lengths == "equal":
        return [EQUAL_LENGTH - 1] * len(rows)
    return [inputs.lengths[films[row]][region] for row, region in zip(rows.tolist(), regions.tolist(), strict=True)]


def _by_film(sentences: list[list[Any]], selected: Tensor) -> list[list[list[Any]]]:
    counts = selected.sum(dim=1).tolist()
    starts = [sum(counts[:number]) for number in range(len(counts))]
    return [sentences[start : start + count] for start, count in zip(starts, counts, strict=True)]


def few_proposals(side: Side, batch: int, sides: Sides) -> dict[str, Any]:
    """Return the seconds of detection where few proposals survive, as with trained weights."""
    networks = (sides.published.object_detector.rpn, sides.ours.detector.rpn)
    usual = [dict(network._post_nms_top_n) for network in networks]
    for network in networks:
        network._post_nms_top_n = {"training": FEW_PROPOSALS, "testing": FEW_PROPOSALS}
    films = sides.inputs.films[:batch]
    detect: Callable[[], object] = (
        (lambda: sides.published.object_detector(normalise_films(films)))
        if side == "published"
        else (lambda: sides.ours.detector.detect(films))
    )
    cpu, wall = time.process_time(), time.perf_counter()
    with torch.no_grad():
        detect()
    found = {"cpu_s": {"detection": time.process_time() - cpu}, "wall_s": {"detection": time.perf_counter() - wall}}
    for network, number in zip(networks, usual, strict=True):
        network._post_nms_top_n = number
    return {**found, "num_films": batch}
