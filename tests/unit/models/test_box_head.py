"""The box head in use: proposals are cut out part by part, and the answers stay what they are."""

from __future__ import annotations

import pytest
import torch

from crrg.config.models import DetectorArchitecture
from crrg.models import box_head
from crrg.models.box_head import CUT_BYTES, MOST_CUT_BYTES, BoxHead
from crrg.models.products import project
from crrg.models.roi_cut import cut_out
from tests.support.gpu_waits import GpuWaits

GIB = 1 << 30
ARCHITECTURE = DetectorArchitecture(input_size=64, roi_size=4, roi_samples=2, roi_channels=0, representation_size=16)


def boxes(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=generator) * 40
    return torch.cat([low, low + 2 + torch.rand(count, 2, generator=generator) * 20], dim=1)


def test_proposals_are_cut_out_part_by_part_with_the_same_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    head = BoxHead(ARCHITECTURE, 6, (8,)).eval()
    head.exact_roi = True
    features = torch.randn(3, 6, 8, 8)
    proposals = [boxes(23, 1), boxes(0, 2), boxes(30, 3)]
    sizes: list[int] = []

    def counted(*arguments: object) -> torch.Tensor:
        pooled = cut_out(*arguments)  # type: ignore[arg-type]
        sizes.append(len(pooled))
        return pooled

    monkeypatch.setattr(box_head, "cut_out", counted)
    wanted = head([features], proposals)
    assert sizes == [53], "training keeps what its gradient needs"
    monkeypatch.setattr(box_head, "CUT_BYTES", 16 * 6 * 4**2 * 4)
    sizes.clear()
    with torch.no_grad():
        found = head([features], proposals)
        nothing = head([features], [boxes(0, 1)] * 3)
    assert sizes == [14, 13, 13, 13, 0]
    for own, whole in zip(found, wanted, strict=True):
        torch.testing.assert_close(own, whole.detach(), rtol=0, atol=1e-6)
    assert [len(part) for part in nothing] == [0, 0]


def by_film(head: BoxHead, features: torch.Tensor, proposals: list[torch.Tensor], num_parts: int) -> torch.Tensor:
    """Return the first layer's output part by part, each part of one list of boxes per film."""
    films = torch.repeat_interleave(torch.tensor([len(own) for own in proposals]))
    parts = zip(torch.cat(proposals).tensor_split(num_parts), films.tensor_split(num_parts), strict=True)
    lists = [[own[film == number] for number in range(len(proposals))] for own, film in parts]
    return torch.cat([project(head.fc6, cut_out(features, each, 4, 1 / 8, 2).flatten(1)) for each in lists])


def test_parts_wait_for_no_answer_and_keep_every_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    head, features = BoxHead(ARCHITECTURE, 6, (8,)).eval(), torch.randn(3, 6, 8, 8)
    head.exact_roi = True
    proposals = [boxes(23, 1), boxes(0, 2), boxes(30, 3)]
    monkeypatch.setattr(box_head, "CUT_BYTES", 16 * 6 * 4**2 * 4)
    with torch.inference_mode(), GpuWaits() as waits:
        found = head._cut_out(features, proposals, 1 / 8)
    assert waits.counts == {}
    with torch.inference_mode():
        assert torch.equal(found, by_film(head, features, proposals, 4))


def test_mixed_precision_casts_the_first_layer_once(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    head, features, proposals = BoxHead(ARCHITECTURE, 6, (8,)).eval(), torch.randn(2, 6, 8, 8), [boxes(30, 1)] * 2
    monkeypatch.setattr(box_head, "CUT_BYTES", 16 * 6 * 4**2 * 4)
    kinds: list[torch.dtype] = []
    affine = box_head.affine

    def noted(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        kinds.extend((weight.dtype, bias.dtype))
        return affine(inputs, weight, bias)

    monkeypatch.setattr(box_head, "affine", noted)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = head._cut_out(features, proposals, 1 / 8)
        assert torch.equal(found, by_film(head, features, proposals, 4))
    assert kinds == [torch.bfloat16] * 8


@pytest.mark.parametrize(
    ("free", "wanted"), [(0, CUT_BYTES), (12 * GIB, GIB), (16 * GIB, 2 * GIB), (130 * GIB, MOST_CUT_BYTES)]
)
def test_a_gpu_cuts_out_as_many_at_once_as_its_free_memory_takes(
    free: int, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(box_head, "free_memory", lambda _device: free)
    assert box_head._cut_bytes(torch.device("cuda", 0)) == wanted
    assert box_head._cut_bytes(torch.device("cpu")) == CUT_BYTES
    assert MOST_CUT_BYTES // 2 < 2**31, "values of two bytes are counted in 32 bits"
