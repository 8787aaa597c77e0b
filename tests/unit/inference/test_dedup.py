"""De-duplication of sentences, by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from crrg.inference.dedup import deduplicate, lexical_similarity


def table(values: dict[tuple[str, str], float]):  # type: ignore[no-untyped-def]
    def similarity(sentences: Sequence[str]) -> np.ndarray:
        scores = np.eye(len(sentences))
        for i, first in enumerate(sentences):
            for j, second in enumerate(sentences):
                scores[i, j] = values.get((first, second), values.get((second, first), scores[i, j]))
        return scores

    return similarity


def test_exact_repeats_keep_the_first() -> None:
    assert deduplicate(["b.", "a.", "b.", "c.", "a."], similarity=table({})) == ["b.", "a.", "c."]


def test_the_longer_of_two_similar_sentences_stays_and_ties_drop_the_earlier() -> None:
    assert deduplicate(["long one.", "short."], similarity=table({("long one.", "short."): 0.95})) == ["long one."]
    assert deduplicate(["short.", "long one."], similarity=table({("long one.", "short."): 0.95})) == ["long one."]
    assert deduplicate(["ab.", "cd."], similarity=table({("ab.", "cd."): 0.95})) == ["cd."]


def test_at_the_threshold_both_stay() -> None:
    assert deduplicate(["ab.", "cd."], similarity=table({("ab.", "cd."): 0.9})) == ["ab.", "cd."]


def test_the_rule_is_not_transitive() -> None:
    # "aa" goes for "bbb"; "bbb" and "cc" are not similar, though "aa" and "cc" are: "aa" is not asked again
    similar = table({("aa", "bbb"): 0.95, ("aa", "cc"): 0.95})
    assert deduplicate(["aa", "bbb", "cc"], similarity=similar) == ["bbb", "cc"]
    # a dropped later sentence drops nobody either
    similar = table({("aaa", "b"): 0.95, ("b", "cc"): 0.95})
    assert deduplicate(["aaa", "b", "cc"], similarity=similar) == ["aaa", "cc"]


def test_shared_words_are_counted() -> None:
    scores = lexical_similarity(["The heart is normal.", "the heart is enlarged", "No effusion."])
    assert scores[0, 1] == scores[1, 0] == pytest.approx(0.75)
    assert scores[0, 2] == 0
    assert scores.diagonal().tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (
            "There is a small patchy opacity seen within the right lung base today.",
            "There is a small patchy opacity seen within the left lung base today.",
        ),
        (
            "The endotracheal tube tip ends 3.0 cm above the carina.",
            "The endotracheal tube tip ends 4.1 cm above the carina.",
        ),
        ("There is evidence of a large pneumothorax here.", "There is no evidence of a large pneumothorax here."),
    ],
)
def test_side_number_and_negation_are_never_equated(first: str, second: str) -> None:
    assert deduplicate([first, second]) == [first, second]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("third", "Fourth"),
        ("eleventh", "twelfth"),
        ("T8", "L8"),
        ("minimal", "massive"),
        ("trace", "extensive"),
        ("tiny", "small"),
        ("marked", "slight"),
        ("proximal", "Distal"),
        ("anterior", "posterior"),
        ("medial", "lateral"),
        ("new", "chronic"),
        ("acute", "old"),
        ("apical", "basilar"),
        ("superior", "inferior"),
        ("rib", "clavicle"),
        ("nodule", "mass"),
        ("displaced", "non-displaced"),
        ("tension", "loculated"),
        ("jugular", "subclavian"),
    ],
)
def test_no_decisive_word_is_equated_with_another_or_with_none(one: str, other: str) -> None:
    frame = "There is something {}that is seen in this film and that was told of in the very same words."
    sentences = [frame.format(f"{one} "), frame.format(f"{other} "), frame.format("")]
    assert deduplicate(sentences) == sentences


def test_forms_of_one_word_and_parts_of_longer_words_decide_nothing() -> None:
    frame = "There is {} widening of the mediastinum that is seen in this film and that was told of."
    assert deduplicate([frame.format("mild"), frame.format("Mildly")]) == [frame.format("Mildly")]
    assert deduplicate([frame.format("renewed"), frame.format("newest")]) == [frame.format("renewed")]


def test_near_repeats_go_by_default() -> None:
    long = "There is a patchy opacity that is seen in the right lower lung zone."
    short = "There is a patchy opacity that is seen in right lower lung zone."
    assert deduplicate([short, long, "No effusion."]) == [long, "No effusion."]
    assert deduplicate([]) == []


def test_a_likeness_that_is_no_number_drops_nothing() -> None:
    sentences = ["The lungs are clear.", "Small left effusion."]
    assert deduplicate(sentences, similarity=lambda found: np.full((len(found), len(found)), np.nan)) == sentences
