"""Conditions and loading of the generator."""

from __future__ import annotations

import hashlib

import pytest
import torch

from crrg.config.models import GeneratorArchitecture
from crrg.errors import ModelError
from crrg.models.report_generator import ReportGenerator, load_generator
from crrg.training.checkpoint import module_bytes

ARCHITECTURE = GeneratorArchitecture(
    num_layers=1, num_heads=2, hidden_size=16, vocab_size=300, max_length=8, feature_size=8
)


def test_unknown_flags_and_unseen_films_hide_their_conditions() -> None:
    model = ReportGenerator(ARCHITECTURE).eval()
    features, regions, flags = torch.randn(3, 8), torch.tensor([0, 5, 5]), torch.rand(3, 15)
    tokens = model.encode_condition(
        features,
        regions,
        flags,
        is_flagged=torch.tensor([True, False, True]),
        is_seen=torch.tensor([True, True, False]),
    )
    assert tokens.shape == (3, 3, 16)
    torch.testing.assert_close(tokens[0], model.encode_condition(features, regions, flags)[0])
    torch.testing.assert_close(tokens[1, 2], model.unknown_flags)
    assert not torch.equal(tokens[1, 0], model.unknown_feature)
    unseen = torch.stack([model.unknown_feature, model.unknown_region, model.unknown_flags])
    torch.testing.assert_close(tokens[2], unseen)


def test_the_papers_condition_is_the_feature_alone() -> None:
    model = ReportGenerator(ARCHITECTURE.model_copy(update={"condition_on_findings": False})).eval()
    features = torch.randn(2, 8)
    tokens = model.encode_condition(features, torch.tensor([0, 1]), torch.rand(2, 15))
    torch.testing.assert_close(tokens, model.feature_space_transformation(features)[:, None])


def test_features_are_standardised_by_the_training_features() -> None:
    model = ReportGenerator(ARCHITECTURE)
    features = torch.tensor([[1.0] * 8, [5.0] * 8])
    model.fit_feature_scale(features)
    torch.testing.assert_close(model.feature_mean, torch.full((8,), 3.0))
    torch.testing.assert_close(model.feature_scale, torch.full((8,), 2.0))


def stored() -> tuple[dict[str, object], bytes, bytes, ReportGenerator]:
    model = ReportGenerator(ARCHITECTURE).eval()
    tokenizer = b"{}"
    config = {
        "architecture": ARCHITECTURE.model_dump(mode="json"),
        "tokenizer_sha256": hashlib.sha256(tokenizer).hexdigest(),
    }
    return config, module_bytes(model), tokenizer, model


def test_a_stored_generator_comes_back_the_same() -> None:
    config, tensors, tokenizer, model = stored()
    loaded = load_generator(config, tensors, tokenizer)
    token_ids, condition = torch.randint(0, 300, (2, 4)), torch.randn(2, 3, 16)
    assert not loaded.training
    torch.testing.assert_close(loaded(token_ids, condition), model(token_ids, condition))


def test_another_vocabulary_is_refused() -> None:
    config, tensors, _, _ = stored()
    with pytest.raises(ModelError, match="tokenizer's sha256"):
        load_generator(config, tensors, b"{ }")


@pytest.mark.parametrize("change", [{"hidden_size": 32}, {"num_layers": 2}, {"no_such_setting": 1}])
def test_weights_of_another_architecture_are_refused(change: dict[str, int]) -> None:
    config, tensors, tokenizer, _ = stored()
    architecture = {**ARCHITECTURE.model_dump(mode="json"), **change}
    with pytest.raises(ModelError, match="do not fit"):
        load_generator({**config, "architecture": architecture}, tensors, tokenizer)


def test_damaged_weights_are_refused() -> None:
    config, tensors, tokenizer, _ = stored()
    with pytest.raises(ModelError, match="do not fit"):
        load_generator(config, tensors[:100], tokenizer)
