"""A dataset is given a detector's boxes: what is written, what stays, and that nothing is guessed for lateral films."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import crrg.models.detector
import crrg.training.detector
from crrg.config.base import Settings
from crrg.config.references import BundleRef
from crrg.config.running import GroundConfig
from crrg.data.dataset.pairs import list_versions, read_manifest, read_pairs, resolve_dataset, write_dataset
from crrg.data.dataset.rewrite import retire_version, rewrite_version
from crrg.data.privacy.forgotten import UNFINISHED
from crrg.domain.acquisition import Acquisition
from crrg.domain.bundle import BundleFiles
from crrg.domain.regions import NUM_REGIONS, REGION_INDEX
from crrg.domain.report import Report
from crrg.domain.study import Film, Pair, RegionAnnotation, RegionSource, Split, ViewPosition
from crrg.errors import StorageError
from crrg.ledger.audit import read_audit
from crrg.models.detector import Detections
from crrg.operations.ingest import ground as operation
from crrg.storage import Storage

SIZE = 64
HEART = REGION_INDEX["cardiac silhouette"]
CARINA = REGION_INDEX["carina"]


def pair(number: int, view: ViewPosition, *regions: RegionAnnotation) -> Pair:
    pixels = np.full((80, 60), number, dtype=np.uint8)
    film = Film(pixels, 120, 160, view, None, False, bytes([number]) * 32)
    report = Report(findings="The heart is normal in size. The lungs are clear. The carina is unremarkable.")
    split = Split.TRAIN if number < 40 else Split.TEST
    ids = f"{number:02d}"
    return Pair(f"p{ids}", f"s{ids}", f"i{ids}", film, report, regions, {}, "report", "folder", b"x" * 32, split)


@pytest.fixture
def storage(tmp_path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    def detect(_model, images, _device) -> Detections:
        boxes = torch.zeros(len(images), NUM_REGIONS, 4)
        scores = torch.zeros(len(images), NUM_REGIONS)
        boxes[:, HEART] = torch.tensor([18.0, 16.0, 38.0, 48.0])
        boxes[:, HEART, 0] += torch.from_numpy(images.max(axis=(1, 2)).astype(np.float32)) / 10
        scores[:, HEART] = 0.9
        scores[:, CARINA] = 0.2
        boxes[:, CARINA] = torch.tensor([20.0, 20.0, 30.0, 30.0])
        return Detections(boxes, scores, scores > 0)

    spec = {"stages": {"detector": {}}, "files": {"detector.safetensors": "ab" * 32}}
    files = BundleFiles(bundle_id="b", spec=spec, files={"detector.safetensors": b""})
    ref = SimpleNamespace(ref=BundleRef(bundle_id="b", prefix="b"))
    model = SimpleNamespace(architecture=SimpleNamespace(input_size=SIZE))
    monkeypatch.setattr(operation, "resolve_bundle", lambda *_: ref)
    monkeypatch.setattr(operation, "read_bundle", lambda *_: files)
    monkeypatch.setattr(crrg.models.detector, "load_detector", lambda *_: model)
    monkeypatch.setattr(crrg.training.detector, "detect_films", detect)
    return Storage(str(tmp_path))


def test_frontal_films_get_boxes_with_phrases_and_keep_their_split(storage: Storage) -> None:
    lungs = RegionAnnotation("right lung", (10.0, 10.0, 50.0, 120.0), None, None, RegionSource.MASK)
    rows = [pair(n, ViewPosition.PA, *([lungs] if n == 2 else [])) for n in range(1, 45)]
    rows[2] = replace(rows[2], acquisition=Acquisition("M", "0-15"))
    rows.append(pair(50, ViewPosition.LATERAL))
    first = write_dataset(storage, "d", rows, {"image_size": 80})
    config = GroundConfig(dataset="d", min_score=0.5, device="cpu")
    grounded = operation.ground(config, storage, Settings())
    assert grounded.version != first.version
    assert grounded.num_rows == first.num_rows
    assert read_manifest(storage, grounded)["settings"]["detector_sha256"] == "ab" * 32
    (entry,) = read_audit(storage)
    assert (entry.action, entry.subject, entry.inputs) == ("ground", f"d/{grounded.version}", (first.version,))
    assert entry.writes == {grounded.manifest_key: storage.sha256(grounded.manifest_key)}
    manifest = read_manifest(storage, grounded)["ingest"]
    assert manifest["grounded_from"] == first.version
    (card_key,) = [entry["key"] for entry in manifest["card"] if entry["key"].endswith("card.json")]
    card = storage.get_json(card_key)
    assert (card["version"], card["num_films"], card["num_films_with_boxes"]) == (grounded.version, 45, 44)
    assert storage.exists(card_key.replace("card.json", "samples.png"))
    assert (
        operation.ground(config.model_copy(update={"dataset_version": first.version}), storage, Settings()) == grounded
    )
    train = {row.instance_id: row for row in read_pairs(storage, grounded, Split.TRAIN)}
    test = {row.instance_id: row for row in read_pairs(storage, grounded, Split.TEST)}
    assert (len(train), len(test)) == (39, 6)
    assert {name for name, row in train.items() if row.acquisition.is_known} == {"i03"}
    assert (train["i03"].acquisition, card["sexes"]) == (Acquisition("M", "0-15"), {"M": 1, "unknown": 44})
    assert test["i50"].regions == ()
    for row in (train["i01"], train["i33"], test["i44"]):
        (heart,) = row.regions
        number = int(row.instance_id[1:])
        # 64 input pixels are the film's 160; the narrower side is centred: 8 of 64 on either side
        assert heart.box_xyxy == pytest.approx(((10 + number / 10) * 2.5, 40, 75, 120), abs=0.01)
        assert (heart.region, heart.source) == ("cardiac silhouette", RegionSource.DETECTOR)
        assert (heart.phrase, heart.is_abnormal) == ("The heart is normal in size.", False)
    assert [(r.region, r.source, r.phrase) for r in train["i02"].regions] == [
        ("right lung", RegionSource.MASK, "The lungs are clear."),
        ("cardiac silhouette", RegionSource.DETECTOR, "The heart is normal in size."),
    ]


def test_a_lower_limit_keeps_more_boxes(storage: Storage) -> None:
    write_dataset(storage, "d", [pair(1, ViewPosition.AP)], {"image_size": 80})
    config = GroundConfig(dataset="d", min_score=0.1, device="cpu")
    (row,) = read_pairs(storage, operation.ground(config, storage, Settings()), Split.TRAIN)
    assert [region.region for region in row.regions] == ["cardiac silhouette", "carina"]


@pytest.mark.parametrize("is_done", [True, False])
def test_a_patient_who_is_removed_meanwhile_does_not_come_back(storage: Storage, monkeypatch, is_done: bool) -> None:
    first = write_dataset(storage, "d", [pair(n, ViewPosition.PA) for n in (1, 2)], {"image_size": 80})
    detect = crrg.training.detector.detect_films

    def removed_meanwhile(*given) -> Detections:
        if is_done:
            retire_version(storage, rewrite_version(storage, first, lambda row: row["patient_id"] != "p01"))
        else:
            storage.put(f"{UNFINISHED}/0123.json", b"{}")
        return detect(*given)

    monkeypatch.setattr(crrg.training.detector, "detect_films", removed_meanwhile)
    with pytest.raises(StorageError, match="a patient was removed while this ran"):
        operation.ground(GroundConfig(dataset="d", device="cpu"), storage, Settings())
    assert list_versions(storage, "d") == [resolve_dataset(storage, "d").version]
    assert (resolve_dataset(storage, "d").version == first.version) is not is_done
