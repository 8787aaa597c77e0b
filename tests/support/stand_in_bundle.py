"""Stages and bundles that hold no networks: enough bytes to be written, registered, verified and damaged."""

from __future__ import annotations

import hashlib
import json
import struct
from typing import Any

from crrg.config.base import STAGES
from crrg.config.references import BundleRef, StageResult
from crrg.registry.bundle import bundle_digest
from crrg.registry.composing import write_bundle
from crrg.storage import Storage


def safetensors(seed: int) -> bytes:
    """Return a valid safetensors file with one tensor of four bytes."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes([seed] * 4)


def stand_in_stage(storage: Storage, name: str, seed: int = 1, version: str = "", run_id: str = "") -> StageResult:
    """Write a finished stage folder."""
    weights, prefix = safetensors(seed), f"checkpoints/{name}/{seed:02d}"
    storage.put(f"{prefix}/model.safetensors", weights)
    config: dict[str, Any] = {"architecture": {"size": seed}}
    if name == "clip":
        config |= {"thresholds": {"Edema": 0.5}, "calibration": {"Edema": {"slope": 1.0, "bias": 0.0}}}
    storage.put_json(f"{prefix}/config.json", config)
    if name in ("generator", "clip"):
        storage.put(f"{prefix}/tokenizer.json", json.dumps({"vocabulary": name}).encode())
    return StageResult(
        stage=name,
        prefix=prefix,
        sha256=hashlib.sha256(weights).hexdigest(),
        config_hash=f"{seed:02d}",
        metrics={"m/x": 0.5},
        run_id=run_id,
        model_version=version,
    )


def stand_in_bundle(storage: Storage, version: str = "", *, image_size: int = 512, **seeds: int) -> BundleRef:
    """Write a bundle; ``detector=2`` gives its detector other weights."""
    results = {name: stand_in_stage(storage, name, seeds.get(name, 1), version) for name in STAGES}
    return write_bundle(storage, results, dataset_version="d1", image_size=image_size)


def edit(storage: Storage, ref: BundleRef, **changes: Any) -> None:
    """Write other values into a bundle's ``bundle.json``; no digest is made right again."""
    key = f"{ref.prefix}/bundle.json"
    storage.put_json(key, {**storage.get_json(key), **changes})


def reseal(storage: Storage, ref: BundleRef, name: str, data: bytes) -> BundleRef:
    """Replace a part and make every digest right again, as an attacker with write access would."""
    spec = storage.get_json(f"{ref.prefix}/bundle.json")
    spec["files"][name] = hashlib.sha256(data).hexdigest()
    spec["bundle_id"] = bundle_digest(spec)
    storage.put(f"{ref.prefix}/{name}", data)
    storage.put_json(f"{ref.prefix}/bundle.json", spec)
    return BundleRef(bundle_id=spec["bundle_id"], prefix=ref.prefix)
