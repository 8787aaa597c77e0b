"""Batches of one step count by how much they know: their gradient is that of all of them as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from crrg.config.models import GeneratorArchitecture, SelectorArchitecture
from crrg.config.training import LoopConfig, SelectorTraining
from crrg.models.region_heads import RegionSelector
from crrg.models.report_generator import ReportGenerator
from crrg.storage import Storage
from crrg.training.checkpoint import StageFolder
from crrg.training.counted_loss import CountedLoss
from crrg.training.loop import fit
from crrg.training.phrase_batches import IGNORED, PhraseBatch
from crrg.training.phrase_loss import phrase_loss, token_loss
from crrg.training.selector import RegionBatch, selector_loss
from crrg.training.tracker import NullTracker
from tests.support.equal_steps import CPU, check_equal_steps


def phrases(lengths: Sequence[int]) -> PhraseBatch:
    generator = torch.Generator().manual_seed(sum(lengths))
    number, longest = len(lengths), 8
    tokens = torch.randint(1, 300, (number, longest), generator=generator)
    is_real = torch.arange(longest) < torch.tensor(lengths)[:, None]
    return PhraseBatch(
        token_ids=tokens,
        targets=torch.where(is_real, tokens, IGNORED),
        features=torch.randn(number, 8, generator=generator),
        region_index=torch.arange(number),
        finding_flags=torch.zeros(number, 15),
        report_flags=torch.zeros(number, 29, 15),
        is_flagged=torch.ones(number, dtype=torch.bool),
        is_seen=torch.ones(number, dtype=torch.bool),
    )


def joined(parts: Sequence[PhraseBatch]) -> PhraseBatch:
    return PhraseBatch(*(torch.cat(columns) for columns in zip(*(vars(part).values() for part in parts), strict=True)))


def test_every_token_of_a_step_counts_as_much() -> None:
    torch.manual_seed(0)
    architecture = GeneratorArchitecture(
        num_layers=1, num_heads=2, hidden_size=16, vocab_size=300, max_length=8, feature_size=8
    )
    model = ReportGenerator(architecture).eval()
    parts = [phrases([1, 2]), phrases([8, 7, 8]), phrases([3])]
    check_equal_steps(model, token_loss(model), parts, joined(parts))
    loss, logged = token_loss(model)(parts[1])
    assert torch.equal(loss, phrase_loss(model, parts[1])), "one batch is what it was"
    assert logged == {}


def regions(seed: int, known: float) -> RegionBatch:
    generator = torch.Generator().manual_seed(seed)

    def targets(*shape: int) -> Tensor:
        values = torch.randint(0, 2, shape, generator=generator).float()
        return torch.where(torch.rand(shape, generator=generator) < known, values, torch.nan)

    images = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8, generator=generator)
    boxes = torch.tensor([4.0, 4.0, 20.0, 24.0]).expand(2, 29, 4)
    return RegionBatch(images, boxes, targets(2, 29), targets(2, 29), targets(2, 29, 14), targets(2, 14))


def test_every_known_target_of_a_step_counts_as_much() -> None:
    torch.manual_seed(0)
    architecture = SelectorArchitecture(input_size=32, width=4, detail_channels=0, roi_size=2, feature_size=8)
    model = RegionSelector(architecture).eval()
    parts = [regions(1, 0.9), regions(2, 0.05), regions(3, 0.0)]
    whole = RegionBatch(*(torch.cat(columns) for columns in zip(*(vars(part).values() for part in parts), strict=True)))
    check_equal_steps(model, selector_loss(model, SelectorTraining()), parts, whole)


def test_the_loop_steps_on_all_batches_as_one(tmp_path: Path) -> None:
    def values_at(number: int) -> Tensor:
        values = torch.randn(6, 4, generator=torch.Generator().manual_seed(number))
        values[: number % 5, 3] = torch.nan
        return values

    def train(name: str, config: LoopConfig, make) -> nn.Linear:
        torch.manual_seed(0)
        module = nn.Linear(3, 1)

        def parts(rows: Tensor) -> Mapping[str, Tensor]:
            known = torch.isfinite(rows[:, 3])
            errors = (module(rows[:, :3])[:, 0] - torch.nan_to_num(rows[:, 3])).square() * known
            return {"known": errors.sum() / known.sum().clamp(min=1)}

        loss = CountedLoss(parts, lambda rows: {"known": torch.isfinite(rows[:, 3]).sum()})
        folder = StageFolder(Storage(str(tmp_path)), "line", name)
        fit(module, make, loss, config, device=CPU, folder=folder, tracker=NullTracker())
        return module

    joint = train("joint", LoopConfig(num_steps=4), lambda step: torch.cat([values_at(3 * step + i) for i in range(3)]))
    split = train("split", LoopConfig(num_steps=4, accumulate=3), values_at)
    torch.testing.assert_close(split.weight, joint.weight, rtol=0, atol=1e-6)
