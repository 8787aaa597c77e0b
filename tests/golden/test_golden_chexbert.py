"""CheXbert's published layout on random weights: our labeler says what its own forward pass says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmarks.classification.published import TextSizes, below, bert_states
from benchmarks.classification.published_files import bert_shapes, random_state
from crrg.data.published_tokenizers import PublishedTokenizer, bert_tokenizer
from crrg.domain.labels import LABELS
from crrg.errors import ModelError
from crrg.evaluation.clinical import score_labels
from crrg.importers.chexbert import read_chexbert
from crrg.importers.torch_file import TorchContents
from crrg.inference.report_labeler import ReportLabeler

TEXT = TextSizes()
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"word{number}" for number in range(296))]
VALUES = (None, 1, 0, -1)


def published() -> dict[str, Tensor]:
    shapes = {f"bert.{name}": shape for name, shape in bert_shapes(TEXT).items()}
    for number, label in enumerate(LABELS):
        num_classes = 2 if label == "No Finding" else 4
        shapes |= {
            f"linear_heads.{number}.weight": (num_classes, TEXT.width),
            f"linear_heads.{number}.bias": (num_classes,),
        }
    return random_state(shapes)


def contents(state: dict[str, Tensor]) -> TorchContents:
    return TorchContents({f"model_state_dict.module.{name}": value for name, value in state.items()}, {}, {})


@torch.inference_mode()
def test_labels_are_those_of_the_published_model() -> None:
    state = published()
    stage = read_chexbert(contents(state), bert_tokenizer(WORDS, lower_case=True))
    labeler = ReportLabeler(
        stage.module.eval(), PublishedTokenizer(stage.files["tokenizer.json"], "bert"), stage.config["licence"]
    )
    rng = torch.Generator().manual_seed(3)
    rows = [torch.randint(0, 296, (num,), generator=rng).tolist() for num in (3, 12, 1, 30, 7, 60)]
    texts = ["  ".join(f"Word{number}\n" for number in row) for row in rows]
    found = labeler.label_reports([*texts, " "])
    seen = set()
    for row, values in zip(rows, found, strict=False):
        # a report longer than the 40 positions loses its end, not its end mark
        ids = torch.tensor([[2, *(number + 4 for number in row[:38]), 3]])
        first = bert_states(below(state, "bert"), ids, torch.ones_like(ids), TEXT.num_layers)[:, 0]
        logits = [
            first @ state[f"linear_heads.{number}.weight"].T + state[f"linear_heads.{number}.bias"]
            for number in range(14)
        ]
        assert list(values.values()) == [VALUES[int(scores.argmax())] for scores in logits]
        mask = torch.ones_like(ids)
        for ours, theirs in zip(stage.module(ids, mask), logits, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
        seen |= set(values.values())
    assert seen == set(VALUES)
    assert found[-1] == dict.fromkeys(LABELS)
    assert list(found[0]) == list(LABELS)


def test_both_label_maps_read_the_same_values() -> None:
    blank = dict.fromkeys(LABELS)
    candidate = {**blank, "Edema": -1, "Atelectasis": 1, "Fracture": 0}
    reference = {**blank, "Edema": 1, "Atelectasis": 1}
    figures = score_labels([candidate], [reference])
    # micro: uncertain edema counts as positive; example-based: it does not
    assert figures["clinical/micro5_f1"] == 1.0
    assert figures["clinical/example14_recall"] == 0.5
    assert figures["clinical/example14_precision"] == 1.0


def test_keys_are_strict_but_for_positions_and_pooler() -> None:
    state = published()
    report = read_chexbert(contents(state)).key_report
    assert report["dropped"] == ["bert.embeddings.position_ids", "bert.pooler.dense.bias", "bert.pooler.dense.weight"]
    assert sorted([*report["taken"].values(), *report["dropped"]]) == sorted(state)
    without = {name: value for name, value in state.items() if name != "linear_heads.13.bias"}
    with pytest.raises(ModelError, match="1 missing"):
        read_chexbert(contents(without))
    with pytest.raises(ModelError, match="1 unknown"):
        read_chexbert(contents({**state, "linear_heads.14.bias": torch.zeros(4)}))
    with pytest.raises(ModelError, match="not the published layout"):
        read_chexbert(TorchContents({}, {}, {}))
    wider = {**state, "bert.embeddings.word_embeddings.weight": torch.zeros(301, TEXT.width)}
    with pytest.raises(ModelError, match=r"300 tokens, the network 301; give .* --tokenizer"):
        read_chexbert(contents(wider), bert_tokenizer(WORDS, lower_case=True))
    with pytest.raises(ModelError, match="import it again with --tokenizer"):
        ReportLabeler.from_files({}, {}, torch.device("cpu"))
