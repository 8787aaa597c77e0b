"""Texts of documents in the default repertoire: a question mark is a sign that somebody wrote, wherever it can be."""

from __future__ import annotations

import pytest

from crrg.exports.source_text import plain_text


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Small \u2013 moderate; \u2265 3 cm, patient\u2019s right", "Small - moderate; >= 3 cm, patient's right"),
        ("\u201cghost\u201d \u2264 2 \u00d7 3 \u00b5m, 30\u00b0", "\"ghost\" <= 2 x 3 um, 30 deg"),
        ("caf\u00e9 Schr\u00f6der \u2014 \ufb01brosis\u2026", "cafe Schroder - fibrosis..."),
        ("2\u00bd cm\u00b2, 10\u2075", "2 1/2 cm^2, 10^5"),
        ("a \u2260 b \u226f c", "a != b >? c"),
        ("\u80ba \U0001fac1", "? ?"),
        ("Effusion? No: 1.5 x 2 cm\n", "Effusion? No: 1.5 x 2 cm\n"),
    ],
)  # fmt: skip
def test_usual_signs_are_spelled_and_none_turns_into_its_opposite(text: str, plain: str) -> None:
    assert plain_text(text) == plain
