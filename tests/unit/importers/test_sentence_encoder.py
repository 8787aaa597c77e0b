"""A folder of BERT or DistilBERT as an encoder of sentences: its similarity is BERTScore's of the network itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from typer.testing import CliRunner

from crrg.cli import app
from crrg.data.published_tokenizers import PublishedTokenizer
from crrg.domain.bundle import ENCODER_VOCABULARY, ENCODER_WEIGHTS, SENTENCE_ENCODER, BundleFiles
from crrg.errors import ModelError
from crrg.inference.dedup import Similarity
from crrg.inference.sentence_encoder import bundled_similarity
from crrg.operations.registry.importing import import_checkpoint
from crrg.registry.imported import read_import
from tests.support.sentence_folder import VOCABULARY, write_encoder

SENTENCES = [
    "The lungs are clear.",
    "the LUNGS are clear .",
    "The left lung is clear.",
    "No pleural effusion, unknownword.",
    "",
    "Heart is large. " * 12,
]


def imported(folder: Path, out: Path) -> Similarity:
    import_checkpoint("sentence-encoder", folder, out)
    config, files = read_import(out, "sentence-encoder")
    parts = {ENCODER_WEIGHTS: files["model.safetensors"], ENCODER_VOCABULARY: files["tokenizer.json"]}
    similarity = bundled_similarity(BundleFiles("b", {SENTENCE_ENCODER: config}, parts), torch.device("cpu"))
    assert similarity is not None
    return similarity


def token_ids(sentence: str) -> list[int]:
    """The few words of these sentences, cut by hand."""
    text = sentence.strip().lower().replace(".", " . ").replace(",", " , ")
    words = [VOCABULARY.index(word) if word in VOCABULARY else 1 for word in text.split()]
    return [2, *words[:30], 3]


def bert_score(network: torch.nn.Module, layer: int, first: str, second: str) -> float:
    """BERTScore's F1 of one pair, token by token, on the hidden states of a layer."""

    def vectors(ids: list[int]) -> np.ndarray:
        states = network(torch.tensor([ids]), output_hidden_states=True).hidden_states[layer][0]
        return states.detach().double().numpy()

    ids = [token_ids(sentence) for sentence in (first, second)]
    one, two = ([row / np.linalg.norm(row) for row in vectors(found)] for found in ids)

    def share(own: list[int], rows: list[np.ndarray], others: list[np.ndarray]) -> float:
        counted = [
            max(row @ other for other in others) for token, row in zip(own, rows, strict=True) if token > 3 or token < 2
        ]
        return sum(counted) / len(counted) if counted else 0.0

    precision, recall = share(ids[0], one, two), share(ids[1], two, one)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize(
    ("kind", "num_layers", "compared"), [("distilbert", 6, 5), ("bert", 12, 9), ("bert", 3, 3), ("distilbert", 2, 2)]
)
def test_it_gives_bert_score_on_the_published_block(kind: str, num_layers: int, compared: int, tmp_path: Path) -> None:
    network = write_encoder(tmp_path / "folder", kind, num_layers=num_layers)
    found = imported(tmp_path / "folder", tmp_path / "out")(SENTENCES)
    for i, first in enumerate(SENTENCES):
        for j, second in enumerate(SENTENCES):
            assert found[i, j] == pytest.approx(bert_score(network, compared, first, second), abs=1e-5), (i, j)
    report = json.loads((tmp_path / "out" / "key_report.json").read_text())["stages"]["sentence-encoder"]
    assert any(f"layer.{compared}." in name for name in report["dropped"]) == (num_layers > compared)


def test_one_sentence_is_the_same_among_others(tmp_path: Path) -> None:
    write_encoder(tmp_path / "folder")
    similarity = imported(tmp_path / "folder", tmp_path / "out")
    assert similarity(SENTENCES)[:2, :2] == pytest.approx(similarity(SENTENCES[:2]), abs=1e-6)
    assert similarity([]).shape == (0, 0)


def test_a_vocabulary_that_fills_or_cuts_texts_does_neither_here(tmp_path: Path) -> None:
    write_encoder(tmp_path / "folder")
    imported(tmp_path / "folder", tmp_path / "out")
    _, files = read_import(tmp_path / "out", "sentence-encoder")
    plain = PublishedTokenizer(files["tokenizer.json"], "bert")
    filling = Tokenizer.from_str(files["tokenizer.json"].decode())
    filling.enable_padding(length=16, pad_id=0, pad_token="[PAD]")
    filling.enable_truncation(3)
    found = PublishedTokenizer(filling.to_str().encode(), "bert")
    assert found.piece_ids("the left lung is clear") == plain.piece_ids("the left lung is clear")


def test_what_is_no_such_folder_is_refused_with_the_way_out(tmp_path: Path) -> None:
    folder, out = tmp_path / "folder", tmp_path / "out"
    with pytest.raises(ModelError, match=r"no config.json .*give the folder of a BERT or DistilBERT"):
        import_checkpoint("sentence-encoder", folder, out)
    write_encoder(folder)
    settings = json.loads((folder / "config.json").read_text())
    for change in ({"model_type": "roberta"}, {"activation": "relu"}, {"n_heads": 5}):
        (folder / "config.json").write_text(json.dumps({**settings, **change}))
        with pytest.raises(ModelError, match="BERT or DistilBERT"):
            import_checkpoint("sentence-encoder", folder, out)
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "vocab.txt").rename(folder / "words")
    with pytest.raises(ModelError, match=r"no tokenizer.json or vocab.txt; .*--tokenizer"):
        import_checkpoint("sentence-encoder", folder, out)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY[:-1]))
    with pytest.raises(ModelError, match="the vocabulary has 319 tokens, the network 320"):
        import_checkpoint("sentence-encoder", folder, out)
    (folder / "model.safetensors").rename(folder / "weights")
    with pytest.raises(ModelError, match=r"no model.safetensors or pytorch_model.bin; give the folder"):
        import_checkpoint("sentence-encoder", folder, out)
    assert not out.exists(), "nothing is written"


def test_the_command_says_what_it_took(tmp_path: Path) -> None:
    write_encoder(tmp_path / "folder")
    words = ["import", "sentence-encoder", str(tmp_path / "folder"), "--out", str(tmp_path / "out")]
    ended = CliRunner().invoke(app, [*words, "--root", str(tmp_path / "root")])
    assert ended.exit_code == 0, ended.output
    assert "| sentence-encoder |" in ended.output
