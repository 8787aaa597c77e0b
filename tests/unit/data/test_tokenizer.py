"""The phrase vocabulary."""

from __future__ import annotations

import json

import pytest

from crrg.data.tokenizer import END_TOKEN, PhraseTokenizer, train_tokenizer, without_token_spaces
from crrg.errors import ModelError

PHRASES = ["The lungs are clear.", "No pleural effusion.", "There is a small left pleural effusion."] * 20


def test_any_text_comes_back_from_its_tokens() -> None:
    tokenizer = train_tokenizer(PHRASES, 400)
    for text in ("The lungs are clear.", "Measured 3.5 cm, naïve µ-scale — ok?", "x"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode("The lungs are clear.")) < 8


def test_phrases_begin_and_end_with_the_end_token_and_are_cut_at_the_limit() -> None:
    tokenizer = train_tokenizer(PHRASES, 400)
    whole, cut = tokenizer.encode_phrases(["The lungs are clear.", "zzzzzzzzzzzzzz"], max_length=10)
    assert whole[0] == whole[-1] == tokenizer.end_id == 0
    assert len(cut) == 10
    assert cut[0] == 0
    assert cut[-1] != 0


def test_blanks_before_punctuation_go_as_in_published_code() -> None:
    assert without_token_spaces("Clear , as before . Better ? No !") == "Clear, as before. Better? No!"
    assert without_token_spaces("It 's what I 'm told they 've seen; we 're sure it is n't") == (
        "It's what I'm told they've seen; we're sure it isn't"
    )
    assert without_token_spaces("the patient ' s lung , 3 .5 cm") == "the patient's lung, 3.5 cm"
    assert without_token_spaces("3 : 4 ( left )") == "3 : 4 ( left )"


def test_the_placeholder_is_one_token_and_not_spelled() -> None:
    tokenizer = train_tokenizer(PHRASES, 400)
    ids = tokenizer.encode("Compared to <deid>, unchanged.")
    assert ids.count(tokenizer.placeholder_id) == 1
    assert "deid" not in tokenizer.decode(ids)


def test_the_same_phrases_give_the_same_bytes_and_bytes_round_trip() -> None:
    first, second = train_tokenizer(PHRASES, 400), train_tokenizer(PHRASES, 400)
    assert first.to_bytes() == second.to_bytes()
    again = PhraseTokenizer(first.to_bytes())
    assert again.sha256 == first.sha256
    assert again.encode("No effusion.") == first.encode("No effusion.")
    assert again.vocab_size <= 400


def test_bytes_that_are_no_vocabulary_are_refused() -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        PhraseTokenizer(b"not json")
    document = json.loads(train_tokenizer(PHRASES, 400).to_bytes())
    document["added_tokens"] = [t for t in document["added_tokens"] if t["content"] != END_TOKEN]
    document["model"]["vocab"].pop(END_TOKEN)
    with pytest.raises(ModelError, match="no <\\|endoftext\\|> token"):
        PhraseTokenizer(json.dumps(document).encode())
