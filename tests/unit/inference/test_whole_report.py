"""All that words, explains, tunes or scores tells a phrase what the rest of its report says: untrained networks."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from crrg.config.evidence import EvidenceSettings
from crrg.config.models import DecodingSettings
from crrg.config.training import GeneratorTraining, LoopConfig
from crrg.data.dataset.batches import FilmTable
from crrg.data.tokenizer import train_tokenizer
from crrg.domain.labels import NUM_LABELS
from crrg.domain.regions import NUM_REGIONS, REGIONS
from crrg.domain.report import Report
from crrg.domain.study import DraftReport, Film, ViewPosition
from crrg.inference import evidence
from crrg.inference.calibration import Calibration
from crrg.inference.consistency import SimilarityCurve
from crrg.inference.decoding import decode_hypotheses, decode_phrases
from crrg.inference.evidence import WordedRegion, sentence_logprobs
from crrg.inference.pipeline import ReportPipeline
from crrg.inference.regions import RegionReadings, RegionThresholds, told_flags
from crrg.inference.visibility import Visibility
from crrg.models.clip import ClipModel
from crrg.models.detector import RegionDetector
from crrg.models.region_heads import RegionSelector
from crrg.models.report_generator import ReportGenerator
from crrg.training import generator_scores
from crrg.training.generator_scores import draft_films, score_generator, tuned
from crrg.training.phrase_batches import PhraseSampler, ToldReports
from crrg.training.phrase_loss import phrase_loss
from crrg.training.read_films import ReadFilms
from tests.support.smallest_stages import smallest

PHRASES = ["The lungs are clear.", "Small left effusion.", "The heart is enlarged.", "No pneumothorax is seen."]
TOKENIZER = train_tokenizer(PHRASES, 300)
SMALLEST = smallest()
DECODING = DecodingSettings(num_beams=2, num_slots=8, max_tokens=8)


def films() -> list[Film]:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (32, 32), dtype=np.uint8) for _ in range(3)]
    return [
        Film(pixels, 32, 32, ViewPosition.PA, None, False, hashlib.sha256(pixels.tobytes()).digest())
        for pixels in pictures
    ]


def thresholds(readings: RegionReadings) -> RegionThresholds:
    """Return thresholds that select some regions and find something in fewer."""
    findings = np.quantile(readings.finding_probabilities, 0.98, axis=(0, 1)).astype(np.float32)
    selection = float(np.quantile(readings.selection_probabilities, 0.6))
    return RegionThresholds(selection, selection, float(np.quantile(readings.abnormal_probabilities, 0.7)), findings)


@pytest.fixture(scope="module")
def pipeline() -> ReportPipeline:
    torch.manual_seed(0)
    update = {"vocab_size": TOKENIZER.vocab_size, "dropout": 0.0, "condition_on_report": True}
    words = ReportGenerator(SMALLEST.generator.architecture.model_copy(update=update))
    with torch.no_grad():
        for parameter in words.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    detector = RegionDetector(SMALLEST.detector.architecture).eval()
    detector.shape_prior.fit(torch.tensor([0.1, 0.2, 0.5, 0.6]).expand(4, NUM_REGIONS, 4))
    ones = np.ones(NUM_LABELS)
    drafter = ReportPipeline(
        bundle_id="none",
        detector=detector,
        selector=RegionSelector(SMALLEST.selector.architecture).eval(),
        generator=words.eval(),
        tokenizer=TOKENIZER,
        clip=ClipModel(SMALLEST.clip.architecture).eval(),
        clip_tokenizer=TOKENIZER,
        thresholds=RegionThresholds(0.5, 0.5, 0.5, np.full(NUM_LABELS, 0.5, np.float32)),
        calibration=Calibration(ones, 0 * ones, ones),
        similarity=SimilarityCurve(1.0, 0.0),
        decoding=DECODING,
    )
    return replace(drafter, thresholds=thresholds(drafter.read_regions(films())))


def told_by(readings: RegionReadings, known: RegionThresholds) -> np.ndarray:
    told = told_flags(readings.flags(known), readings.selected(known))
    assert np.isnan(told).any(axis=2).tolist() == (~readings.selected(known)).tolist()
    return told


def test_drafts_know_their_report_and_are_the_same_alone_and_among_others(pipeline: ReportPipeline) -> None:
    made = pipeline.make_drafts(films())
    selected = made.readings.selected(pipeline.thresholds)
    assert 3 < selected.sum() < selected.size
    rows, regions = np.nonzero(selected)
    conditions = (
        pipeline.generator, TOKENIZER, made.readings.features[rows, regions], regions,
        made.readings.flags(pipeline.thresholds)[rows, regions], DECODING,
    )  # fmt: skip
    told = told_by(made.readings, pipeline.thresholds)[rows]
    wanted = decode_phrases(*conditions, report_flags=told)
    unknown = decode_phrases(*conditions)
    for row, region, phrase in zip(rows.tolist(), regions.tolist(), wanted, strict=True):
        if phrase.text:
            assert made.phrases[row][region].text == phrase.text
            assert made.phrases[row][region].logprob == pytest.approx(phrase.logprob, abs=1e-6)
    apart = [abs(one.logprob - other.logprob) for one, other in zip(wanted, unknown, strict=True)]
    assert max(apart) > 1e-2, "what is not told makes a difference"
    hypotheses = decode_hypotheses(*conditions, report_flags=told)
    for number, film in enumerate(films()):
        alone = pipeline.make_drafts([film])
        assert alone.phrases[0].keys() == made.phrases[number].keys()
        for region, phrase in alone.phrases[0].items():
            assert phrase.text == made.phrases[number][region].text
            assert phrase.logprob == pytest.approx(made.phrases[number][region].logprob, abs=1e-5)
        (kept,) = pipeline.draft_nbest([film])
        for region, found in kept.hypotheses.items():
            place = int(np.flatnonzero((rows == number) & (regions == region))[0])
            worded = [each for each in hypotheses[place] if each.text]
            assert kept.texts()[region] == tuple(each.text for each in worded)
            for name in ("score", "logprob"):
                given = [getattr(each, name) for each in worded]
                assert [getattr(each, name) for each in found] == pytest.approx(given, abs=1e-5)


def test_evidence_scores_words_under_the_report_they_were_drafted_in(
    pipeline: ReportPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = pipeline.make_drafts(films())
    drafts = [
        DraftReport(
            " ".join(phrase.text for phrase in made.phrases[row].values()), "", made.regions(row, film, 32), {}, {}, 1.0
        )
        for row, film in enumerate(films())
    ]
    seen: list[WordedRegion] = []

    def score(words: ReportGenerator, sentence: WordedRegion, features: np.ndarray) -> np.ndarray:
        seen.append(sentence)
        return sentence_logprobs(words, sentence, features)

    monkeypatch.setattr(evidence, "sentence_logprobs", score)
    maps = pipeline.explain(films(), drafts, EvidenceSettings(max_sentences=2, cells=2))
    told = told_by(made.readings, pipeline.thresholds)
    assert [len(each) for each in maps] == [2, 2, 2]
    for place, sentence in enumerate(seen):
        assert sentence.report_flags is not None
        assert np.array_equal(sentence.report_flags, told[place // 2], equal_nan=True)
    features = np.random.default_rng(1).normal(size=(20, 16)).astype(np.float32)
    known, unknown = (
        sentence_logprobs(pipeline.generator, sentence, features)
        for sentence in (seen[0], replace(seen[0], report_flags=None))
    )
    assert np.abs(known - unknown).max() > 1e-3


def film_table() -> FilmTable:
    rng = np.random.default_rng(2)
    named = [{REGIONS[place]: PHRASES[(place + film) % 4] for place in range(film, 29, 9)} for film in range(3)]
    return FilmTable(
        images=np.stack([film.pixels for film in films()]),
        original_sizes=np.full((3, 2), 32, np.int32),
        input_boxes_xyxy=rng.uniform(0, 16, (3, NUM_REGIONS, 4)).astype(np.float32),
        phrases=named,
        is_abnormal=np.full((3, NUM_REGIONS), -1, np.int8),
        labels=np.zeros((3, NUM_LABELS), np.int8),
        reports=[" ".join(each.values()) for each in named],
        texts=[Report(findings=" ".join(each.values())) for each in named],
        patient_ids=["a", "b", "c"],
        instance_ids=["d", "e", "f"],
    )


def test_training_drafts_what_the_night_does_of_films_that_hide_regions(pipeline: ReportPipeline) -> None:
    biases = np.where(np.arange(NUM_REGIONS) % 2, 20.0, -20.0)
    hiding = replace(pipeline, visibility=Visibility(np.ones(NUM_REGIONS), biases, 0.5))
    made = hiding.make_drafts(films())
    settings = GeneratorTraining(architecture=pipeline.generator.architecture, decoding=DECODING)
    read = ReadFilms(film_table(), made.readings, hiding.thresholds, visibility=hiding.visibility)
    assert np.array_equal(read.selected, made.selected)
    assert 0 < read.selected.sum() < made.readings.selected(hiding.thresholds).sum()
    drafts = draft_films(pipeline.generator, TOKENIZER, read, settings)
    assert drafts == [f"{findings} {impression}" for findings, impression in made.reports]


def test_training_scores_and_tunes_with_the_reports_it_would_draft(
    pipeline: ReportPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings, words = pipeline.read_regions(films()), pipeline.generator
    read = ReadFilms(film_table(), readings, pipeline.thresholds)
    settings = GeneratorTraining(
        architecture=words.architecture, loop=LoopConfig(batch_size=4), num_length_buckets=1, decoding=DECODING
    )
    table, told = read.phrases(), told_by(readings, pipeline.thresholds)
    asked: list[tuple[np.ndarray, np.ndarray]] = []

    def decode(*arguments: Any, report_flags: np.ndarray) -> Any:
        asked.append((arguments[3], report_flags))
        return decode_phrases(*arguments, report_flags=report_flags)

    monkeypatch.setattr(generator_scores, "decode_phrases", decode)
    assert score_generator(words, TOKENIZER, read, settings)["generation/val_loss"] > 0
    draft_films(words, TOKENIZER, read, settings)
    tuned(words, TOKENIZER, read, settings)
    (own, reference), *drafted, (candidates, tried) = asked
    assert own.tolist() == table.region_index.tolist(), "no phrase leaves a finding open"
    assert np.array_equal(reference, ToldReports(table).flags(np.arange(len(table))), equal_nan=True)
    rows, regions = np.nonzero(readings.selected(pipeline.thresholds))
    assert len(drafted) == 2
    for where, flags in drafted:
        assert where.tolist() == regions.tolist()
        assert np.array_equal(flags, told[rows], equal_nan=True)
    assert len(candidates) > len(regions)
    assert {row.tobytes() for row in tried} == {row.tobytes() for row in told}
    batch = PhraseSampler(table, TOKENIZER, settings).batch(0)
    nothing = replace(batch, report_flags=torch.full_like(batch.report_flags, torch.nan))
    assert not torch.equal(phrase_loss(words, batch), phrase_loss(words, nothing))


def test_a_region_of_which_nothing_is_said_is_still_a_selected_one(pipeline: ReportPipeline) -> None:
    (film, *_), size = films(), pipeline.detector.architecture.input_size
    made = pipeline.make_drafts([film])
    silent = int(np.flatnonzero(made.selected[0])[0])
    phrases = {region: phrase for region, phrase in made.phrases[0].items() if region != silent}
    regions = replace(made, phrases=[phrases]).regions(0, film, size)
    assert [region.selected for region in regions] == made.selected[0].tolist()
    assert regions[silent].phrase is None
