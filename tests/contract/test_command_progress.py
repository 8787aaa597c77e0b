"""Commands that take long say how far they are: contracts, section 1."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import crrg.training.detector
from crrg.domain.regions import NUM_REGIONS
from crrg.domain.report import Report
from crrg.domain.study import Film, Pair, Split, ViewPosition
from crrg.inference.zero_shot import LabelAnswer
from crrg.models.detector import Detections
from crrg.operations.delivery.deliver import deliver
from crrg.operations.ingest.ground import grounded_pairs
from crrg.operations.night import shard as night_shard
from crrg.operations.night.check_nights import check_nights
from crrg.operations.predict import predict_files
from crrg.operations.zero_shot import ask_files
from crrg.progress import Progress, listening
from crrg.storage import Storage
from tests.support.delivered_night import DeliverableNight
from tests.support.drawn_night import PSEUDONYMS, StandInDrafter, png_bytes


def shown(work) -> list[str]:
    seen: list[Progress] = []
    with listening(seen.append):
        work()
    return [f"{each.what} {each.num_done}/{each.total} {each.unit} {each.note}".strip() for each in seen]


@pytest.fixture
def films(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for number, path in enumerate(paths):
        path.write_bytes(png_bytes(number))
    return paths


def test_predict(films: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(night_shard, "GPU_WINDOW", 2)
    out = Storage(str(tmp_path / "out"))
    steps = shown(lambda: predict_files(films, out, PSEUDONYMS, StandInDrafter(), num_workers=0))
    assert steps == ["drafts 2/5 films", "drafts 4/5 films", "drafts 5/5 films"]


def test_zero_shot(films: list[Path], tmp_path: Path) -> None:
    asker = SimpleNamespace(
        bundle_id="b",
        image_size=0,
        ask=lambda films, labels: {name: LabelAnswer(np.zeros(len(films)), None) for name in labels},
    )
    out = Storage(str(tmp_path / "out"))
    steps = shown(lambda: ask_files(films, ["Edema"], out, PSEUDONYMS, asker, num_workers=0))
    assert steps == ["answers 5/5 films"]


def test_ground(monkeypatch: pytest.MonkeyPatch) -> None:
    def detect(_model, images, _device) -> Detections:
        found = torch.zeros(len(images), NUM_REGIONS)
        return Detections(torch.zeros(len(images), NUM_REGIONS, 4), found, found > 0)

    monkeypatch.setattr(crrg.training.detector, "detect_films", detect)
    film = Film(np.zeros((32, 32), dtype=np.uint8), 32, 32, ViewPosition.PA, None, False, b"x" * 32)
    report = Report(findings="The heart is normal.")
    pairs = [
        Pair("p", "s", f"i{number}", film, report, (), {}, "report", "folder", b"x" * 32, Split.TEST)
        for number in range(70)
    ]
    detector = SimpleNamespace(architecture=SimpleNamespace(input_size=32))
    steps = shown(lambda: list(grounded_pairs(iter(pairs), detector, torch.device("cpu"), num_pairs=len(pairs))))
    assert len(steps) > 1
    assert steps[-1] == "grounding 70/70 rows"


def test_check_and_deliver(tmp_path: Path) -> None:
    night = DeliverableNight(tmp_path)
    steps = shown(lambda: check_nights(night.root))
    assert steps[0].startswith("check 0/1 nights")
    assert steps[-1].startswith("check 1/1 nights")
    num_objects = len(night.root.get_json(night.root.get_json("results/date=2026-11-20/_manifest-1.json")["index_key"]))
    assert steps[-1].endswith(f"{num_objects} documents and pictures")
    delivered = shown(lambda: deliver(night.form(forms=("fhir",)), night.root, night.settings))
    assert delivered == ["delivery 2/0 studies"]
