"""Prompts and zero-shot probabilities."""

from __future__ import annotations

import math

import pytest
import torch

from crrg.config.models import ClipArchitecture
from crrg.data.tokenizer import PhraseTokenizer, train_tokenizer
from crrg.domain.labels import FINDINGS, LABELS, NO_FINDING
from crrg.errors import ModelError
from crrg.evaluation.labeler import label_report
from crrg.inference.prompts import PROMPTS_VERSION, open_prompts, prompt_pair
from crrg.inference.zero_shot import (
    ask_labels,
    embed_prompts,
    encode_texts,
    read_text_tokenizer,
    tokenize,
    zero_shot_labels,
    zero_shot_probabilities,
)
from crrg.models.clip import ClipModel


@pytest.fixture(scope="module")
def tokenizer() -> PhraseTokenizer:
    return train_tokenizer([text.lower() for label in LABELS for text in prompt_pair(label).positive], 400)


@pytest.fixture(scope="module")
def model() -> ClipModel:
    torch.manual_seed(0)
    architecture = ClipArchitecture(
        input_size=32, image_width=4, text_layers=1, text_heads=2, text_hidden_size=16, text_vocab_size=400,
        max_text_length=40, projection_size=8,
    )  # fmt: skip
    return ClipModel(architecture).eval()


@pytest.mark.parametrize("label", FINDINGS)
def test_prompts_say_what_they_should(label: str) -> None:
    pair = prompt_pair(label)
    if label != "Support Devices":
        assert len(set(pair.positive)) >= 3
    assert len(set(pair.negative)) >= 3
    for text in pair.positive:
        assert label_report(text)[label] in (1, -1), text
    for text in pair.negative:
        assert label_report(text)[label] in (0, None), text


def test_any_finding_in_words_has_prompts() -> None:
    pair = prompt_pair("Hiatal hernia")
    assert "There is hiatal hernia." in pair.positive
    assert "There is no hiatal hernia." in pair.negative


def test_tokens_end_with_the_end_mark_also_when_cut(tokenizer: PhraseTokenizer) -> None:
    token_ids, mask = tokenize(tokenizer, ["There is edema.", "There is edema. " * 20], 10)
    assert token_ids.shape == mask.shape == (2, 10)
    lengths = mask.sum(dim=1)
    assert lengths[1] == 10
    assert lengths[0] < 10
    assert [token_ids[row, length - 1].item() for row, length in enumerate(lengths)] == [tokenizer.end_id] * 2
    assert (
        tokenize(tokenizer, ["THERE IS EDEMA."], 10)[0].tolist()
        == tokenize(tokenizer, ["there is edema."], 10)[0].tolist()
    )


def test_a_texts_features_do_not_depend_on_its_neighbours(model: ClipModel, tokenizer: PhraseTokenizer) -> None:
    texts = ["There is edema.", "No pleural effusion is seen.", "There is a nodule in the lung. " * 8, ""]
    together = encode_texts(model, tokenizer, texts)
    for row, text in enumerate(texts):
        assert torch.equal(together[row], encode_texts(model, tokenizer, [text])[0])
    assert encode_texts(model, tokenizer, []).shape == (0, 8)


def test_probability_is_the_softmax_over_the_pair() -> None:
    films = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    prompts = torch.tensor([[[0.0, 1.0], [1.0, 0.0]], [[0.6, 0.8], [0.8, 0.6]]])
    found = zero_shot_probabilities(films, prompts, 2.0)
    assert found.shape == (2, 2)
    assert found[0, 0].item() == pytest.approx(1 / (1 + math.exp(-2.0)))
    assert found[1, 0].item() == pytest.approx(1 / (1 + math.exp(2.0)))
    assert found[0, 1].item() == pytest.approx(1 / (1 + math.exp(-2.0 * 0.2)))


def test_prompt_features_are_mean_directions(model: ClipModel, tokenizer: PhraseTokenizer) -> None:
    pair = prompt_pair("Edema")
    mean = encode_texts(model, tokenizer, pair.positive).mean(dim=0)
    torch.testing.assert_close(embed_prompts(model, tokenizer, [pair])[0, 1], mean / mean.norm())


def test_no_finding_is_the_complement_of_the_likeliest_abnormality(
    model: ClipModel, tokenizer: PhraseTokenizer
) -> None:
    films = torch.nn.functional.normalize(torch.randn(5, 8, generator=torch.Generator().manual_seed(3)), dim=1)
    found = zero_shot_labels(model, tokenizer, films, LABELS)
    abnormal = torch.stack([found[label] for label in FINDINGS if label != "Support Devices"])
    torch.testing.assert_close(found[NO_FINDING], 1 - abnormal.amax(dim=0))
    alone = zero_shot_labels(model, tokenizer, films, ["Edema", "hiatal hernia"])
    assert list(alone) == ["Edema", "hiatal hernia"]
    torch.testing.assert_close(alone["Edema"], found["Edema"])


def test_a_label_is_known_in_any_case(model: ClipModel, tokenizer: PhraseTokenizer) -> None:
    assert prompt_pair("pleural  EFFUSION") == prompt_pair("Pleural Effusion")
    assert open_prompts("no finding") == ()
    films = torch.nn.functional.normalize(torch.randn(5, 8, generator=torch.Generator().manual_seed(3)), dim=1)
    named = ask_labels(model, tokenizer, films, ["Pneumonia", NO_FINDING])
    typed = ask_labels(model, tokenizer, films, ["pneumonia", "no finding"])
    torch.testing.assert_close(typed["pneumonia"].probability, named["Pneumonia"].probability)
    torch.testing.assert_close(typed["no finding"].probability, named[NO_FINDING].probability)
    assert typed["pneumonia"].uncertain is not None
    assert typed["no finding"].uncertain is None, "it has no picture of its own that could be left open"


def test_a_text_tower_that_learnt_other_prompts_is_refused(tokenizer: PhraseTokenizer) -> None:
    config = {"tokenizer_sha256": tokenizer.sha256, "prompts_version": PROMPTS_VERSION}
    assert read_text_tokenizer(config, tokenizer.to_bytes()).sha256 == tokenizer.sha256
    with pytest.raises(ModelError, match="version 0, this program asks version"):
        read_text_tokenizer({**config, "prompts_version": "0"}, tokenizer.to_bytes())
