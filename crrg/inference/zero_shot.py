"""Label probabilities without a label head: a film is compared with sentences that affirm and that deny a label.

Any label in words will do. A thousand films against a thousand prompts are one matrix product. Probabilities from
here are not calibrated; ``crrg.inference.calibration`` belongs to the label head.

Source: the prompt pairs of CheXzero (Tiu et al., 2022), with the trained temperature and ensembles of prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from crrg.data.published_tokenizers import text_tokenizer
from crrg.data.tokenizer import TextTokenizer
from crrg.domain.labels import FINDINGS, NO_FINDING, canonical_label
from crrg.errors import ModelError
from crrg.inference.prompts import PROMPTS_VERSION, PromptPair, asked_labels, open_prompts, pair_about, prompt_pair
from crrg.models.clip import ClipModel

LENGTH_STEP = 32
"""Texts are padded to a multiple of this many tokens."""
TILE_ROWS = 16


@dataclass(frozen=True)
class LabelAnswer:
    """What films say of a finding in words; none of it is calibrated.

    Attributes:
        probability: Present against absent, ``[B]`` in 0..1.
        uncertain: Share of the sentences that leave it open, beside those that affirm and deny it, ``[B]`` in 0..1;
            ``None`` for "No Finding", which follows from the others.
    """

    probability: Tensor
    uncertain: Tensor | None


def read_text_tokenizer(config: Mapping[str, Any], data: bytes) -> TextTokenizer:
    """Read the text tower's vocabulary, and check that its prompts are those that will be asked here.

    A stage without a recorded digest of its vocabulary is checked by the bundle's digest alone.

    Args:
        config: The stage's ``config.json``.
        data: Bytes of ``clip_tokenizer.json``.

    Raises:
        ModelError: It is another vocabulary, or there are other prompts here, than those that the stage was trained
            with.
    """
    trained = config.get("prompts_version", PROMPTS_VERSION)
    if trained != PROMPTS_VERSION:
        raise ModelError(
            f"the text tower learnt prompts of version {trained}, this program asks version {PROMPTS_VERSION}; use the "
            "program version that trained it, or retrain",
            "clip",
        )
    tokenizer = text_tokenizer(config, data)
    recorded = config.get("tokenizer_sha256", tokenizer.sha256)
    if tokenizer.sha256 != recorded:
        raise ModelError(
            f"the tokenizer's sha256 is {tokenizer.sha256[:12]}…, the text tower was trained with {recorded[:12]}…; "
            "take both files from one bundle",
            "clip",
        )
    return tokenizer


def tokenize(tokenizer: TextTokenizer, texts: Sequence[str], max_length: int) -> tuple[Tensor, Tensor]:
    """Turn texts into token ids and their mask, padded to the longest text of the batch.

    Args:
        tokenizer: The model's.
        texts: One or more texts; case does not matter.
        max_length: Tokens kept per text; the end mark is always the last of them.

    Returns:
        ``token_ids [B, L]`` and ``attention_mask [B, L]`` (1 token, 0 padding), int64.
    """
    end = tokenizer.end_id
    rows = [tokenizer.text_ids(text, max_length) for text in texts]
    longest = max(len(ids) for ids in rows)
    token_ids = torch.tensor([ids + [end] * (longest - len(ids)) for ids in rows])
    lengths = torch.tensor([len(ids) for ids in rows])
    return token_ids, (torch.arange(longest)[None, :] < lengths[:, None]).long()


@torch.inference_mode()
def encode_texts(model: ClipModel, tokenizer: TextTokenizer, texts: Sequence[str]) -> Tensor:
    """Embed texts, each in a tile of fixed shape, so that its numbers do not depend on its neighbours.

    Args:
        model: In ``eval`` mode.
        tokenizer: The model's.
        texts: Any number of texts.

    Returns:
        ``[N, D]`` of length 1, on the CPU; ``[0, D]`` for no text.
    """
    device = model.logit_scale.device
    longest = model.architecture.max_text_length
    features = torch.zeros(len(texts), model.architecture.projection_size)
    if not texts:
        return features
    token_ids, mask = tokenize(tokenizer, texts, longest)
    shapes = (mask.sum(dim=1) + LENGTH_STEP - 1) // LENGTH_STEP * LENGTH_STEP
    for length in shapes.unique().tolist():
        width = min(length, longest)
        for rows in torch.nonzero(shapes == length)[:, 0].split(TILE_ROWS):
            tile = rows[torch.arange(TILE_ROWS).clamp(max=len(rows) - 1)]
            parts = (
                functional.pad(part[tile, :width], (0, max(0, width - part.shape[1]))) for part in (token_ids, mask)
            )
            ids, is_token = (part.to(device) for part in parts)
            features[rows] = model.encode_text(ids, is_token)[: len(rows)].cpu()
    return features


def embed_prompts(model: ClipModel, tokenizer: TextTokenizer, pairs: Sequence[PromptPair]) -> Tensor:
    """Return ``[C, 2, D]``: for each label the mean direction of its denying (0) and affirming (1) sentences."""
    texts = [text for pair in pairs for text in (*pair.negative, *pair.positive)]
    features = encode_texts(model, tokenizer, texts)
    rows, start = [], 0
    for pair in pairs:
        middle, end = start + len(pair.negative), start + len(pair.negative) + len(pair.positive)
        rows.append(torch.stack([features[start:middle].mean(dim=0), features[middle:end].mean(dim=0)]))
        start = end
    return functional.normalize(torch.stack(rows), dim=-1)


def zero_shot_probabilities(image_features: Tensor, prompt_features: Tensor, scale: float) -> Tensor:
    """Return the probability of each label for each film.

    Args:
        image_features: ``[B, D]`` of length 1.
        prompt_features: ``[C, 2, D]`` from ``embed_prompts``.
        scale: The model's inverse temperature.

    Returns:
        ``[B, C]`` in 0..1: the softmax over a label's two similarities.
    """
    num_labels, _, size = prompt_features.shape
    similarities = image_features @ prompt_features.reshape(num_labels * 2, size).T
    return (scale * similarities).reshape(-1, num_labels, 2).softmax(dim=2)[:, :, 1]


def zero_shot_labels(
    model: ClipModel,
    tokenizer: TextTokenizer,
    image_features: Tensor,
    labels: Sequence[str],
    *,
    prompts_of: Callable[[str], PromptPair] = prompt_pair,
    scale: float | None = None,
) -> dict[str, Tensor]:
    """Ask about labels in words.

    "No Finding" has no picture of its own: its probability is one minus the highest probability of an abnormality
    (support devices are none) among the 12 that count.

    Args:
        model: In ``eval`` mode.
        tokenizer: The model's.
        image_features: ``[B, D]`` of the films.
        labels: Label names in any case, or any finding in words.
        prompts_of: Gives the sentences that ask about a label.
        scale: Inverse temperature of the softmax over a label's pair; the model's if not given.

    Returns:
        Label to probabilities ``[B]``.
    """
    abnormal = [label for label in FINDINGS if label != "Support Devices"]
    meant = {label: canonical_label(label) for label in labels}
    asked = [label for label in meant.values() if label != NO_FINDING]
    needed = list(dict.fromkeys([*asked, *(abnormal if NO_FINDING in meant.values() else [])]))
    prompts = embed_prompts(model, tokenizer, [pair_about(label, prompts_of) for label in needed])
    scale = float(model.scale.detach()) if scale is None else scale
    table = zero_shot_probabilities(image_features.cpu(), prompts, scale)
    found = {label: table[:, column] for column, label in enumerate(needed)}
    if NO_FINDING in meant.values():
        found[NO_FINDING] = 1 - torch.stack([found[label] for label in abnormal]).amax(dim=0)
    return {label: found[name] for label, name in meant.items()}


def mean_answer(answers: Sequence[LabelAnswer]) -> LabelAnswer:
    """Return the mean of at least one model's answers; the share of open sentences only where all of them have one."""
    shares = [answer.uncertain for answer in answers if answer.uncertain is not None]
    return LabelAnswer(
        probability=torch.stack([answer.probability for answer in answers]).mean(dim=0),
        uncertain=torch.stack(shares).mean(dim=0) if len(shares) == len(answers) else None,
    )


def ask_labels(
    model: ClipModel, tokenizer: TextTokenizer, image_features: Tensor, labels: Sequence[str]
) -> dict[str, LabelAnswer]:
    """Ask films about findings in any words, by ensembles of affirming, denying and open sentences.

    The probability is ``zero_shot_labels``'; the share of open sentences comes from a softmax over all three.

    Args:
        model: In ``eval`` mode.
        tokenizer: The model's.
        image_features: ``[B, D]`` of the films.
        labels: Label names in any case, or any finding in words, at least one.

    Raises:
        ConfigError: A label has no word, or is too long to be a finding.
    """
    asked_labels(labels)
    found = zero_shot_labels(model, tokenizer, image_features, labels)
    scale = float(model.scale.detach())
    answers = {}
    for label in labels:
        pair, leave_open = pair_about(label), open_prompts(label)
        if not leave_open:
            answers[label] = LabelAnswer(found[label], None)
            continue
        groups = (pair.negative, pair.positive, leave_open)
        means = torch.stack([encode_texts(model, tokenizer, texts).mean(dim=0) for texts in groups])
        shares = (scale * image_features.cpu() @ functional.normalize(means, dim=-1).T).softmax(dim=1)
        answers[label] = LabelAnswer(found[label], shares[:, 2])
    return answers
