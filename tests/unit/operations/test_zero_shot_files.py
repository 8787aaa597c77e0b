"""Findings in words over local files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from crrg.config.models import ClipArchitecture
from crrg.data.tokenizer import train_tokenizer
from crrg.domain.study import Film
from crrg.errors import ConfigError
from crrg.inference.zero_shot import LabelAnswer, ask_labels
from crrg.models.clip import ClipModel
from crrg.operations.zero_shot import Ensemble, ask_files
from crrg.storage import Storage
from tests.support.drawn_night import PSEUDONYMS, png_bytes


class SmallAsker:
    """A random CLIP over the mean of a film."""

    def __init__(self, seed: int = 0, image_size: int = 64) -> None:
        self.bundle_id, self.image_size = f"b{seed}", image_size
        self.seen: list[tuple[int, ...]] = []
        torch.manual_seed(seed)
        architecture = ClipArchitecture(
            input_size=32, image_width=4, text_layers=1, text_heads=2, text_hidden_size=16, text_vocab_size=300,
            projection_size=8,
        )  # fmt: skip
        self.clip = ClipModel(architecture).eval()
        self.tokenizer = train_tokenizer(["there is no pleural plaque.", "there may be edema."], 300)

    def ask(self, films: Sequence[Film], labels: Sequence[str]) -> dict[str, LabelAnswer]:
        self.seen += [film.pixels.shape for film in films]
        features = torch.stack([torch.linspace(-1, float(film.pixels.mean()) / 255, 8) for film in films])
        return ask_labels(self.clip, self.tokenizer, torch.nn.functional.normalize(features, dim=1), labels)


def asked(tmp_path: Path, labels: list[str]) -> Storage:
    paths = [tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c.dcm"]
    for path, data in zip(paths, (png_bytes(1), png_bytes(2), b""), strict=True):
        path.write_bytes(data)
    out = Storage(str(tmp_path / "out"))
    summary = ask_files(paths, labels, out, PSEUDONYMS, SmallAsker(), num_workers=0)
    assert (summary.num_drafted, summary.reasons) == (2, {"c.dcm": "EMPTY.FILE"})
    return out


def test_every_film_answers_about_every_finding_in_words(tmp_path: Path) -> None:
    out = asked(tmp_path, ["pleural  plaque", "Edema", "pleural plaque"])
    answer = out.get_json("a.png.json")
    assert list(answer["labels"]) == ["pleural plaque", "Edema"]
    assert answer["calibrated"] is False
    rows = pq.read_table(io.BytesIO(out.get("zero_shot.parquet"))).to_pylist()
    assert len(rows) == 4
    assert all(0 < row["probability"] < 1 and 0 < row["uncertain"] < 1 for row in rows)
    assert len({row["probability"] for row in rows}) == 4
    assert out.get_json("c.dcm.json")["reason"] == "EMPTY.FILE"


def test_labels_are_asked_by_their_own_names(tmp_path: Path) -> None:
    out = asked(tmp_path, ["edema", "Edema", "no finding"])
    rows = pq.read_table(io.BytesIO(out.get("zero_shot.parquet"))).to_pylist()
    assert [row["label"] for row in rows] == ["Edema", "No Finding"] * 2
    assert [row["uncertain"] is None for row in rows] == [False, True] * 2
    assert list(out.get_json("a.png.json")["labels"]["No Finding"]) == ["probability"]


def test_several_models_answer_with_their_mean(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_bytes(1))
    askers = [SmallAsker(0), SmallAsker(1)]

    def row(asker: Ensemble | SmallAsker, out: Storage) -> dict[str, float | str]:
        ask_files([tmp_path / "a.png"], ["pleural plaque"], out, PSEUDONYMS, asker, num_workers=0)
        return dict(pq.read_table(io.BytesIO(out.get("zero_shot.parquet"))).to_pylist()[0])

    alone = [row(asker, Storage(str(tmp_path / asker.bundle_id))) for asker in askers]
    together = row(Ensemble(tuple(askers)), Storage(str(tmp_path / "both")))
    assert together["bundle_id"] == "b0+b1"
    assert alone[0]["probability"] != alone[1]["probability"]
    for name in ("probability", "uncertain"):
        assert together[name] == pytest.approx((alone[0][name] + alone[1][name]) / 2, abs=1e-6)


def test_films_are_as_large_as_those_that_the_models_were_trained_on(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png_bytes(1))
    out = Storage(str(tmp_path / "out"))
    for sizes, side in (((32, 0), 32), ((0,), 64), ((32, 32), 32)):  # the film itself has 64
        askers = tuple(SmallAsker(0, size) for size in sizes)
        ask_files([tmp_path / "a.png"], ["Edema"], out, PSEUDONYMS, Ensemble(askers), num_workers=0)
        assert [asker.seen for asker in askers] == [[(side, side)]] * len(askers)
    apart = Ensemble((SmallAsker(0, 32), SmallAsker(1, 48)))
    with pytest.raises(ConfigError, match=r"films of 32 and 48 pixels .* by themselves"):
        ask_files([tmp_path / "a.png"], ["Edema"], out, PSEUDONYMS, apart, num_workers=0)


@pytest.mark.parametrize("label", ["", "  ", "...", "x" * 81, "\udcff edema", "\x1b[31mred"])
def test_a_label_that_is_none_is_refused(tmp_path: Path, label: str) -> None:
    with pytest.raises(ConfigError, match="pleural plaque"):
        asked(tmp_path, ["Edema", label])
    # whoever is asked, and before any file is read
    with pytest.raises(ConfigError, match="pleural plaque"):
        ask_files([tmp_path / "none.png"], [label], Storage(str(tmp_path)), PSEUDONYMS, Ensemble(()), num_workers=0)


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("pleural_effusion", "Pleural Effusion"),
        ("'PLEURAL-effusion'.", "Pleural Effusion"),
        ("pleural\u2013effusion\u200b", "Pleural Effusion"),
        ("\ufb01brosis", "fibrosis"),
        ("no_finding", "No Finding"),
        ("No findings", "No Finding"),
        ("pleural_plaque.", "pleural plaque"),
        ("air-fluid level", "air-fluid level"),
    ],
)
def test_a_label_is_known_however_it_is_typed(tmp_path: Path, typed: str, name: str) -> None:
    out = asked(tmp_path, [typed, name.upper()])
    assert list(out.get_json("a.png.json")["labels"]) == [name]
    plain = asked(tmp_path, [name]).get("zero_shot.parquet")
    assert asked(tmp_path, [typed]).get("zero_shot.parquet") == plain


@pytest.mark.parametrize("finding", ["Pneumonia", "hiatal hernia"])
def test_a_denied_finding_is_what_the_finding_leaves(tmp_path: Path, finding: str) -> None:
    labels = asked(tmp_path, [finding, f"No {finding.lower()}"]).get_json("a.png.json")["labels"]
    present, absent = labels.values()
    assert absent["probability"] == pytest.approx(1 - present["probability"], abs=2e-4)
    assert absent["uncertain"] == present["uncertain"]
