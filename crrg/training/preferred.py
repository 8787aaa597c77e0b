"""One round's training of the generator: on with real phrases and those that CLIP prefers and the labeler allows."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from crrg.config.references import DatasetRef, StageResult
from crrg.config.resolved import generator_settings
from crrg.config.training import GeneratorTraining, TrainStageConfig
from crrg.data.dataset.batches import UNMENTIONED, FilmTable, load_films
from crrg.data.published_tokenizers import text_tokenizer
from crrg.data.tokenizer import PhraseTokenizer, TextTokenizer
from crrg.device import resolve_device, seed_everything
from crrg.domain.labels import LABELS, LabelValues
from crrg.domain.regions import REGIONS
from crrg.domain.sentences import split_sentences
from crrg.domain.study import Pair, Split
from crrg.evaluation.labeler import label_report
from crrg.inference.statements import known_sides, read_statement
from crrg.models.clip import ClipModel, load_clip
from crrg.models.report_generator import load_generator
from crrg.registry.stage_files import read_stage_file
from crrg.storage import Storage
from crrg.training.checkpoint import StageFolder, config_hash, read_stage
from crrg.training.clip_validation import film_outputs
from crrg.training.hashed_settings import hashed_settings
from crrg.training.joint_rounds import finetune_generator, prefer_phrases
from crrg.training.phrase_batches import PhraseTable, collect_phrases
from crrg.training.read_films import read_films
from crrg.training.tracker import Tracker

logger = logging.getLogger(__name__)

CODE_VERSION = "3"
"""Raised when the same settings would train another model, so that a finished run is not reused."""
STAGE = "joint-generator"


@dataclass(frozen=True)
class PreferredPhrases:
    """What a round has to choose from.

    Attributes:
        hypotheses: Instance id of a training film to region index to wordings, the likeliest first.
        version: Of the drafts they come from.
        number: Of the round, from 1; decides the order of the batches.
    """

    hypotheses: Mapping[str, Mapping[int, Sequence[str]]]
    version: str
    number: int


def train_preferred(
    config: TrainStageConfig,
    dataset: DatasetRef,
    stages: Mapping[str, StageResult],
    phrases: PreferredPhrases,
    storage: Storage,
    tracker: Tracker,
) -> StageResult:
    """Choose wordings by CLIP and train the generator on, or return the finished result of the same choice.

    Args:
        config: Form of the joint stage, with its rounds.
        dataset: Version to train on.
        stages: Detector, selector, the generator to start from, and the CLIP that ranks.
        phrases: What there is to choose from.
        storage: Root.
        tracker: Receives the curves.

    Returns:
        A stage named ``joint-generator``, which makes a bundle's generator.
    """
    settings = _settings(config)
    folder = StageFolder(storage, STAGE, _hash(config, settings, dataset, stages, phrases), dataset.version)
    finished = folder.result()
    if finished is not None:
        return finished
    params = {"stage": STAGE, "dataset_version": dataset.version, "round": phrases.number}
    folder.begin_run(tracker, {**settings.model_dump(mode="json"), **params})
    device = resolve_device(config.device)
    seed_everything(config.seed)
    generator_config, tensors = read_stage(storage, stages["generator"])
    tokenizer_bytes = read_stage_file(storage, stages["generator"], "tokenizer.json")
    model = load_generator(generator_config, tensors, tokenizer_bytes, device)
    tables, changed = _tables(config, dataset, stages, phrases, storage, device)
    tracker.log_metrics({"joint/phrases_preferred": float(len(tables[1])), "joint/phrases_changed": changed})
    seed = config.seed + phrases.number
    tokenizer = PhraseTokenizer(tokenizer_bytes)
    share = config.rounds.preferred_share
    finetune_generator(model, tokenizer, tables, settings, folder, tracker, preferred_share=share, seed=seed)
    return folder.finish(
        model, generator_config, {"joint/phrases_changed": changed},
        files={"tokenizer.json": tokenizer_bytes}, run_id=tracker.run_id,
        trained_on={name: stages[name] for name in ("detector", "selector")},
    )  # fmt: skip


def _settings(config: TrainStageConfig) -> GeneratorTraining:
    rounds = config.rounds
    training = generator_settings(config)
    changes = {
        "num_steps": rounds.generator_steps,
        "learning_rate": rounds.learning_rate,
        "validate_every": 0,
        "patience": 0,
    }
    return training.model_copy(update={"loop": training.loop.model_copy(update=changes)})


def _hash(
    config: TrainStageConfig,
    settings: GeneratorTraining,
    dataset: DatasetRef,
    stages: Mapping[str, StageResult],
    phrases: PreferredPhrases,
) -> str:
    return config_hash(
        code=CODE_VERSION,
        settings=hashed_settings(settings),
        rounds=config.rounds.model_dump(mode="json", exclude={"max_rounds", "min_gain", "num_validation_films"}),
        seed=config.seed + phrases.number,
        dataset=dataset.version,
        drafts=phrases.version,
        stages={name: stages[name].sha256 for name in ("detector", "selector", "generator", "clip")},
    )


def _tables(
    config: TrainStageConfig,
    dataset: DatasetRef,
    stages: Mapping[str, StageResult],
    phrases: PreferredPhrases,
    storage: Storage,
    device: torch.device,
) -> tuple[tuple[PhraseTable, PhraseTable], float]:
    """Return real and preferred phrases of the same films, and the share of wordings that CLIP changed."""

    def is_drafted(pair: Pair) -> bool:
        return pair.instance_id in phrases.hypotheses

    num_films = len(phrases.hypotheses)
    load = partial(load_films, storage, dataset, Split.TRAIN, limit=num_films, keep=is_drafted)
    read = read_films(load, stages["detector"], stages["selector"], storage, device)
    real = read.phrases()
    if config.rounds.prefer == "real":
        return (real, real), 0.0
    hypotheses = [phrases.hypotheses[each] for each in read.films.instance_ids]
    clip_config, tensors = read_stage(storage, stages["clip"])
    clip = load_clip(clip_config, tensors, device)
    tokenizer = text_tokenizer(clip_config, read_stage_file(storage, stages["clip"], "tokenizer.json"))
    films = load(clip.architecture.input_size)
    preferred = _preferred(clip, tokenizer, films, hypotheses, is_checked=config.rounds.prefer == "checked")
    pairs = [
        (chosen, hypotheses[row][region][0]) for row, found in enumerate(preferred) for region, chosen in found.items()
    ]
    changed = sum(new != old for new, old in pairs) / max(1, len(pairs))
    named = [{REGIONS[region]: text for region, text in found.items()} for found in preferred]
    table = collect_phrases(
        replace(read.films, phrases=named), read.readings.features, read.readings.flags(read.thresholds)
    )
    return (real, table if len(table) else real), changed


def _preferred(
    clip: ClipModel,
    tokenizer: TextTokenizer,
    films: FilmTable,
    hypotheses: Sequence[Mapping[int, Sequence[str]]],
    *,
    is_checked: bool,
) -> list[dict[int, str]]:
    """Choose wordings by CLIP; checked ones are held against what each film's labels and report are known to say."""
    sides = [
        known_sides(read_statement(sentence, label_report) for sentence in split_sentences(report.text))
        for report in films.texts
    ]
    features = film_outputs(clip, films).image_features
    known = _labels(films) if is_checked else None
    return prefer_phrases(clip, tokenizer, features, hypotheses, known, label_report, sides)


def _labels(films: FilmTable) -> list[LabelValues]:
    return [
        {label: None if value == UNMENTIONED else int(value) for label, value in zip(LABELS, row, strict=True)}
        for row in films.labels
    ]
