"""CheXzero's published layout on random weights: our towers say what its own forward pass says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmarks.classification.published import TextSizes, VitSizes, clip_image_features, clip_text_features
from benchmarks.classification.published_files import clip_shapes, random_state
from crrg.config.models import ClipArchitecture
from crrg.config.paper import CHEXZERO
from crrg.errors import ModelError
from crrg.importers.chexzero import chexzero_architecture, read_chexzero
from crrg.importers.imported import ImportedStage
from crrg.importers.torch_file import TorchContents

TEXT = TextSizes(num_positions=20)
VIT = VitSizes()
TOLERANCE = 1e-4


def import_state(state: dict[str, Tensor]) -> ImportedStage:
    """Import what a file with this state dict would hold."""
    return read_chexzero(TorchContents(state, {}, {}))


def length_one(features: Tensor) -> Tensor:
    return features / features.norm(dim=-1, keepdim=True)


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_films_and_texts_give_the_published_features(dtype: torch.dtype) -> None:
    stored = {name: value.to(dtype) for name, value in random_state(clip_shapes(VIT, TEXT, 32)).items()}
    stage = import_state(stored)
    state = {name: value.float() for name, value in stored.items()}
    model = stage.module.eval()
    films = torch.randint(0, 256, (2, 1, 48, 48), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    wanted = clip_image_features(state, ((films.float() - 101.48761) / 83.43944).expand(-1, 3, -1, -1))
    found = model.encode_image(films)
    torch.testing.assert_close(found, length_one(wanted), rtol=0, atol=TOLERANCE)
    assert found.std(dim=0).amax() > 10 * TOLERANCE
    token_ids = torch.randint(0, 300, (3, 11), generator=torch.Generator().manual_seed(2))
    lengths = torch.tensor([11, 4, 7])
    mask = (torch.arange(11)[None] < lengths[:, None]).long()
    wanted = clip_text_features(state, token_ids, lengths - 1)
    found = model.encode_text(token_ids, mask)
    torch.testing.assert_close(found, length_one(wanted), rtol=0, atol=TOLERANCE)
    assert found.std(dim=0).amax() > 10 * TOLERANCE
    assert {value.dtype for value in model.parameters()} == {torch.float32}


def test_every_key_is_accounted_for() -> None:
    state = random_state(clip_shapes(VIT, TEXT, 32))
    stage = import_state({**state, "context_length": torch.tensor(20)})
    report = stage.key_report
    assert report["dropped"] == ["context_length"]
    assert set(report["taken"].values()) == set(state)
    # each of the three projections of a block is a third of one matrix of theirs
    block = "image_tower.vit.encoder.layers.0.self_attn"
    thirds = [report["taken"][f"{block}.{part}_proj.weight"] for part in "qkv"]
    assert thirds == ["visual.transformer.resblocks.0.attn.in_proj_weight"] * 3
    assert stage.config["framing"] == "padded"
    assert "Commons Clause" in stage.config["licence"]


@pytest.mark.parametrize(
    ("vit", "projection_size", "wanted"),
    [
        (VitSizes(768, 12, 32, 7), 512, CHEXZERO),
        (
            VitSizes(768, 12, 16, 20),
            768,
            CHEXZERO.model_copy(update={"input_size": 320, "patch_size": 16, "projection_size": 768}),
        ),
    ],
    ids=["ViT-B/32", "from scratch at 320 pixels"],
)
def test_both_published_variants_are_told_by_their_shapes(
    vit: VitSizes, projection_size: int, wanted: ClipArchitecture
) -> None:
    shapes = clip_shapes(vit, TextSizes(512, 12, 49408, 77), projection_size)
    tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    assert chexzero_architecture(TorchContents(tensors, {}, {})) == wanted


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("ln_final.bias"), "1 missing"),
        (lambda state: state.update({"visual.attnpool.weight": torch.zeros(1)}), "1 unknown"),
        (lambda state: state.update({"visual.ln_pre.bias": torch.zeros(3)}), "1 of another shape"),
        (lambda state: state.update({"transformer.resblocks.0.attn.in_proj_bias": torch.zeros(5)}), "3 equal parts"),
        (lambda state: state.update({"visual.positional_embedding": torch.zeros(9, 128)}), "form a square"),
        (lambda state: state.pop("visual.conv1.weight"), "visual.conv1.weight is missing"),
    ],
)
def test_what_does_not_fit_refuses_the_file(change, message: str) -> None:
    state = random_state(clip_shapes(VIT, TEXT, 32))
    change(state)
    with pytest.raises(ModelError, match=message):
        import_state(state)
