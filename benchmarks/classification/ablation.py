"""Text source (real, generated, joint) by zero-shot, probe and fused; and a supervised classifier of the same tower."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.classification.readings import CODE_VERSION as READ_VERSION
from benchmarks.classification.readings import SplitReadings
from benchmarks.classification.scores import fused, head, summary
from benchmarks.classification.towers import read_tower, tower_hash, tower_settings, train_tower, with_drafts_only
from crrg.data.dataset.batches import FilmTable
from crrg.evaluation.classification import retrieval_recall
from crrg.operations.scoring.labels import calibrated, judge_by_probe
from crrg.storage import Storage

TableLoader = Callable[[str], FilmTable]


def run_source(
    source: str, reads: Mapping[str, SplitReadings], films: TableLoader, storage: Storage, folder: str, num_steps: int
) -> dict[str, Any]:
    """Train one tower and score it on the test films; a finished result is found again.

    Args:
        source: ``real``, ``generated``, ``generated-masked``, ``joint`` or ``supervised``.
        reads: ``train``, ``validation`` and ``test`` as the bundle reads them.
        films: Gives the same films as tables at 128 pixels.
        storage: Root.
        folder: Where results are kept.
        num_steps: Steps of the training.
    """
    train = films("train")
    drafts = None
    if source in ("generated", "generated-masked"):
        train = with_drafts_only(train, reads["train"], is_masked=source == "generated-masked")
    if source == "joint":
        drafts = dict(zip(train.instance_ids, reads["train"].drafts(), strict=True))
    training = tower_settings(num_steps, supervised=source == "supervised")
    key = f"{folder}/ablation-{source}-{tower_hash(train, training, drafts, 0)}-read-{READ_VERSION}.json"
    if storage.exists(key):
        return dict(storage.get_json(key))
    model, tokenizer = train_tower(train, training, storage, source, drafts=drafts)
    known = read_tower(model, tokenizer, films("validation"), reads["validation"].reports())
    asked = read_tower(model, tokenizer, films("test"), reads["test"].reports())
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, validation=known.logits, test=asked.logits, known=known.image_features, asked=asked.image_features
    )
    storage.put(f"{folder}/tower-{source}-{num_steps}.npz", buffer.getvalue())
    references, patients = reads["test"].arrays["references"], reads["test"].patients()
    labels = reads["validation"].arrays["references"]
    probabilities, thresholds = head(known.logits, labels, asked.logits)
    mixed = fused(reads["validation"], reads["test"], (known.logits, asked.logits))
    zero_shot = calibrated(known.zero_shot, labels, asked.zero_shot)
    probe = judge_by_probe(known.image_features, labels, reads["validation"].patients(), asked.image_features)
    result = {
        "tower": (
            f"of the preset tiny: {training.architecture.input_size} pixels, {len(train)} training films, "
            f"{num_steps} steps{', label losses only' if source == 'supervised' else ''}"
        ),
        "zero_shot": summary(zero_shot.probabilities, references, patients, zero_shot.thresholds),
        "probe": summary(probe.probabilities, references, patients, probe.thresholds),
        "head": summary(probabilities, references, patients, thresholds),
        "fused": summary(mixed[1], references, patients, mixed[0].thresholds),
        "retrieval": retrieval_recall(asked.similarities, reads["test"].reports()),
    }
    storage.put(key, json.dumps(result).encode())
    return result
