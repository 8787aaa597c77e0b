"""Condition encoders and decoder together: a region's feature, name and findings in, phrase logits out.

Knows tensors only: which token ids spell which words is the tokenizer's (``crrg.data.tokenizer``), how the best phrase
is searched is ``crrg.inference.decoding``'s.

Letters: ``N`` phrases, ``F`` region feature, ``C`` condition tokens, ``L`` word tokens, ``D`` width, ``V`` vocabulary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from crrg.config.models import GeneratorArchitecture
from crrg.errors import ModelError
from crrg.models.decoder import PseudoSelfAttentionDecoder
from crrg.models.prepared import Prepared
from crrg.models.rounded import fast_decoder
from crrg.models.step_graphs import StepGraphs


class ReportGenerator(nn.Module):
    """Words a region: its feature, which region it is, and which findings it should speak of.

    The paper conditions on the feature alone (``C`` = 1). With ``condition_on_findings`` there are three condition
    tokens: feature, region, and flags (14 findings and abnormality); with ``condition_on_report`` a fourth, of the
    other regions that the same report speaks of, and their flags. What is unknown is replaced by a learned vector.
    """

    feature_mean: Tensor
    feature_scale: Tensor

    def __init__(self, architecture: GeneratorArchitecture) -> None:
        """Build from configuration, with random weights."""
        super().__init__()
        self.architecture = architecture
        width = architecture.hidden_size
        self.register_buffer("feature_mean", torch.zeros(architecture.feature_size))
        self.register_buffer("feature_scale", torch.ones(architecture.feature_size))
        self.feature_space_transformation = nn.Sequential(
            nn.Linear(architecture.feature_size, width), nn.ReLU(), nn.Linear(width, width)
        )
        self.unknown_feature = nn.Parameter(torch.randn(width) * 0.02)
        if architecture.condition_on_findings:
            self.region_embedding = nn.Embedding(architecture.num_regions, width)
            self.flag_encoder = nn.Sequential(
                nn.Linear(architecture.num_labels + 1, width), nn.ReLU(), nn.Linear(width, width)
            )
            self.unknown_region = nn.Parameter(torch.randn(width) * 0.02)
            self.unknown_flags = nn.Parameter(torch.randn(width) * 0.02)
        if architecture.condition_on_report:
            # per region its flags, and whether the report speaks of it
            size, hidden = architecture.num_regions * (architecture.num_labels + 2), width // 2
            self.report_encoder = nn.Sequential(nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, width))
            self.unknown_report = nn.Parameter(torch.randn(width) * 0.02)
        self.decoder = PseudoSelfAttentionDecoder(architecture)
        self.is_rounded = False
        self._fast_decoder: Prepared[PseudoSelfAttentionDecoder] = Prepared()
        self._step_graphs: Prepared[StepGraphs] = Prepared()

    def fit_feature_scale(self, features: Tensor) -> None:
        """Store mean and spread of the training features ``[N, F]``, by which all features are standardised."""
        self.feature_mean.copy_(features.mean(dim=0))
        self.feature_scale.copy_(features.std(dim=0, correction=0).clamp_min(1e-6))

    def encode_condition(
        self,
        features: Tensor,
        region_index: Tensor,
        finding_flags: Tensor,
        *,
        report_flags: Tensor | None = None,
        is_flagged: Tensor | None = None,
        is_seen: Tensor | None = None,
    ) -> Tensor:
        """Return the condition tokens of phrases.

        Args:
            features: Region features ``[N, F]``.
            region_index: Which region, int64 ``[N]``, 0..28.
            finding_flags: 14 findings and abnormality, ``[N, 15]`` in 0..1; 1/2 = uncertain.
            report_flags: The same of every region that the row's report speaks of, ``[N, 29, 15]``, NaN for the others;
                nothing is known of the report where all are NaN, or where not given. The row's own region is left out.
            is_flagged: Whether a row's flags are known, those of its report with them, bool ``[N]``; all where not
                given.
            is_seen: Whether there is a film behind a row, bool ``[N]``; all where not given.

        Returns:
            ``[N, C, D]``.
        """
        standardised = (features - self.feature_mean) / self.feature_scale
        tokens: list[tuple[Tensor, Tensor, Tensor | None]] = [
            (self.feature_space_transformation(standardised), self.unknown_feature, is_seen)
        ]
        if self.architecture.condition_on_findings:
            known_flags = is_seen if is_flagged is None else is_flagged if is_seen is None else is_flagged & is_seen
            tokens.append((self.region_embedding(region_index), self.unknown_region, is_seen))
            tokens.append((self.flag_encoder(finding_flags), self.unknown_flags, known_flags))
            if self.architecture.condition_on_report:
                tokens.append(self._report_token(region_index, report_flags, known_flags))
        return torch.stack(
            [token if known is None else torch.where(known[:, None], token, other) for token, other, known in tokens],
            dim=1,
        )

    def _report_token(
        self, region_index: Tensor, report_flags: Tensor | None, known_flags: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the token ``[N, D]`` of the rest of each row's report, what replaces it, and where it is known."""
        if report_flags is None:
            return self.unknown_report.expand(len(region_index), -1), self.unknown_report, None
        is_told = torch.isfinite(report_flags[..., :1])
        is_known = is_told.flatten(1).any(dim=1)
        others = is_told.scatter(1, region_index[:, None, None], False)
        flags = torch.where(others, report_flags, 0.0)
        token: Tensor = self.report_encoder(torch.cat([flags, others.to(flags.dtype)], dim=2).flatten(1))
        return token, self.unknown_report, is_known if known_flags is None else is_known & known_flags

    def decoder_for(self, precision: Literal["exact", "fast"]) -> PseudoSelfAttentionDecoder:
        """Return the decoder, or a copy with rounded weights that is made once until the weights change.

        Raises:
            ModelError: The exact weights were given up.
        """
        if precision == "exact" and self.is_rounded:
            raise ModelError("only its rounded weights are kept; read the bundle again", "generator")
        if precision == "exact" or self.is_rounded:
            return self.decoder
        return self._fast_decoder.get(self.decoder.parameters(), lambda: fast_decoder(self.decoder))

    def keep_rounded(self) -> None:
        """Give up the exact weights for rounded ones, which take a quarter of the memory; on a CPU, for inference."""
        if not self.is_rounded:
            self.decoder, self._fast_decoder = self.decoder_for("fast"), Prepared()
            self.is_rounded = True

    def step_graphs_for(self, precision: Literal["exact", "fast"]) -> StepGraphs | None:
        """Return what replays recorded steps of ``decoder_for(precision)``: of the fast one on a GPU, else nothing."""
        if precision == "exact" or self.feature_mean.device.type != "cuda":
            return None
        return self._step_graphs.get(self.decoder.parameters(), lambda: StepGraphs(self.decoder_for(precision)))

    def forward(self, token_ids: Tensor, condition: Tensor) -> Tensor:
        """Return next-token logits ``[N, L, V]`` of phrases ``[N, L]`` under conditions ``[N, C, D]``."""
        return self.decoder(token_ids, condition)


def load_generator(
    config: Mapping[str, Any], tensors: bytes, tokenizer: bytes, device: torch.device | str = "cpu"
) -> ReportGenerator:
    """Load a trained generator, ready to draft.

    Args:
        config: The stage's ``config.json``: ``architecture`` and ``tokenizer_sha256``.
        tensors: Bytes of ``model.safetensors``.
        tokenizer: Bytes of ``tokenizer.json`` that are going to spell its tokens.
        device: Where to put it.

    Raises:
        ModelError: The weights do not fit the architecture, or the vocabulary is another one.
    """
    found, recorded = hashlib.sha256(tokenizer).hexdigest(), str(config.get("tokenizer_sha256"))
    if found != recorded:
        raise ModelError(
            f"the tokenizer's sha256 is {found[:12]}…, the generator was trained with {recorded[:12]}…; "
            "take both files from one bundle",
            "generator",
        )
    try:
        model = ReportGenerator(GeneratorArchitecture.model_validate(config.get("architecture")))
        model.load_state_dict(load(tensors))
    except (ValidationError, SafetensorError, RuntimeError) as error:
        raise ModelError(
            f"weights and config.json do not fit ({type(error).__name__}); restore the stage's folder or train again",
            "generator",
        ) from error
    return model.to(device).eval()
