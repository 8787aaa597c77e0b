"""A device whose memory does not suffice: the night goes on with the CPU where its form lets it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from crrg.config.references import NightSummary
from crrg.device import in_batches
from crrg.domain.study import DraftReport, Film
from crrg.errors import DeviceError, DeviceMemoryError
from crrg.ledger.manifest import read_manifests
from crrg.operations.night import feed as night_feed
from crrg.operations.night.digest import committed_digest
from crrg.operations.night.nightly import run_night
from crrg.operations.night.report import night_metrics
from crrg.operations.summaries import night_markdown
from crrg.storage import Storage
from tests.support.drawn_night import (
    BUNDLE,
    PSEUDONYMS,
    SIZE,
    StandInDrafter,
    draft_of,
    night_config,
    png_bytes,
    run_test_night,
)


class SmallDevice(StandInDrafter):
    """Drafts up to two films at a time, and a wide film not at all."""

    def draft(self, films: Sequence[Film]) -> list[DraftReport]:
        def work(first: int, last: int) -> list[DraftReport]:
            if last - first > 2 or any(film.original_width > SIZE for film in films[first:last]):
                raise torch.OutOfMemoryError("full")
            self.num_drafted += last - first
            return [draft_of(film) for film in films[first:last]]

        return [draft for part in in_batches(len(films), len(films), work) for draft in part]


class LostDevice(StandInDrafter):
    """Is lost at a film, as a GPU is whose kernel gives up, and stays so."""

    def __init__(self, lost_at: int) -> None:
        super().__init__()
        self.lost_at = lost_at

    def draft(self, films: Sequence[Film]) -> list[DraftReport]:
        def work(first: int, last: int) -> list[DraftReport]:
            if self.num_drafted >= self.lost_at:
                raise torch.AcceleratorError("CUDA error: unspecified launch failure")
            self.num_drafted += last - first
            return [draft_of(film) for film in films[first:last]]

        return [draft for part in in_batches(len(films), 1, work) for draft in part]


@pytest.fixture
def inbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)
    storage = Storage(str(tmp_path / "inbox"))
    for number in range(9):
        storage.put(f"{number}.png", png_bytes(number))
    wide = cv2.imdecode(np.frombuffer(png_bytes(4), np.uint8), cv2.IMREAD_GRAYSCALE)
    storage.put("4.png", bytes(cv2.imencode(".png", cv2.resize(wide, (2 * SIZE, SIZE)))[1]))
    return storage


def night(inbox: Storage, root: Storage, cpu: Callable[[], StandInDrafter] | None, **changes: object) -> NightSummary:
    config = night_config(inbox, num_workers=0, shard_size=3, **changes)
    return run_night(config, root, BUNDLE, PSEUDONYMS, SmallDevice, make_cpu_drafter=cpu)


def test_a_shard_goes_on_with_the_cpu_and_the_night_says_so(inbox, tmp_path, caplog):
    built: list[StandInDrafter] = []

    def cpu() -> StandInDrafter:
        built.append(StandInDrafter())
        return built[-1]

    root, undisturbed = Storage(str(tmp_path / "root")), Storage(str(tmp_path / "undisturbed"))
    summary = night(inbox, root, cpu)
    run_test_night(inbox, undisturbed, StandInDrafter(), num_workers=0, shard_size=3)
    assert committed_digest(root) == committed_digest(undisturbed)
    (manifest,) = read_manifests(root)
    assert [drafter.num_drafted for drafter in built] == [3]
    assert manifest.num_shards_on_cpu == summary.num_shards_on_cpu == 1
    assert night_metrics(summary)["night/num_shards_on_cpu"] == 1
    assert "| shards on the CPU | 1 |" in night_markdown(summary)
    assert "shard 2 continues on the CPU" in caplog.text


@pytest.mark.parametrize(("device", "has_cpu"), [("cuda", True), ("auto", False)])
def test_where_it_may_not_the_night_ends_with_nothing_published(inbox, tmp_path, device, has_cpu):
    root = Storage(str(tmp_path / "root"))
    with pytest.raises(DeviceMemoryError, match="--device cpu"):
        night(inbox, root, StandInDrafter if has_cpu else None, device=device)
    assert read_manifests(root) == []
    assert night(inbox, root, StandInDrafter).num_shards_on_cpu == 1


@pytest.mark.parametrize("lost_at", [0, 4, 9])
def test_a_night_whose_gpu_is_lost_goes_on_elsewhere_from_its_last_shard(inbox, tmp_path, lost_at):
    inbox.put("9.png", png_bytes(9))
    root, undisturbed = Storage(str(tmp_path / "root")), Storage(str(tmp_path / "undisturbed"))
    config = night_config(inbox, num_workers=0, shard_size=3)
    with pytest.raises(DeviceError, match="the device has failed; run again with --device cpu") as caught:
        run_night(
            config, root, BUNDLE, PSEUDONYMS, lambda: LostDevice(lost_at), make_cpu_drafter=lambda: StandInDrafter()
        )
    assert not isinstance(caught.value, DeviceMemoryError), "the CPU does not take over unasked"
    assert read_manifests(root) == []
    on_cpu = StandInDrafter()
    run_test_night(inbox, root, on_cpu, num_workers=0, shard_size=3, device="cpu")
    run_test_night(inbox, undisturbed, StandInDrafter(), num_workers=0, shard_size=3)
    assert on_cpu.num_drafted == 10 - lost_at // 3 * 3
    assert committed_digest(root) == committed_digest(undisturbed)
