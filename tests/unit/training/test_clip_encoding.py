"""Gradient caching: the gradients of one large batch in the memory of a small one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from crrg.config.contrast import ContrastConfig
from crrg.config.models import ClipArchitecture
from crrg.models.clip import ClipModel
from crrg.training.clip_encoding import encode_films, encode_texts
from crrg.training.contrastive import StudyFeatures, study_loss

NUM = 12


def build(*, dropout: float = 0.0, seed: int = 0) -> ClipModel:
    torch.manual_seed(seed)
    return ClipModel(
        ClipArchitecture(
            input_size=32, image_width=4, text_layers=1, text_heads=2, text_hidden_size=16, text_vocab_size=300,
            max_text_length=24, projection_size=8, text_dropout=dropout, head_dropout=dropout,
        )
    )  # fmt: skip


def batch() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    lengths = torch.randint(1, 24, (NUM,), generator=generator)
    mask = (torch.arange(24)[None] < lengths[:, None]).long()
    images = torch.randint(0, 256, (NUM, 1, 32, 32), generator=generator, dtype=torch.uint8)
    return images, torch.randint(0, 300, (NUM, 24), generator=generator) * mask, mask


def held_norms(model: ClipModel) -> ClipModel:
    """Batch normalisation over parts is not that over a whole: hold it, to compare what caching is answerable for."""
    model.train()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    return model


def loss_of(model: ClipModel, cached_rows: int) -> Tensor:
    images, token_ids, mask = batch()
    reading = encode_films(model, images, cached_rows)
    texts = encode_texts(model, token_ids, mask, cached_rows)
    features = StudyFeatures(
        (reading.image_features,), (texts,), torch.arange(NUM), torch.arange(NUM)[None], torch.arange(NUM)[None],
        torch.ones(NUM).bool(),
    )  # fmt: skip
    return study_loss(features, model.scale, None, ContrastConfig()) + reading.label_logits.square().mean()


def gradients(model: ClipModel, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("cached_rows", [1, 5, 6, NUM])
def test_gradients_are_those_of_the_whole_batch(cached_rows: int) -> None:
    model = held_norms(build())
    whole_loss, cached_loss = loss_of(model, 0), loss_of(model, cached_rows)
    assert cached_loss.item() == pytest.approx(whole_loss.item(), rel=1e-6)
    whole, cached = gradients(model, whole_loss), gradients(model, cached_loss)
    assert whole.keys() == cached.keys()
    assert max(gradient.abs().max().item() for gradient in whole.values()) > 1e-2
    for name, gradient in whole.items():
        torch.testing.assert_close(cached[name], gradient, rtol=1e-5, atol=1e-5, msg=name)


def test_dropout_falls_the_same_way_when_a_part_is_encoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model = held_norms(build(dropout=0.4))
    monkeypatch.setattr("crrg.training.clip_encoding.checkpoint", lambda encode, *inputs, **_: encode(*inputs))
    torch.manual_seed(1)
    kept = gradients(model, loss_of(model, 5))
    monkeypatch.undo()
    torch.manual_seed(1)
    cached = gradients(model, loss_of(model, 5))
    for name, gradient in kept.items():
        torch.testing.assert_close(cached[name], gradient, rtol=1e-5, atol=1e-6, msg=name)
    torch.manual_seed(2)
    other = gradients(model, loss_of(model, 5))
    assert any(not torch.allclose(other[name], gradient, atol=1e-4) for name, gradient in kept.items())


def test_running_statistics_move_once_per_part() -> None:
    cached, plain = build().train(), build().train()
    loss_of(cached, 6).backward()
    images = batch()[0]
    for part in images.split(6):
        plain.read_films(part)
    norms = [(a, b) for a, b in zip(cached.modules(), plain.modules(), strict=True) if isinstance(a, _BatchNorm)]
    assert norms
    for one, other in norms:
        assert one.momentum == other.momentum == 0.1
        torch.testing.assert_close(one.running_mean, other.running_mean)
        torch.testing.assert_close(one.running_var, other.running_var)


def test_no_more_than_one_part_is_held() -> None:
    """Of the activations that autograd would keep, only features stay; the towers' own are made again part by part."""
    model = held_norms(build())
    sizes: dict[int, int] = {}
    for cached_rows in (0, 3):
        held: list[Tensor] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: held.append(tensor) or tensor, lambda t: t):  # noqa: B023
            loss_of(model, cached_rows)
        sizes[cached_rows] = sum(tensor.numel() for tensor in held)
    assert sizes[3] < sizes[0] / 4, sizes
