from __future__ import annotations

import re
import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st

from crrg.data.reports.sections import clean_text, parse_sections, split_sentences
from crrg.domain.labels import LABELS
from crrg.evaluation.labeler import label_report

WORDS = """no possible pneumonia effusion. heart normal, lungs clear; FINDINGS: IMPRESSION: ADDENDUM: 1. 2.5 XXXX but"""
WORDS_AND_STOPS = [
    "lungs",
    "clear",
    "heart",
    "effusion.",
    "cm.",
    "dr.",
    "vs.",
    "...",
    ";",
    "!",
    "?)",
    "edema,",
    "e.g.",
    "2.5",
    "no.",
    "a",
]
words = st.sampled_from([*WORDS.split(), "\n"])
texts = st.one_of(st.text(max_size=300), st.lists(words, max_size=40).map(" ".join))


@given(texts)
@settings(max_examples=200, deadline=None)
def test_cleaning_twice_changes_nothing(text: str) -> None:
    once = clean_text(text)
    assert clean_text(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert not any(unicodedata.category(c) in ("Cc", "Cf") and c != "\n" for c in once)


@given(texts)
@settings(max_examples=200, deadline=None)
def test_sentences_keep_the_words_of_the_text(text: str) -> None:
    sentences = split_sentences(text)
    assert all(s == " ".join(s.split()) and any(c.isalnum() for c in s) for s in sentences)
    source = "".join(text.split())
    at = 0
    for sentence in sentences:
        at = source.index("".join(sentence.split()), at)


@given(st.lists(st.sampled_from(WORDS_AND_STOPS), max_size=40).map(" ".join))
@settings(max_examples=300, deadline=None)
def test_joined_sentences_hold_every_word(text: str) -> None:
    joined = " ".join(split_sentences(text))
    assert [word for word in joined.split() if word.isalpha()] == [word for word in text.split() if word.isalpha()]
    assert re.findall(r"[a-z]+", joined) == re.findall(r"[a-z]+", text)


@given(texts)
@settings(max_examples=200, deadline=None)
def test_sections_and_labels_of_any_text(text: str) -> None:
    report = parse_sections(text)
    assert all(part is None or part.strip() == part != "" for part in (report.findings, report.impression))
    values = label_report(report.text)
    assert list(values) == list(LABELS)
    assert set(values.values()) <= {1, 0, -1, None}
    assert (values["No Finding"] is None) == (not split_sentences(report.text))
