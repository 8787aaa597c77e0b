"""RadGraph's published archive as it is laid out and as it runs, written down straight, on random weights of any size.

What the importer and our network are compared with: one report, one span and one pair at a time, over the published
names. Nothing here uses our network.

Source: DyGIE++ (Wadden et al., 2019) in allennlp's layout, as the radgraph package, version 0.1.18, reads it. No line
of its code.
"""

from __future__ import annotations

import io
import json
import math
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.classification.published import State, TextSizes, below, bert_states
from benchmarks.classification.published_files import Shapes, bert_shapes, random_state

BERT = "_embedder.token_embedder_bert._matched_embedder.transformer_model"
RADGRAPH = ("ANAT-DP", "OBS-DP", "OBS-U", "OBS-DA")
RADGRAPH_XL = ("Observation::definitely present", "Anatomy::definitely present", "Observation::uncertain")
RELATIONS = ("modify", "located_at", "suggestive_of")
Span = tuple[int, int]
_TEXT = TextSizes(width=64, num_layers=1)


@dataclass(frozen=True)
class GraphSizes:
    """Sizes of RadGraph; small by default."""

    text: TextSizes = _TEXT
    segment_length: int = 16
    max_span_width: int = 3
    width_size: int = 6
    hidden: int = 12
    spans_per_word: float = 0.5
    entities: tuple[str, ...] = RADGRAPH
    relations: tuple[str, ...] = RELATIONS
    dataset: str = "radgraph"


def graph_state(sizes: GraphSizes, seed: int = 0) -> dict[str, Tensor]:
    """Return random weights under the published names, the parts that nothing uses among them."""
    span = 2 * sizes.text.width + sizes.width_size
    names, pairs = f"{sizes.dataset}__ner_labels", f"{sizes.dataset}__relation_labels"
    scorer, pruner = f"_ner._ner_scorers.{names}", f"_relation._mention_pruners.{pairs}._scorer"
    shapes: Shapes = {
        **{f"{BERT}.{name}": shape for name, shape in bert_shapes(sizes.text).items()},
        "_endpoint_span_extractor._span_width_embedding.weight": (sizes.max_span_width, sizes.width_size),
        **_layers(f"{scorer}.0._module._linear_layers", span, sizes.hidden),
        **_linear(f"{scorer}.1._module", sizes.hidden, len(sizes.entities)),
        **_layers(f"{pruner}.0._module._linear_layers", span, sizes.hidden),
        **_linear(f"{pruner}.1._module", sizes.hidden, 1),
        **_layers(f"_relation._relation_feedforwards.{pairs}._linear_layers", 3 * span, sizes.hidden),
        **_linear(f"_relation._relation_scorers.{pairs}", sizes.hidden, len(sizes.relations)),
        "_coref._distance_embedding.weight": (10, sizes.width_size),
        **_linear("_coref._antecedent_scorer._module", sizes.hidden, 1),
        "_events._distance_embedding.weight": (10, sizes.width_size),
    }
    state = random_state(shapes, seed)
    state = {
        name: 2 * value if "_linear_layers" in name and value.dim() == 2 else value for name, value in state.items()
    }
    for head in (f"{scorer}.1._module", f"_relation._relation_scorers.{pairs}"):
        # so that some spans and pairs are nothing
        state[f"{head}.bias"] = state[f"{head}.bias"] - 0.5
    return state


def graph_settings(sizes: GraphSizes) -> dict[str, Any]:
    """Return the parts of the published ``config.json`` that decide how a report is read."""
    bert = {"max_length": sizes.segment_length, "model_name": "a/bert", "type": "pretrained_transformer_mismatched"}
    return {
        "dataset_reader": {"max_span_width": sizes.max_span_width, "token_indexers": {"bert": bert}, "type": "dygie"},
        "model": {
            "embedder": {"token_embedders": {"bert": bert}},
            "feature_size": sizes.width_size,
            "feedforward_params": {"dropout": 0.4, "hidden_dims": sizes.hidden, "num_layers": 2},
            "loss_weights": {"coref": 0.0, "events": 0.0, "ner": 0.2, "relation": 1.0},
            "max_span_width": sizes.max_span_width,
            "modules": {"coref": {"coref_prop": 0}, "relation": {"spans_per_word": sizes.spans_per_word}},
        },
    }


def graph_labels(sizes: GraphSizes) -> dict[str, list[str]]:
    """Return the published lists of labels, the empty one first of the entities."""
    return {
        f"{sizes.dataset}__ner_labels": ["", *sizes.entities],
        f"{sizes.dataset}__relation_labels": list(sizes.relations),
        "non_padded_namespaces": ["*labels", "*tags"],
    }


def save_graph_archive(sizes: GraphSizes, path: Path, state: Mapping[str, Tensor] | None = None) -> None:
    """Write ``model.tar.gz`` as allennlp does."""
    weights = io.BytesIO()
    torch.save(dict(state if state is not None else graph_state(sizes)), weights)
    files = {"config.json": json.dumps(graph_settings(sizes)).encode(), "weights.th": weights.getvalue()}
    for name, labels in graph_labels(sizes).items():
        files[f"vocabulary/{name}.txt"] = ("\n".join(labels) + "\n").encode()
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def published_scores(
    state: State, sizes: GraphSizes, segments: Sequence[Sequence[int]], pieces: Sequence[int]
) -> tuple[dict[Span, Tensor], dict[tuple[Span, Span], Tensor]]:
    """Score one report, straight.

    Args:
        state: Weights under the published names.
        sizes: Their sizes.
        segments: Token ids of each segment, marks included.
        pieces: Of how many tokens each word is made.

    Returns:
        Scores of "none" and of each entity by span, and of "none" and of each relation by pair of the spans kept.
    """
    bert = below(state, BERT)
    states: list[Tensor] = []
    for segment in segments:
        ids = torch.tensor([list(segment)])
        states += list(bert_states(bert, ids, torch.ones_like(ids), sizes.text.num_layers)[0, 1:-1])
    words = []
    for count in pieces:
        own, states = states[:count], states[count:]
        words.append(sum(own[1:], own[0]) / count if own else torch.zeros(sizes.text.width))
    names, pairs = f"{sizes.dataset}__ner_labels", f"{sizes.dataset}__relation_labels"
    widths = state["_endpoint_span_extractor._span_width_embedding.weight"]
    entities, mentions, seen = {}, {}, {}
    for first in range(len(words)):
        for last in range(first, min(first + sizes.max_span_width, len(words))):
            span = torch.cat([words[first], words[last], widths[last - first]])
            seen[first, last] = span
            hidden = _hidden(state, f"_ner._ner_scorers.{names}.0._module", span)
            entities[first, last] = _scores(state, f"_ner._ner_scorers.{names}.1._module", hidden)
            pruner = f"_relation._mention_pruners.{pairs}._scorer"
            hidden = _hidden(state, f"{pruner}.0._module", span)
            mentions[first, last] = _scores(state, f"{pruner}.1._module", hidden)[1]
    num_kept = math.ceil(np.float32(len(words)) * np.float32(sizes.spans_per_word))
    kept = sorted(sorted(mentions, key=lambda span: -float(mentions[span]))[:num_kept])
    relations = {}
    for one in kept:
        for other in kept:
            pair = torch.cat([seen[one], seen[other], seen[one] * seen[other]])
            hidden = _hidden(state, f"_relation._relation_feedforwards.{pairs}", pair)
            scores = _scores(state, f"_relation._relation_scorers.{pairs}", hidden)
            scores[1:] += mentions[one] + mentions[other]
            relations[one, other] = scores
    return entities, relations


def _hidden(state: State, name: str, values: Tensor) -> Tensor:
    for layer in (0, 1):
        place = f"{name}._linear_layers.{layer}"
        values = torch.relu(state[f"{place}.weight"] @ values + state[f"{place}.bias"])
    return values


def _scores(state: State, name: str, values: Tensor) -> Tensor:
    """Return the score 0 of "none" and a linear layer's."""
    return torch.cat([torch.zeros(1), state[f"{name}.weight"] @ values + state[f"{name}.bias"]])


def _layers(name: str, num_inputs: int, hidden: int) -> Shapes:
    return {**_linear(f"{name}.0", num_inputs, hidden), **_linear(f"{name}.1", hidden, hidden)}


def _linear(name: str, num_inputs: int, num_outputs: int) -> Shapes:
    return {f"{name}.weight": (num_outputs, num_inputs), f"{name}.bias": (num_outputs,)}
