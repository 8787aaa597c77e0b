"""CLIP trained again at the size of ``tiny`` on one source of text, for the ablation and the rounds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.classification.readings import SplitReadings
from crrg.config.presets import preset_training
from crrg.config.training import ClipTraining
from crrg.data.dataset.batches import UNMENTIONED, FilmTable
from crrg.data.tokenizer import PhraseTokenizer
from crrg.domain.labels import LABELS, NEGATIVE, NO_FINDING
from crrg.domain.regions import REGIONS
from crrg.domain.report import Report
from crrg.evaluation.labeler import label_report
from crrg.inference.zero_shot import encode_texts, zero_shot_labels
from crrg.models.clip import ClipModel
from crrg.storage import Storage
from crrg.training.checkpoint import StageFolder, config_hash
from crrg.training.clip import CODE_VERSION, clip_loss, train_clip_tokenizer
from crrg.training.clip_batches import ClipBatches
from crrg.training.clip_validation import film_outputs
from crrg.training.loop import fit
from crrg.training.tracker import NullTracker

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class TowerReading:
    """A trained CLIP on films.

    Attributes:
        logits: Label head ``[N, 14]``.
        image_features: ``[N, D]``.
        zero_shot: ``[N, 14]``.
        similarities: Film against report, ``[N, N]``.
    """

    logits: FloatArray
    image_features: FloatArray
    zero_shot: FloatArray
    similarities: FloatArray


def tower_settings(num_steps: int, *, supervised: bool = False) -> ClipTraining:
    """Return the CLIP settings of ``tiny`` with other steps; ``supervised`` leaves the label losses only."""
    training = preset_training("tiny").clip
    weights = {"contrastive_loss_weight": 0.0, "prompt_loss_weight": 0.0} if supervised else {}
    return training.model_copy(
        update={"loop": training.loop.model_copy(update={"num_steps": num_steps}), **weights}, deep=True
    )


def with_drafts_only(films: FilmTable, read: SplitReadings, *, is_masked: bool = False) -> FilmTable:
    """Return the films with text, labels and phrases of their drafts: nothing of a human report is left.

    A finding that a draft does not mention is negative where no region was flagged with it, since the flags are all
    that the draft was to say; with ``is_masked`` it is masked, as an unmentioned finding of a human report is.
    """
    is_flagged = (read.arrays["flags"][:, :, : len(LABELS)] > 0).any(axis=1)
    texts = [Report(findings=row["findings"], impression=row["impression"]) for row in read.rows]
    labels = np.full_like(films.labels, UNMENTIONED)
    for row, text in enumerate(read.drafts()):
        for column, label in enumerate(LABELS):
            value = label_report(text)[label]
            unsaid = UNMENTIONED if is_masked or is_flagged[row, column] or label == NO_FINDING else NEGATIVE
            labels[row, column] = unsaid if value is None else value
    phrases = [
        {REGIONS[int(region)]: entry["drafted"] for region, entry in row["hypotheses"].items() if entry["drafted"]}
        for row in read.rows
    ]
    return replace(films, texts=texts, labels=labels, phrases=phrases)


def tower_hash(films: FilmTable, training: ClipTraining, drafts: Mapping[str, str] | None, seed: int) -> str:
    """Return the hash over everything that decides what a tower learns: films, texts, labels, phrases and drafts."""
    return config_hash(
        code=CODE_VERSION,
        seed=seed,
        training=training.model_dump(mode="json"),
        films=films.instance_ids,
        pictures=hashlib.sha256(films.images.tobytes()).hexdigest(),
        texts=[asdict(report) for report in films.texts],
        labels=films.labels.tolist(),
        phrases=films.phrases,
        drafts=dict(drafts or {}),
    )


def train_tower(
    films: FilmTable,
    training: ClipTraining,
    storage: Storage,
    name: str,
    *,
    drafts: Mapping[str, str] | None = None,
    seed: int = 0,
) -> tuple[ClipModel, PhraseTokenizer]:
    """Train CLIP on films and their texts, with drafts mixed in where given; a stopped training goes on."""
    tokenizer = train_clip_tokenizer(
        [*(report.text for report in films.texts), *(drafts or {}).values()], training.architecture.text_vocab_size
    )
    batches = ClipBatches(films, tokenizer, training, seed, drafts)
    torch.manual_seed(seed)
    model = ClipModel(training.architecture)
    device = torch.device("cpu")
    learnt = tower_hash(films, training, drafts, seed)
    folder = StageFolder(storage, f"ablation-{name}", learnt)
    fit(
        model, batches.make, clip_loss(model, films, training, device), training.loop,
        device=device, folder=folder, tracker=NullTracker(),
    )  # fmt: skip
    return model.eval(), tokenizer


def read_tower(model: ClipModel, tokenizer: PhraseTokenizer, films: FilmTable, texts: Sequence[str]) -> TowerReading:
    """Read films with a trained CLIP."""
    outputs = film_outputs(model, films)
    found = zero_shot_labels(model, tokenizer, outputs.image_features, LABELS)
    similarities = outputs.image_features @ encode_texts(model, tokenizer, list(texts)).T
    return TowerReading(
        outputs.logits,
        outputs.image_features.numpy().astype(np.float64),
        torch.stack([found[label] for label in LABELS], dim=1).numpy().astype(np.float64),
        similarities.numpy().astype(np.float64),
    )
