"""What the generator learns from: flags of phrases, tables, batches. Expected values by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crrg.config.models import GeneratorArchitecture
from crrg.config.training import GeneratorTraining, LoopConfig
from crrg.data.dataset.batches import FilmTable
from crrg.data.tokenizer import train_tokenizer
from crrg.domain.labels import LABEL_INDEX
from crrg.domain.regions import REGION_INDEX
from crrg.domain.report import Report
from crrg.training.phrase_batches import (
    IGNORED,
    PhraseSampler,
    PhraseTable,
    ToldReports,
    add_text_only,
    collect_phrases,
    phrase_flags,
)

NORMAL, OPACITY, EFFUSION = "The lungs are clear.", "Mild left lower lobe opacity.", "Possible left pleural effusion."


def film_table() -> FilmTable:
    is_abnormal = np.full((2, 29), -1, dtype=np.int8)
    is_abnormal[1, REGION_INDEX["left lower lung zone"]] = 1
    return FilmTable(
        images=np.zeros((2, 8, 8), np.uint8),
        original_sizes=np.full((2, 2), 8, np.int32),
        input_boxes_xyxy=np.zeros((2, 29, 4), np.float32),
        phrases=[
            {"right lung": NORMAL, "left lung": NORMAL},
            {"left lower lung zone": OPACITY, "left costophrenic angle": EFFUSION},
        ],
        is_abnormal=is_abnormal,
        labels=np.zeros((2, 14), np.int8),
        reports=[NORMAL, f"{OPACITY} {EFFUSION}"],
        texts=[Report(findings=NORMAL), Report(findings=f"{OPACITY} {EFFUSION}")],
        patient_ids=["p0", "p1"],
        instance_ids=["i0", "i1"],
    )


def phrase_table() -> PhraseTable:
    features = np.arange(2 * 29 * 4, dtype=np.float32).reshape(2, 29, 4)
    predicted = np.zeros((2, 29, 15), dtype=np.float32)
    predicted[1, REGION_INDEX["left lower lung zone"], LABEL_INDEX["Edema"]] = 1
    return collect_phrases(film_table(), features, predicted)


def settings(**changes: object) -> GeneratorTraining:
    architecture = GeneratorArchitecture(max_length=32)
    values = {"loop": LoopConfig(batch_size=400), "flag_dropout": 0.0, "predicted_flag_share": 0.0, **changes}
    return GeneratorTraining.model_validate({"architecture": architecture, **values})


def test_flags_are_present_findings_and_halves_where_left_open() -> None:
    flags = phrase_flags("Mild left lower lobe opacity. No pneumothorax. Possible left pleural effusion.", False)
    assert {i: v for i, v in enumerate(flags.tolist()) if v} == {
        LABEL_INDEX["Lung Opacity"]: 1.0,
        LABEL_INDEX["Pleural Effusion"]: 0.5,
        14: 1.0,
    }
    assert phrase_flags(NORMAL, False).sum() == 0
    assert phrase_flags("The aorta is tortuous.", True).tolist() == [0.0] * 14 + [1.0]


def test_each_phrase_gets_its_own_regions_feature_and_flags() -> None:
    table = phrase_table()
    assert table.texts == [NORMAL, NORMAL, OPACITY, EFFUSION]
    assert table.film_index.tolist() == [0, 0, 1, 1]
    assert table.region_index.tolist() == [0, 8, 11, 14]
    assert table.features[2].tolist() == [(29 + 11) * 4 + i for i in range(4)]
    assert table.is_abnormal.tolist() == [False, False, True, True]
    assert table.predicted_flags[:, LABEL_INDEX["Edema"]].tolist() == [0, 0, 1, 0]


def test_sentences_of_reports_without_a_film_are_added_once_and_have_no_condition() -> None:
    reports = [Report(findings=NORMAL), Report(findings="Heart size is normal. Mild cardiomegaly."), Report()]
    table = add_text_only(phrase_table(), reports, film_table())
    assert table.texts[4:] == ["Heart size is normal.", "Mild cardiomegaly."]
    assert table.is_seen.tolist() == [True] * 4 + [False] * 2
    assert len(table.features) == 4, "only phrases with a film have a feature"
    unchanged = add_text_only(phrase_table(), [Report(findings=NORMAL)], film_table())
    assert len(unchanged) == 4


def test_targets_are_the_next_tokens_and_padding_is_ignored() -> None:
    table = phrase_table()
    tokenizer = train_tokenizer(table.texts, 400)
    batch = PhraseSampler(table, tokenizer, settings(num_length_buckets=1)).batch(0)
    row = int((batch.region_index == 14).nonzero()[0])
    ids = tokenizer.encode(EFFUSION)
    assert batch.token_ids[row, : len(ids) + 1].tolist() == [0, *ids]
    assert batch.targets[row, : len(ids) + 1].tolist() == [*ids, 0]
    short = int((batch.region_index == 0).nonzero()[0])
    num_words = len(tokenizer.encode(NORMAL)) + 1
    assert num_words < batch.targets.shape[1]
    assert batch.targets[short, num_words:].eq(IGNORED).all()


def test_features_come_with_their_phrases_in_any_order_and_zeros_with_sentences() -> None:
    table = add_text_only(phrase_table(), [Report(findings="Mild cardiomegaly.")], film_table())
    mixed = [4, 2, 0, 3, 1]
    shuffled = PhraseTable(
        texts=[table.texts[row] for row in mixed],
        film_index=table.film_index[mixed],
        region_index=table.region_index[mixed],
        features=table.features[[2, 0, 3, 1]],
        reference_flags=table.reference_flags[mixed],
        predicted_flags=table.predicted_flags[mixed],
    )
    for each in (table, shuffled):
        sampler = PhraseSampler(each, train_tokenizer(table.texts, 400), settings(num_length_buckets=1))
        (batch,) = sampler.reference_batches()
        wanted = {int(region): table.features[row].tolist() for row, region in enumerate(table.region_index[:4])}
        for feature, region, is_seen in zip(batch.features, batch.region_index, batch.is_seen, strict=True):
            assert feature.tolist() == (wanted[int(region)] if is_seen else [0.0] * 4)


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    table = phrase_table()
    tokenizer = train_tokenizer(table.texts, 400)
    one_bucket = settings(num_length_buckets=1)
    first, second = (PhraseSampler(table, tokenizer, one_bucket, seed=5) for _ in range(2))
    first.batch(0)
    assert torch.equal(first.batch(3).token_ids, second.batch(3).token_ids)
    other = PhraseSampler(table, tokenizer, one_bucket, seed=6)
    assert not torch.equal(first.batch(3).region_index, other.batch(3).region_index)


@pytest.mark.parametrize(("share", "low", "high"), [(0.5, 0.4, 0.6), (0.8, 0.7, 0.9)])
def test_abnormal_phrases_get_their_share(share: float, low: float, high: float) -> None:
    table = phrase_table()
    few = PhraseTable(
        texts=table.texts[:3],
        film_index=table.film_index[:3],
        region_index=table.region_index[:3],
        features=table.features[:3],
        reference_flags=table.reference_flags[:3],
        predicted_flags=table.predicted_flags[:3],
    )
    sampler = PhraseSampler(few, train_tokenizer(few.texts, 400), settings(abnormal_share=share, num_length_buckets=1))
    assert low < float((sampler.batch(0).finding_flags[:, 14] > 0).float().mean()) < high


def test_flags_are_hidden_or_predicted_in_their_shares() -> None:
    table = phrase_table()
    tokenizer = train_tokenizer(table.texts, 400)
    batch = PhraseSampler(
        table, tokenizer, settings(flag_dropout=0.3, predicted_flag_share=0.5, num_length_buckets=1)
    ).batch(0)
    assert 0.6 < float(batch.is_flagged.float().mean()) < 0.8
    opacity = batch.region_index == REGION_INDEX["left lower lung zone"]
    predicted = batch.finding_flags[opacity, LABEL_INDEX["Edema"]]
    assert 0.3 < float(predicted.mean()) < 0.7


def test_a_report_is_what_the_phrases_of_its_film_say() -> None:
    with_text = [Report(findings="Mild cardiomegaly.")]
    table = add_text_only(phrase_table(), with_text, film_table())
    shuffled = np.array([3, 0, 4, 1, 2])
    table = PhraseTable(
        texts=[table.texts[i] for i in shuffled],
        film_index=table.film_index[shuffled],
        region_index=table.region_index[shuffled],
        features=table.features[shuffled[shuffled < 4]],
        reference_flags=table.reference_flags[shuffled],
        predicted_flags=table.predicted_flags[shuffled],
    )
    told = ToldReports(table).flags(np.array([0, 1, 2, 4, 0]), np.array([False, True, False, True, True]))
    regions = [np.flatnonzero(np.isfinite(row).all(axis=1)).tolist() for row in told]
    assert regions == [[11, 14], [0, 8], [], [11, 14], [11, 14]], "a sentence without a film has no report"
    assert np.isnan(told).all(axis=2).sum(axis=1).tolist() == [27, 27, 29, 27, 27]
    assert told[0, 14].tolist() == table.reference_flags[0].tolist()
    assert told[0, 11].tolist() == table.reference_flags[4].tolist()
    assert told[3, 11].tolist() == table.predicted_flags[4].tolist() != told[0, 11].tolist()
    assert np.array_equal(told[3], told[4], equal_nan=True)
    reference = ToldReports(table).flags(np.arange(5))
    assert np.array_equal(reference[0], told[0], equal_nan=True)
    assert np.array_equal(reference[3], reference[1], equal_nan=True), "both of the film without findings"


def test_a_batch_brings_the_report_under_the_flags_that_its_phrase_sees() -> None:
    table = phrase_table()
    tokenizer = train_tokenizer(table.texts, 400)
    sampler = PhraseSampler(table, tokenizer, settings(predicted_flag_share=0.5, num_length_buckets=1))
    batch = sampler.batch(0)
    assert batch.report_flags.shape == (400, 29, 15)
    own = batch.report_flags[torch.arange(400), batch.region_index]
    assert torch.equal(own, batch.finding_flags)
    abnormal = batch.finding_flags[:, -1] > 0
    assert bool(abnormal.any())
    for batch in sampler.reference_batches():
        own = batch.report_flags[torch.arange(len(batch.targets)), batch.region_index]
        assert torch.equal(own, batch.finding_flags)
