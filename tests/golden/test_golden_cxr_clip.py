"""CXR-CLIP's published layout on random weights: our towers say what its own forward pass says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.classification.published import (
    IMAGENET,
    SwinSizes,
    TextSizes,
    below,
    bert_eos,
    normalised,
    resnet_features,
    swin_places,
)
from benchmarks.classification.published_files import cxr_clip_state, random_state, resnet_shapes
from crrg.errors import ModelError
from crrg.importers.cxr_clip import read_cxr_clip
from crrg.importers.imported import ImportedStage
from crrg.importers.torch_file import TorchContents

TEXT = TextSizes()
SWIN = SwinSizes()
TOLERANCE = 1e-4
PATCHES = "image_encoder.image_encoder.embeddings.patch_embeddings.projection"
WORDS = "text_encoder.text_encoder.embeddings.word_embeddings"
TOLD = {
    "resnet": {"image_encoder.name": "resnet50", "text_encoder.pooling": "eos"},
    "swin": {"image_encoder.name": "swin-tiny-patch4-window7-224", "text_encoder.pooling": "eos"},
}


def films(size: int) -> Tensor:
    return torch.randint(0, 256, (2, 1, size, size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def texts() -> tuple[Tensor, Tensor]:
    token_ids = torch.randint(0, 300, (3, 11), generator=torch.Generator().manual_seed(2))
    return token_ids, (torch.arange(11)[None] < torch.tensor([11, 4, 7])[:, None]).long()


def import_state(state: dict[str, Tensor], told: dict[str, str]) -> ImportedStage:
    """Import what a file with this model and configuration would hold."""
    values = {f"config.model.{name}": value for name, value in told.items()}
    return read_cxr_clip(TorchContents({f"model.{name}": value for name, value in state.items()}, {}, values))


def project(state: dict[str, Tensor], raw: Tensor, name: str) -> Tensor:
    head = below(state, name)
    first = raw @ head["projection.weight"].T + head["projection.bias"]
    if "fc.weight" in head:
        second = functional.gelu(first) @ head["fc.weight"].T + head["fc.bias"]
        first = functional.layer_norm(
            first + second, first.shape[-1:], head["layer_norm.weight"], head["layer_norm.bias"]
        )
    return first / first.norm(dim=-1, keepdim=True)


def check_texts(stage: ImportedStage, state: dict[str, Tensor]) -> None:
    token_ids, mask = texts()
    raw = bert_eos(below(state, "text_encoder.text_encoder"), token_ids, mask, TEXT.num_layers)
    found = stage.module.eval().encode_text(token_ids, mask)
    torch.testing.assert_close(found, project(state, raw, "text_projection"), rtol=0, atol=TOLERANCE)
    assert found.std(dim=0).amax() > 10 * TOLERANCE


@torch.inference_mode()
def test_resnet_and_bert_give_the_published_features() -> None:
    state = cxr_clip_state(TEXT, 32)
    stage = import_state(state, TOLD["resnet"])
    images = normalised(films(64) / 255.0, *IMAGENET)
    raw = resnet_features(below(state, "image_encoder.resnet"), images)
    found = stage.module.eval().encode_image(films(64))
    torch.testing.assert_close(found, project(state, raw, "image_projection"), rtol=0, atol=TOLERANCE)
    assert found.std(dim=0).amax() > 10 * TOLERANCE
    check_texts(stage, state)
    architecture = stage.config["architecture"]
    assert (architecture["text_layers"], architecture["text_heads"], architecture["max_text_length"]) == (2, 2, 40)
    assert stage.config["framing"] == "center_crop"
    assert "non-commercial" in stage.config["licence"]


@torch.inference_mode()
@pytest.mark.parametrize("is_mlp", [False, True])
def test_swin_gives_the_published_features_of_its_first_place(is_mlp: bool) -> None:
    state = cxr_clip_state(TEXT, 32, SWIN, is_mlp=is_mlp)
    stage = import_state(state, TOLD["swin"])
    places = swin_places(
        below(state, "image_encoder.image_encoder"), normalised(films(48) / 255.0, (0.5,) * 3, (0.5,) * 3), SWIN
    )
    found = stage.module.eval().encode_image(films(48))
    torch.testing.assert_close(found, project(state, places[:, 0], "image_projection"), rtol=0, atol=TOLERANCE)
    assert found.std(dim=0).amax() > 10 * TOLERANCE
    check_texts(stage, state)
    architecture = stage.config["architecture"]
    assert architecture["image_layers"] == [2, 2, 2]
    assert (architecture["image_heads"], architecture["window_size"]) == ([1, 2, 3], 3)
    assert (architecture["image_pooling"], architecture["projection"]) == ("token0", "mlp" if is_mlp else "linear")


@torch.inference_mode()
def test_a_fine_tuned_file_reads_labels_and_no_texts() -> None:
    shapes = {f"image_encoder.resnet.{name}": shape for name, shape in resnet_shapes().items()}
    head = {"classifier.classification_head.weight": (3, 2048), "classifier.classification_head.bias": (3,)}
    state = random_state({**shapes, **head})
    stage = import_state(state, {"load_backbone_weights": "/nowhere/backbone.tar"})
    raw = resnet_features(below(state, "image_encoder.resnet"), normalised(films(64) / 255.0, *IMAGENET))
    wanted = raw @ state["classifier.classification_head.weight"].T + state["classifier.classification_head.bias"]
    reading = stage.module.eval().read_films(films(64))
    torch.testing.assert_close(reading.label_logits, wanted, rtol=1e-4, atol=TOLERANCE)
    # the map of a linear head is its class activation map: its mean is the logit
    torch.testing.assert_close(reading.cell_logits.mean(dim=(2, 3)), reading.label_logits, rtol=1e-4, atol=TOLERANCE)
    with pytest.raises(ModelError, match="no text tower"):
        stage.module.encode_text(*texts())
    assert stage.key_report["own"] == ["logit_scale"]
    assert stage.config["architecture_from"] == "tensors"
    assert "nowhere" not in str(stage.config)


def test_the_published_temperature_runs_free() -> None:
    state = {**cxr_clip_state(TEXT, 32), "logit_scale": torch.tensor(5.0)}
    assert float(import_state(state, TOLD["resnet"]).module.scale.detach()) == pytest.approx(148.413, abs=1e-3)


def test_every_key_is_accounted_for_and_what_is_dropped_is_named() -> None:
    state = cxr_clip_state(TEXT, 32, SWIN)
    report = import_state(state, TOLD["swin"]).key_report
    assert sorted([*report["taken"].values(), *report["dropped"]]) == sorted(state)
    assert report["own"] == []
    bert = "text_encoder.text_encoder"
    assert {name for name in report["dropped"] if name.startswith(bert)} == {
        f"{bert}.embeddings.position_ids", f"{bert}.pooler.dense.weight", f"{bert}.pooler.dense.bias",
    }  # fmt: skip
    assert sum(name.endswith("relative_position_index") for name in report["dropped"]) == 6
    assert len(report["dropped"]) == 9


@pytest.mark.parametrize(
    ("change", "told", "message"),
    [
        (lambda state: state.pop("text_projection.projection.bias"), TOLD["swin"], "1 missing"),
        (lambda state: state.update({"image_encoder.more.weight": torch.zeros(1)}), TOLD["swin"], "1 unknown"),
        (lambda state: state.update({"logit_scale": torch.zeros(2)}), TOLD["swin"], "1 of another shape"),
        (lambda state: state.update({"logit_scale": torch.tensor(torch.nan)}), TOLD["swin"], "1 with NaN"),
        (lambda state: state.update({"logit_scale": torch.tensor(3)}), TOLD["swin"], "logit_scale int64"),
        (lambda state: state.update({f"{PATCHES}.weight": torch.zeros(8)}), TOLD["swin"], "has not 4 dimensions"),
        (lambda state: state.update({f"{WORDS}.weight": torch.zeros(())}), TOLD["swin"], "has not 2 dimensions"),
        (
            lambda state: [state.pop(name) for name in list(state) if ".encoder.layers." in name],
            TOLD["swin"],
            "no encoder",
        ),
        (lambda state: state, TOLD["resnet"], "neither a ResNet-50 nor a Swin-T"),
        (lambda state: state, {"text_encoder.pooling": "bos"}, "only 'eos'"),
    ],
)
def test_what_does_not_fit_refuses_the_file(change, told: dict[str, str], message: str) -> None:
    state = cxr_clip_state(TEXT, 32, SWIN)
    change(state)
    with pytest.raises(ModelError, match=message):
        import_state(state, told)
