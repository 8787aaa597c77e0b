"""Conditions and loading of the generator."""

from __future__ import annotations

import hashlib

import pytest
import torch
from pydantic import ValidationError

from crrg.config.models import GeneratorArchitecture
from crrg.config.training import GeneratorTraining
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


def told(*regions: int) -> torch.Tensor:
    """Return what reports ``[4, 29, 15]`` say that speak of some regions."""
    flags = torch.full((4, 29, 15), torch.nan)
    flags[:, list(regions)] = torch.randint(0, 2, (4, len(regions), 15)).float()
    return flags


def with_report() -> ReportGenerator:
    torch.manual_seed(0)
    return ReportGenerator(ARCHITECTURE.model_copy(update={"condition_on_report": True})).eval()


def test_the_rest_of_the_report_is_a_fourth_condition() -> None:
    model = with_report()
    features, regions, flags, reports = torch.randn(4, 8), torch.tensor([2, 5, 2, 9]), torch.rand(4, 15), told(2, 5, 7)
    tokens = model.encode_condition(features, regions, flags, report_flags=reports)
    assert tokens.shape == (4, 4, 16)
    torch.testing.assert_close(tokens[:, :3], model.encode_condition(features, regions, flags)[:, :3])
    for row, own in enumerate(regions.tolist()):
        others = [region for region in (2, 5, 7) if region != own]
        said = torch.zeros(29, 16)
        said[others] = torch.cat([reports[row, others], torch.ones(len(others), 1)], dim=1)
        torch.testing.assert_close(tokens[row, 3], model.report_encoder(said.flatten()))
    changed = reports.clone()
    changed[0, 2] = 1 - changed[0, 2]
    changed[1, 2] = 1 - changed[1, 2]
    again = model.encode_condition(features, regions, flags, report_flags=changed)
    assert torch.equal(again[0], tokens[0]), "its own region is told by its own flags"
    assert not torch.equal(again[1, 3], tokens[1, 3])


def test_what_is_unknown_of_a_report_is_a_learned_vector_and_no_negative() -> None:
    model = with_report()
    features, regions, flags, reports = torch.randn(4, 8), torch.tensor([2, 5, 5, 2]), torch.rand(4, 15), told(2)
    reports[2] = torch.nan
    tokens = model.encode_condition(
        features, regions, flags,
        report_flags=reports,
        is_flagged=torch.tensor([True, False, True, True]),
        is_seen=torch.tensor([True, True, True, False]),
    )[:, 3]  # fmt: skip
    for row in (1, 2, 3):
        torch.testing.assert_close(tokens[row], model.unknown_report)
    nothing_else = model.report_encoder(torch.zeros(29 * 16))
    torch.testing.assert_close(tokens[0], nothing_else, msg="a report of one region says nothing of others")
    assert not torch.equal(nothing_else, model.unknown_report)
    denied = told(2, 7)
    denied[:, 7] = 0.0
    denied = model.encode_condition(features, regions, flags, report_flags=denied)[:, 3]
    assert not torch.equal(denied[0], tokens[0]), "a region without findings is no region that nothing is said of"
    without = model.encode_condition(features, regions, flags)[:, 3]
    torch.testing.assert_close(without, model.unknown_report.expand(4, -1))


def test_every_new_part_learns() -> None:
    model = with_report().train()
    features, regions, flags, reports = torch.randn(4, 8), torch.tensor([2, 5, 2, 9]), torch.rand(4, 15), told(2, 5, 7)
    reports[3] = torch.nan
    condition = model.encode_condition(features, regions, flags, report_flags=reports)
    model(torch.randint(0, 300, (4, 6)), condition).square().mean().backward()
    for name, parameter in model.named_parameters():
        if "report" in name:
            assert parameter.grad is not None
            assert torch.isfinite(parameter.grad).all(), name
            assert float(parameter.grad.abs().sum()) > 0, name


def test_a_generator_without_the_report_is_stored_and_found_as_ever() -> None:
    torch.manual_seed(0)
    plain = ReportGenerator(ARCHITECTURE)
    extra = set(with_report().state_dict()) - set(plain.state_dict())
    assert extra == {"unknown_report", *(f"report_encoder.{i}.{name}" for i in (0, 2) for name in ("weight", "bias"))}
    assert set(plain.state_dict()) <= set(with_report().state_dict())
    stored = {"condition_on_report", "lora_rank"}
    for dump in (ARCHITECTURE.model_dump(), GeneratorTraining().model_dump(mode="json")):
        assert not stored & {*dump, *dump.get("architecture", {})}
    asked = GeneratorTraining(architecture=with_report().architecture, lora_rank=4)
    for mode in ("python", "json"):
        dump = asked.model_dump(mode=mode)
        assert (dump["architecture"]["condition_on_report"], dump["lora_rank"]) == (True, 4)
        assert GeneratorTraining.model_validate(dump) == asked
    with pytest.raises(ValidationError, match="needs condition_on_findings = true"):
        GeneratorArchitecture(condition_on_report=True, condition_on_findings=False)


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
