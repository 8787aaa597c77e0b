"""From a published file by the command to films that are asked about labels, and to reports that are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from benchmarks.classification.published import (
    SwinSizes,
    TextSizes,
    VitSizes,
    below,
    bert_eos,
    clip_image_features,
    clip_text_features,
    swin_places,
)
from benchmarks.classification.published_files import clip_shapes, cxr_clip_state, random_state, save_cxr_clip
from crrg.cli import app
from crrg.data.framing import frame_film
from crrg.domain.labels import FINDINGS, LABELS
from crrg.domain.study import Film, ViewPosition
from crrg.errors import ConfigError, ModelError
from crrg.operations.registry.importing import import_checkpoint, load_published_clip
from tests.support.drawn_night import png_bytes
from tests.support.keys import KEY

CPU = torch.device("cpu")
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "no",
    "pneumonia",
    "edema",
    "evidence",
    "of",
    "findings",
    "suggesting",
    ".",
]
SWIN = SwinSizes(width=8, depths=(1, 2), heads=(1, 2), window=7)
TEXT = TextSizes(width=64, num_layers=1)


def films() -> list[Film]:
    rng = np.random.default_rng(0)
    shapes = [(60, 48), (48, 70), (50, 50)]
    return [
        Film(
            pixels=rng.integers(0, 256, shape, dtype=np.uint8), original_width=shape[1], original_height=shape[0],
            view_position=ViewPosition.PA, pixel_spacing_mm=None, polarity_inverted=False, pixel_digest=bytes(32),
        )
        for shape in shapes
    ]  # fmt: skip


def bert_vocabulary(folder: Path) -> Path:
    (folder / "vocab.txt").write_text("\n".join([*WORDS, *(f"[unused{i}]" for i in range(300 - len(WORDS)))]))
    return folder / "vocab.txt"


def clip_merges(folder: Path) -> Path:
    (folder / "merges.txt").write_text("#version: 0.2\nn o</w>\ne d\ned e\nede m\nedem a</w>\n")
    return folder / "merges.txt"


def unit(values: torch.Tensor) -> torch.Tensor:
    return values / values.norm(dim=-1, keepdim=True)


def squares(size: int, framing: str) -> torch.Tensor:
    return torch.from_numpy(np.stack([frame_film(film.pixels, size, framing) for film in films()]))[:, None]


@torch.inference_mode()
def test_an_imported_cxr_clip_asks_films_as_it_was_published(tmp_path: Path) -> None:
    state = cxr_clip_state(TEXT, 16, SWIN)
    save_cxr_clip(state, tmp_path / "any-name.tar", {"image_encoder": {"name": "swin-tiny"}})
    arguments = ["import", "cxr-clip", str(tmp_path / "any-name.tar"), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*arguments, "--tokenizer", str(bert_vocabulary(tmp_path))])
    assert done.exit_code == 0, done.output
    assert "CC BY-NC 4.0" in done.stderr
    assert "non-commercial" in done.stdout
    assert "no vocabulary" not in done.stdout
    for name in ("key_report.json", "clip/config.json"):
        assert "non-commercial" in json.loads((tmp_path / "out" / name).read_text())["licence"]
    model = load_published_clip(tmp_path / "out", CPU)
    found = model.zero_shot(films(), ["Pneumonia", "Edema"])

    images = (squares(224, "center_crop") / 255 - 0.5) / 0.5
    raw = swin_places(below(state, "image_encoder.image_encoder"), images.expand(-1, 3, -1, -1), SWIN)[:, 0]
    head = below(state, "image_projection.projection")
    seen = unit(raw @ head["weight"].T + head["bias"])
    # [CLS] no evidence of pneumonia [SEP], [CLS] findings suggesting pneumonia . [SEP], and edema by its name
    texts = [[2, 4, 7, 8, 5, 3], [2, 9, 10, 5, 11, 3], [2, 4, 6, 3], [2, 6, 3]]
    for column, label in enumerate(("Pneumonia", "Edema")):
        cosines = []
        for ids in texts[2 * column : 2 * column + 2]:
            token_ids = torch.tensor([ids])
            raw = bert_eos(below(state, "text_encoder.text_encoder"), token_ids, torch.ones_like(token_ids), 1)
            head = below(state, "text_projection.projection")
            cosines.append(seen @ unit(raw @ head["weight"].T + head["bias"])[0])
        wanted = torch.stack(cosines, dim=1).softmax(dim=1)[:, 1]
        np.testing.assert_allclose(found[label], wanted, rtol=0, atol=1e-4)
        assert len(set(found[label].round(5))) == 3
    alone = model.zero_shot(films()[1:2], ["Edema"])["Edema"]
    assert alone[0] == pytest.approx(found["Edema"][1], abs=1e-6)
    with pytest.raises(ModelError, match="no classifier"):
        model.label_probabilities(films())


@torch.inference_mode()
def test_an_imported_chexzero_asks_films_as_it_was_published(tmp_path: Path) -> None:
    text = TextSizes(64, 1, 2 * 256 + 5 + 2, 20)
    state = random_state(clip_shapes(VitSizes(64, 1, 16, 4), text, 16))
    torch.save({name: value.half() for name, value in state.items()}, tmp_path / "best.pt")
    report = import_checkpoint("chexzero", tmp_path / "best.pt", tmp_path / "out", clip_merges(tmp_path))
    assert "Commons Clause" in report["licence"]
    model = load_published_clip(tmp_path / "out", CPU)
    found = model.zero_shot(films(), [*FINDINGS, "No Finding"])

    state = {name: value.half().float() for name, value in state.items()}
    images = (squares(64, "padded") - 101.48761) / 83.43944
    seen = unit(clip_image_features(state, images.expand(-1, 3, -1, -1)))
    # <start> edema <end>, <start> no edema <end>
    start, end, no, edema = 517, 518, 512, 516
    pair = [unit(clip_text_features(state, torch.tensor([ids]), torch.tensor([len(ids) - 1])))[0]
            for ids in ([start, edema, end], [start, no, edema, end])]  # fmt: skip
    positive, negative = ((seen @ features).exp() for features in pair)
    np.testing.assert_allclose(found["Edema"], positive / (positive + negative), rtol=0, atol=1e-4)
    abnormal = [found[label] for label in FINDINGS if label != "Support Devices"]
    np.testing.assert_allclose(found["No Finding"], 1 - np.max(abnormal, axis=0))
    assert set(found) == set(LABELS)


def test_imported_models_are_asked_by_the_command_alone_and_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRRG_HMAC_KEY", KEY)
    (tmp_path / "film.png").write_bytes(png_bytes(1))
    merges, folders = clip_merges(tmp_path), []
    for number in range(2):
        state = random_state(
            clip_shapes(VitSizes(64, 1, 16, 4), TextSizes(64, 1, 2 * 256 + 5 + 2, 20), 16), seed=number
        )
        torch.save(state, tmp_path / f"checkpoint{number}.pt")
        folders.append(str(tmp_path / f"imported{number}"))
        import_checkpoint("chexzero", tmp_path / f"checkpoint{number}.pt", Path(folders[-1]), merges)

    def answer(*models: str) -> dict[str, Any]:
        out = tmp_path / f"asked{'-'.join(str(folders.index(model)) for model in models)}"
        named = [word for model in models for word in ("--model", model)]
        arguments = ["zero-shot", str(tmp_path / "film.png"), "--label", "edema", "--out", str(out), *named]
        done = CliRunner().invoke(app, [*arguments, "--device", "cpu", "--root", str(tmp_path / "root")])
        assert done.exit_code == 0, done.output
        return dict(json.loads((out / "film.png.json").read_text()))

    alone = [answer(folder) for folder in folders]
    together = answer(*folders)
    assert together["bundle_id"] == "+".join(found["bundle_id"] for found in alone)
    assert all(found["bundle_id"].startswith("chexzero-") for found in alone)
    chances = [found["labels"]["Edema"]["probability"] for found in [*alone, together]]
    assert chances[0] != chances[1]
    assert chances[2] == pytest.approx((chances[0] + chances[1]) / 2, abs=2e-4)


def test_without_its_vocabulary_an_import_says_that_no_text_can_be_read(tmp_path: Path) -> None:
    state = random_state(clip_shapes(VitSizes(64, 1, 16, 4), TextSizes(64, 1, 519, 20), 16))
    torch.save(state, tmp_path / "best.pt")
    done = CliRunner().invoke(app, ["import", "chexzero", str(tmp_path / "best.pt"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "no vocabulary was given" in done.stdout
    model = load_published_clip(tmp_path / "out", CPU)
    assert model.read_films(films()).image_features.shape == (3, 16)
    assert model.read_films([]).image_features.shape == (0, 16)
    with pytest.raises(ModelError, match="import it again with --tokenizer"):
        model.zero_shot(films(), ["Edema"])
    with (tmp_path / "out" / "clip" / "model.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ModelError, match="import again"):
        load_published_clip(tmp_path / "out", CPU)
    with pytest.raises(ModelError, match="no imported clip"):
        load_published_clip(tmp_path, CPU)


def test_a_vocabulary_is_the_one_that_was_imported(tmp_path: Path) -> None:
    state = random_state(clip_shapes(VitSizes(64, 1, 16, 4), TextSizes(64, 1, 519, 20), 16))
    torch.save(state, tmp_path / "best.pt")
    import_checkpoint("chexzero", tmp_path / "best.pt", tmp_path / "out", clip_merges(tmp_path))
    vocabulary = tmp_path / "out" / "clip" / "tokenizer.json"
    imported = vocabulary.read_bytes()
    vocabulary.write_bytes(imported.replace(b'"n":', b'"?":'))
    with pytest.raises(ModelError, match="the vocabulary has digest"):
        load_published_clip(tmp_path / "out", CPU)
    vocabulary.unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        load_published_clip(tmp_path / "out", CPU)
    # imported again without one, what an earlier import left is not used
    vocabulary.write_bytes(imported)
    import_checkpoint("chexzero", tmp_path / "best.pt", tmp_path / "out")
    with pytest.raises(ModelError, match="no vocabulary was given"):
        load_published_clip(tmp_path / "out", CPU).encode_texts(["Edema"])


def test_other_kinds_and_strange_vocabularies_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one of rgrg, cxr-clip, chexzero, chexbert"):
        import_checkpoint("other", tmp_path / "none.pt", tmp_path)
    state = random_state(clip_shapes(VitSizes(64, 1, 16, 4), TextSizes(64, 1, 600, 20), 16))
    torch.save(state, tmp_path / "best.pt")
    with pytest.raises(ModelError, match="519 tokens, the text tower 600"):
        import_checkpoint("chexzero", tmp_path / "best.pt", tmp_path / "out", clip_merges(tmp_path))
    assert not (tmp_path / "out").exists()
