from __future__ import annotations

import json
from pathlib import Path

import pytest

from crrg.config.base import STAGES
from crrg.config.references import BundleRef
from crrg.errors import CrrgError, DigestMismatch, ModelError
from crrg.registry import bundle as bundles
from crrg.registry import composing
from crrg.registry.bundle import read_bundle
from crrg.registry.composing import write_bundle
from crrg.storage import Storage
from tests.support.stand_in_bundle import edit, reseal, safetensors, stand_in_bundle, stand_in_stage


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


def test_what_was_written_is_read_back_whole(storage: Storage) -> None:
    ref = stand_in_bundle(storage)
    files = read_bundle(storage, ref)
    assert files.bundle_id == ref.bundle_id
    assert ref.prefix == f"models/bundles/{ref.bundle_id}"
    assert files.files["detector.safetensors"] == safetensors(1)
    assert json.loads(files.files["clip_tokenizer.json"]) == {"vocabulary": "clip"}
    assert files.spec["thresholds"] == {"Edema": 0.5}
    assert files.spec["stages"]["selector"] == {"architecture": {"size": 1}}
    assert b"not for diagnosis" in files.files["model_card.md"]


def test_the_id_depends_on_every_part_and_not_on_registered_versions(storage: Storage) -> None:
    first = stand_in_bundle(storage)
    assert stand_in_bundle(storage, version="9").bundle_id == first.bundle_id
    ids = {first.bundle_id} | {stand_in_bundle(storage, **{name: 2}).bundle_id for name in STAGES}
    assert len(ids) == 5


def test_an_absolute_folder_is_read_too(storage: Storage, tmp_path: Path) -> None:
    ref = stand_in_bundle(storage)
    elsewhere = Storage(str(tmp_path / "another"))
    moved = BundleRef(bundle_id=ref.bundle_id, prefix=storage.url(ref.prefix))
    assert read_bundle(elsewhere, moved).bundle_id == ref.bundle_id


def test_a_missing_stage_is_refused(storage: Storage) -> None:
    with pytest.raises(ModelError, match="clip"):
        write_bundle(storage, {"detector": stand_in_stage(storage, "detector")}, dataset_version="d1", image_size=64)


@pytest.mark.parametrize("name", bundles.REQUIRED_FILES)
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_part_is_refused(storage: Storage, name: str, damage: str) -> None:
    ref = stand_in_bundle(storage)
    key = f"{ref.prefix}/{name}"
    data = storage.get(key)
    if damage == "remove":
        storage.delete(key)
    else:
        storage.put(key, data[:-1] if damage == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(CrrgError):
        read_bundle(storage, ref)


def test_a_part_of_another_bundle_is_refused(storage: Storage) -> None:
    first, second = stand_in_bundle(storage), stand_in_bundle(storage, detector=2)
    name = "detector.safetensors"
    storage.put(f"{first.prefix}/{name}", storage.get(f"{second.prefix}/{name}"))
    with pytest.raises(DigestMismatch, match=name):
        read_bundle(storage, first)


def test_a_changed_threshold_is_refused(storage: Storage) -> None:
    ref = stand_in_bundle(storage)
    edit(storage, ref, thresholds={"Edema": 0.1})
    with pytest.raises(DigestMismatch, match="changed"):
        read_bundle(storage, ref)


def test_another_folder_under_the_recorded_id_is_refused(storage: Storage) -> None:
    first, second = stand_in_bundle(storage), stand_in_bundle(storage, clip=2)
    with pytest.raises(ModelError, match="disagree"):
        read_bundle(storage, BundleRef(bundle_id=first.bundle_id, prefix=second.prefix))


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00.",
        b"PK\x03\x04archive/data.pkl",
        b"",
        b"\x02\x00\x00\x00\x00\x00\x00\x00[]",
    ],
)
def test_anything_but_safetensors_is_refused_even_with_right_digests(storage: Storage, data: bytes) -> None:
    ref = reseal(storage, stand_in_bundle(storage), "detector.safetensors", data)
    with pytest.raises(ModelError, match="safetensors"):
        read_bundle(storage, ref)


def test_a_tokenizer_that_is_no_text_is_refused(storage: Storage) -> None:
    ref = reseal(storage, stand_in_bundle(storage), "tokenizer.json", b"\x80\x02}q\x00.")
    with pytest.raises(ModelError, match="tokenizer"):
        read_bundle(storage, ref)


def test_a_part_with_another_suffix_is_refused(storage: Storage) -> None:
    ref = stand_in_bundle(storage)
    spec = storage.get_json(f"{ref.prefix}/bundle.json")
    edit(storage, ref, files={**spec["files"], "extra.pt": "0" * 64})
    with pytest.raises(ModelError, match=r"extra\.pt"):
        read_bundle(storage, ref)


def test_other_preprocessing_is_refused(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = stand_in_bundle(storage)
    monkeypatch.setattr(bundles, "golden_digest", lambda: "0" * 64)
    with pytest.raises(ModelError, match="prepared differently"):
        read_bundle(storage, ref)


def of_schema(storage: Storage, ref: BundleRef, version: int, *without: str) -> BundleRef:
    """Rewrite a bundle as a program of another schema version would have, some fields of its preprocessing left out."""
    key = f"{ref.prefix}/bundle.json"
    spec = {name: value for name, value in storage.get_json(key).items() if name not in without}
    prepared = {name: value for name, value in spec["preprocessing"].items() if name not in without}
    sealed = {**spec, "preprocessing": prepared, "schema_version": version}
    sealed["bundle_id"] = bundles.bundle_digest(sealed)
    storage.put_json(key, sealed)
    return BundleRef(bundle_id=sealed["bundle_id"], prefix=ref.prefix)


def test_bundles_of_earlier_schemas_are_read_and_later_ones_are_refused(storage: Storage) -> None:
    second = of_schema(storage, stand_in_bundle(storage, detector=2), 2, "image_size")
    assert read_bundle(storage, second).spec["fusion"] is None
    ref = stand_in_bundle(storage)
    first = of_schema(storage, ref, 1, "image_size", "fusion")
    assert "fusion" not in read_bundle(storage, first).spec
    for version, why in ((2, "lacks fusion"), (4, "lacks fusion"), (5, "reads 1 and 2 and 3 and 4")):
        with pytest.raises(ModelError, match=why):
            read_bundle(storage, of_schema(storage, ref, version))


def test_a_bundle_says_how_large_its_films_were(storage: Storage) -> None:
    ref = stand_in_bundle(storage, image_size=1024)
    assert read_bundle(storage, ref).image_size == bundles.read_image_size(storage, ref) == 1024
    assert "Films of 1024 pixels" in storage.get(f"{ref.prefix}/model_card.md").decode()
    assert ref.bundle_id != stand_in_bundle(storage, image_size=512).bundle_id
    older = of_schema(storage, ref, 2, "image_size")
    assert read_bundle(storage, older).image_size == 512
    assert bundles.read_image_size(storage, older) == 0
    with pytest.raises(ModelError, match=r"lacks preprocessing\.image_size"):
        read_bundle(storage, of_schema(storage, ref, 3, "image_size"))


def test_a_fused_classifier_makes_another_bundle_with_its_thresholds(storage: Storage) -> None:
    parts = {name: stand_in_stage(storage, name) for name in STAGES}
    plain = composing.compose_bundle(storage, parts, dataset_version="d1", image_size=512)
    assert plain.spec["fusion"] is None
    assert plain.bundle_id == stand_in_bundle(storage).bundle_id
    fitted = {"Edema": {"threshold": 0.25, "calibration": {"kind": "temperature", "temperature": 1.5}}}
    settings = {"operating_point": "specificity", "specificity": 0.9}
    fused = composing.with_fusion(plain, {"settings": settings, "num_films": 7, "labels": fitted})
    assert fused.bundle_id != plain.bundle_id
    again = read_bundle(storage, bundles.commit_bundle(storage, fused))
    assert again.spec["thresholds"] == {"Edema": 0.25}
    assert again.spec["fusion"]["labels"] == fitted
    card = again.files["model_card.md"].decode()
    assert "7 validation films; thresholds for a specificity of 0.9" in card
    assert "| Edema | 0.250 | temperature 1.50 |" in card


def test_no_bundle_names_the_way_out(storage: Storage) -> None:
    with pytest.raises(ModelError, match=r"no bundle\.json"):
        read_bundle(storage, BundleRef(bundle_id="x", prefix="models/bundles/x"))
