"""Boxes and the letterbox, with expected values worked out by hand."""

from __future__ import annotations

import numpy as np

from crrg.domain.boxes import Letterbox, box_iou


def test_iou_of_half_overlapping_boxes() -> None:
    first = np.array([[0.0, 0.0, 4.0, 2.0], [0.0, 0.0, 1.0, 1.0]])
    second = np.array([[2.0, 0.0, 6.0, 2.0], [5.0, 5.0, 6.0, 6.0]])
    np.testing.assert_allclose(box_iou(first, second), [4 / 12, 0.0])


def test_iou_of_empty_boxes_is_zero() -> None:
    assert box_iou(np.zeros(4), np.zeros(4)) == 0.0


def test_letterbox_of_a_wide_film_pads_top_and_bottom() -> None:
    letterbox = Letterbox(width=200, height=100, size=100)
    assert letterbox.inner_size == (100, 50)
    assert letterbox.offset == (0, 25)
    np.testing.assert_allclose(letterbox.to_input(np.array([20.0, 10.0, 40.0, 100.0])), [10, 30, 20, 75])


def test_letterbox_clips_what_lies_in_the_padding() -> None:
    letterbox = Letterbox(width=200, height=100, size=100)
    np.testing.assert_allclose(letterbox.to_original(np.array([0.0, 0.0, 100.0, 100.0])), [0, 0, 200, 100])
