"""CheXbert: a report to a class per label.

Knows tensors only; texts and label values are ``crrg.inference.report_labeler``'s concern.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from crrg.config.report_models import ReportLabelerArchitecture
from crrg.domain.labels import FINDINGS, LABELS
from crrg.models.bert import build_bert
from crrg.models.weights import load_network

NUM_FINDING_CLASSES = 4
"""Blank, positive, negative, uncertain."""
NUM_NO_FINDING_CLASSES = 2
"""Blank, positive."""


class ReportClassifier(nn.Module):
    """BERT, and one linear head per label on the state of its first token.

    Attributes:
        architecture: Sizes.

    Source: CheXbert (Smit et al., EMNLP 2020).
    """

    def __init__(self, architecture: ReportLabelerArchitecture) -> None:
        """Build the network with random weights."""
        super().__init__()
        self.architecture = architecture
        self.bert = build_bert(architecture)
        self.heads = nn.ModuleList(
            nn.Linear(architecture.hidden_size, NUM_FINDING_CLASSES if label in FINDINGS else NUM_NO_FINDING_CLASSES)
            for label in LABELS
        )

    def forward(self, token_ids: Tensor, attention_mask: Tensor) -> list[Tensor]:
        """Return one tensor of logits per label, ``[B, 4]``; ``[B, 2]`` for "No Finding", the last.

        Args:
            token_ids: ``[B, L]``.
            attention_mask: 1 on tokens, 0 on padding, ``[B, L]``.
        """
        states = self.bert(input_ids=token_ids, attention_mask=attention_mask).last_hidden_state
        return [head(states[:, 0]) for head in self.heads]


def load_report_classifier(config: Mapping[str, Any], tensors: bytes, device: torch.device) -> ReportClassifier:
    """Build the network from its ``config.json`` and ``model.safetensors``, ready for inference.

    Raises:
        ModelError: The architecture is not valid, or the tensors do not fit it.
    """
    return load_network(ReportClassifier, ReportLabelerArchitecture, config, tensors, "chexbert", device)
