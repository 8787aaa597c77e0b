"""BLEU, ROUGE-L and CIDEr-D of fixed pairs are those of the COCO caption evaluation.

The values were computed once by plain loops over the published definitions (2026-11-24).
"""

from __future__ import annotations

import pytest

from crrg.evaluation.text import bleu, cider_d_per_report, rouge_l_per_report

PAIRS = [
    (
        "The heart is enlarged . No pleural effusion .",
        "The heart is mildly enlarged . There is no pleural effusion .",
    ),
    (
        "The lungs are clear .",
        "The lungs are clear .",
    ),
    (
        "No pneumothorax . No pneumothorax . No pneumothorax .",
        "No pneumothorax , effusion or consolidation is seen .",
    ),
    (
        "",
        "The spine is normal .",
    ),
    (
        "Opacity",
        "There is a new opacity in the right lower zone , concerning for pneumonia .",
    ),
    (
        "There is a small left pleural effusion with basal atelectasis . The heart is large .",
        "A small left pleural effusion is unchanged . The heart is normal in size .",
    ),
    (
        "lines and tubes in place",
        "Lines and tubes are in place .",
    ),
    (
        "The lungs are hyperinflated . The lungs are clear . The heart is normal in size .",
        "The lungs are hyperinflated but clear . Heart size is normal . No acute abnormality .",
    ),
]
BLEU = (0.4637540054306992, 0.36878577704751275, 0.2776814143383672, 0.20441340537698469)
ROUGE_L = [
    0.7427701674277016,
    1.0,
    0.3333333333333333,
    0.0,
    0.0,
    0.5840425531914895,
    0.6472148541114059,
    0.5484515484515484,
]
CIDER_D = [
    2.7792960418265453,
    10.0,
    0.6306142294565593,
    0.0,
    0.0,
    3.0252922064634076,
    2.724543532485495,
    1.9821351261649238,
]
CANDIDATES = [candidate.split() for candidate, _ in PAIRS]
REFERENCES = [reference.split() for _, reference in PAIRS]


def test_bleu_is_that_of_the_public_definition() -> None:
    assert bleu(CANDIDATES, REFERENCES) == pytest.approx(BLEU, rel=0, abs=1e-9)


def test_rouge_is_that_of_the_public_definition() -> None:
    assert rouge_l_per_report(CANDIDATES, REFERENCES) == pytest.approx(ROUGE_L, rel=0, abs=1e-9)


def test_cider_is_that_of_the_public_definition() -> None:
    assert cider_d_per_report(CANDIDATES, REFERENCES) == pytest.approx(CIDER_D, rel=0, abs=1e-9)
