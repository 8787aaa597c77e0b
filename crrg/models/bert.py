"""BERT as the networks that read reports have it.

Knows tensors only; the text tower of CLIP, with its own sizes and dropout, is in ``text_towers``.
"""

from __future__ import annotations

from typing import Any

from transformers import BertConfig, BertModel

from crrg.config.report_models import ReportEncoderArchitecture


def build_bert(architecture: ReportEncoderArchitecture, **further: Any) -> BertModel:
    """Return BERT with random weights, without the layer over its first token.

    Args:
        architecture: Sizes.
        further: Settings of ``BertConfig`` beside them; ``intermediate_size`` is 4 times the width by default.
    """
    sizes = {"intermediate_size": 4 * architecture.hidden_size, **further}
    config = BertConfig(
        vocab_size=architecture.vocab_size,
        hidden_size=architecture.hidden_size,
        num_hidden_layers=architecture.num_layers,
        num_attention_heads=architecture.num_heads,
        max_position_embeddings=architecture.num_positions,
        type_vocab_size=architecture.num_types,
        **sizes,
    )
    return BertModel(config, add_pooling_layer=False)
