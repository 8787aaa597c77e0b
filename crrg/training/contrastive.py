"""Contrastive losses between the views and the texts of studies.

All features are of length 1. ``matches [B, B]`` says which rows belong together: the identity, and more where texts
repeat, so that an equal text is never pushed away. Knows no networks: what is encoded, and how, is in
``clip_encoding``.

Source: MVS, ICL and TCL of CXR-CLIP (You et al., MICCAI 2023); the sigmoid loss of SigLIP (Zhai et al., ICCV 2023).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from crrg.config.contrast import ContrastConfig
from crrg.training.ranks import gather_rows

PairLoss = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class StudyFeatures:
    """What the towers make of the studies of a batch.

    Attributes:
        views: Features ``[B, D]`` of each view.
        texts: Features ``[B, D]`` of each text.
        study_ids: int64 ``[B]``, equal where films belong to one study, or a study was drawn twice.
        text_ids: int64 ``[T, B]``, equal where texts are the same sentences.
        source_ids: int64 ``[T, B]``, equal where texts were drawn from reports of the same sentences.
        has_text: bool ``[B]``: which studies say anything; the others stand in no term with a text.
    """

    views: tuple[Tensor, ...]
    texts: tuple[Tensor, ...]
    study_ids: Tensor
    text_ids: Tensor
    source_ids: Tensor
    has_text: Tensor

    def across_ranks(self) -> StudyFeatures:
        """Return the studies of all ranks, in the order of the ranks; gradients find their way back."""
        return StudyFeatures(
            views=tuple(gather_rows(view) for view in self.views),
            texts=tuple(gather_rows(text) for text in self.texts),
            study_ids=gather_rows(self.study_ids),
            text_ids=gather_rows(self.text_ids.T).T,
            source_ids=gather_rows(self.source_ids.T).T,
            has_text=gather_rows(self.has_text),
        )

    def with_text(self) -> StudyFeatures:
        """Return the studies that have a text."""
        kept = self.has_text
        return StudyFeatures(
            views=tuple(view[kept] for view in self.views),
            texts=tuple(text[kept] for text in self.texts),
            study_ids=self.study_ids[kept],
            text_ids=self.text_ids[:, kept],
            source_ids=self.source_ids[:, kept],
            has_text=kept[kept],
        )

    def same_texts(self, first: int, second: int) -> Tensor:
        """Return bool ``[B, B]``: where the first text of a row is true of the column that says the second one."""
        same_words = same_ids(self.text_ids[first], self.text_ids[second])
        return same_words | same_ids(self.source_ids[first], self.source_ids[second])


def contrast_parts(config: ContrastConfig) -> dict[str, str]:
    """Return what stage hashes say where targets are smoothed, which were once so in every term."""
    return {"smoothed": "mvs"} if config.label_smoothing else {}


def study_loss(features: StudyFeatures, scale: Tensor, bias: Tensor | None, config: ContrastConfig) -> Tensor:
    """Return MVS + ``view_weight`` ICL + ``text_weight`` TCL.

    MVS is the mean over every pairing of a view with a text, ICL compares the two views, TCL the two texts. Targets are
    smoothed in MVS alone, as published. With one view and one text it is the loss of plain CLIP. Every rank of a
    distributed run returns the loss over the studies of all ranks.

    Args:
        features: Of this rank's studies.
        scale: Inverse temperature.
        bias: Added to every similarity by the sigmoid loss, which needs it.
        config: Kind, weights, targets.

    Returns:
        A scalar; 0 where no study has a text.
    """
    if config.across_ranks:
        features = features.across_ranks()
    smoothed = _pair_loss(scale, bias, config, config.label_smoothing)
    loss = _pair_loss(scale, bias, config, 0.0)
    told = features.with_text()
    same = same_ids(told.study_ids, told.study_ids)
    with_texts = [
        smoothed(view, text, same | told.same_texts(number, number))
        for view in told.views
        for number, text in enumerate(told.texts)
    ]
    total = torch.stack(with_texts).mean()
    if config.view_weight:
        own = same_ids(features.study_ids, features.study_ids)
        total = total + config.view_weight * loss(features.views[0], features.views[1], own)
    if config.text_weight:
        crossed = same | told.same_texts(0, 1)
        total = total + config.text_weight * loss(told.texts[0], told.texts[1], crossed)
    return total


def _pair_loss(scale: Tensor, bias: Tensor | None, config: ContrastConfig, smoothing: float) -> PairLoss:
    def loss(first: Tensor, second: Tensor, matches: Tensor) -> Tensor:
        if not config.multi_positive:
            matches = torch.eye(len(first), device=first.device)
        if config.kind == "softmax":
            return contrastive_loss(first, second, scale, matches, label_smoothing=smoothing)
        if bias is None:
            raise ValueError("the sigmoid loss needs a bias; set architecture.logit_bias")
        return sigmoid_loss(first, second, scale, bias, matches, label_smoothing=smoothing)

    return loss


def same_ids(first: Tensor, second: Tensor) -> Tensor:
    """Return bool ``[B, C]``: where an id of ``first [B]`` (row) is one of ``second [C]`` (column)."""
    return first[:, None] == second[None, :]


def one_way_loss(
    queries: Tensor, keys: Tensor, scale: Tensor, matches: Tensor, *, label_smoothing: float = 0.0
) -> Tensor:
    """Return the mean cross-entropy of finding the right keys for each query.

    Args:
        queries: ``[B, D]``.
        keys: ``[C, D]``.
        scale: Inverse temperature.
        matches: ``[B, C]``, nonzero where a key (column) is right for a query (row); every row has at least one. The
            right keys of a query share its target equally.
        label_smoothing: Share of the target that all keys get alike.
    """
    shares = matches.float()
    shares = shares / shares.sum(dim=1, keepdim=True)
    if label_smoothing:
        shares = (1 - label_smoothing) * shares + label_smoothing / shares.shape[1]
    log_chances = functional.log_softmax(scale * queries @ keys.T, dim=1)
    return -(shares * log_chances).sum(dim=1).mean()


def contrastive_loss(
    first: Tensor, second: Tensor, scale: Tensor, matches: Tensor | None = None, *, label_smoothing: float = 0.0
) -> Tensor:
    """Return the symmetric contrastive loss of paired features.

    Args:
        first: ``[B, D]``.
        second: ``[B, D]``, row i belongs to row i of ``first``.
        scale: Inverse temperature.
        matches: ``[B, B]``, nonzero where row i of ``first`` and row j of ``second`` belong together; the identity
            where not given.
        label_smoothing: Share of each target that all candidates get alike.

    Returns:
        A scalar; 0 for no pair.
    """
    if not len(first):
        return (first.sum() + second.sum()) * 0.0
    if matches is None:
        matches = torch.eye(len(first), device=first.device)
    forth = one_way_loss(first, second, scale, matches, label_smoothing=label_smoothing)
    back = one_way_loss(second, first, scale, matches.T, label_smoothing=label_smoothing)
    return (forth + back) / 2


def sigmoid_loss(
    first: Tensor, second: Tensor, scale: Tensor, bias: Tensor, matches: Tensor, *, label_smoothing: float = 0.0
) -> Tensor:
    """Return the loss of telling for each of the ``B * B`` pairs whether it belongs together.

    Args:
        first: ``[B, D]``.
        second: ``[B, D]``.
        scale: Inverse temperature.
        bias: Added to every scaled similarity; starts low, since most pairs do not belong together.
        matches: ``[B, B]``, nonzero where row i of ``first`` and row j of ``second`` belong together.
        label_smoothing: Share of each target that goes to "yes" and "no" alike.

    Returns:
        The sum over all pairs by the number of rows; 0 for no pair.
    """
    if not len(first):
        return (first.sum() + second.sum()) * 0.0
    targets = (matches != 0).float() * (1 - label_smoothing) + label_smoothing / 2
    logits = scale * first @ second.T + bias
    return functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / len(first)
