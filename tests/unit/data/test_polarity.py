from __future__ import annotations

import numpy as np
import pytest

from crrg.data.dicom.tables import expand_segments
from crrg.data.polarity import NOT_STATED, Stated, chest_likeness, judge_polarity
from crrg.errors import DicomError
from tests.support.film_corpus import chest_8


def test_a_chest_and_its_negative_have_opposite_likeness():
    likeness = chest_likeness(chest_8())
    assert likeness > 0.4
    assert chest_likeness(255 - chest_8()) == pytest.approx(-likeness, abs=1e-3)
    assert chest_likeness(np.full((40, 50), 7, np.uint8)) == 0


@pytest.mark.parametrize(
    ("negative", "stated", "inverts", "flags"),
    [
        (False, NOT_STATED, False, ()),
        (True, NOT_STATED, True, ("polarity_by_picture",)),
        (True, Stated(inverts=True, is_certain=True), True, ()),
        (False, Stated(inverts=True, is_certain=True), True, ("polarity_doubtful",)),
        (False, Stated(inverts=True, is_certain=False), False, ("polarity_by_picture",)),
        (True, Stated(inverts=False, is_certain=True), False, ("polarity_doubtful",)),
    ],
)
def test_the_picture_overrules_only_what_is_not_certain(negative, stated, inverts, flags):
    shown = 255 - chest_8() if negative else chest_8()
    verdict = judge_polarity(shown, stated)
    assert (verdict.inverts, verdict.flags) == (inverts, flags)


@pytest.mark.parametrize("pattern", ["left to right", "noise", "checks"])
def test_what_is_no_chest_is_never_turned(pattern):
    pictures = {
        "left to right": np.tile(np.arange(200, dtype=np.uint8), (200, 1)),
        "noise": np.random.default_rng(2).integers(0, 256, (200, 200)).astype(np.uint8),
        "checks": np.kron(np.indices((8, 8)).sum(0) % 2, np.full((25, 25), 255)).astype(np.uint8),
    }
    for picture in (pictures[pattern], 255 - pictures[pattern]):
        assert judge_polarity(picture, NOT_STATED).flags == ()


def test_segments_of_a_palette():
    # three values, a line of two steps from 30 to 50, the first segment again
    words = np.array([0, 3, 10, 20, 30, 1, 2, 50, 2, 1, 0, 0])
    assert expand_segments(words, 100).tolist() == [10, 20, 30, 40, 50, 10, 20, 30]
    assert expand_segments(words, 4).tolist() == [10, 20, 30, 40]
    for wrong in ([1, 2, 50], [0, 9, 1], [2, 1, 0, 0], [7, 1, 1], [0, 0]):
        with pytest.raises(DicomError):
            expand_segments(np.array(wrong), 100)
