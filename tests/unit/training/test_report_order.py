"""Drafts go through the regions as the training reports do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from crrg.data.dataset.batches import FilmTable
from crrg.domain.regions import REGIONS
from crrg.training.report_order import MIN_SENTENCES, report_order

HEART, SPINE, CLEAR = "The heart is enlarged.", "Mild degenerative changes. No fracture.", "The lungs are clear."


def films(reports: list[str], phrases: list[dict[str, str]]) -> FilmTable:
    number = len(reports)
    return FilmTable(
        images=np.zeros((number, 8, 8), np.uint8),
        original_sizes=np.full((number, 2), 8, np.int32),
        input_boxes_xyxy=np.zeros((number, 29, 4), np.float32),
        phrases=phrases,
        is_abnormal=np.zeros((number, 29), np.int8),
        labels=np.zeros((number, 14), np.int8),
        reports=reports,
        texts=[],
        patient_ids=[],
        instance_ids=[],
    )


def test_what_reports_say_first_comes_first_and_the_rest_stays_where_it_was() -> None:
    said = {"cardiac silhouette": HEART, "spine": SPINE, "right lung": CLEAR, "left lung": CLEAR}
    order = report_order(films([f"{HEART} {CLEAR} {SPINE}"] * MIN_SENTENCES, [said] * MIN_SENTENCES))
    assert sorted(order) == sorted(REGIONS)
    told = [region for region in order if region in said]
    assert told == ["cardiac silhouette", "right lung", "left lung", "spine"]
    # of zones nothing is said: they follow their lung
    assert order.index("right apical zone") < order.index("left lung") < order.index("spine")


def test_a_sentence_that_the_findings_do_not_hold_says_nothing() -> None:
    said = {"spine": SPINE, "cardiac silhouette": HEART}
    table = films([f"{HEART} {CLEAR}"] * MIN_SENTENCES, [said] * MIN_SENTENCES)
    assert report_order(table) == report_order(replace(table, phrases=[{"cardiac silhouette": HEART}] * MIN_SENTENCES))


def test_few_sentences_and_no_reports_leave_the_order_of_the_regions() -> None:
    few = MIN_SENTENCES - 1
    assert report_order(films([f"{CLEAR} {HEART}"] * few, [{"right lung": HEART}] * few)) == REGIONS
    assert report_order(films([""] * MIN_SENTENCES, [{"right lung": HEART}] * MIN_SENTENCES)) == REGIONS
    assert report_order(films([""] * MIN_SENTENCES, [{"right lung": " "}] * MIN_SENTENCES)) == REGIONS
    assert report_order(films([], [])) == REGIONS
