"""CheXbert as a labeler of reports, beside the rule labeler, where its weights and vocabulary are given.

It gives label values; both families of figures that RGRG reports are ``crrg.evaluation.clinical``'s, which counts an
uncertain label as positive for the micro figures and as negative for the example-based ones, and a blank one as
negative for both.

Source: CheXbert (Smit et al., EMNLP 2020); its use in RGRG (Tanida et al., CVPR 2023).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from crrg.data.published_tokenizers import PublishedTokenizer
from crrg.domain.labels import LABELS, NEGATIVE, POSITIVE, UNCERTAIN
from crrg.inference.zero_shot import tokenize
from crrg.models.report_labeler import ReportClassifier, load_report_classifier

BATCH_SIZE = 16
CLASS_VALUES: tuple[int | None, ...] = (None, POSITIVE, NEGATIVE, UNCERTAIN)
"""Label value of each class: blank, positive, negative, uncertain; "No Finding" knows the first two."""


@dataclass(frozen=True)
class ReportLabeler:
    """An imported CheXbert, ready to read reports.

    Attributes:
        model: The network.
        tokenizer: Its vocabulary.
        licence: What may be done with its weights.
    """

    model: ReportClassifier
    tokenizer: PublishedTokenizer
    licence: str

    @classmethod
    def from_files(cls, config: Mapping[str, Any], files: Mapping[str, bytes], device: torch.device) -> ReportLabeler:
        """Build the labeler from what ``crrg import chexbert`` wrote.

        Raises:
            ModelError: A part does not fit, or no vocabulary was given when it was imported.
        """
        tokenizer = PublishedTokenizer.of_reports(files, "chexbert", "vocab.txt of bert-base-uncased")
        return cls(
            load_report_classifier(config, files["model.safetensors"], device),
            tokenizer,
            str(config["licence"]),
        )

    @torch.inference_mode()
    def label_reports(self, texts: Sequence[str]) -> list[dict[str, int | None]]:
        """Return the value of each of the 14 labels for each text: 1, 0, -1 uncertain, or ``None`` for blank.

        Args:
            texts: Reports; an empty one says nothing, so all its labels are blank. A longer one than the network reads
                loses its end.
        """
        values: list[dict[str, int | None]] = [dict.fromkeys(LABELS) for _ in texts]
        told = [row for row, text in enumerate(texts) if text.strip()]
        told.sort(key=lambda row: len(texts[row]))
        device = next(self.model.parameters()).device
        for first in range(0, len(told), BATCH_SIZE):
            rows = told[first : first + BATCH_SIZE]
            token_ids, mask = tokenize(
                self.tokenizer, [" ".join(texts[row].split()) for row in rows], self.model.architecture.num_positions
            )
            logits = self.model(token_ids.to(device), mask.to(device))
            for label, scores in zip(LABELS, logits, strict=True):
                for row, found in zip(rows, scores.argmax(dim=1).tolist(), strict=True):
                    values[row][label] = CLASS_VALUES[found]
        return values
