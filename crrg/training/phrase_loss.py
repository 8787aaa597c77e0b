"""The generator's loss: the cross-entropy of the next token of a region's phrase."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy

from crrg.models.report_generator import ReportGenerator
from crrg.training.counted_loss import CountedLoss
from crrg.training.phrase_batches import IGNORED, PhraseBatch


def token_loss(model: ReportGenerator) -> CountedLoss[PhraseBatch]:
    """Return the loss of a batch on any device; every token of a step counts as much, whichever batch it is in."""
    return CountedLoss(
        lambda batch: {"words": phrase_loss(model, batch.to(model.feature_mean.device))},
        lambda batch: {"words": (batch.targets != IGNORED).sum()},
    )


def phrase_loss(model: ReportGenerator, batch: PhraseBatch, *, reduction: str = "mean") -> Tensor:
    """Return the cross-entropy of the next token, over all tokens that are not padding: a scalar, or ``[B * L]``."""
    condition = model.encode_condition(
        batch.features,
        batch.region_index,
        batch.finding_flags,
        report_flags=batch.report_flags,
        is_flagged=batch.is_flagged,
        is_seen=batch.is_seen,
    )
    logits = model(batch.token_ids, condition)
    return cross_entropy(
        logits.flatten(0, 1).float(), batch.targets.flatten(), ignore_index=IGNORED, reduction=reduction
    )
