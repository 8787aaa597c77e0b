"""How good a generator is on validation films: loss of the true phrases, and what its drafts state.

Drafts are made as they will be at night: the same search, the same assembly, the regions that the thresholds select
and the film shows.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from crrg.config.training import GeneratorTraining
from crrg.data.dataset.batches import UNMENTIONED
from crrg.data.tokenizer import PhraseTokenizer
from crrg.domain.labels import FINDINGS, LABEL_INDEX, POSITIVE
from crrg.domain.regions import REGIONS
from crrg.evaluation.labeler import label_report
from crrg.inference.assembly import RegionPhrase, assemble_as
from crrg.inference.decoding import UNCERTAIN_FLAG, decode_phrases
from crrg.inference.regions import told_flags
from crrg.models.report_generator import ReportGenerator
from crrg.training.phrase_batches import IGNORED, PhraseSampler, ToldReports
from crrg.training.phrase_loss import phrase_loss
from crrg.training.read_films import ReadFilms
from crrg.training.selection_tuning import Phrases, candidate_regions, tune_selection


def score_generator(
    model: ReportGenerator, tokenizer: PhraseTokenizer, validation: ReadFilms, settings: GeneratorTraining
) -> dict[str, float]:
    """Return the validation metrics.

    ``generation/val_loss`` and ``generation/perplexity`` per token under the phrases' own flags;
    ``generation/label_fidelity``: micro-F1 between those flags and the labels read from the phrases drafted under them
    (phrases that leave a finding open are not counted);
    ``generation/clinical_micro_f1``: the same between the films' labels and drafts of what the selector chose. Empty
    where no validation film has a phrase.
    """
    table = validation.phrases()
    if not len(table):
        return {}
    loss = _validation_loss(model, PhraseSampler(table, tokenizer, settings))
    is_definite = ~(table.reference_flags == UNCERTAIN_FLAG).any(axis=1)
    flags, reports = table.reference_flags[is_definite], ToldReports(table).flags(np.flatnonzero(is_definite))
    features, regions = table.features[is_definite], table.region_index[is_definite]
    drafted = decode_phrases(model, tokenizer, features, regions, flags, settings.decoding, report_flags=reports)
    stated = [_positives(phrase.text) for phrase in drafted]
    wanted = [{label for label in FINDINGS if row[LABEL_INDEX[label]]} for row in flags]
    metrics = {
        "generation/val_loss": loss,
        "generation/perplexity": math.exp(min(loss, 50.0)),
        "generation/label_fidelity": _micro_f1(wanted, stated),
        "generation/clinical_micro_f1": clinical_micro_f1(model, tokenizer, validation, settings),
    }
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def clinical_micro_f1(
    model: ReportGenerator, tokenizer: PhraseTokenizer, validation: ReadFilms, settings: GeneratorTraining
) -> float:
    """Return the micro-F1 between the films' labels and what drafts of the regions the selector chose state.

    What a report that was read for labels does not mention is absent; of another film only its own labels are asked.
    NaN where no film can be asked anything.
    """
    films = validation.films
    values = films.labels[:, : len(FINDINGS)]
    is_asked = values != UNMENTIONED
    if films.has_read_report is not None:
        is_asked |= films.has_read_report[:, None]
    if not is_asked.any():
        return math.nan
    asked = [{label for label, is_one in zip(FINDINGS, row, strict=True) if is_one} for row in is_asked.tolist()]
    reports = draft_films(model, tokenizer, validation, settings)
    truth = [{label for label in FINDINGS if row[LABEL_INDEX[label]] == POSITIVE} for row in films.labels]
    stated = [_positives(report) & labels for report, labels in zip(reports, asked, strict=True)]
    return _micro_f1(truth, stated)


def tuned(
    model: ReportGenerator, tokenizer: PhraseTokenizer, read: ReadFilms, settings: GeneratorTraining
) -> ReadFilms:
    """Return validation films with the selection thresholds under which their drafts are most like their reports."""
    candidates = candidate_regions(read.readings, read.thresholds) & read.shown
    phrases = _drafted_phrases(model, tokenizer, read, candidates, settings)
    chosen = tune_selection(
        read.readings, read.thresholds, phrases, read.films.reports, shown=read.shown,
        compat=settings.decoding.compat, order=read.order,
    )  # fmt: skip
    return replace(read, thresholds=chosen)


def draft_films(
    model: ReportGenerator, tokenizer: PhraseTokenizer, read: ReadFilms, settings: GeneratorTraining
) -> list[str]:
    """Return the drafted findings and impression of each film, as it would be drafted at night."""
    flags = read.readings.flags(read.thresholds)
    drafted = _drafted_phrases(model, tokenizer, read, read.selected, settings)
    per_film: list[list[RegionPhrase]] = [[] for _ in range(len(read.films))]
    for (film, region), phrase in drafted.items():
        per_film[film].append(RegionPhrase(REGIONS[region], phrase, bool(flags[film, region, -1])))
    reports = [assemble_as(settings.decoding.compat, phrases, order=read.order) for phrases in per_film]
    return [f"{report.findings} {report.impression}" for report in reports]


def _drafted_phrases(
    model: ReportGenerator,
    tokenizer: PhraseTokenizer,
    read: ReadFilms,
    selected: NDArray[np.bool_],
    settings: GeneratorTraining,
) -> Phrases:
    """Word regions ``[N, 29]``, in reports of those that get a sentence; film and region index to phrase."""
    films, regions = np.nonzero(selected)
    flags, features = read.readings.flags(read.thresholds), read.readings.features[films, regions]
    reports, flags = told_flags(flags, read.selected)[films], flags[films, regions]
    drafted = decode_phrases(model, tokenizer, features, regions, flags, settings.decoding, report_flags=reports)
    places = zip(films.tolist(), regions.tolist(), strict=True)
    return {place: phrase.text for place, phrase in zip(places, drafted, strict=True)}


@torch.inference_mode()
def _validation_loss(model: ReportGenerator, sampler: PhraseSampler) -> float:
    total, num_tokens = 0.0, 0
    for batch in sampler.reference_batches():
        total += float(phrase_loss(model, batch.to(model.feature_mean.device), reduction="sum"))
        num_tokens += int((batch.targets != IGNORED).sum())
    return total / num_tokens


def _positives(text: str) -> set[str]:
    values = label_report(text)
    return {label for label in FINDINGS if values[label] == POSITIVE}


def _micro_f1(wanted: list[set[str]], stated: list[set[str]]) -> float:
    num_right = sum(len(a & b) for a, b in zip(wanted, stated, strict=True))
    num_all = sum(len(a) + len(b) for a, b in zip(wanted, stated, strict=True))
    return 2 * num_right / num_all if num_all else 1.0
