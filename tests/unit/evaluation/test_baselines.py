from __future__ import annotations

import time

import numpy as np
import pytest

from crrg.domain.labels import LABELS, NO_FINDING
from crrg.evaluation.baselines import (
    NORMAL_REPORT,
    all_positive_labels,
    best_constant_report,
    constant_scores,
    constant_selection_f1,
    logistic_regression_probabilities,
    nearest_neighbours,
    permuted_rows,
    usual_phrases,
    usual_regions,
)
from crrg.evaluation.classification import mean_auc
from crrg.evaluation.labeler import label_report
from crrg.evaluation.text import score_text


def test_best_constant_is_the_report_with_the_highest_mean_score() -> None:
    train = ["Lungs are clear. Heart is normal.", "Large mass in the left lung.", "Lungs are clear. No effusion.", ""]
    validation = ["Lungs are clear. Heart is normal.", "The lungs are clear. Heart is normal in size."]
    assert best_constant_report(train, validation) == train[0]
    assert best_constant_report([], validation) == ""
    assert best_constant_report(train, []) in train


def test_constant_scores_are_those_of_score_text() -> None:
    candidates = ["Lungs are clear . Lungs are clear .", "Heart is normal in size . No effusion ."]
    references = ["Lungs are clear . No effusion is seen .", "Heart is normal in size . Lungs are clear ."]
    scores = constant_scores([text.split() for text in candidates], [text.split() for text in references])
    for text, score in zip(candidates, scores, strict=True):
        figures = score_text([text, text], references)
        assert score == pytest.approx((figures["rgrg/bleu_4"] + figures["rgrg/rouge_l"]) / 2)


def test_best_constant_is_quick_on_a_thousand_reports() -> None:
    rng = np.random.default_rng(0)
    words = np.array([f"w{i}" for i in range(60)])
    reports = [" ".join(rng.choice(words, size=45)) for _ in range(1000)]
    started = time.process_time()
    assert best_constant_report(reports, reports[:300]) in reports
    assert time.process_time() - started < 5


def test_nearest_neighbour_does_not_mind_exposure() -> None:
    rng = np.random.default_rng(0)
    train = rng.random((5, 32, 32))
    assert nearest_neighbours(train, 0.3 * train[[3, 1]] + 7).tolist() == [3, 1]
    assert nearest_neighbours(train, np.zeros((1, 32, 32))).shape == (1,)


def test_logistic_regression_learns_what_is_in_the_picture_and_nothing_else() -> None:
    rng = np.random.default_rng(1)
    pixels = rng.random((300, 32, 32))
    references = np.stack([(rng.random(300) < 0.5), (rng.random(300) < 0.5), np.zeros(300)], axis=1).astype(float)
    pixels[references[:, 0] == 1, 8:16, 8:16] += 0.5
    references[:50, 0] = np.nan
    probabilities = logistic_regression_probabilities(pixels[:200], references[:200], pixels[200:])
    assert mean_auc(probabilities[:, :1], references[200:, :1]) > 0.95
    assert 0.3 < mean_auc(probabilities[:, 1:2], references[200:, 1:2]) < 0.7
    assert set(probabilities[:, 2]) == {0.0}


def test_usual_regions_are_those_that_most_reports_write_about() -> None:
    has_phrase = np.array([[True, True, False, False], [True, False, False, False], [True, True, False, False]])
    assert usual_regions(has_phrase).tolist() == [True, True, False, False]
    rare = np.zeros((9, 2), dtype=bool)
    rare[:, 0] = True
    rare[0, 1] = True
    assert usual_regions(rare).tolist() == [True, False]
    assert not usual_regions(np.zeros((3, 4), dtype=bool)).any()
    # found 3, wrong 1, missed 0
    assert constant_selection_f1(np.array([True, False]), np.array([[1, 0], [1, 0], [0, 0], [1, 0]], dtype=bool)) == (
        pytest.approx(6 / 7)
    )


def test_regions_of_which_nothing_is_known_do_not_count() -> None:
    has_phrase = np.array([[True, False], [True, False], [False, False]])
    told = np.array([[True, True], [True, True], [False, False]])
    chosen = np.array([True, False])
    assert constant_selection_f1(chosen, has_phrase, told) == 1.0
    assert constant_selection_f1(chosen, has_phrase) == pytest.approx(4 / 5)
    # a region that is told on one film only, and always written about there, is worth a sentence
    told[:2, 1], has_phrase[0, 1], told[0, 1] = False, True, True
    assert usual_regions(has_phrase, told).tolist() == [True, True]


def test_all_positive_labels() -> None:
    (claimed,) = all_positive_labels(1)
    assert list(claimed) == list(LABELS)
    assert claimed[NO_FINDING] == 0
    assert sum(claimed.values()) == 13


def test_the_normal_report_is_normal() -> None:
    assert label_report(NORMAL_REPORT)["No Finding"] == 1


@pytest.mark.parametrize("num_rows", [0, 1, 2, 3, 50])
def test_a_permutation_leaves_no_row_in_place(num_rows: int) -> None:
    order = permuted_rows(num_rows, seed=3)
    assert sorted(order.tolist()) == list(range(num_rows))
    assert num_rows == 1 or not (order == np.arange(num_rows)).any()


def test_the_usual_phrase_is_the_most_frequent_one_of_a_region() -> None:
    films = [{"spine": "Scoliosis."}, {"spine": "Intact."}, {"spine": "Intact.", "carina": "B."}, {"carina": "A."}, {}]
    assert usual_phrases(films) == {"spine": "Intact.", "carina": "A."}
    assert usual_phrases([]) == {}
