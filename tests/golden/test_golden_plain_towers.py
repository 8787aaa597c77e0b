"""ResNet-50, GPT-2 and BERT under their usual names: on random weights ours say what the published ones say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import BertConfig, BertForPreTraining, GPT2Config, GPT2LMHeadModel
from typer.testing import CliRunner

from benchmarks.classification.published import TextSizes, bert_states, resnet_features
from benchmarks.classification.published_files import bert_shapes, random_state, resnet_shapes
from crrg.cli import app
from crrg.errors import ModelError
from crrg.importers.plain_towers import import_bert, import_gpt2, import_resnet50, read_gpt2
from crrg.importers.torch_file import TorchContents
from crrg.operations.registry.importing import import_checkpoint
from crrg.registry.imported import read_import

TEXT = TextSizes()
IDS = torch.randint(0, 300, (2, 9), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def resnet() -> dict[str, Tensor]:
    classifier = {"fc.weight": torch.zeros(5, 2048), "fc.bias": torch.zeros(5)}
    return {**random_state(resnet_shapes()), **classifier}


@torch.inference_mode()
def test_a_resnet_has_the_features_of_the_published_file(resnet: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(resnet, str(tmp_path / "resnet50.pth"))
    (part,) = import_resnet50(tmp_path / "resnet50.pth")
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    wanted = resnet_features(resnet, images)
    torch.testing.assert_close(part.module.eval()(images).raw, wanted, rtol=1e-4, atol=1e-4)
    assert part.key_report["dropped"] == ["fc.bias", "fc.weight"]
    assert part.config["architecture"]["pixel_mean"] == [0.485, 0.456, 0.406]


def test_old_files_do_not_count_batches_and_other_sizes_are_refused(resnet: dict[str, Tensor], tmp_path: Path) -> None:
    old = {name: value for name, value in resnet.items() if not name.endswith("num_batches_tracked")}
    save_file(old, str(tmp_path / "any-name"))
    (part,) = import_resnet50(tmp_path / "any-name")
    assert len(part.key_report["own"]) == 53
    save_file({**old, "layer1.3.conv1.weight": torch.zeros(1)}, str(tmp_path / "deeper"))
    with pytest.raises(ModelError, match=r"1 unknown \(layer1\.3\.conv1\.weight\)"):
        import_resnet50(tmp_path / "deeper")
    save_file({**old, "conv1.weight": torch.zeros(64, 1, 7, 7)}, str(tmp_path / "grey"))
    with pytest.raises(ModelError, match="1 of another shape"):
        import_resnet50(tmp_path / "grey")


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(3)
    return GPT2LMHeadModel(GPT2Config(vocab_size=300, n_positions=32, n_embd=128, n_layer=2, n_head=2)).eval()


@torch.inference_mode()
@pytest.mark.parametrize("layout", ["with a head, torch", "bare, safetensors"])
def test_a_gpt2_has_the_logits_of_the_published_file(layout: str, tmp_path: Path) -> None:
    model, file = gpt2(), tmp_path / "weights"
    if layout == "with a head, torch":
        masks = {
            "transformer.h.0.attn.bias": torch.ones(1, 1, 32, 32),
            "transformer.h.0.attn.masked_bias": torch.ones(()),
        }
        torch.save({**model.state_dict(), **masks}, file)
    else:
        save_file(model.transformer.state_dict(), str(file))
    (part,) = import_gpt2(file)
    hidden = part.module.eval()(input_ids=IDS).last_hidden_state
    torch.testing.assert_close(hidden @ part.module.wte.weight.T, model(input_ids=IDS).logits, rtol=0, atol=1e-5)
    assert part.config["architecture"] == {
        "num_layers": 2, "num_heads": 2, "hidden_size": 128, "vocab_size": 300, "max_length": 32,
    }  # fmt: skip


def test_a_gpt2_with_another_head_or_vocabulary_is_refused() -> None:
    state = gpt2().state_dict()
    with pytest.raises(ModelError, match="should be one tensor and differ"):
        read_gpt2(TorchContents({**state, "lm_head.weight": torch.zeros(300, 128)}, {}, {}))
    words = {"<|endoftext|>": 0, "film": 1}
    speller = Tokenizer(WordLevel(words, unk_token="film")).to_str().encode()
    with pytest.raises(ModelError, match=r"the vocabulary has 2 tokens, the network 300; give .* --tokenizer"):
        read_gpt2(TorchContents(state, {}, {}), speller)


@torch.inference_mode()
def test_a_bert_has_the_states_of_the_published_file(tmp_path: Path) -> None:
    state = random_state(bert_shapes(TEXT))
    save_file(state, str(tmp_path / "bare.bin"))
    (part,) = import_bert(tmp_path / "bare.bin")
    mask = torch.ones_like(IDS)
    wanted = bert_states(state, IDS, mask, TEXT.num_layers)
    torch.testing.assert_close(part.module.eval().states(IDS, mask), wanted, rtol=0, atol=1e-4)


@torch.inference_mode()
def test_a_bert_with_heads_and_old_names_is_read_too(tmp_path: Path) -> None:
    torch.manual_seed(4)
    model = BertForPreTraining(
        BertConfig(
            vocab_size=300,
            hidden_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=512,
            max_position_embeddings=40,
        )
    ).eval()
    for parameter in model.parameters():
        parameter.add_(0.01 * torch.randn_like(parameter))
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    renamed = {}
    for name, value in model.state_dict().items():
        for new, before in old.items():
            name = name.replace(new, before)
        renamed[name] = value
    save_file({name: value.clone() for name, value in renamed.items()}, str(tmp_path / "model.safetensors"))
    (part,) = import_bert(tmp_path / "model.safetensors")
    mask = torch.ones_like(IDS)
    wanted = model.bert(input_ids=IDS, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(part.module.eval().states(IDS, mask), wanted, rtol=0, atol=1e-5)
    assert {name.split(".")[0] for name in part.key_report["dropped"]} == {"cls", "bert"}


def test_the_command_writes_parts_that_are_read_back(tmp_path: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"word{number}" for number in range(296))]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    save_file(random_state(bert_shapes(TEXT)), str(tmp_path / "model.bin"))
    arguments = ["import", "bert", str(tmp_path / "model.bin"), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*arguments, "--tokenizer", str(tmp_path / "vocab.txt")])
    assert done.exit_code == 0, done.output
    assert "Bio_ClinicalBERT under MIT" in done.stderr
    config, files = read_import(tmp_path / "out", "bert")
    assert sorted(files) == ["model.safetensors", "tokenizer.json"]
    assert config["architecture"]["text_positions"] == 40
    assert json.loads((tmp_path / "out" / "key_report.json").read_text())["source"] == "bert"
    (tmp_path / "broken").write_bytes((30).to_bytes(8, "little") + b"{" + bytes(40))
    with pytest.raises(ModelError, match="the safetensors are damaged"):
        import_checkpoint("resnet50", tmp_path / "broken", tmp_path / "none")
