from __future__ import annotations

import pytest

from crrg.data.view_words import view_of_words
from crrg.domain.study import ViewPosition


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("  ", None),
        ("PA", ViewPosition.PA),
        ("ap supine", ViewPosition.AP),
        ("P.A.", ViewPosition.PA),
        ("A/P", ViewPosition.AP),
        ("AP_ERECT", ViewPosition.AP),
        ("PA CHEST PORTABLE", ViewPosition.PA),
        ("AP/PA", ViewPosition.UNKNOWN),
        ("Frontal", ViewPosition.UNKNOWN),
        ("UNKNOWN", ViewPosition.UNKNOWN),
        ("?", ViewPosition.UNKNOWN),
        ("LL", ViewPosition.LL),
        ("LL ERECT", ViewPosition.LL),
        ("RL", ViewPosition.LATERAL),
        ("L", ViewPosition.LATERAL),
        ("Lateral", ViewPosition.LATERAL),
        ("PA AND LATERAL", ViewPosition.LATERAL),
        ("AP AXIAL", ViewPosition.LATERAL),
        ("AP LLD", ViewPosition.LATERAL),
        ("SWIMMERS", ViewPosition.LATERAL),
        ("MLO", ViewPosition.LATERAL),
        ("A-P", ViewPosition.AP),
        ("Postero-Anterior", ViewPosition.PA),
        ("anteroposterior, supine", ViewPosition.AP),
        ("ANTERO POSTERIOR", ViewPosition.AP),
        ("SUPINE", ViewPosition.UNKNOWN),
        ("Portable erect", ViewPosition.UNKNOWN),
        ("BEDSIDE", ViewPosition.UNKNOWN),
        ("STANDING LATERAL", ViewPosition.LATERAL),
        ("AP LLDECUB", ViewPosition.LATERAL),
        ("Thorax frontale", ViewPosition.UNKNOWN),
        ("face", ViewPosition.UNKNOWN),
    ],
)
def test_words_name_a_projection(text, expected):
    assert view_of_words(text) is expected
