"""Which regions said a drafted sentence, found again from text and phrases. Expected regions by hand."""

from __future__ import annotations

import pytest

from crrg.inference.assembly import RegionPhrase, assemble, assemble_published
from crrg.inference.sentence_sources import sentence_sources
from crrg.inference.statements import Labeler, Statement, read_statement

HEART, MEDIASTINUM = "cardiac silhouette", "mediastinum"
EFFUSION = "There is a small left pleural effusion."


def sources(phrases: dict[str, str], *, published: bool = False) -> dict[str, list[str]]:
    said = [RegionPhrase(region, phrase, False) for region, phrase in phrases.items()]
    findings = (assemble_published(said) if published else assemble(said)).findings
    found = sentence_sources(findings, phrases)
    assert " ".join(sentence for sentence, _ in found) == findings
    return dict(found)


def test_a_sentence_is_said_by_all_regions_that_said_it_whatever_else_they_said() -> None:
    phrases = {
        "left lung": f"No focal consolidation. {EFFUSION}",
        "left costophrenic angle": f"{EFFUSION} There is bibasilar",
        MEDIASTINUM: "The mediastinal contours are normal.",
        HEART: "The heart is mildly enlarged. The mediastinal contours are normal.",
    }
    expected = {
        "No focal consolidation.": ["left lung"],
        EFFUSION: ["left lung", "left costophrenic angle"],
        "The mediastinal contours are normal.": [MEDIASTINUM, HEART],
        "The heart is mildly enlarged.": [HEART],
    }
    assert sources(phrases) == expected
    phrases["left costophrenic angle"] = EFFUSION
    assert sources(phrases, published=True) == expected


@pytest.mark.parametrize("published", [False, True])
def test_a_near_repeat_said_it_too(published: bool) -> None:
    long = "There is a small pleural effusion on the left side of the chest today."
    short = long.replace(" today", "")
    assert sources({"left lung": short, "left costophrenic angle": long}, published=published) == {
        long: ["left lung", "left costophrenic angle"]
    }


def test_what_is_left_of_a_denial_was_said_by_who_denied() -> None:
    phrases = {
        "right costophrenic angle": "No pleural effusion or pneumothorax.",
        "left lung": EFFUSION,
        "left apical zone": "No pleural effusion or pneumothorax.",
    }
    assert sources(phrases) == {
        "No pneumothorax.": ["right costophrenic angle", "left apical zone"],
        "No right pleural effusion.": ["right costophrenic angle"],
        EFFUSION: ["left lung"],
    }


def test_what_is_left_for_one_side_is_said_by_the_other_one_only_where_nobody_else_did() -> None:
    opacity = "There is a patchy opacity in the left lower lobe."
    both = {"right lung": "The lungs are clear.", "left lung": "The lungs are clear.", "left lower lung zone": opacity}
    assert sources(both)["The right lung is clear."] == ["right lung"]
    del both["right lung"]
    assert sources(both)["The right lung is clear."] == ["left lung"]


def test_a_phrase_that_runs_into_the_next_is_said_by_both() -> None:
    phrases = {"right lung": "No effusion. There is mild", "left lung": "The lungs are clear.", HEART: "Large heart"}
    assert sources(phrases, published=True) == {
        "No effusion.": ["right lung"],
        "There is mild The lungs are clear.": ["right lung", "left lung"],
        "Large heart": [HEART],
    }
    assert sources(phrases)["Large heart."] == [HEART], "our way ends the sentence"


def test_each_sentence_is_read_once(monkeypatch) -> None:
    phrases = {
        "right lung": "No focal consolidation, effusion or pneumothorax. There is mild edema.",
        "left lung": f"{EFFUSION} No pneumothorax is seen.",
        HEART: "The heart is mildly enlarged. The heart is normal in size.",
    }
    findings = assemble([RegionPhrase(region, phrase, False) for region, phrase in phrases.items()]).findings
    texts: list[str] = []

    def read(sentence: str, labeler: Labeler) -> Statement:
        texts.append(sentence)
        return read_statement(sentence, labeler)

    monkeypatch.setattr("crrg.inference.sentence_sources.read_statement", read)
    sentence_sources(findings, phrases)
    assert texts
    assert len(texts) == len(set(texts))


def test_a_text_that_no_region_said_has_no_regions() -> None:
    assert sentence_sources("Free air.", {"right lung": "The lungs are clear."}) == [("Free air.", [])]
    assert sentence_sources("", {"right lung": "The lungs are clear."}) == []
    assert sentence_sources("Free air.", {}) == [("Free air.", [])]


def test_what_is_left_of_a_sentence_that_was_parted_has_its_region_flagged_or_not() -> None:
    phrases = {"aortic arch": "The aorta is tortuous without effusion.", "left costophrenic angle": "Left effusion."}
    findings = "The aorta is tortuous. No right pleural effusion. Left effusion."
    for is_abnormal in (True, False):
        told = [RegionPhrase(region, phrase, is_abnormal) for region, phrase in phrases.items()]
        assert assemble(told, order=list(phrases)).findings == findings
    assert sentence_sources(findings, phrases) == [
        ("The aorta is tortuous.", ["aortic arch"]),
        ("No right pleural effusion.", ["aortic arch"]),
        ("Left effusion.", ["left costophrenic angle"]),
    ]
