from __future__ import annotations

from crrg.evaluation.protocols import MAX_TOKENS, PROTOCOLS, stemmed_words, tokenize, wordpunct

TEXT = "The  lungs, are clear. Heart-size isn't 2.5 cm (normal)."


def test_rgrg_sets_only_full_stops_apart() -> None:
    cut = ["The", "lungs,", "are", "clear", ".", "Heart-size", "isn't", "2", ".5", "cm", "(normal)", "."]
    assert tokenize(TEXT, "rgrg") == cut


def test_r2gen_lowers_removes_and_ends_each_sentence() -> None:
    cut = ["the", "lungs", "are", "clear", ".", "heart-size", "isnt", "25", "cm", "normal", "."]
    assert tokenize(TEXT, "r2gen") == cut
    assert tokenize("1. Lungs clear.. 2. No effusion", "r2gen") == ["lungs", "clear", ".", "no", "effusion", "."]


def test_r2gen_takes_numbers_from_lists_as_published_also_where_they_end_a_sentence() -> None:
    cases = {
        "Fracture of rib 5. No effusion.": "fracture of rib . no effusion .",
        "Fracture of rib 1. No effusion.": "fracture of rib no effusion .",
        "Lungs clear. 2. Heart normal. 3. No effusion.": "lungs clear . heart normal . no effusion .",
        "Lungs clear 2. heart normal": "lungs clear . heart normal .",
        "Nodule of 11. Fracture of rib 6. Clear.": "nodule of 1fracture of rib 6 . clear .",
        "Clear. (). Normal.": "clear . . normal .",
        "a 2. 3. b": "a . b .",
        "...": ".",
    }
    assert {text: " ".join(tokenize(text, "r2gen")) for text in cases} == cases


def test_r2gen_cuts_at_its_longest_length() -> None:
    assert len(tokenize("word " * 120, "r2gen")) == MAX_TOKENS["r2gen"] == 99
    assert len(tokenize("word " * 120, "r2gen", max_tokens=59)) == 59
    assert len(tokenize("word " * 120, "rgrg")) == 120


def test_nltk_cuts_as_the_treebank() -> None:
    cut = ["the", "lungs", ",", "are", "clear", ".", "heart-size", "is", "n't", "2.5", "cm", "(", "normal", ")", "."]
    assert tokenize(TEXT, "nltk") == cut
    assert tokenize("We cannot exclude: A, B; patient's 1,000 ml...", "nltk") == [
        "we", "can", "not", "exclude", ":", "a", ",", "b", ";", "patient", "'s", "1,000", "ml", "..."
    ]  # fmt: skip


def test_empty_texts_have_no_tokens() -> None:
    assert [tokenize(text, protocol) for text in ("", " \n") for protocol in PROTOCOLS] == [[]] * 6


def test_other_cuts() -> None:
    assert wordpunct("Lungs, clear.") == ["lungs", ",", "clear", "."]
    assert stemmed_words("No effusions, the lungs.") == ["no", "effus", "the", "lung"]
