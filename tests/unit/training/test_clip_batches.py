"""Batches of the CLIP stage: purity, texts, matches, places."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from crrg.config.contrast import SamplingConfig
from crrg.config.models import ClipArchitecture
from crrg.config.training import Augmentation, ClipTraining, LoopConfig
from crrg.data.dataset.batches import FilmTable
from crrg.data.tokenizer import PhraseTokenizer
from crrg.domain.labels import FINDINGS, LABEL_INDEX
from crrg.domain.regions import REGION_INDEX
from crrg.domain.report import Report
from crrg.training.clip import train_clip_tokenizer
from crrg.training.clip_batches import ClipBatches, label_regions, place_findings, sample_prompts
from crrg.training.study_sampling import identify, study_numbers

REPORTS = ["Small left pleural effusion.", "The lungs are clear. Heart size is normal.", "", "The lungs are clear."]


def film_table() -> FilmTable:
    boxes = np.full((4, 29, 4), np.nan, dtype=np.float32)
    boxes[0, REGION_INDEX["left costophrenic angle"]] = (20, 24, 30, 32)
    labels = np.zeros((4, 14), dtype=np.int8)
    labels[0, LABEL_INDEX["Pleural Effusion"]] = 1
    return FilmTable(
        images=np.random.default_rng(0).integers(0, 256, (4, 32, 32), dtype=np.uint8),
        original_sizes=np.full((4, 2), 32, dtype=np.int32),
        input_boxes_xyxy=boxes,
        phrases=[{"left costophrenic angle": REPORTS[0]}, {}, {}, {}],
        is_abnormal=np.zeros((4, 29), dtype=np.int8),
        labels=labels,
        reports=REPORTS,
        texts=[Report(findings=text or None) for text in REPORTS],
        patient_ids=list("abcd"),
        instance_ids=list("ABCD"),
    )


TRAINING = ClipTraining(
    architecture=ClipArchitecture(input_size=32, max_text_length=24), loop=LoopConfig(batch_size=4), excerpt_share=0.0
)
QUIET = Augmentation(scale=0, stretch=0, shift=0, gamma=0, contrast=0, noise=0)


@pytest.fixture(scope="module")
def tokenizer() -> PhraseTokenizer:
    return train_clip_tokenizer(REPORTS, 500)


def decoded(tokenizer: PhraseTokenizer, batches: ClipBatches, step: int, version: int = 0) -> list[str]:
    batch = batches.make(step)
    rows = zip(batch.token_ids, batch.attention_mask, strict=True)
    texts = [tokenizer.decode(ids[mask == 1].tolist()) for ids, mask in rows]
    return [texts[row] for row in batch.text_rows[version]]


def test_a_batch_is_a_pure_function_of_its_step(tokenizer: PhraseTokenizer) -> None:
    first = ClipBatches(film_table(), tokenizer, TRAINING, seed=3)
    second = ClipBatches(film_table(), tokenizer, TRAINING, seed=3)
    second.make(0)
    for field in fields(first.make(5)):
        left, right = getattr(first.make(5), field.name), getattr(second.make(5), field.name)
        torch.testing.assert_close(left, right, equal_nan=True)
    assert not torch.equal(first.make(5).images, first.make(6).images)
    assert not torch.equal(first.make(5).images, ClipBatches(film_table(), tokenizer, TRAINING, seed=4).make(5).images)


def test_texts_are_reports_in_any_order_of_sentences_and_prompts_follow(tokenizer: PhraseTokenizer) -> None:
    batches = ClipBatches(film_table(), tokenizer, TRAINING, seed=0)
    seen = {text for step in range(8) for text in decoded(tokenizer, batches, step)}
    assert seen == {
        "small left pleural effusion.",
        "the lungs are clear. heart size is normal.",
        "heart size is normal. the lungs are clear.",
        "",
        "the lungs are clear.",
    }
    batch = batches.make(0)
    assert len(batch.prompt_rows) == 2 * len(FINDINGS)
    assert batch.has_text.sum() == 3
    prompts = sample_prompts(np.random.default_rng(0))
    assert len(prompts) == 26


def test_drafts_replace_reports_where_given(tokenizer: PhraseTokenizer) -> None:
    always = replace_share(1.0)
    batches = ClipBatches(film_table(), tokenizer, always, seed=0, drafts={"B": "Large right effusion."})
    seen = {text for step in range(4) for text in decoded(tokenizer, batches, step)}
    assert "large right effusion." in seen
    assert "heart size is normal. the lungs are clear." not in seen
    never = ClipBatches(film_table(), tokenizer, replace_share(0.0), seed=0, drafts={"B": "Large right effusion."})
    assert all("large" not in text for step in range(4) for text in decoded(tokenizer, never, step))


def replace_share(share: float) -> ClipTraining:
    return TRAINING.model_copy(update={"draft_share": share})


def test_equal_texts_stand_in_a_batch_once_and_share_an_id(tokenizer: PhraseTokenizer) -> None:
    table = replace(film_table(), texts=[Report(findings=text) for text in ("Clear.", "clear.", "Edema.", "Clear.")])
    silent = TRAINING.model_copy(update={"prompt_loss_weight": 0.0})
    batch = ClipBatches(table, tokenizer, silent, seed=0).make(0)
    assert len(batch.token_ids) == 2
    assert batch.prompt_rows.tolist() == []
    numbers = study_numbers(table).tolist()
    said = ["edema" if study == numbers[2] else "clear" for study in batch.study_ids.tolist()]
    for first in range(4):
        for second in range(4):
            is_same = said[first] == said[second]
            assert (batch.text_rows[0, first] == batch.text_rows[0, second]).item() is is_same
            assert (batch.text_ids[0, first] == batch.text_ids[0, second]).item() is is_same
    assert identify(["clear."]) == 7671323888364743920, "other ranks, on other machines, must find the same number"


def test_equal_reports_share_an_id_in_any_order_of_sentences_and_as_excerpts(tokenizer: PhraseTokenizer) -> None:
    told = "Clear lungs. No effusion. Normal heart. No fracture. No edema."
    again = "No edema. Clear lungs. no effusion. Normal heart. No fracture."
    table = replace(film_table(), texts=[Report(findings=text) for text in (told, again, "Edema.", told)])
    numbers = study_numbers(table).tolist()
    for share in (0.0, 1.0):
        batches = ClipBatches(table, tokenizer, TRAINING.model_copy(update={"excerpt_share": share}), seed=0)
        for step in range(3):
            batch = batches.make(step)
            row_of = {study: row for row, study in enumerate(batch.study_ids.tolist())}
            equal = [row_of[numbers[film]] for film in (0, 1, 3)]
            assert len(set(batch.text_rows[0, equal].tolist())) > 1, "shuffled or cut, they are other words"
            assert len(set(batch.source_ids[0, equal].tolist())) == 1
            assert len(set(batch.source_ids[0].tolist())) == 2
            assert (len(set(batch.text_ids[0, equal].tolist())) == 1) is (share == 0.0)


def test_two_frontal_films_of_one_study_are_no_negatives_of_each_other(tokenizer: PhraseTokenizer) -> None:
    table = replace(film_table(), study_ids=["s", "s", "t", "u"])
    batch = ClipBatches(table, tokenizer, TRAINING, seed=0).make(0)
    assert len(batch.study_ids) == 4
    assert len(set(batch.study_ids.tolist())) == 3


def two_of_each(**sampling: object) -> ClipTraining:
    changed = SamplingConfig(num_views=2, num_texts=2, **sampling)
    return TRAINING.model_copy(update={"sampling": changed})


def test_two_views_are_two_films_of_a_study_and_the_first_is_labelled(tokenizer: PhraseTokenizer) -> None:
    # studies s (films 0 and 1 and two laterals), t (film 2) and u (film 3); v has a lateral only
    films = replace(film_table(), study_ids=["s", "s", "t", "u"])
    grey = np.arange(1, 5, dtype=np.uint8)[:, None, None] * np.ones((4, 32, 32), dtype=np.uint8)
    side = replace(films, images=grey * 20 + 100, study_ids=["s", "s", "v", "v"])
    films = replace(films, images=grey * 20)
    still = two_of_each().model_copy(update={"augmentation": QUIET})
    batches = ClipBatches(films, tokenizer, still, seed=0, laterals=side)
    assert len(batches) == 3
    pairs: dict[int, set[tuple[int, int]]] = {}
    for step in range(30):
        batch = batches.make(step)
        assert batch.images.shape == (8, 1, 32, 32)
        assert batch.text_rows.shape == (2, 4)
        first, second = batch.images[:, 0, 16, 16].int().chunk(2)
        for study, one, other in zip(batch.study_ids.tolist(), first.tolist(), second.tolist(), strict=True):
            pairs.setdefault(study, set()).add((one, other))
    frontals, laterals = {20, 40}, {120, 140}
    study_s, _, study_t, study_u = study_numbers(films).tolist()
    assert pairs[study_t] == {(60, 60)}
    assert pairs[study_u] == {(80, 80)}
    met = pairs[study_s]
    assert all(one != other for one, other in met), "two views of a study are two films"
    assert {film for pair in met for film in pair} == frontals | laterals, "of more than two views each is met"
    assert not any(one in laterals and other in frontals for one, other in met)


def test_one_film_twice_is_augmented_twice(tokenizer: PhraseTokenizer) -> None:
    batch = ClipBatches(film_table(), tokenizer, two_of_each(), seed=0).make(0)
    first, second = batch.images.chunk(2)
    assert all(not torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_regions_are_named_for_what_is_present_or_possible() -> None:
    named = label_regions(
        {
            "left lung": "No pneumothorax. There is edema.",
            "right lower lung zone": "Possible pneumonia.",
            "cardiac silhouette": "The heart is normal in size.",
        }
    )
    found = {(int(label), int(region)) for label, region in zip(*np.nonzero(named), strict=True)}
    assert found == {
        (LABEL_INDEX["Edema"], REGION_INDEX["left lung"]),
        (LABEL_INDEX["Pneumonia"], REGION_INDEX["right lower lung zone"]),
    }


def test_places_are_the_cells_a_box_touches() -> None:
    boxes = torch.full((1, 29, 4), torch.nan)
    boxes[0, 3] = torch.tensor([8.0, 0.0, 17.0, 7.0])
    labels = torch.zeros(1, 14, 29, dtype=torch.bool)
    labels[0, 6, [3, 4]] = True
    places = place_findings(boxes, labels, num_cells=4, size=32)
    assert places.shape == (1, 14, 4, 4)
    assert places[0, 6].int().tolist() == [[0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert places.sum() == 2


def test_boxes_move_with_their_films(tokenizer: PhraseTokenizer) -> None:
    table = film_table()
    marked = np.zeros_like(table.images)
    marked[0, 24:32, 20:30] = 255
    exposed = {"noise": 0.0, "gamma": 0.0, "contrast": 0.0}
    still = TRAINING.model_copy(update={"augmentation": TRAINING.augmentation.model_copy(update=exposed)})
    batch = ClipBatches(replace(table, images=marked), tokenizer, still, seed=1).make(0)
    row = int(batch.region_labels.any(dim=(1, 2)).nonzero()[0])
    x1, y1, x2, y2 = batch.input_boxes_xyxy[row, REGION_INDEX["left costophrenic angle"]].tolist()
    rows, columns = np.nonzero(batch.images[row, 0].numpy() > 127)
    assert columns.min() == pytest.approx(x1, abs=1.5)
    assert columns.max() + 1 == pytest.approx(x2, abs=1.5)
    assert rows.min() == pytest.approx(y1, abs=1.5)
    assert rows.max() + 1 == pytest.approx(y2, abs=1.5)
