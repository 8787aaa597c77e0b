"""Low-rank updates of a frozen language model: what learns, what it comes to, and that nothing of it is left over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers.pytorch_utils import Conv1D

from crrg.config.models import GeneratorArchitecture
from crrg.config.training import GeneratorTraining, LoopConfig
from crrg.data.tokenizer import train_tokenizer
from crrg.models.decoder import PseudoSelfAttentionDecoder
from crrg.models.low_rank import UpdatedProjection, add_updates, low_rank_updates, merge_updates
from crrg.models.report_generator import ReportGenerator
from crrg.models.rounded import fast_decoder
from crrg.storage import Storage
from crrg.training.checkpoint import StageFolder
from crrg.training.generator import fit_generator
from crrg.training.joint_rounds import finetune_generator
from crrg.training.phrase_batches import PhraseTable, phrase_flags
from crrg.training.tracker import NullTracker

FROZEN = GeneratorArchitecture(
    num_layers=2, num_heads=2, hidden_size=16, vocab_size=300, max_length=16, feature_size=8, dropout=0.0,
    freeze_language_model=True,
)  # fmt: skip
PROJECTIONS = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")


def frozen_decoder() -> PseudoSelfAttentionDecoder:
    torch.manual_seed(0)
    decoder = PseudoSelfAttentionDecoder(FROZEN).eval()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return decoder


def updated(decoder: PseudoSelfAttentionDecoder) -> PseudoSelfAttentionDecoder:
    add_updates(decoder, 3)
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            if name.endswith(".up"):
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return decoder


def test_an_update_is_zero_at_first_and_then_a_product_of_two_matrices() -> None:
    torch.manual_seed(0)
    plain, hidden = Conv1D(24, 16), torch.randn(2, 5, 16)
    layer = UpdatedProjection(plain, 3)
    assert torch.equal(layer(hidden), plain(hidden))
    with torch.no_grad():
        layer.up.normal_()
        wanted = hidden @ (plain.weight + layer.down @ layer.up) + plain.bias
    torch.testing.assert_close(layer(hidden), wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(layer.merged()(hidden), wanted, rtol=0, atol=1e-5)
    assert not torch.equal(plain(hidden), layer(hidden)), "the projection that it took over is as it was"


def test_merged_weights_say_what_the_updates_said() -> None:
    decoder = frozen_decoder().double()
    token_ids, condition = torch.randint(0, 300, (3, 7)), torch.randn(3, 3, 16, dtype=torch.float64)
    before, names = decoder(token_ids, condition), list(decoder.state_dict())
    wanted = updated(decoder)(token_ids, condition)
    assert float((wanted - before).detach().abs().max()) > 0.1
    merge_updates(decoder)
    torch.testing.assert_close(decoder(token_ids, condition), wanted, rtol=0, atol=1e-6)
    assert list(decoder.state_dict()) == names
    assert not decoder.transformer.h[0].mlp.c_fc.weight.requires_grad


def test_only_updates_and_image_branch_learn() -> None:
    model = ReportGenerator(FROZEN)
    add_updates(model.decoder, 3)
    condition = model.encode_condition(torch.randn(4, 8), torch.arange(4), torch.zeros(4, 15))
    # while the second factor is zero the first has no gradient
    for name, parameter in model.named_parameters():
        if name.endswith(".up"):
            torch.nn.init.normal_(parameter)
    model(torch.randint(0, 300, (4, 6)), condition).square().mean().backward()
    learning = {name for name, each in model.decoder.named_parameters() if each.requires_grad}
    wanted = {f"transformer.h.{i}.{part}.{name}" for i in range(2) for part in PROJECTIONS for name in ("down", "up")}
    wanted |= {f"transformer.h.{i}.attn.{u}.{w}" for i in range(2) for u in ("uk", "uv") for w in ("weight", "bias")}
    assert learning == wanted
    for name, parameter in model.decoder.named_parameters():
        assert (parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)) == (name in wanted), name


def test_nothing_is_added_where_weights_learn_themselves_or_no_rank_is_given() -> None:
    open_decoder = PseudoSelfAttentionDecoder(FROZEN.model_copy(update={"freeze_language_model": False}))
    for decoder, rank in ((open_decoder, 4), (frozen_decoder(), 0)):
        layers = [block.attn.c_attn for block in decoder.transformer.h]
        with low_rank_updates(decoder, rank):
            assert not [each for each in decoder.modules() if isinstance(each, UpdatedProjection)]
        assert all(block.attn.c_attn is layer for block, layer in zip(decoder.transformer.h, layers, strict=True))


def test_rounded_weights_have_the_updates_in_them() -> None:
    decoder, condition = frozen_decoder(), torch.randn(8, 3, 16)
    with torch.inference_mode():
        before, _ = fast_decoder(decoder).prefill(condition, 0)
    updated(decoder)
    with torch.inference_mode():
        during, _ = fast_decoder(decoder).prefill(condition, 0)
    assert isinstance(decoder.transformer.h[0].attn.c_attn, UpdatedProjection), "the one that learns goes on"
    merge_updates(decoder)
    with torch.inference_mode():
        after, _ = fast_decoder(decoder).prefill(condition, 0)
    assert torch.equal(during, after)
    assert float((during - before).abs().max()) > 0.1


def phrase_table() -> PhraseTable:
    rng = np.random.default_rng(0)
    texts = ["The lungs are clear.", "Small left effusion.", "The heart is enlarged."] * 4
    flags = np.array([phrase_flags(text, False) for text in texts])
    features = rng.normal(size=(12, 8)).astype(np.float32)
    return PhraseTable(texts, np.arange(12) // 3, np.arange(12) % 3, features, flags, flags)


@pytest.mark.parametrize("rank", [0, 2])
def test_a_trained_generator_is_a_plain_one_and_rounds_learn_on(tmp_path: Path, rank: int) -> None:
    table, storage, cpu = phrase_table(), Storage(str(tmp_path)), torch.device("cpu")
    loop = LoopConfig(num_steps=3, batch_size=6, learning_rate=0.05, ema_decay=0.5)
    settings = GeneratorTraining(architecture=FROZEN, loop=loop, num_length_buckets=1, lora_rank=rank)
    tokenizer = train_tokenizer(table.texts, 300)
    folder = StageFolder(storage, "generator", "first")
    model, _ = fit_generator(table, tokenizer, settings, folder, NullTracker(), device=cpu, seed=7)
    architecture = model.architecture
    assert list(model.state_dict()) == list(ReportGenerator(architecture).state_dict())
    torch.manual_seed(7)
    start = ReportGenerator(architecture).state_dict()
    first = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    finetune_generator(
        model, tokenizer, (table, table), settings, StageFolder(storage, "generator", "next"), NullTracker()
    )
    for before, after in ((start, first), (first, model.state_dict())):
        assert list(after) == list(before)
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        projections = {f"decoder.transformer.h.{i}.{part}.weight" for i in range(2) for part in PROJECTIONS}
        assert "decoder.transformer.h.0.attn.uv.weight" in moved
        assert moved & projections == (projections if rank else set())
        assert not {name for name in moved if ".wte." in name or ".ln_" in name or name.endswith("c_attn.bias")}
