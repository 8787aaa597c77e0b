"""Architectures of imported networks that read reports: CheXbert, RadGraph, and encoders of sentences."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from crrg.config.base import FrozenConfig


class ReportEncoderArchitecture(FrozenConfig):
    """A published BERT that reads reports.

    Attributes:
        num_layers: Transformer blocks.
        num_heads: Attention heads.
        hidden_size: Width.
        vocab_size: Tokens of the vocabulary.
        num_positions: Length of the table of positions.
        num_types: Length of the table of segment types, of which only the first is used.
    """

    num_layers: int = Field(12, ge=1, le=48)
    num_heads: int = Field(12, ge=1, le=64)
    hidden_size: int = Field(768, ge=16, le=4096)
    vocab_size: int = Field(30522, ge=300, le=200_000)
    num_positions: int = Field(512, ge=8, le=4096)
    num_types: int = Field(2, ge=1, le=8)


class ReportLabelerArchitecture(ReportEncoderArchitecture):
    """CheXbert: BERT over a report of at most ``num_positions`` tokens, one head per label."""


class SentenceEncoderArchitecture(ReportEncoderArchitecture):
    """BERT over a sentence, of which its first ``num_layers`` blocks are kept.

    Attributes:
        feed_forward_size: Width inside a block's feed-forward layers.
        norm_epsilon: What normalisations add to a variance.
    """

    feed_forward_size: int = Field(3072, ge=16, le=16384)
    norm_epsilon: float = Field(1e-12, gt=0, le=1e-3)


class ReportGraphArchitecture(ReportEncoderArchitecture):
    """RadGraph: BERT over a report, heads that name spans of words and relate them.

    Attributes:
        segment_length: Tokens that BERT sees at once, its two marks among them; a longer report is read in pieces.
        max_span_width: Most words of an entity.
        width_size: Width of the embedding of a span's number of words.
        scorer_sizes: Width of each hidden layer of the heads.
        spans_per_word: Spans that may stand in a relation, per word of the report.
        entity_labels: What an entity may be, in the order of the head.
        relation_labels: What a relation may be, in the order of the head.
        words: How a report is cut into words.
    """

    segment_length: int = Field(512, ge=8, le=4096)
    max_span_width: int = Field(ge=1, le=64)
    width_size: int = Field(ge=1, le=1024)
    scorer_sizes: tuple[int, ...] = Field(min_length=1, max_length=8)
    spans_per_word: float = Field(gt=0, le=8)
    entity_labels: tuple[str, ...] = Field(min_length=1)
    relation_labels: tuple[str, ...] = Field(min_length=1)
    words: Literal["radgraph", "radgraph-xl"]

    @model_validator(mode="after")
    def _segments_have_positions(self) -> Self:
        if self.segment_length > self.num_positions:
            raise ValueError("segments are longer than the table of positions")
        return self
