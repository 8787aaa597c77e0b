"""The soak says so where an input is lost or comes twice, and where nobody could know because not all was sent."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.soak import __main__ as soak
from benchmarks.soak import feed
from crrg.operations.night import feed as night_feed
from crrg.storage import Storage
from tests.support.drawn_night import DATE, StandInDrafter, png_bytes, run_test_night

NUM_STUDIES = 3


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A soak of three studies and one night that has read them all."""
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)
    inbox = Storage(str(tmp_path / "inbox"))
    for number in range(NUM_STUDIES):
        inbox.put(f"{number}.png", png_bytes(number))
    write_down(tmp_path, range(NUM_STUDIES))
    run_test_night(inbox, Storage(str(tmp_path / "root")), StandInDrafter(), num_workers=0)
    night = {"date": DATE, "code": 0, "seconds": 1.0, "peak_mb": 100, "inputs": NUM_STUDIES, "drafted": NUM_STUDIES}
    (tmp_path / "nights.jsonl").write_text(json.dumps(night) + "\n")
    return tmp_path


def write_down(folder: Path, sent: range) -> None:
    digests = [hashlib.sha256(png_bytes(number)).hexdigest() for number in sent]
    lines = [json.dumps({"file": "", "kind": "", "sha256": digest}) for digest in digests]
    (folder / "sent.jsonl").write_text("\n".join(lines) + "\n")


def shown(folder: Path, capsys: pytest.CaptureFixture[str], *, is_over: bool, fed: int | None) -> tuple[int, str]:
    code = soak.show(argparse.Namespace(folder=folder, studies=NUM_STUDIES), is_over=is_over, fed=fed)
    return code, capsys.readouterr().out


def test_all_that_was_sent_is_read_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = shown(folder, capsys, is_over=True, fed=0)
    assert code == 0, said
    assert "3 of 3 studies read in 1 nights" in said
    assert "every input ended once, as it must" in said


def test_an_input_that_no_night_read_is_lost(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_down(folder, range(NUM_STUDIES + 1))
    code, said = shown(folder, capsys, is_over=True, fed=0)
    assert code == 1
    assert "1 of 4 inputs are lost or ended otherwise: {'accepted': 1}" in said


def test_an_input_that_was_read_twice_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    night = json.loads((folder / "nights.jsonl").read_text())
    (folder / "nights.jsonl").write_text(json.dumps({**night, "inputs": NUM_STUDIES + 1}) + "\n")
    write_down(folder, range(NUM_STUDIES - 1))
    code, said = shown(folder, capsys, is_over=True, fed=0)
    assert code == 1
    assert "1 outcomes are of no input, or came twice" in said


@pytest.mark.parametrize(
    ("fed", "code", "words"), [(None, 3, "nothing wrong so far"), (1, 1, "generator ended with 1")]
)
def test_while_not_all_is_sent_nobody_can_say_what_is_lost(
    folder: Path, capsys: pytest.CaptureFixture[str], fed: int | None, code: int, words: str
) -> None:
    write_down(folder, range(NUM_STUDIES + 1))
    found, said = shown(folder, capsys, is_over=fed is not None, fed=fed)
    assert (found, words in said, "lost" in said) == (code, True, False)


class Feeding:
    """A generator that has ended when it is asked the third time."""

    num_asked = 0

    def poll(self) -> int | None:
        self.num_asked += 1
        return 0 if self.num_asked > 2 else None


def test_the_last_night_begins_once_what_was_sent_last_has_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Any] = []
    inputs = iter([0, 5, 2, 0, 9])  # the first finds nothing yet
    monkeypatch.setattr(soak, "run_night", lambda *_: done.append("night") or {"inputs": next(inputs)})
    monkeypatch.setattr(soak.time, "sleep", lambda seconds: done.append(seconds))
    assert soak.run_nights(Path(), "", Feeding(), sys.float_info.max)
    assert done == ["night", "night", soak.SETTLE_S, "night", "night"]
    assert not soak.run_nights(Path(), "", Feeding(), 0.0), "time was up"


def test_a_generator_that_was_killed_sends_what_it_had_only_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox, sent = tmp_path / "inbox", tmp_path / "sent.jsonl"
    inbox.mkdir()
    arguments = ["feed", str(inbox), str(sent), "--size", "64", "--studies"]
    monkeypatch.setattr(sys, "argv", [*arguments, "2"])
    feed.main()
    lines = sent.read_text()
    last = max(path for path in inbox.rglob("*.dcm"))
    data = last.read_bytes()
    last.unlink()
    monkeypatch.setattr(sys, "argv", [*arguments, "3"])
    feed.main()
    assert last.read_bytes() == data
    assert sent.read_text().startswith(lines)
    assert len(sent.read_text().splitlines()) == len(list(inbox.rglob("*.dcm"))) == 3
