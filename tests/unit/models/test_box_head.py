"""The box head in use: proposals are cut out part by part, and the answers stay what they are."""

from __future__ import annotations

import pytest
import torch

from crrg.config.models import DetectorArchitecture
from crrg.models import box_head
from crrg.models.box_head import BoxHead

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
    cut_out = box_head.cut_out

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
