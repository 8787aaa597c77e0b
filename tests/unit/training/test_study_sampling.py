"""Which texts a study says, drawn for training and fixed for validation."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from crrg.config.contrast import SamplingConfig
from crrg.config.training import ClipTraining
from crrg.data.dataset.batches import FilmTable
from crrg.domain.report import Report
from crrg.training.study_sampling import StudyFilms, StudyTexts, fixed_texts

BOTH = Report(findings="The heart is large. The lungs are clear.", impression="Cardiomegaly.")
ONE = Report(impression="Small left effusion. No pneumothorax.")


class Shouting:
    """Words a sentence another way that states the same labels."""

    def paraphrase(self, sentence: str, rng: np.random.Generator) -> str:
        return sentence.upper()


class Lying:
    """Words a sentence so that it states other labels."""

    def paraphrase(self, sentence: str, rng: np.random.Generator) -> str:
        return "There is a large pneumothorax."


def films(*reports: Report, studies: list[str] | None = None) -> FilmTable:
    num = len(reports)
    return FilmTable(
        images=np.zeros((num, 4, 4), dtype=np.uint8),
        original_sizes=np.zeros((num, 2), dtype=np.int32),
        input_boxes_xyxy=np.zeros((num, 29, 4), dtype=np.float32),
        phrases=[{}] * num,
        is_abnormal=np.zeros((num, 29), dtype=np.int8),
        labels=np.zeros((num, 14), dtype=np.int8),
        reports=[""] * num,
        texts=list(reports),
        patient_ids=[str(row) for row in range(num)],
        instance_ids=[str(row) for row in range(num)],
        study_ids=studies or [],
    )


def drawn(report: Report, paraphraser=None, times: int = 200, drafts=None, **sampling) -> Counter[tuple[str, ...]]:
    training = ClipTraining(sampling=SamplingConfig(**sampling), excerpt_share=0.0)
    texts = StudyTexts(films(report), training, drafts or {}, paraphraser or Shouting())
    rng = np.random.default_rng(0)
    return Counter(tuple(found.text for found in texts.draw(0, rng)) for _ in range(times))


def test_two_texts_are_two_draws_of_the_sections() -> None:
    found = drawn(BOTH, num_texts=2, text_source="sections", shuffle_sentences=False)
    findings, impression = BOTH.findings, BOTH.impression
    assert set(found) == {(one, other) for one in (findings, impression) for other in (findings, impression)}
    assert all(30 < count < 70 for count in found.values()), found


def test_sentences_are_really_shuffled() -> None:
    found = drawn(ONE, text_source="sections")
    assert set(found) == {("Small left effusion. No pneumothorax.",), ("No pneumothorax. Small left effusion.",)}
    assert all(70 < count < 130 for count in found.values()), found
    assert set(drawn(ONE, shuffle_sentences=False)) == {("Small left effusion. No pneumothorax.",)}


def test_a_single_section_is_said_twice_in_either_order() -> None:
    found = drawn(ONE, num_texts=2, text_source="sections", shuffle_sentences=False, paraphrase_share=0.5)
    plain = ONE.text
    assert set(found) == {(plain, plain.upper()), (plain.upper(), plain)}
    assert all(70 < count < 130 for count in found.values()), found


def test_each_of_several_sections_is_reworded_by_its_share() -> None:
    found = drawn(BOTH, text_source="sections", shuffle_sentences=False, paraphrase_share=0.5)
    wordings = {BOTH.findings, BOTH.impression, str(BOTH.findings).upper(), str(BOTH.impression).upper()}
    assert {text for (text,) in found} == wordings
    assert all(30 < count < 70 for count in found.values()), found


def test_a_wording_with_other_labels_is_dropped() -> None:
    found = drawn(ONE, Lying(), num_texts=2, text_source="sections", shuffle_sentences=False, paraphrase_share=1.0)
    assert set(found) == {(ONE.text, ONE.text)}


def test_nothing_to_say_is_empty_and_a_draft_speaks_for_both_texts() -> None:
    assert set(drawn(Report(), num_texts=2, text_source="sections")) == {("", "")}
    found = drawn(BOTH, num_texts=2, text_source="sections", shuffle_sentences=False, drafts={"0": "Edema. Mass."})
    drafted = {pair for pair in found if "Edema. Mass." in pair}
    assert drafted == {("Edema. Mass.", "Edema. Mass.")}
    assert 70 < sum(found[pair] for pair in drafted) < 130


def test_what_is_no_list_of_texts_stays_whole() -> None:
    # the published code draws one letter of a text that it takes for a list of texts
    found = drawn(Report(findings="Clear."), text_source="sections", num_texts=2)
    assert set(found) == {("Clear.", "Clear.")}


def test_validation_texts_are_the_same_every_time() -> None:
    two = SamplingConfig(num_texts=2, text_source="sections", paraphrase_share=1.0)
    assert fixed_texts(BOTH, two) == [BOTH.findings, BOTH.impression]
    assert fixed_texts(ONE, two) == [ONE.impression, ONE.impression]
    assert fixed_texts(BOTH, SamplingConfig()) == [BOTH.text]
    assert fixed_texts(Report(), two) == ["", ""]


@pytest.mark.parametrize("num_members", [2, 3, 5])
def test_every_pair_of_a_study_s_films_is_drawn(num_members: int) -> None:
    studies = StudyFilms(films(*[BOTH] * num_members, studies=["s"] * num_members), None, 2)
    rng = np.random.default_rng(0)
    pairs = {studies.draw_two(0, rng) for _ in range(400)}
    assert pairs == {(i, j) for i in range(num_members) for j in range(num_members) if i != j}


def test_without_studies_every_film_is_one() -> None:
    assert [list(members) for members in StudyFilms(films(BOTH, ONE), None, 2).members] == [[0], [1]]
    assert [list(members) for members in StudyFilms(films(BOTH, ONE, studies=["s", "s"]), None, 1).members] == [
        [0],
        [1],
    ]
