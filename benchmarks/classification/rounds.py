"""Variants of the joint loop's rounds: what CLIP may prefer, and what the generator makes of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from benchmarks.classification.ablation import TableLoader
from benchmarks.classification.readings import SplitReadings
from crrg.config.presets import preset_training
from crrg.domain.labels import LABELS
from crrg.domain.regions import REGIONS
from crrg.evaluation import clinical, text
from crrg.evaluation.labeler import label_report
from crrg.evaluation.protocols import tokenize
from crrg.inference.assembly import RegionPhrase, assemble
from crrg.inference.decoding import decode_phrases
from crrg.inference.pipeline import ReportPipeline
from crrg.inference.reranking import reconcile_flags
from crrg.models.report_generator import ReportGenerator
from crrg.storage import Storage
from crrg.tracking import NullTracker
from crrg.training.checkpoint import StageFolder, config_hash
from crrg.training.joint_rounds import finetune_generator, improve_until_still, prefer_phrases
from crrg.training.phrase_batches import collect_phrases

VARIANTS = ("rank only", "rank and check", "rank, check and film's flags", "real phrases only")
MAX_ROUNDS = 2
NUM_TRAIN_FILMS = 512
NUM_VALIDATION_FILMS = 128
LEARNING_RATE = 1e-4


def run_variants(
    reads: Mapping[str, SplitReadings],
    films: TableLoader,
    pipeline: ReportPipeline,
    storage: Storage,
    folder: str,
    num_steps: int,
    variants: tuple[str, ...] = VARIANTS,
) -> dict[str, Any]:
    """Run the rounds of each variant; a variant that was finished is found again.

    Args:
        reads: ``train``, ``validation`` and ``test`` as the bundle reads them.
        films: Gives the films as tables.
        pipeline: The bundle.
        storage: Root.
        folder: Where results are kept.
        num_steps: Steps of the generator per round.
        variants: Some of ``VARIANTS``.
    """
    found = {}
    for variant in variants:
        key = f"{folder}/rounds-{VARIANTS.index(variant)}-{num_steps}.json"
        if not storage.exists(key):
            storage.put(key, json.dumps(_run(variant, reads, films, pipeline, storage, num_steps)).encode())
        found[variant] = storage.get_json(key)
    return found


def draft_again(
    generator: ReportGenerator, read: SplitReadings, pipeline: ReportPipeline, *, film_flags: bool = False
) -> list[tuple[str, str]]:
    """Return findings and impression of every film by a generator, on stored readings.

    Args:
        generator: In ``eval`` mode.
        read: The films.
        pipeline: The bundle; gives tokenizer, decoding and label head.
        film_flags: Whether the flags are first reconciled with the labels of the whole film.
    """
    flags, selected = read.arrays["flags"], read.arrays["selected"]
    if film_flags:
        chances = pipeline.calibration.probabilities(read.arrays["logits"])
        flags = reconcile_flags(flags, read.arrays["finding_probabilities"], chances, pipeline.calibration.thresholds)
        selected = selected | flags[..., :-1].any(axis=2)
    rows, regions = np.nonzero(selected)
    found = decode_phrases(
        generator,
        pipeline.tokenizer,
        read.arrays["features"][rows, regions],
        regions,
        flags[rows, regions],
        pipeline.decoding,
    )
    phrases: list[list[RegionPhrase]] = [[] for _ in read.rows]
    for row, region, phrase in zip(rows.tolist(), regions.tolist(), found, strict=True):
        if phrase.text:
            phrases[row].append(RegionPhrase(REGIONS[region], phrase.text, bool(flags[row, region, -1])))
    reports = [assemble(items, label_report) for items in phrases]
    return [(report.findings, report.impression) for report in reports]


def score_drafts(drafts: list[tuple[str, str]], read: SplitReadings, findings: list[str]) -> dict[str, float]:
    """Return clinical micro-F1 and BLEU-4 of drafts."""
    truth = [
        {label: None if np.isnan(value) else int(value) for label, value in zip(LABELS, row, strict=True)}
        for row in read.arrays["references"]
    ]
    said = clinical.read_labels([f"{first} {second}" for first, second in drafts])
    counts = clinical.micro_f1_counts(said, truth)
    tokens = [[tokenize(item, "rgrg") for item in items] for items in ([first for first, _ in drafts], findings)]
    return {"f1": clinical.f1_from_counts(counts.sum(axis=0)), "bleu_4": text.bleu(tokens[0], tokens[1])[3]}


def _run(
    variant: str,
    reads: Mapping[str, SplitReadings],
    films: TableLoader,
    pipeline: ReportPipeline,
    storage: Storage,
    num_steps: int,
) -> dict[str, Any]:
    number = VARIANTS.index(variant)
    train, validation = (
        reads["train"].take(range(NUM_TRAIN_FILMS)),
        reads["validation"].take(range(NUM_VALIDATION_FILMS)),
    )
    table = films("train")
    preferred = _preferred(train, pipeline, is_checked=number > 0)
    changed = _with_phrases(table, preferred)
    tables = tuple(
        collect_phrases(_first(each, NUM_TRAIN_FILMS), train.arrays["features"], train.arrays["flags"])
        for each in (table, table if number == 3 else changed)
    )
    curve: list[dict[str, float]] = []
    known = films("validation").reports[:NUM_VALIDATION_FILMS]

    def score(generator: ReportGenerator) -> float:
        drafts = draft_again(generator, validation, pipeline, film_flags=number == 2)
        curve.append(score_drafts(drafts, validation, known))
        return curve[-1]["f1"]

    def improve(generator: ReportGenerator, turn: int) -> ReportGenerator:
        settings = preset_training("small").generator
        loop = settings.loop.model_copy(
            update={"num_steps": num_steps, "learning_rate": LEARNING_RATE, "batch_size": 32}
        )
        copy = ReportGenerator(generator.architecture)
        copy.load_state_dict(generator.state_dict())
        stage = StageFolder(storage, "rounds-generator", config_hash(variant=number, turn=turn, steps=num_steps))
        return finetune_generator(
            copy,
            pipeline.tokenizer,
            (tables[0], tables[1]),
            settings.model_copy(update={"loop": loop}),
            stage,
            NullTracker(),
            seed=turn,
        )

    rounds = improve_until_still(pipeline.generator, score, improve, max_rounds=MAX_ROUNDS)
    best = max(rounds, key=lambda item: item.score)
    test = draft_again(best.state, reads["test"], pipeline, film_flags=number == 2)
    return {
        "validation": curve,
        "best_round": best.number,
        "changed_share": _changed_share(train, preferred),
        "test": score_drafts(test, reads["test"], films("test").reports),
    }


def _preferred(read: SplitReadings, pipeline: ReportPipeline, *, is_checked: bool) -> list[dict[int, str]]:
    hypotheses = [{int(region): entry["texts"] for region, entry in row["hypotheses"].items()} for row in read.rows]
    truth = [
        {label: None if np.isnan(value) else int(value) for label, value in zip(LABELS, row, strict=True)}
        for row in read.arrays["references"]
    ]
    features = torch.from_numpy(read.arrays["image_features"])
    return prefer_phrases(
        pipeline.clip, pipeline.clip_tokenizer, features, hypotheses, truth if is_checked else None, label_report
    )


def _changed_share(read: SplitReadings, preferred: list[dict[int, str]]) -> float:
    pairs = [
        (phrase, row["hypotheses"][str(region)]["drafted"])
        for row, phrases in zip(read.rows, preferred, strict=True)
        for region, phrase in phrases.items()
    ]
    return float(np.mean([new != old for new, old in pairs]))


def _with_phrases(table: Any, preferred: list[dict[int, str]]) -> Any:
    phrases = [{REGIONS[region]: phrase for region, phrase in found.items()} for found in preferred]
    return replace(table, phrases=[*phrases, *table.phrases[len(phrases) :]])


def _first(table: Any, num: int) -> Any:
    return replace(table, phrases=table.phrases[:num])
