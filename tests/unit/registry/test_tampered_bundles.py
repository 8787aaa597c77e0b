"""Whatever is done to a bundle, it is refused before anything in it is parsed, let alone run."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crrg.config.references import BundleRef
from crrg.data import images
from crrg.data.tokenizer import train_tokenizer
from crrg.domain import boxes
from crrg.errors import CrrgError, DigestMismatch, ModelError
from crrg.registry import bundle as bundles
from crrg.registry.bundle import REQUIRED_FILES, read_bundle
from crrg.storage import Storage
from tests.support.stand_in_bundle import edit, reseal, stand_in_bundle

Tampering = Callable[[Storage, BundleRef], None]
TOKENIZER = train_tokenizer(["another vocabulary of other words"], 300).to_bytes()


def flip(name: str, place: int) -> Tampering:
    def tamper(storage: Storage, ref: BundleRef) -> None:
        data = bytearray(storage.get(f"{ref.prefix}/{name}"))
        data[place] ^= 1
        storage.put(f"{ref.prefix}/{name}", bytes(data))

    return tamper


def cut(name: str, num_bytes: int) -> Tampering:
    return lambda storage, ref: storage.put(f"{ref.prefix}/{name}", storage.get(f"{ref.prefix}/{name}")[:num_bytes])


def replace(name: str, data: bytes) -> Tampering:
    return lambda storage, ref: storage.put(f"{ref.prefix}/{name}", data)


def swap(one: str, other: str) -> Tampering:
    def tamper(storage: Storage, ref: BundleRef) -> None:
        first, second = (storage.get(f"{ref.prefix}/{name}") for name in (one, other))
        storage.put(f"{ref.prefix}/{one}", second)
        storage.put(f"{ref.prefix}/{other}", first)

    return tamper


def change(**values: Any) -> Tampering:
    return lambda storage, ref: edit(storage, ref, **values)


def take_from_another(name: str) -> Tampering:
    def tamper(storage: Storage, ref: BundleRef) -> None:
        other = stand_in_bundle(storage, detector=2, clip=2, generator=2, selector=2)
        storage.put(f"{ref.prefix}/{name}", storage.get(f"{other.prefix}/{name}"))

    return tamper


def correct_the_digest_of(name: str, data: bytes) -> Tampering:
    def tamper(storage: Storage, ref: BundleRef) -> None:
        files = storage.get_json(f"{ref.prefix}/bundle.json")["files"]
        edit(storage, ref, files={**files, name: hashlib.sha256(data).hexdigest()})
        storage.put(f"{ref.prefix}/{name}", data)

    return tamper


def make_everything_right_but_the_registry(storage: Storage, ref: BundleRef) -> None:
    reseal(storage, ref, "tokenizer.json", TOKENIZER)


TAMPERINGS: dict[str, Tampering] = {
    **{f"a bit of {name} flipped": flip(name, -1) for name in REQUIRED_FILES},
    "a bit of a header flipped": flip("detector.safetensors", 0),
    "a bit in the middle flipped": flip("clip.safetensors", 20),
    "weights cut by a byte": cut("generator.safetensors", -1),
    "weights cut in their header": cut("selector.safetensors", 9),
    "weights cut to nothing": cut("detector.safetensors", 0),
    "tokenizer cut": cut("tokenizer.json", 5),
    "bundle.json cut": cut("bundle.json", 40),
    "bundle.json emptied": replace("bundle.json", b""),
    "two parts swapped": swap("detector.safetensors", "clip.safetensors"),
    "the tokenizers swapped": swap("tokenizer.json", "clip_tokenizer.json"),
    "a part of another bundle": take_from_another("selector.safetensors"),
    "another tokenizer": replace("tokenizer.json", TOKENIZER),
    "another tokenizer and its digest": correct_the_digest_of("tokenizer.json", TOKENIZER),
    "another tokenizer, its digest and the id": make_everything_right_but_the_registry,
    "another threshold": change(thresholds={"Edema": 0.1}),
    "another calibration": change(calibration={"Edema": {"slope": 9.0, "bias": 0.0}}),
    "other labels": change(labels=["Edema"]),
    "other decoding": change(decoding={"num_beams": 1}),
    "another preprocessing": change(preprocessing={"version": "0", "golden_digest": "0" * 64}),
    "other stages": change(stages={}),
    "another schema version": change(schema_version=99),
    "no files": change(files={}),
    "another id": change(bundle_id="0" * 32),
}


def whole_bundle(storage: Storage) -> BundleRef:
    """Write a bundle in which no two parts are equal."""
    return stand_in_bundle(storage, detector=1, selector=3, generator=4, clip=5)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "root"))


@pytest.mark.parametrize("name", TAMPERINGS)
def test_a_tampered_bundle_is_refused_before_a_part_is_parsed(
    storage: Storage, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = whole_bundle(storage)
    seen: list[str] = []
    check = bundles._check_content
    monkeypatch.setattr(bundles, "_check_content", lambda part, data: (seen.append(part), check(part, data)))
    assert read_bundle(storage, ref).bundle_id == ref.bundle_id
    seen.clear()
    good = {part: hashlib.sha256(storage.get(f"{ref.prefix}/{part}")).hexdigest() for part in REQUIRED_FILES}
    TAMPERINGS[name](storage, ref)
    with pytest.raises(CrrgError):
        read_bundle(storage, ref)
    now = {part: hashlib.sha256(storage.get(f"{ref.prefix}/{part}")).hexdigest() for part in REQUIRED_FILES}
    assert [part for part in seen if good[part] != now[part]] == []


def test_there_are_more_than_twenty() -> None:
    assert len(TAMPERINGS) >= 20


def test_a_changed_constant_of_the_preprocessing_is_refused(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = whole_bundle(storage)
    monkeypatch.setattr(images.cv2, "INTER_AREA", images.cv2.INTER_NEAREST)
    with pytest.raises(ModelError, match="prepared differently"):
        read_bundle(storage, ref)
    monkeypatch.undo()
    assert read_bundle(storage, ref)
    monkeypatch.setattr(boxes.Letterbox, "offset", property(lambda _: (0, 0)))
    with pytest.raises(ModelError, match="prepared differently"):
        read_bundle(storage, ref)


class Runs:
    """Makes a folder where it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def plain(payload: Runs) -> bytes:
    return pickle.dumps(payload)


def oldest(payload: Runs) -> bytes:
    return pickle.dumps(payload, protocol=0)


def zipped(payload: Runs) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(payload))
        archive.writestr("archive/version", "3")
    return buffer.getvalue()


def torch_archive(payload: Runs) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save({"weight": payload}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("make", [plain, oldest, zipped, torch_archive])
@pytest.mark.parametrize("part", ["detector.safetensors", "clip_tokenizer.json", "model_card.md"])
def test_a_pickle_in_the_place_of_a_part_is_never_run(
    storage: Storage, tmp_path: Path, make: Callable[[Runs], bytes], part: str
) -> None:
    marker = tmp_path / "marker"
    data = make(Runs(marker))
    ref = reseal(storage, whole_bundle(storage), part, data)
    if part == "model_card.md" and make is oldest:
        # text without a NUL: as a card it is words, and nothing reads them but people
        assert read_bundle(storage, ref).files[part] == data
    else:
        with pytest.raises(ModelError, match="this part is something else"):
            read_bundle(storage, ref)
    assert not marker.exists()
    pickle.loads(plain(Runs(marker)))  # noqa: S301 - shows that it would have run
    assert marker.exists()


@pytest.mark.parametrize("name", ["model.pt", "model.pkl", "model.bin", "model.ckpt"])
def test_a_bundle_that_lists_a_pickle_is_refused_by_its_name(storage: Storage, tmp_path: Path, name: str) -> None:
    marker = tmp_path / "marker"
    ref = reseal(storage, whole_bundle(storage), name, zipped(Runs(marker)))
    with pytest.raises(ModelError, match="unexpected parts"):
        read_bundle(storage, ref)
    assert not marker.exists()


def test_another_vocabulary_for_the_text_tower_is_refused_even_with_right_digests() -> None:
    from crrg.inference.zero_shot import read_text_tokenizer

    trained = train_tokenizer(["the words of training"], 300)
    config = {"tokenizer_sha256": trained.sha256}
    assert read_text_tokenizer(config, trained.to_bytes()).sha256 == trained.sha256
    with pytest.raises(ModelError, match="tokenizer"):
        read_text_tokenizer(config, TOKENIZER)
    for data in (b"{}", json.dumps({"model": {}}).encode()):
        with pytest.raises(CrrgError):
            read_text_tokenizer({}, data)


def test_digests_are_checked_where_only_the_digest_is_wrong(storage: Storage) -> None:
    ref = whole_bundle(storage)
    correct_the_digest_of("clip_tokenizer.json", TOKENIZER)(storage, ref)
    with pytest.raises(DigestMismatch):
        read_bundle(storage, ref)
