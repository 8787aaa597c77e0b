"""Augmentation: boxes follow the picture, sides stay sides, randomness comes from the generator alone."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from crrg.config.presets import PAPER_AUGMENTATION
from crrg.config.training import Augmentation
from crrg.training.augment import augment_films
from crrg.training.order import rows_of_step

STILL = Augmentation(scale=0, stretch=0, shift=0, gamma=0, contrast=0, noise=0)


def bright_films(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Films with one bright rectangle in the left upper part, and its box; a second region is not annotated."""
    images = np.zeros((number, 64, 64), dtype=np.uint8)
    images[:, 14:30, 10:34] = 200
    boxes = np.full((number, 2, 4), np.nan, dtype=np.float32)
    boxes[:, 0] = 10, 14, 34, 30
    return images, boxes


def test_nothing_to_change_changes_nothing() -> None:
    images, boxes = bright_films(3)
    changed, moved = augment_films(images, boxes, STILL, np.random.default_rng(0))
    assert np.array_equal(changed, images)
    assert np.array_equal(moved, boxes, equal_nan=True)


def test_boxes_follow_the_picture() -> None:
    images, boxes = bright_films(20)
    config = Augmentation(scale=0.15, stretch=0.05, shift=0.08, gamma=0, contrast=0, noise=0)
    changed, moved = augment_films(images, boxes, config, np.random.default_rng(1))
    assert np.ptp(moved[:, 0, 0]) > 3, "films really move"
    assert np.isnan(moved[:, 1]).all(), "what was not annotated stays so"
    for film, box in zip(changed, moved[:, 0], strict=True):
        rows, columns = np.where(film > 100)
        seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        assert np.abs(seen - box).max() <= 1.5


def test_boxes_follow_the_picture_to_a_fraction_of_a_pixel() -> None:
    sharp, boxes = bright_films(60)
    images = np.stack([cv2.GaussianBlur(film, (0, 0), 2) for film in sharp])
    for changes in ({"scale": 0.3}, {"stretch": 0.2}, {"crop_area": (0.5, 0.8)}):
        moved, found = augment_films(images, boxes, STILL.model_copy(update=changes), np.random.default_rng(9))
        is_whole = (found[:, 0, :2] > 8).all(axis=1) & (found[:, 0, 2:] < 56).all(axis=1)
        assert is_whole.sum() >= 5
        films, centres = moved[is_whole].astype(float), (found[is_whole, 0, :2] + found[is_whole, 0, 2:]) / 2
        middle = np.arange(64) + 0.5
        weights = [films.sum(axis=1), films.sum(axis=2)]
        seen = np.stack([(weight * middle).sum(axis=1) / weight.sum(axis=1) for weight in weights], axis=1)
        assert np.abs(seen - centres).max() <= 0.03, changes


def test_left_stays_left() -> None:
    images, boxes = bright_films(50)
    changed, moved = augment_films(images, boxes, Augmentation(), np.random.default_rng(2))
    assert (changed[:, :, :32].mean(axis=(1, 2)) > changed[:, :, 32:].mean(axis=(1, 2))).all()
    assert (moved[:, 0, 0] < moved[:, 0, 2]).all()


def test_box_pushed_off_the_film_is_no_longer_annotated() -> None:
    images, boxes = bright_films(200)
    config = STILL.model_copy(update={"shift": 0.5})
    _, moved = augment_films(images, boxes, config, np.random.default_rng(3))
    lost = np.isnan(moved[:, 0]).any(axis=-1)
    assert 0 < lost.mean() < 1
    assert np.isnan(moved[lost, 0]).all()
    kept = moved[~lost, 0]
    assert kept.min() >= 0
    assert kept.max() <= 64


def test_exposure_and_noise_change_the_film_and_not_the_boxes() -> None:
    images, boxes = bright_films(4)
    config = STILL.model_copy(update={"gamma": 0.3, "contrast": 0.2, "noise": 8.0})
    changed, moved = augment_films(images, boxes, config, np.random.default_rng(4))
    assert np.array_equal(moved, boxes, equal_nan=True)
    assert len(np.unique([film[20, 20] for film in changed])) > 1


def test_grain_leaves_the_mean_grey_alone() -> None:
    grey = np.full((20, 64, 64), 90, dtype=np.uint8)
    boxes = np.full((20, 1, 4), np.nan, dtype=np.float32)
    changed, _ = augment_films(grey, boxes, STILL.model_copy(update={"noise": 8.0}), np.random.default_rng(10))
    assert changed.std() > 2
    assert abs(changed.mean() - 90) < 0.1


def test_equal_generators_give_equal_films() -> None:
    images, boxes = bright_films(4)
    first = augment_films(images, boxes, Augmentation(), np.random.default_rng(5))
    second = augment_films(images, boxes, Augmentation(), np.random.default_rng(5))
    other = augment_films(images, boxes, Augmentation(), np.random.default_rng(6))
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(first[1], second[1], equal_nan=True)
    assert not np.array_equal(first[0], other[0])


def test_every_row_comes_once_per_round() -> None:
    rows = np.concatenate([rows_of_step(10, 4, 7, step) for step in range(5)])
    assert sorted(rows[:10].tolist()) == list(range(10))
    assert sorted(rows[10:].tolist()) == list(range(10))
    assert rows[:10].tolist() != rows[10:].tolist()
    assert rows_of_step(10, 4, 7, 3).tolist() == rows[12:16].tolist()
    assert rows_of_step(10, 4, 8, 3).tolist() != rows[12:16].tolist()


def test_batch_may_be_larger_than_the_data() -> None:
    assert sorted(rows_of_step(2, 5, 0, 0).tolist()) in ([0, 0, 0, 1, 1], [0, 0, 1, 1, 1])


def test_boxes_follow_a_published_crop_and_it_never_leaves_the_film() -> None:
    images, boxes = bright_films(40)
    config = STILL.model_copy(update={"crop_area": (0.5, 0.8)})
    changed, moved = augment_films(images, boxes, config, np.random.default_rng(4))
    kept = ~np.isnan(moved[:, 0]).any(axis=-1)
    assert kept.sum() > 20
    for film, box in zip(changed[kept], moved[kept, 0], strict=True):
        rows, columns = np.where(film > 100)
        seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        assert np.abs(seen - box).max() <= 2
    grey, _ = augment_films(np.full_like(images, 90), boxes, config, np.random.default_rng(4))
    assert (grey == 90).all(), "a crop shows no border"
    # areas are drawn between .8 and 1.1 again and again until one fits, so that a film is enlarged by 1 to 1 / .8
    published = STILL.model_copy(update={"crop_area": (0.8, 1.1)})
    _, moved = augment_films(images, boxes, published, np.random.default_rng(5))
    areas = [1 / np.prod((box[2:] - box[:2]) / (24, 16)) for box in moved[:, 0] if box.min() > 0]
    assert 0.78 < np.nanmin(areas) < 0.9
    assert np.nanmax(areas) <= 1.01


def test_published_jitter_moves_brightness_and_contrast_about_the_mean() -> None:
    images = np.zeros((200, 8, 8), dtype=np.uint8)
    images[:, :4], images[:, 4:] = 80, 120
    boxes = np.full((200, 1, 4), np.nan, dtype=np.float32)
    darker = STILL.model_copy(update={"brightness": 0.1, "contrast_about": "mean"})
    means = augment_films(images, boxes, darker, np.random.default_rng(6))[0].mean(axis=(1, 2))
    assert 89 <= means.min() < 92
    assert 108 < means.max() <= 111
    sharper = STILL.model_copy(update={"contrast": 0.2, "contrast_about": "mean"})
    changed = augment_films(images, boxes, sharper, np.random.default_rng(7))[0].astype(int)
    assert np.abs(changed.mean(axis=(1, 2)) - 100).max() <= 0.5
    steps = changed[:, 7, 0] - changed[:, 0, 0]
    assert 31 <= steps.min() < 34
    assert 46 < steps.max() <= 49


def test_each_published_change_is_for_half_of_the_films() -> None:
    images, boxes = bright_films(400)
    changed, moved = augment_films(images, boxes, PAPER_AUGMENTATION, np.random.default_rng(4))
    is_moved = (moved[:, 0] != boxes[:, 0]).any(axis=1)
    inside = changed[:, 17:27, 13:31].reshape(400, -1).astype(float)
    is_noisy = inside.std(axis=1) > 0
    is_exposed = np.abs(inside.mean(axis=1) - 200) > 1.5
    spreads = inside[is_noisy & ~is_exposed].std(axis=1)
    for share in (is_moved, is_noisy, is_exposed):
        assert 0.42 < share.mean() < 0.58
    for one, other in ((is_moved, is_noisy), (is_moved, is_exposed), (is_noisy, is_exposed)):
        assert 0.17 < (one & other).mean() < 0.33, "each is drawn by itself"
    assert 2.6 < spreads.min() < 3.8, "a standard deviation of 3.2 at least"
    assert 6.4 < spreads.max() < 8.2, "and of 7.1 at most"
    assert 5.1 < np.sqrt((spreads**2).mean()) < 5.8, "variances of 10 to 50 are equally likely"
    assert 0.08 < (changed == images).all(axis=(1, 2)).mean() < 0.18, "an eighth is left as it is"


def test_what_leaves_no_film_alone_asks_for_no_random_number() -> None:
    images, boxes = bright_films(20)
    none, few = Augmentation(), Augmentation(unmoved_share=1e-9, unexposed_share=1e-9, noiseless_share=1e-9)
    found = [augment_films(images, boxes, each, np.random.default_rng(5))[0] for each in (none, few)]
    assert not np.array_equal(*found)
    assert none.model_dump().keys().isdisjoint(Augmentation.LATER_FIELDS), "what was trained before is found again"
    assert few.model_dump().keys() >= {"unmoved_share", "unexposed_share", "noiseless_share"}
    with pytest.raises(ValueError, match="least_noise"):
        Augmentation(noise=2, least_noise=3)


def test_local_equalisation_is_for_its_share_of_films() -> None:
    ramp = np.tile(np.arange(60, 124, dtype=np.uint8), (100, 64, 1))
    boxes = np.full((100, 1, 4), np.nan, dtype=np.float32)
    changed, _ = augment_films(ramp, boxes, STILL.model_copy(update={"clahe_share": 0.5}), np.random.default_rng(8))
    is_changed = (changed != ramp).any(axis=(1, 2))
    assert 35 < is_changed.sum() < 65
