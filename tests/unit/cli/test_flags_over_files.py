"""A form from a file and flags: a flag changes the field that it names, and nothing else of what the file says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from crrg.cli import app, nights
from crrg.cli.running import form
from crrg.config.base import FrozenConfig
from crrg.config.evidence import SENTENCES_SHOWN
from crrg.config.fan_out import FanOut
from crrg.config.running import NightlyConfig
from crrg.errors import ConfigError
from crrg.operations.registry import make_bundle
from crrg.operations.training import train

NIGHT = """
limit = 7
[watch]
stop_psi = 0.5
degenerate = "publish"
[fan_out]
task_runner = "ray"
gpus_per_shard = 0.5
"""


def filled(command: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> dict[str, Any]:
    """Return the form that a command hands on, as JSON would hold it."""
    handed: list[dict[str, Any]] = []

    def keep(*given: object, **_: object) -> None:
        (config,) = (each for each in given if isinstance(each, FrozenConfig))
        handed.append(config.model_dump(mode="json"))
        raise SystemExit(0)

    monkeypatch.setattr(nights, "through_prefect", keep)
    monkeypatch.setattr(make_bundle, "make_bundle", keep)
    monkeypatch.setattr(train, "train_stage", keep)
    done = CliRunner().invoke(app, [command, *arguments])
    assert done.exit_code == 0, done.output
    return handed[0]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRRG_ROOT", str(tmp_path / "root"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "form.toml"
    path.write_text(NIGHT)
    return path


def test_flags_of_a_night_leave_the_rest_of_their_blocks(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    night = filled(
        "nightly", monkeypatch, "--inbox", "s3://inbox", "--config", str(file), "--drift", "stop",
        "--ray-address", "10.0.0.5:6379",
    )  # fmt: skip
    assert night["limit"] == 7
    watch = night["watch"]
    assert (watch["drift"], watch["stop_psi"], watch["degenerate"]) == ("stop", 0.5, "publish")
    assert night["fan_out"] == {
        "task_runner": "ray", "max_processes": 0, "ray_address": "10.0.0.5:6379", "gpus_per_shard": 0.5,
    }  # fmt: skip


@pytest.mark.parametrize(("said", "shown"), [("cells = 12", SENTENCES_SHOWN), ("cells = 12\nmax_sentences = 3", 3)])
def test_evidence_is_switched_on_as_the_file_wants_it(
    said: str, shown: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "form.toml").write_text(f"[evidence]\n{said}\n")
    night = filled(
        "nightly", monkeypatch, "--inbox", "s3://inbox", "--config", str(tmp_path / "form.toml"), "--evidence"
    )
    assert (night["evidence"]["cells"], night["evidence"]["max_sentences"]) == (12, shown)


def test_precision_leaves_the_search_of_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "bundle.json"
    file.write_text(json.dumps({"parts": ["imported"], "decoding": {"rerank": True}}))
    made = filled("bundle", monkeypatch, "--config", str(file), "--precision", "fast")
    assert made["decoding"] == {**made["decoding"], "rerank": True, "precision": "fast"}


def test_weights_and_rounds_leave_the_others_of_the_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "stage.toml"
    file.write_text('[initial_weights]\ndetector = "resnet"\n[rounds]\nmin_gain = 0.25\n')
    stage = filled(
        "train", monkeypatch, "clip", "--config", str(file), "--initial-weights", "chexzero", "--rounds", "2"
    )
    assert (stage["initial_weights"]["detector"], stage["initial_weights"]["clip"]) == ("resnet", "chexzero")
    assert (stage["rounds"]["min_gain"], stage["rounds"]["max_rounds"]) == (0.25, 2)


def test_a_block_that_is_no_table_is_still_refused(tmp_path: Path) -> None:
    (tmp_path / "form.toml").write_text('watch = "stop"\n')
    with pytest.raises(SystemExit) as ended:
        form(NightlyConfig, tmp_path / "form.toml", inbox="s3://inbox", watch={"drift": "stop"})
    assert ended.value.code == 2


def test_the_address_of_a_cluster_needs_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="--task-runner ray"):
        FanOut(ray_address="10.0.0.5:6379")
    assert FanOut(task_runner="ray", ray_address="10.0.0.5:6379").ray_address
    done = CliRunner().invoke(app, ["nightly", "--inbox", "s3://inbox", "--ray-address", "10.0.0.5:6379"])
    assert done.exit_code == 2
    assert done.stderr.startswith("crrg: ConfigError: fan_out.ray_address:")
