"""A small RadGraph on random weights, as published and as imported, without a file in between."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from benchmarks.classification.published_graph import GraphSizes, graph_labels, graph_settings, graph_state
from crrg.data.published_tokenizers import bert_tokenizer
from crrg.importers.imported import write_import
from crrg.importers.radgraph import read_radgraph
from crrg.importers.radgraph_archive import GraphArchive
from crrg.importers.torch_file import TorchContents


def graph_archive(sizes: GraphSizes, state: dict[str, Tensor]) -> GraphArchive:
    return GraphArchive(graph_settings(sizes), graph_labels(sizes), TorchContents(state, {}, {}))


def write_radgraph(out: Path, words: Sequence[str]) -> Path:
    """Write what ``crrg import radgraph`` would, with a vocabulary of 300 words."""
    sizes = GraphSizes()
    stage = read_radgraph(graph_archive(sizes, graph_state(sizes)), bert_tokenizer(list(words), lower_case=True))
    write_import([stage], out, "radgraph", "as published")
    return out
