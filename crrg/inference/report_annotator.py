"""RadGraph as a reader of reports, where its weights and vocabulary are given: texts to graphs.

A report is read alone, as published, so that its graph depends on no other; equal texts are read once. Figures are
``crrg.evaluation.radgraph``'s.

Source: RadGraph (Jain et al., 2021) and RadGraph-XL (Delbrouck et al., Findings of ACL 2024), by the radgraph package,
version 0.1.18. No line of its code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from crrg.data.published_tokenizers import PublishedTokenizer
from crrg.data.reports.report_words import report_words
from crrg.domain.report_graph import Entity, ReportGraph
from crrg.models.report_graph import GraphScores, ReportGraphNetwork, load_report_graph_network

_READ_AS = {"/.": ".", "/?": "?"}
"""Words that DyGIE++ reads as another; they keep their own letters in an entity."""


@dataclass(frozen=True)
class ReportAnnotator:
    """An imported RadGraph, ready to read reports.

    Attributes:
        model: The network.
        tokenizer: Its vocabulary.
        licence: What may be done with its weights.
    """

    model: ReportGraphNetwork
    tokenizer: PublishedTokenizer
    licence: str

    @classmethod
    def from_files(cls, config: Mapping[str, Any], files: Mapping[str, bytes], device: torch.device) -> ReportAnnotator:
        """Build the reader from what ``crrg import radgraph`` wrote.

        Raises:
            ModelError: A part does not fit, or no vocabulary was given when it was imported.
        """
        tokenizer = PublishedTokenizer.of_reports(files, "radgraph", "vocab.txt of the BERT that its config.json names")
        return cls(
            load_report_graph_network(config, files["model.safetensors"], device),
            tokenizer,
            str(config["licence"]),
        )

    def annotate(self, texts: Sequence[str]) -> list[ReportGraph]:
        """Return the graph of each text; an empty text has no entity. A text of any length is read whole."""
        graphs = {text: self._read(text) for text in dict.fromkeys(texts)}
        return [graphs[text] for text in texts]

    @torch.inference_mode()
    def _read(self, text: str) -> ReportGraph:
        words = report_words(text, self.model.architecture.words)
        pieces = [self.tokenizer.piece_ids(_READ_AS.get(word, word)) for word in words]
        token_ids = [number for ids in pieces for number in ids]
        if not token_ids:
            return ReportGraph()
        device = next(self.model.parameters()).device
        segments, mask = self._segments(token_ids)
        num_pieces = torch.tensor([len(ids) for ids in pieces])
        return self._graph(words, self.model(segments.to(device), mask.to(device), num_pieces.to(device)))

    def _segments(self, token_ids: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return a report's tokens cut into segments between marks ``[N, L]``, even inside a word, and their mask."""
        room = self.model.architecture.segment_length - 2
        start, end = self.tokenizer.start_id, self.tokenizer.end_id
        rows = [[start, *token_ids[first : first + room], end] for first in range(0, len(token_ids), room)]
        length = len(rows[0])
        lengths = torch.tensor([len(row) for row in rows])
        padded = torch.tensor([row + [end] * (length - len(row)) for row in rows])
        return padded, (torch.arange(length)[None, :] < lengths[:, None]).long()

    def _graph(self, words: Sequence[str], scores: GraphScores) -> ReportGraph:
        """Return the likeliest entities and the likeliest relations between them."""
        architecture = self.model.architecture
        spans = [(int(first), int(last)) for first, last in scores.spans.tolist()]
        found = scores.entities.argmax(dim=1).tolist()
        named = {span: architecture.entity_labels[label - 1] for span, label in zip(spans, found, strict=True) if label}
        places = {span: place for place, span in enumerate(named)}
        kept = [spans[number] for number in scores.kept.tolist()]
        kinds = scores.relations.argmax(dim=-1)
        leaving: dict[tuple[int, int], list[tuple[str, int]]] = {span: [] for span in named}
        for one, other in kinds.nonzero().tolist():
            if kept[one] in places and kept[other] in places:
                kind = architecture.relation_labels[int(kinds[one, other]) - 1]
                leaving[kept[one]].append((kind, places[kept[other]]))
        return ReportGraph(
            tuple(
                Entity(" ".join(words[first : last + 1]), label, first, last, tuple(leaving[first, last]))
                for (first, last), label in named.items()
            )
        )
