"""Squares of published networks: the same as the libraries they were published with make."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import v2

from crrg.data.framing import frame_film
from crrg.data.images import model_input


def film(height: int, width: int) -> NDArray[np.uint8]:
    rows, columns = np.mgrid[0:height, 0:width]
    return ((rows * 3 + columns * 5 + 90 * ((rows // 20 + columns // 20) % 2)) % 256).astype(np.uint8)


@pytest.mark.parametrize("shape", [(512, 417), (301, 512), (224, 224), (100, 90)])
def test_the_centre_is_cut_as_torchvision_cuts_it(shape: tuple[int, int]) -> None:
    transform = v2.Compose([v2.Resize(224), v2.CenterCrop(224)])
    wanted = np.asarray(transform(Image.fromarray(film(*shape))), dtype=np.float32)
    assert np.array_equal(frame_film(film(*shape), 224, "center_crop"), wanted)


@pytest.mark.parametrize("shape", [(512, 400), (300, 512)])
def test_the_padded_square_is_resized_by_cubic_interpolation_without_smoothing(shape: tuple[int, int]) -> None:
    padded = frame_film(film(*shape), 320, "padded")
    assert padded.shape == (320, 320)
    longer, shorter = (0, 1) if shape[0] > shape[1] else (1, 0)
    side = int(shape[shorter] * 320 / shape[longer])
    outside = (320 - side) // 2
    strips = np.moveaxis(padded, shorter, 0)
    assert not strips[:outside].any()
    assert not strips[outside + side :].any()
    assert strips[outside : outside + side].any(axis=1).all()
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(padded)[None, None], size=(224, 224), mode="bicubic", antialias=False
    )[0, 0]
    found = torch.from_numpy(frame_film(film(*shape), 224, "padded"))
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.05)


def test_the_letterbox_is_ours() -> None:
    assert np.array_equal(frame_film(film(90, 70), 64, "letterbox"), model_input(film(90, 70), 64).astype(np.float32))
