"""The joint stage: CLIP trained again on real reports mixed with drafts of the generator.

This is the paper's coupling of its two modules: what the generator writes becomes text for the classifier. Drafts
come in as values, keyed by instance id; who made them, and with which bundle, is the caller's business.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from crrg.config.references import DatasetRef, StageResult
from crrg.config.training import TrainStageConfig
from crrg.data.dataset.pairs import read_tables
from crrg.domain.labels import LABELS, LabelValues, label_column
from crrg.domain.nbest import DraftsOrigin
from crrg.domain.study import Split
from crrg.errors import PoorDrafts, TrainingError
from crrg.storage import Storage
from crrg.training.clip import run_clip_stage
from crrg.training.joint_quality import check_quality
from crrg.training.tracker import Tracker

logger = logging.getLogger(__name__)


def train_joint(
    config: TrainStageConfig,
    dataset: DatasetRef,
    drafts: Mapping[str, str],
    storage: Storage,
    tracker: Tracker,
    *,
    origin: DraftsOrigin | None = None,
) -> StageResult:
    """Train CLIP on a mixture of real reports and drafts of the same films.

    The preset's ``draft_share`` says how often a film that has a draft meets it instead of its report. Films without a
    draft keep their report. Calibration and metrics come from validation films, as in ``train_clip``.

    Args:
        config: Form of the stage.
        dataset: Version to train on.
        drafts: Instance id of a training film to its draft; empty drafts are left out.
        storage: Root.
        tracker: Receives what the run has to say.
        origin: Version of the drafts and who made them, for the stage's ``config.json`` and the model card.

    Returns:
        The finished stage, named ``joint``.

    Raises:
        PoorDrafts: There is no draft, the drafts are silent, have collapsed or say nothing of the films
            (``joint_quality``).
        TrainingError: One belongs to no training film or to a patient of another split.
    """
    texts = {instance_id: text for instance_id, text in drafts.items() if text.strip()}
    if not texts:
        raise PoorDrafts("there is no draft to train on; draft the training films first", dataset.name)
    check_no_leak(storage, dataset, texts)
    check_quality(drafts, *_known(storage, dataset))
    result = run_clip_stage("joint", config, dataset, storage, tracker, drafts=texts, origin=origin)
    if not result.reused:
        num_different = len(set(texts.values()))
        tracker.log_metrics({"joint/num_drafts": float(len(texts)), "joint/num_different_drafts": float(num_different)})
    return result


def check_no_leak(storage: Storage, dataset: DatasetRef, drafts: Mapping[str, str]) -> None:
    """Check that every draft belongs to a film of a patient who is in the training split and in no other.

    Raises:
        TrainingError: One does not.
    """
    patients = {split: _patients(storage, dataset, split) for split in Split}
    held_out = {patient for split in (Split.VALIDATION, Split.TEST) for patient in patients[split].values()}
    strangers = sorted(set(drafts) - set(patients[Split.TRAIN]))
    if strangers:
        raise TrainingError(
            f"{len(strangers)} of {len(drafts)} drafts belong to no training film; draft training films only",
            strangers[0],
        )
    leaks = sorted(item for item in drafts if patients[Split.TRAIN][item] in held_out)
    if leaks:
        raise TrainingError(
            f"{len(leaks)} drafts belong to patients who are also in validation or test; ingest the dataset again",
            leaks[0],
        )


def _known(storage: Storage, dataset: DatasetRef) -> tuple[dict[str, LabelValues], list[str]]:
    """Return instance id -> known labels of training films, and the reports of this split."""
    labels: dict[str, LabelValues] = {}
    reports: list[str] = []
    for table in read_tables(storage, dataset, Split.TRAIN, ("instance_id", "labels", "findings", "impression")):
        for row in table.to_pylist():
            values = row["labels"] or {}
            labels[row["instance_id"]] = {label: values.get(label_column(label)) for label in LABELS}
            reports.append(" ".join(filter(None, (row["findings"], row["impression"]))))
    return labels, reports


def _patients(storage: Storage, dataset: DatasetRef, split: Split) -> dict[str, str]:
    """Return instance id -> patient id of a split."""
    columns = ("instance_id", "patient_id")
    return {
        row["instance_id"]: row["patient_id"]
        for table in read_tables(storage, dataset, split, columns)
        for row in table.to_pylist()
    }
