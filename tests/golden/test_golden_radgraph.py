"""RadGraph's published layout on random weights: our reader's scores and graphs are those of its own forward pass."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks.classification.published_graph import (
    RADGRAPH_XL,
    GraphSizes,
    Span,
    graph_labels,
    graph_settings,
    graph_state,
    published_scores,
)
from crrg.data.published_tokenizers import PublishedTokenizer, bert_tokenizer
from crrg.domain.report_graph import Entity, ReportGraph
from crrg.errors import ModelError
from crrg.importers.radgraph import read_radgraph
from crrg.importers.radgraph_archive import GraphArchive
from crrg.importers.torch_file import TorchContents
from crrg.inference.report_annotator import ReportAnnotator
from tests.support.published_radgraph import graph_archive

SIZES = GraphSizes()
KNOWN = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "no",
    "small",
    "left",
    "pneumo",
    "##thorax",
    "effusion",
    ".",
    "/",
    "-",
    "(",
    ")",
]
WORDS = [*KNOWN, *(f"[unused{number}]" for number in range(300 - len(KNOWN)))]
IDS = {word: number for number, word in enumerate(WORDS)}
REPORTS: tuple[tuple[str, list[tuple[str, list[str]]]], ...] = (
    ("No", [("No", ["no"])]),
    (
        "No pneumothorax.\nSmall left-left effusion(left/no)",
        [
            ("No", ["no"]), ("pneumothorax", ["pneumo", "##thorax"]), (".", ["."]), ("Small", ["small"]),
            ("left-left", ["left", "-", "left"]), ("effusion", ["effusion"]), ("(", ["("]), ("left", ["left"]),
            ("/", ["/"]), ("no", ["no"]), (")", [")"]),
        ],
    ),
    # a word of which nothing is left, and one that is not known
    ("small \u200b qqq left", [("small", ["small"]), ("\u200b", []), ("qqq", ["[UNK]"]), ("left", ["left"])]),
    # longer than two segments, cut inside words
    (
        " ".join(["small Pneumothorax effusion"] * 9),
        [("small", ["small"]), ("Pneumothorax", ["pneumo", "##thorax"]), ("effusion", ["effusion"])] * 9,
    ),
)  # fmt: skip


def annotator(sizes: GraphSizes, state: dict[str, torch.Tensor]) -> ReportAnnotator:
    stage = read_radgraph(graph_archive(sizes, state), bert_tokenizer(WORDS, lower_case=True))
    tokenizer = PublishedTokenizer(stage.files["tokenizer.json"], "bert")
    return ReportAnnotator(stage.module.eval(), tokenizer, stage.config["licence"])


def segments_of(words: list[tuple[str, list[str]]], length: int) -> list[list[int]]:
    ids = [IDS[piece] for _, pieces in words for piece in pieces]
    return [[2, *ids[first : first + length - 2], 3] for first in range(0, len(ids), length - 2)]


def published_graph(
    state: dict[str, torch.Tensor], sizes: GraphSizes, words: list[tuple[str, list[str]]]
) -> ReportGraph:
    counts = [len(pieces) for _, pieces in words]
    entities, relations = published_scores(state, sizes, segments_of(words, sizes.segment_length), counts)
    named: dict[Span, str] = {}
    for span, scores in entities.items():
        if int(scores.argmax()):
            named[span] = sizes.entities[int(scores.argmax()) - 1]
    order = list(named)
    found = []
    for span, label in named.items():
        leaving = [
            (sizes.relations[int(scores.argmax()) - 1], order.index(other))
            for (one, other), scores in relations.items()
            if one == span and other in named and int(scores.argmax())
        ]
        text = " ".join(word for word, _ in words[span[0] : span[1] + 1])
        found.append(Entity(text, label, span[0], span[1], tuple(leaving)))
    return ReportGraph(tuple(found))


@torch.inference_mode()
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_graphs_are_those_of_the_published_model(seed: int) -> None:
    state = graph_state(SIZES, seed)
    ours = annotator(SIZES, state)
    graphs = ours.annotate([text for text, _ in REPORTS])
    assert graphs == [published_graph(state, SIZES, words) for _, words in REPORTS]
    named = [entity for graph in graphs for entity in graph.entities]
    spans = sum(3 * len(words) - 3 for _, words in REPORTS[1:]) + 1
    # the comparison says something: some spans are entities and some are not, some are related and some are not
    assert 0 < len(named) < spans
    assert 0 < sum(bool(entity.relations) for entity in named) < len(named)


@torch.inference_mode()
def test_scores_are_those_of_the_published_model() -> None:
    state = graph_state(SIZES)
    ours = annotator(SIZES, state)
    for _, words in REPORTS:
        counts = [len(pieces) for _, pieces in words]
        segments = segments_of(words, SIZES.segment_length)
        entities, relations = published_scores(state, SIZES, segments, counts)
        ids, mask = ours._segments([number for segment in segments for number in segment[1:-1]])
        assert [row[: int(told.sum())].tolist() for row, told in zip(ids, mask, strict=True)] == segments
        found = ours.model(ids, mask, torch.tensor(counts))
        assert [tuple(span) for span in found.spans.tolist()] == list(entities)
        torch.testing.assert_close(found.entities, torch.stack(list(entities.values())), rtol=0, atol=1e-4)
        kept = [tuple(found.spans[number].tolist()) for number in found.kept]
        assert [(one, other) for one in kept for other in kept] == list(relations)
        torch.testing.assert_close(
            found.relations.flatten(0, 1), torch.stack(list(relations.values())), rtol=0, atol=1e-4
        )


def test_a_report_reads_the_same_alone_and_among_others_and_an_empty_one_says_nothing() -> None:
    ours = annotator(SIZES, graph_state(SIZES))
    texts = [text for text, _ in REPORTS]
    together = ours.annotate(["", *texts, " \n", texts[1], "\u200b"])
    assert together[1:5] == [ours.annotate([text])[0] for text in texts]
    assert together[0] == together[5] == together[7] == ReportGraph()
    assert together[6] == together[2] != ReportGraph()


def test_words_that_dygie_reads_as_others_keep_their_letters_in_entities() -> None:
    sizes = replace(SIZES, entities=RADGRAPH_XL)
    state = graph_state(sizes)
    ours = annotator(sizes, state)
    assert ours.model.architecture.words == "radgraph-xl"
    # "/." is one word of RadGraph-XL, read as "."
    words = [("small", ["small"]), ("/.", ["."]), ("left", ["left"]), ("-", ["-"]), ("left", ["left"])]
    (graph,) = ours.annotate(["small/. left-left"])
    assert graph == published_graph(state, sizes, words)
    assert any("/." in entity.words for entity in graph.entities)


def test_keys_are_strict_but_for_what_radgraph_does_not_use() -> None:
    state = graph_state(SIZES)
    report = read_radgraph(graph_archive(SIZES, state)).key_report
    assert all(name.startswith(("_coref", "_events")) or "pooler" in name or "position_ids" in name
               for name in report["dropped"])  # fmt: skip
    assert sorted([*report["taken"].values(), *report["dropped"]]) == sorted(state)
    names = "_relation._relation_scorers.radgraph__relation_labels.bias"
    with pytest.raises(ModelError, match="1 missing"):
        read_radgraph(graph_archive(SIZES, {name: value for name, value in state.items() if name != names}))
    with pytest.raises(ModelError, match="1 unknown"):
        read_radgraph(
            graph_archive(SIZES, {**state, "_ner._ner_scorers.radgraph__ner_labels.2._module.bias": torch.ones(1)})
        )
    with pytest.raises(ModelError, match="1 of another shape"):
        read_radgraph(graph_archive(SIZES, {**state, names: torch.zeros(9)}))
    with pytest.raises(ModelError, match="heads for 0 sets of labels"):
        read_radgraph(graph_archive(SIZES, {}))
    wider = replace(SIZES, text=replace(SIZES.text, vocab_size=301))
    with pytest.raises(ModelError, match="300 tokens, the network 301; give the one of a/bert"):
        read_radgraph(graph_archive(wider, graph_state(wider)), bert_tokenizer(WORDS, lower_case=True))
    with pytest.raises(ModelError, match="import it again with --tokenizer"):
        ReportAnnotator.from_files({}, {}, torch.device("cpu"))


def test_heads_of_further_data_are_left_out_and_the_first_model_names_its_data_none() -> None:
    unnamed = replace(SIZES, dataset="None")
    assert read_radgraph(graph_archive(unnamed, graph_state(unnamed))).key_report["own"] == []
    other = {name: value for name, value in graph_state(replace(SIZES, dataset="ace")).items() if "ace__" in name}
    report = read_radgraph(graph_archive(SIZES, {**graph_state(SIZES), **other})).key_report
    assert set(other) <= set(report["dropped"])
    with pytest.raises(ModelError, match="heads for 2 sets of labels"):
        read_radgraph(graph_archive(unnamed, {**graph_state(unnamed), **other}))


def test_settings_that_contradict_the_tensors_or_another_way_of_reading_are_refused() -> None:
    state = graph_state(SIZES)
    for change, message in (
        ({"max_span_width": 4}, "max_span_width is 4, and 3 is expected"),
        ({"segment_length": 41}, "fit no such network"),
        ({"entities": ("Person", "Place", "Thing", "Other")}, "neither RadGraph's nor RadGraph-XL's"),
        ({"entities": SIZES.entities[:3]}, "of another shape"),
    ):
        sizes = replace(SIZES, **change)
        with pytest.raises(ModelError, match=message):
            read_radgraph(graph_archive(sizes, state))
    settings = graph_settings(SIZES)
    settings["model"]["modules"]["coref"]["coref_prop"] = 2
    with pytest.raises(ModelError, match="coref_prop is 2, and 0 is expected"):
        read_radgraph(GraphArchive(settings, graph_labels(SIZES), TorchContents(state, {}, {})))
    settings = graph_settings(SIZES)
    settings["model"]["loss_weights"]["relation"] = 0.0
    with pytest.raises(ModelError, match="not trained for relation"):
        read_radgraph(GraphArchive(settings, graph_labels(SIZES), TorchContents(state, {}, {})))
    labels = {"radgraph__ner_labels": ["", *SIZES.entities]}
    with pytest.raises(ModelError, match=r"holds no vocabulary/radgraph__relation_labels\.txt"):
        read_radgraph(GraphArchive(graph_settings(SIZES), labels, TorchContents(state, {}, {})))
