"""What the comparison with pycocoevalcap measures, tables and refuses, with a stand-in for the package."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks import coco_speed
from benchmarks.coco_speed import PACKAGE, TOGETHER, drawn_texts, measure, ours, table, theirs

STAND_IN = """
class Scorer:
    def __init__(self, *sizes):
        self.sizes = sizes
    def compute_score(self, wanted, given, **quiet):
        assert wanted.keys() == given.keys()
        values = [float(len(text)) for (text,) in given.values()]
        return ([sum(values)] * self.sizes[0] if self.sizes else sum(values)), values
Bleu = Rouge = Cider = Scorer
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    for name in ("bleu", "rouge", "cider"):
        (tmp_path / PACKAGE / name).mkdir(parents=True)
        (tmp_path / PACKAGE / name / f"{name}.py").write_text(STAND_IN)
    before = list(sys.path)
    yield tmp_path
    sys.path[:] = before
    for name in [name for name in sys.modules if name.startswith(PACKAGE)]:
        del sys.modules[name]


def test_both_sides_say_the_same_things(folder: Path) -> None:
    drafts, references = drawn_texts(6, 1)
    assert drafts[:-1] == references[1:]
    found, wanted = ours(), theirs(folder)
    assert list(found) == list(wanted)
    shapes = {name: metric(drafts, references).shape for name, metric in found.items()}
    assert shapes == {name: metric(drafts, references).shape for name, metric in wanted.items()}
    assert shapes == {"BLEU-1 to 4": (4,), "ROUGE-L": (7,), "CIDEr": (7,), TOGETHER: (18,)}
    whole = found[TOGETHER](drafts, references)
    np.testing.assert_array_equal(whole, np.concatenate([found[name](drafts, references) for name in list(found)[:3]]))


def test_a_difference_and_a_slow_side_are_seen() -> None:
    one = {name: lambda *_: np.array([1.0, 2.0]) for name in ("a", TOGETHER)}
    other = {**one, "a": lambda *_: np.array([1.0, 2.5])}
    differences, seconds = measure({"ours": one, PACKAGE: other}, [], [], 3)
    assert differences == {"a": 0.5, TOGETHER: 0.0}
    assert all(len(each) == 3 for side in seconds.values() for each in side.values())
    times = {"ours": {"a": [1.0], TOGETHER: [2.0, 1.0, 3.0]}, PACKAGE: {"a": [4.0], TOGETHER: [9.0, 30.0, 8.0]}}
    shown, ratio = table(differences, times)
    assert ratio == 4.5
    assert "| a | 1.000 (1.000 to 1.000) | 4.000 (4.000 to 4.000) | 4.0 | 5.0e-01 |" in shown


def test_a_folder_without_the_package_is_refused_with_a_way_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["coco_speed", str(tmp_path)])
    with pytest.raises(SystemExit):
        coco_speed.main()
    assert "how to get it stands above" in capsys.readouterr().err
    assert "pip install --no-deps" in (coco_speed.__doc__ or "")


def test_other_digits_end_with_status_1(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["coco_speed", str(folder), "--reports", "4", "--repeats", "1"])
    assert coco_speed.main() == 1
    assert "MISSED" in capsys.readouterr().out
