"""The gate in front of the joint stage."""

from __future__ import annotations

import pytest

from crrg.domain.labels import FINDINGS, NO_FINDING
from crrg.errors import PoorDrafts
from crrg.training.joint_quality import check_quality

NORMAL, SICK = "The lungs are clear. No pleural effusion.", "There is a pleural effusion."
CLEAR = {**dict.fromkeys(FINDINGS, 0), NO_FINDING: 1}
EFFUSION = {**CLEAR, "Pleural Effusion": 1, NO_FINDING: 0}


def cohort(num_normal: int, num: int = 1000):
    return {str(i): CLEAR if i < num_normal else EFFUSION for i in range(num)}


def drafts_of(num_normal: int, num: int = 1000):
    """Return drafts of which some are one normal report, and the others all different."""
    return {str(i): NORMAL if i < num_normal else f"{SICK} Mark {i}." for i in range(num)}


def test_collapsed_or_silent_drafts_are_refused() -> None:
    check_quality({str(i): f"report {i % 4}" for i in range(200)})
    check_quality({"0": "", "1": "normal"})
    with pytest.raises(PoorDrafts, match="differ"):
        check_quality({str(i): f"report {i % 3}" for i in range(200)})
    with pytest.raises(PoorDrafts, match="say anything"):
        check_quality({str(i): "" if i < 101 else f"report {i}" for i in range(200)})


def test_one_report_for_nearly_every_film_is_refused() -> None:
    with pytest.raises(PoorDrafts, match=r"95% of 1000 drafts are one report, at most 68%.*crrg train clip"):
        check_quality(drafts_of(950), cohort(360))
    with pytest.raises(PoorDrafts, match="at most 90%"):
        check_quality(drafts_of(950))
    check_quality(drafts_of(600), cohort(360))
    # where nearly every film is normal, nearly every draft may be
    check_quality(drafts_of(950), cohort(940))


def test_drafts_that_say_nothing_of_the_films_are_refused() -> None:
    worded = {str(i): f"{NORMAL} Mark {i}." for i in range(1000)}
    with pytest.raises(PoorDrafts, match=r"F1 on 1000 films is 0\.000, that of one report for all of them 0\.0"):
        check_quality(worded, cohort(360))
    # the report that suits them best claims an effusion; as good as that is not good enough
    sick = {str(i): f"{SICK} Mark {i}." for i in range(1000)}
    with pytest.raises(PoorDrafts, match="one report for all"):
        check_quality(sick, cohort(360), [SICK] * 500)
    check_quality(drafts_of(360), cohort(360), [SICK] * 500)


def test_only_known_labels_are_held_against_drafts() -> None:
    # of these films pneumonia alone is known
    films = {str(i): {"Pneumonia": int(i >= 500)} for i in range(1000)}
    drafts = {str(i): f"{SICK} {'There is pneumonia.' if i >= 500 else ''} Mark {i}." for i in range(1000)}
    check_quality(drafts, films, ["There is pneumonia."] * 300)
