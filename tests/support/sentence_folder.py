"""A small BERT or DistilBERT on random weights, in a folder as the transformers library writes it."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import BertConfig, BertForMaskedLM, DistilBertConfig, DistilBertForMaskedLM

MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
WORDS = [
    "the",
    "lungs",
    "are",
    "clear",
    "left",
    "right",
    "lung",
    "is",
    "heart",
    "large",
    "no",
    ".",
    "pleural",
    "effusion",
]
VOCABULARY = [*MARKS, *WORDS, *(f"[unused{number}]" for number in range(320 - len(MARKS) - len(WORDS)))]


def write_encoder(folder: Path, kind: str = "distilbert", *, num_layers: int = 6, width: int = 24) -> torch.nn.Module:
    """Write the folder and return the network it holds, without its head for words."""
    torch.manual_seed(3)
    if kind == "distilbert":
        model: torch.nn.Module = DistilBertForMaskedLM(
            DistilBertConfig(
                vocab_size=len(VOCABULARY), dim=width, n_heads=3, n_layers=num_layers, hidden_dim=40,
                max_position_embeddings=32,
            )
        )  # fmt: skip
    else:
        model = BertForMaskedLM(
            BertConfig(
                vocab_size=len(VOCABULARY), hidden_size=width, num_attention_heads=3, num_hidden_layers=num_layers,
                intermediate_size=40, max_position_embeddings=32,
            )
        )  # fmt: skip
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.3)
            elif name.endswith("bias"):
                parameter.normal_(std=0.1)
    model.eval().save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    found: torch.nn.Module = model.distilbert if kind == "distilbert" else model.bert
    return found
