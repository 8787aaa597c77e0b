from __future__ import annotations

import pytest

from crrg.data.archives.notes import sentences_of_picture


def names_finding(sentence: str) -> bool:
    return any(word in sentence.lower() for word in ("opacit", "effusion", "pneumonia"))


@pytest.mark.parametrize(
    ("notes", "kept"),
    [
        ("Fever for three days. Patchy opacities in both lungs. No pleural effusion.", "all but the first"),
        ("CT showed peripheral opacities.", ""),
        ("A 50-year-old man presented with cough and pneumonia.", ""),
        ("He was treated for pneumonia of the left lung.", ""),
        ("The lungs are shown.", ""),
        ("", ""),
    ],
)
def test_only_sentences_that_read_the_film_stay(notes, kept):
    expected = "Patchy opacities in both lungs. No pleural effusion." if kept else ""
    assert sentences_of_picture(notes, names_finding) == expected
