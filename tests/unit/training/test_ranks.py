"""Two processes that train together do what one does with both their parts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn import functional

from crrg.config.contrast import ContrastConfig
from crrg.config.training import LoopConfig
from crrg.storage import Storage
from crrg.training import state_timer
from crrg.training.checkpoint import StageFolder
from crrg.training.contrastive import StudyFeatures, study_loss
from crrg.training.counted_loss import CountedLoss
from crrg.training.loop import fit
from crrg.training.ranks import any_rank, average_gradients, gather_rows, num_ranks, rank
from crrg.training.tracker import NullTracker

NUM_RANKS = 2
pytestmark = pytest.mark.timeout(600)  # two processes start torch; seconds on a quiet machine
ROWS = 4
CONFIG = ContrastConfig(view_weight=1.0, text_weight=0.5, label_smoothing=0.1)
LOOP = LoopConfig(num_steps=6, batch_size=ROWS, learning_rate=0.01, checkpoint_every_s=1e-9)
CPU = torch.device("cpu")


class Towers(nn.Module):
    """Two linear towers and a temperature."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.image, self.text = nn.Linear(6, 5), nn.Linear(7, 5)
        self.logit_scale = nn.Parameter(torch.tensor(1.2))
        self.unused = nn.Parameter(torch.ones(2))

    def loss(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Mapping[str, Tensor]]:
        features = StudyFeatures(
            tuple(functional.normalize(self.image(batch[name]), dim=1) for name in ("i1", "i2")),
            tuple(functional.normalize(self.text(batch[name]), dim=1) for name in ("t1", "t2")),
            batch["study_ids"],
            batch["text_ids"],
            batch["text_ids"],
            batch["has_text"],
        )
        return study_loss(features, self.logit_scale.exp(), None, CONFIG), {}


def batch_at(step: int) -> dict[str, Tensor]:
    """All rows; a text that two ranks share, and a study without one, so that ranks differ in how many they have."""
    generator = torch.Generator().manual_seed(step)
    rows = NUM_RANKS * ROWS
    made = {name: torch.randn(rows, size, generator=generator) for name, size in zip(("i1", "i2"), (6, 6), strict=True)}
    made |= {name: torch.randn(rows, 7, generator=generator) for name in ("t1", "t2")}
    ids = torch.arange(2 * rows).reshape(2, rows)
    ids[0, 5] = ids[0, 1]
    return {**made, "study_ids": torch.arange(rows), "text_ids": ids, "has_text": torch.arange(rows) != 2}


def own_part(step: int) -> dict[str, Tensor]:
    first = rank() * ROWS
    return {
        name: value[:, first : first + ROWS] if name == "text_ids" else value[first : first + ROWS]
        for name, value in batch_at(step).items()
    }


def train(folder: str, make) -> dict[str, Tensor]:
    module = Towers()
    stage = StageFolder(Storage(folder), "towers", f"{num_ranks()}")
    fit(module, make, module.loss, LOOP, device=CPU, folder=stage, tracker=NullTracker())
    return {name: value.detach() for name, value in module.state_dict().items()}


class Dropping(nn.Module):
    """A network whose random numbers and statistics differ from rank to rank."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.drawn: list[float] = []

    def loss(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Mapping[str, Tensor]]:
        self.drawn.append(float(torch.rand(1)))
        return self.body(batch["i1"]).square().mean(), {}


class Interrupted(Exception):
    pass


def train_dropping(folder: str, name: str, dies_at: int = -1) -> dict[str, Any]:
    def make(step: int) -> dict[str, Tensor]:
        if step == dies_at:
            raise Interrupted
        return own_part(step)

    module = Dropping()
    config = LOOP.model_copy(update={"validate_every": 2})
    try:
        with patch.object(state_timer, "TIMES_APART", 0.0):  # a state after each step, however long one takes
            fit(
                module, make, module.loss, config,
                device=CPU, folder=StageFolder(Storage(folder), "dropping", name), tracker=NullTracker(),
                score=lambda: float(module.body(batch_at(99)["i1"]).square().mean().detach()),
            )  # fmt: skip
    except Interrupted:
        distributed.barrier()
    weights = {key: value.tolist() for key, value in module.state_dict().items()}
    return {"weights": weights, "drawn": module.drawn}


def known_rows(step: int) -> Tensor:
    """Rows of which the second rank knows fewer."""
    return torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, float("nan")], [2.0, 6.0]]) + step


def train_counted(folder: str, make) -> list[float]:
    torch.manual_seed(3)
    module = nn.Linear(1, 1)

    def parts(rows: Tensor) -> dict[str, Tensor]:
        known = torch.isfinite(rows[:, 1])
        errors = (module(rows[:, :1])[:, 0] - torch.nan_to_num(rows[:, 1])).square() * known
        return {"known": errors.sum() / known.sum()}

    loss = CountedLoss(parts, lambda rows: {"known": torch.isfinite(rows[:, 1]).sum()})
    stage = StageFolder(Storage(folder), "counted", f"{num_ranks()}")
    fit(module, make, loss, LOOP, device=CPU, folder=stage, tracker=NullTracker())
    return [module.weight.item(), module.bias.item()]


def step_unequally() -> list[list[float]]:
    """Do a step of a network with a part that the first rank's rows alone reach; return all weights."""
    torch.manual_seed(3)
    parts = nn.ModuleList([nn.Linear(2, 1), nn.Linear(2, 1)])
    optimizer = torch.optim.AdamW(parts.parameters(), lr=0.1)
    loss = parts[0](torch.ones(1, 2)).sum()
    if rank() == 0:
        loss = loss + 4 * parts[1](torch.ones(1, 2)).sum()
    loss.backward()
    average_gradients(parts)
    optimizer.step()
    gradient = parts[1].weight.grad
    assert gradient is not None
    return [*(each.flatten().tolist() for each in parts.parameters()), gradient.flatten().tolist()]


def one_rank(number: int, folder: str, answers: Any) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=number, world_size=NUM_RANKS)
    module = Towers()
    loss, _ = module.loss(own_part(0))
    loss.backward()
    average_gradients(module)
    found = {
        "loss": loss.item(),
        "gradients": {name: p.grad.tolist() for name, p in module.named_parameters() if p.grad is not None},
        "unequal": step_unequally(),
        "any": [any_rank(number == 1, CPU), any_rank(False, CPU)],
        "gathered": gather_rows(torch.tensor([number == 1, True])).tolist(),
        "counted": train_counted(folder, lambda step: known_rows(step)[2 * number : 2 * number + 2]),
        "whole": train_dropping(folder, "whole"),
        "cut": train_dropping(folder, "cut", dies_at=3),
        "resumed": train_dropping(folder, "cut"),
        "trained": {name: value.tolist() for name, value in train(folder, own_part).items()},
    }
    answers.put((number, found))
    distributed.barrier()
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    folder = str(tmp_path_factory.mktemp("ranks"))
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    started = [context.Process(target=one_rank, args=(number, folder, answers)) for number in range(NUM_RANKS)]
    for process in started:
        process.start()
    for process in started:
        process.join(timeout=550)
    assert [process.exitcode for process in started] == [0, 0]
    return dict(answers.get() for _ in started)


def test_gradients_across_ranks_are_those_of_one_process(together: dict[int, dict[str, Any]]) -> None:
    module = Towers()
    loss, _ = module.loss(batch_at(0))
    loss.backward()
    alone = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    for found in together.values():
        assert found["loss"] == pytest.approx(loss.item(), abs=1e-6)
        assert found["gradients"].keys() == alone.keys(), "a parameter without a gradient gets none"
        for name, gradient in alone.items():
            torch.testing.assert_close(torch.tensor(found["gradients"][name]), gradient, rtol=0, atol=1e-6, msg=name)


def test_the_loop_trains_ranks_to_the_same_weights_as_one_process(
    together: dict[int, dict[str, Any]], tmp_path: Path
) -> None:
    alone = train(str(tmp_path), batch_at)
    assert not torch.equal(alone["image.weight"], Towers().image.weight)
    for found in together.values():
        for name, value in alone.items():
            torch.testing.assert_close(torch.tensor(found["trained"][name]), value, rtol=0, atol=1e-5, msg=name)


def test_what_is_known_counts_over_ranks(together: dict[int, dict[str, Any]], tmp_path: Path) -> None:
    alone = train_counted(str(tmp_path), known_rows)
    for found in together.values():
        assert found["counted"] == pytest.approx(alone, abs=1e-6)


def test_every_rank_goes_on_with_its_own_random_numbers(together: dict[int, dict[str, Any]]) -> None:
    first, second = together[0], together[1]
    assert not set(first["whole"]["drawn"]) & set(second["whole"]["drawn"])
    for found in together.values():
        assert len(found["cut"]["drawn"]) == 3
        assert found["cut"]["drawn"] + found["resumed"]["drawn"] == found["whole"]["drawn"]
        assert found["resumed"]["weights"] == found["whole"]["weights"]


def test_a_part_that_one_rank_alone_reaches_stays_the_same_on_all(together: dict[int, dict[str, Any]]) -> None:
    first, second = (together[number]["unequal"] for number in range(2))
    assert first == second
    assert first[-1] == [2.0, 2.0], "the mean of 4 and nothing"


def test_ranks_decide_together(together: dict[int, dict[str, Any]]) -> None:
    for found in together.values():
        assert found["any"] == [True, False]
        assert found["gathered"] == [False, True, True, True]


def test_one_process_needs_nobody() -> None:
    rows = torch.ones(2, 3)
    assert gather_rows(rows) is rows
    assert (num_ranks(), rank(), any_rank(True, CPU), any_rank(False, CPU)) == (1, 0, True, False)
