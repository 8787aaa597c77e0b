from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from crrg.errors import ConfigError
from crrg.evaluation.meteor import FIRST_METEOR, MeteorParameters, align, meteor_counts, meteor_from_counts
from crrg.evaluation.meteor_jar import JavaMeteor
from crrg.evaluation.text import score_text
from tests.support.stand_in_meteor import STAND_IN_METEOR


def meteor(candidate: str, reference: str, **kwargs: object) -> float:
    return meteor_from_counts(meteor_counts([candidate.split()], [reference.split()], **kwargs)[0])  # type: ignore[arg-type]


def test_the_same_text_scores_one_and_no_shared_word_nothing() -> None:
    assert meteor("Lungs clear.", "lungs clear .") == 1.0
    assert meteor("lungs", "heart") == 0.0
    assert meteor("", "heart") == meteor("heart", "") == 0.0


def test_content_words_weigh_three_times_a_function_word() -> None:
    # draft: effusion 0.75 of effusion + no = 1.0; reference: 0.75 of 0.75; one chunk of one match
    precision, recall = 0.75, 1.0
    mean = precision * recall / (0.85 * precision + 0.15 * recall)
    assert meteor("no effusion", "effusion") == pytest.approx(mean * (1 - 0.6))


def test_a_stem_weighs_six_tenths_and_a_synonym_eight() -> None:
    assert meteor("effusions", "effusion") == pytest.approx(0.6)
    synonyms = {"big": ["1"], "large": ["1", "2"]}
    assert meteor("big", "large") == 0.0
    assert meteor("big", "large", synonyms=synonyms) == pytest.approx(0.8)


def test_the_longest_run_is_taken_first() -> None:
    found = align("a x b a b".split(), "a b".split())  # noqa: SIM905
    assert {i: j for i, (j, _) in found.items()} == {3: 0, 4: 1}


def test_chunks_are_counted_in_both_texts() -> None:
    # two words in the other order: two chunks of two matches
    assert meteor("heart lungs", "lungs heart") == pytest.approx(1 - 0.6 * 1.0)
    # lungs clear | heart normal swapped: two chunks of four matches
    expected = 1 - 0.6 * 0.5**0.2
    assert meteor("heart normal lungs clear", "lungs clear heart normal") == pytest.approx(expected)


def test_the_first_meteor_by_hand() -> None:
    def first(candidate: str, reference: str) -> float:
        counts = meteor_counts([candidate.split()], [reference.split()], FIRST_METEOR)[0]
        return meteor_from_counts(counts, FIRST_METEOR)

    assert first("a b c d", "a b c d") == pytest.approx(1 - 0.5 * (1 / 4) ** 3)
    assert first("effusions seen", "effusion seen") == pytest.approx(1 - 0.5 * (1 / 2) ** 3)
    # precision 1/2, recall 1: 0.5 / (0.9 * 0.5 + 0.1)
    assert first("lungs x", "lungs") == pytest.approx(0.5 / 0.55 * 0.5)


def test_the_first_meteor_matches_from_the_last_word_back_as_nltk() -> None:
    # the last "right" takes the last one there is, so that a run of three is broken up
    draft = ["right", "effusions", ".", "is", ".", "right", "clear", "is", "the"]
    found = align(draft, ["right", "right", "effusions", ".", "clear"], FIRST_METEOR)
    assert {i: j for i, (j, _) in found.items()} == {6: 4, 5: 1, 4: 3, 1: 2, 0: 0}
    # equal words before equal stems: the last "lungs" leaves "lung" to the first
    found = align("lungs lungs".split(), "lung lungs".split(), FIRST_METEOR)  # noqa: SIM905
    assert {i: j for i, (j, _) in found.items()} == {1: 1, 0: 0}
    # words stay as they were cut
    assert meteor_counts([["patient", "'s"]], [["patient", "'s"]], FIRST_METEOR)[0, 6] == 2


def test_sums_of_reports_make_the_corpus() -> None:
    plain = MeteorParameters(alpha=0.5, beta=1.0, gamma=0.0, delta=0.75)
    counts = meteor_counts([["lungs"], ["heart", "large"]], [["lungs"], ["spine"]], plain)
    # 1 of 3 words of the drafts, 1 of 2 of the references: harmonic mean
    assert meteor_from_counts(counts.sum(axis=0), plain) == pytest.approx(2 / (3 + 2))
    figures = score_text(["lungs clear", "x"], ["lungs clear", "y"])
    assert 0 < figures["rgrg/meteor_offline"] < 1


def test_the_jar_is_asked_once_for_each_pair(tmp_path: Path) -> None:
    jar = tmp_path / "meteor.jar"
    jar.write_text(STAND_IN_METEOR)
    with JavaMeteor(jar, java=(sys.executable,)) as running:
        corpus, each = running.score(["a b", "a\nb", "c ||| d"], ["a c", "a c", "c d"])
        assert (corpus, each) == (pytest.approx(4 / 6), [0.5, 0.5, 1.0])
        assert len(running._statistics) == 2
        assert running.score([], []) == (0.0, [])
        statistic = running.statistic(["a b", "a\nb", "c ||| d"], ["a c", "a c", "c d"])
        assert len(running._statistics) == 2
        assert statistic.value() == corpus
        assert [statistic.value(np.array([row])) for row in range(3)] == each
        assert statistic.value(np.array([0, 2])) == pytest.approx(3 / 4)


def test_a_missing_jar_java_or_answer_names_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="without Java"):
        JavaMeteor(tmp_path / "none.jar")
    jar = tmp_path / "meteor.jar"
    jar.write_text("print('not a number', flush=True)")
    with pytest.raises(ConfigError, match="without Java"):
        JavaMeteor(jar, java=(str(tmp_path / "java"),))
    with JavaMeteor(jar, java=(sys.executable,)) as running, pytest.raises(ConfigError, match="METEOR"):
        running.score(["a", "c"], ["b", "d"])
    with JavaMeteor(jar, java=(sys.executable,)) as running, pytest.raises(ConfigError, match="METEOR"):
        running.statistic(["a", "c"], ["b", "d"])
