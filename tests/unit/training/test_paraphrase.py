"""Other wordings of sentences, and what may not change in them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from crrg.errors import ConfigError
from crrg.evaluation.labeler import label_sentence
from crrg.training.paraphrase import (
    RuleParaphraser,
    keep_meaning,
    paraphrase_parts,
    paraphraser_of,
    states_the_same,
)

SENTENCES = (
    "There is a small left pleural effusion.",
    "No pneumothorax.",
    "The cardiac silhouette is mildly enlarged.",
    "No evidence of acute cardiopulmonary disease.",
    "A 7 mm nodule is seen in the right upper lobe.",
    "PICC line tip terminates in the SVC.",
    "Patchy opacity may represent pneumonia.",
)


def wordings(sentence: str, times: int = 60) -> set[str]:
    rng = np.random.default_rng(0)
    return {keep_meaning(RuleParaphraser(), sentence, rng) for _ in range(times)}


@pytest.mark.parametrize("sentence", SENTENCES)
def test_there_are_other_wordings_and_all_state_the_same(sentence: str) -> None:
    found = wordings(sentence)
    assert found - {sentence}, "no rule fits"
    for wording in found:
        assert label_sentence(wording) == label_sentence(sentence)
        assert wording[0].isupper()
        assert wording.endswith(".")


def test_sentences_are_turned_round() -> None:
    assert "There is no pneumothorax." in wordings("No pneumothorax.")
    assert "A small left pleural effusion is noted." in wordings("There is a small left pleural effusion.", 400)


def test_a_sentence_no_rule_fits_is_left_alone() -> None:
    assert wordings("Xyz abc.") == {"Xyz abc."}


class Fixed:
    """Always the same answer."""

    def __init__(self, wording: str) -> None:
        self.wording = wording

    def paraphrase(self, sentence: str, rng: np.random.Generator) -> str:
        return self.wording


@pytest.mark.parametrize(
    "wording",
    [
        "There is no left pleural effusion.",
        "A small right pleural effusion is seen.",
        "There is a small pleural effusion.",
        "There is a 3 cm left pleural effusion.",
        "There may be a small left pleural effusion.",
    ],
)
def test_other_labels_sides_or_numbers_are_never_taken(wording: str) -> None:
    sentence = "There is a small left pleural effusion."
    assert not states_the_same(sentence, wording)
    assert keep_meaning(Fixed(wording), sentence, np.random.default_rng(0)) == sentence


def test_the_same_generator_gives_the_same_wording() -> None:
    first, second = (
        [keep_meaning(RuleParaphraser(), sentence, np.random.default_rng(3)) for sentence in SENTENCES] for _ in "ab"
    )
    assert first == second


def test_wordings_of_a_file_are_taken_where_they_state_the_same(tmp_path: Path) -> None:
    file = tmp_path / "wordings.json"
    file.write_text(json.dumps({
        "No pneumothorax.": ["The pleural space holds no pneumothorax.", "There is a pneumothorax."],
        "Heart size is normal.": [],
    }))  # fmt: skip
    rng = np.random.default_rng(0)
    paraphraser = paraphraser_of(str(file))
    found = {keep_meaning(paraphraser, "No pneumothorax.", rng) for _ in range(40)}
    assert "The pleural space holds no pneumothorax." in found
    assert "There is a pneumothorax." not in found
    assert {keep_meaning(paraphraser, "Heart size is normal.", rng) for _ in range(40)} - {"Heart size is normal."}
    assert isinstance(paraphraser_of(""), RuleParaphraser)


def test_another_file_is_another_training_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "wordings.json"
    file.write_text('{"Clear.": ["All clear."]}')
    before = paraphrase_parts(str(file))
    file.write_text('{"Clear.": ["Quite clear."]}')
    assert paraphrase_parts(str(file)) != before
    assert paraphrase_parts("") == {}
    for wrong in ("[]", "no json", '{"Clear.": "All clear."}', '{"Clear.": [1]}'):
        file.write_text(wrong)
        with pytest.raises(ConfigError, match="not a table of wordings; write JSON like"):
            paraphraser_of(str(file))
    with pytest.raises(ConfigError, match="cannot be read on this machine"):
        paraphraser_of(str(tmp_path / "none.json"))
