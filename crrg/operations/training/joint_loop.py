"""The joint stage in rounds: each module judges what the other one made, until the validation films gain nothing more.

Round 0 is the paper's coupling: CLIP trained on reports mixed with drafts of the generator as it is. Each round then

1. ranks the n-best wordings of training films by CLIP, with the labeler's check,
2. trains the generator on with the preferred phrases mixed into real ones,
3. drafts the films again, and trains CLIP again on reports mixed with these drafts,
4. scores both on validation films: mean of the drafts' clinical F1 and the label head's AUC.

Every piece is kept under its own hash (drafts, generator, CLIP, score), so a run that was cut off goes on where it was.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from crrg.config.base import STAGES
from crrg.config.models import DecodingSettings
from crrg.config.references import DatasetRef, StageResult
from crrg.config.training import TrainStageConfig
from crrg.data.dataset.pairs import dataset_image_size
from crrg.data.dataset.spaced import sampled_films
from crrg.domain.bundle import BundleFiles
from crrg.domain.labels import LabelValues
from crrg.domain.study import Split
from crrg.evaluation import clinical
from crrg.evaluation.bootstrap import Statistic
from crrg.operations.training.nbest_drafts import NBestDataset, draft_nbest
from crrg.registry.composing import compose_bundle
from crrg.registry.gate import LABEL_AUC
from crrg.storage import Storage, hash_json
from crrg.training.joint import train_joint
from crrg.training.joint_rounds import Round, improve_until_still
from crrg.training.preferred import PreferredPhrases, train_preferred
from crrg.training.tracker import Tracker

if TYPE_CHECKING:
    from crrg.inference.pipeline import ReportPipeline

logger = logging.getLogger(__name__)

CODE_VERSION = "5"
"""Raised when the same settings would score otherwise."""
FOLDER = "checkpoints/joint-rounds"
CHUNK_SIZE = 64
DRAFTS_F1 = "joint/clinical_micro_f1"


@dataclass(frozen=True)
class JointState:
    """The two modules after a round.

    Attributes:
        generator: Who words the regions.
        clip: Trained on reports mixed with that generator's drafts.
    """

    generator: StageResult
    clip: StageResult

    def result(self, curve: Mapping[str, float]) -> StageResult:
        """Return the joint stage's result; the generator stands beside it where a round changed it."""
        changed = (self.generator,) if self.generator.stage != "generator" else ()
        return self.clip.model_copy(update={"beside": changed, "metrics": {**self.clip.metrics, **curve}})


class JointLoop:
    """One run of the rounds on finished stages."""

    def __init__(
        self,
        config: TrainStageConfig,
        dataset: DatasetRef,
        finished: Mapping[str, StageResult],
        storage: Storage,
        tracker: Tracker,
    ) -> None:
        """Remember what the rounds stand on; nothing is read yet.

        Args:
            config: Form of the stage, with its rounds.
            dataset: Version to train on.
            finished: The four stages before it.
            storage: Root.
            tracker: Receives curves and scores.
        """
        self.config = config
        self.rounds = config.rounds
        self.dataset = dataset
        self.finished = finished
        self.storage = storage
        self.tracker = tracker

    def run(self) -> StageResult:
        """Run the rounds and return the best state by validation films.

        Raises:
            TrainingError: The first drafts are silent or have collapsed (those of a later round end the rounds), or
                drafts belong to a held-out patient.
        """
        found = self.run_rounds()
        best = max(found, key=lambda item: item.score)
        logger.info("joint rounds: %d were run, round %d is kept", len(found) - 1, best.number)
        return best.state.result({"joint/best_round": float(best.number), **_curve(found)})

    def run_rounds(self) -> list[Round[JointState]]:
        """Run the rounds and return all of them, the paper's coupling first."""
        base = self.finished["generator"]
        first = JointState(base, self._train_clip(base))
        return improve_until_still(
            first, self._score, self._improve, max_rounds=self.rounds.max_rounds, min_gain=self.rounds.min_gain
        )

    def score_parts(self, state: JointState) -> dict[str, float]:
        """Return clinical F1 of the drafts and AUC of the label head on validation films; found ones are kept."""
        bundle = self.bundle(state.generator, state.clip)
        asked = {"decoding": self.decoding(bundle).model_dump(mode="json"), "films": self.rounds.num_validation_films}
        name = hash_json({**asked, "bundle": bundle.bundle_id, "dataset": self.dataset.version, "code": CODE_VERSION})
        key = f"{FOLDER}/{name}/score.json"
        if not self.storage.exists(key):
            self.storage.put_json(key, {DRAFTS_F1: self._clinical_f1(self.pipeline(bundle))})
        drafts_f1 = float(self.storage.get_json(key)[DRAFTS_F1])
        return {DRAFTS_F1: drafts_f1, LABEL_AUC: state.clip.metrics.get(LABEL_AUC, 0.5)}

    def bundle(self, generator: StageResult, clip: StageResult) -> BundleFiles:
        """Return detector and selector together with a generator and a CLIP, written nowhere."""
        stages: dict[str, StageResult] = {name: self.finished[name] for name in STAGES}
        stages |= {"generator": generator, "clip": clip}
        image_size = dataset_image_size(self.storage, self.dataset)
        return compose_bundle(self.storage, stages, dataset_version=self.dataset.version, image_size=image_size)

    def decoding(self, bundle: BundleFiles) -> DecodingSettings:
        """Return how a bundle's drafts are searched in the rounds, on the device of the form."""
        from crrg.device import resolve_device
        from crrg.inference.pipeline import decoding_on

        decoding = decoding_on(resolve_device(self.config.device).type, bundle.spec)
        return decoding.model_copy(update={"reconcile": True}) if self.rounds.film_flags else decoding

    def pipeline(self, bundle: BundleFiles) -> ReportPipeline:
        """Build a bundle's models, searching as the rounds do."""
        from crrg.device import resolve_device
        from crrg.inference.pipeline import ReportPipeline

        pipeline = ReportPipeline.from_bundle(bundle, resolve_device(self.config.device))
        return replace(pipeline, decoding=self.decoding(bundle))

    def _improve(self, state: JointState, number: int) -> JointState:
        drafts = self._drafts(state.generator)
        phrases = PreferredPhrases(
            hypotheses={key: draft.texts() for key, draft in drafts.drafts.items()},
            version=drafts.origin.version,
            number=number,
        )
        stages = {**self.finished, "generator": state.generator, "clip": state.clip}
        generator = train_preferred(self.config, self.dataset, stages, phrases, self.storage, self.tracker)
        return JointState(generator, self._train_clip(generator))

    def _train_clip(self, generator: StageResult) -> StageResult:
        drafts = self._drafts(generator)
        return train_joint(self.config, self.dataset, drafts.texts(), self.storage, self.tracker, origin=drafts.origin)

    def _drafts(self, generator: StageResult) -> NBestDataset:
        """Return the drafts of training films by a generator; the label head beside it is always the first CLIP's."""
        bundle = self.bundle(generator, self.finished["clip"])
        limit = self.rounds.num_films
        return draft_nbest(
            self.dataset, bundle.bundle_id, self.decoding(bundle), self.storage, lambda: self.pipeline(bundle),
            limit=limit,
        )  # fmt: skip

    def _score(self, state: JointState) -> float:
        figures = self.score_parts(state)
        logger.info("joint: clinical F1 of drafts %.4f, AUC of the label head %.4f", *figures.values())
        return sum(figures.values()) / len(figures)

    def _clinical_f1(self, pipeline: ReportPipeline) -> float:
        limit = self.rounds.num_validation_films
        pairs = list(sampled_films(self.storage, self.dataset, Split.VALIDATION, limit))
        said: list[LabelValues] = []
        for first in range(0, len(pairs), CHUNK_SIZE):
            said += pipeline.make_drafts([film for _, film in pairs[first : first + CHUNK_SIZE]]).said
        known = clinical.known_labels([pair for pair, _ in pairs])
        counts = clinical.micro_f1_counts(said, [pair.labels for pair, _ in pairs], counted=known)
        return Statistic(counts, clinical.f1_from_counts, empty=0.0).value()


def _curve(rounds: list[Round[JointState]]) -> dict[str, float]:
    return {f"joint/round_{item.number}": item.score for item in rounds}
