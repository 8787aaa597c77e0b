"""A report cut into words as RadGraph and RadGraph-XL read it."""

from __future__ import annotations

import pytest

from crrg.data.reports.report_words import report_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("No focal opacity.", ["No", "focal", "opacity", "."]),
        ("left-sided effusion/atelectasis,small", ["left-sided", "effusion", "/", "atelectasis", ",", "small"]),
        ("ET tube at 2.5 cm (stable)?!", ["ET", "tube", "at", "2", ".", "5", "cm", "(", "stable", ")", "?", "!"]),
        ("Impression:\n clear; 50% \t of 'it'", ["Impression", ":", "clear;", "50%", "of", "'it'"]),
        (" \n", []),
    ],
)
def test_radgraph_sets_single_marks_apart_and_leaves_hyphens(text: str, words: list[str]) -> None:
    assert report_words(text, "radgraph") == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("No focal opacity.", ["No", "focal", "opacity", "."]),
        ("left-sided effusion/atelectasis", ["left", "-", "sided", "effusion", "/", "atelectasis"]),
        ("(2.5 cm). 50%.", ["(", "2", ".", "5", "cm", ")", ".", "50", "%", "."]),
        ("3%, (4%) it.'", ["3", "%", ",", "(", "4", "%", ")", "it", ".", "'"]),
        ("one\\ntwo\\fthree\\u2122 \\\"four\\\" five/.", ["one", "two", "three", "``", "four", "``", "five", "/."]),
        ("well?! e.g. clear;", ["well", "?!", "e", ".", "g", ".", "clear", ";"]),
        (" \n", []),
    ],
)  # fmt: skip
def test_radgraph_xl_cuts_between_letters_and_runs_of_marks(text: str, words: list[str]) -> None:
    assert report_words(text, "radgraph-xl") == words
