"""The demo from end to end: every step is what a user runs; only drawing and scoring are the demo's own."""

from __future__ import annotations

import logging

from crrg.config.base import Settings
from crrg.config.references import BundleRef, DatasetRef, DemoResult, NightSummary, PromotionResult
from crrg.config.running import CHAMPION_MODEL, DemoConfig, NightlyConfig, RetrainConfig
from crrg.config.watch import WatchSettings
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.evaluation.scorecard import Scorecard
from crrg.operations.demo import (
    draw_fresh_studies,
    draw_training_cohort,
    fresh_ingest,
    score_night,
    training_ingest,
)
from crrg.operations.drafter import bundle_pipeline
from crrg.operations.ingest.ingest import ingest
from crrg.operations.night.steps import run_night
from crrg.operations.summaries import MAIN_FIGURES, night_markdown, promotion_markdown, stages_markdown
from crrg.operations.training.retrain import retrain
from crrg.storage import Storage

logger = logging.getLogger(__name__)

SHOWN = (
    *MAIN_FIGURES,
    "classification/zero_shot_mean_auc",
    "classification/mean_ece",
    "rgrg/cider_d",
    "clinical/macro_f1",
)
"""Figures that the demo ends with; all of them lie in a file beside."""


def run_demo(config: DemoConfig, storage: Storage, settings: Settings) -> DemoResult:
    """Draw, ingest, train, promote, run a night over fresh studies and score it; what is finished is reused.

    Args:
        config: Sizes and seed.
        storage: Root of the demo.
        settings: With the demo's secret.
    """
    pseudonyms = Pseudonyms(settings.pseudonym_key())
    draw_training_cohort(config, storage)
    training = ingest(training_ingest(config, storage), storage, pseudonyms, tracked_by=settings)
    retraining = retrain(retrain_form(config, training.dataset), storage, settings)
    inbox = draw_fresh_studies(config, storage)
    night = run_night(night_form(config, inbox, retraining.promotion), storage, settings)
    fresh = ingest(fresh_ingest(config, storage), storage, pseudonyms)
    key = score_demo(config, training.dataset, fresh.dataset, retraining.evaluation.bundle, night, storage)
    return DemoResult(training=training, retraining=retraining, night=night, scorecard_key=key)


def retrain_form(config: DemoConfig, dataset: DatasetRef) -> RetrainConfig:
    """Return the retraining of the demo."""
    return RetrainConfig(
        dataset=dataset.name,
        dataset_version=dataset.version,
        preset=config.preset,
        num_steps=config.num_steps,
        seed=config.seed,
        device=config.device,
    )


def night_form(config: DemoConfig, inbox: str, promotion: PromotionResult) -> NightlyConfig:
    """Return the night of the demo: its films were written by the demo itself, so none is waited for.

    A bundle that did not pass its gate (a very short training) is used by its version, and never as champion; what it
    writes is shown however poor it is. What an older bundle drafted, in a demo that is run again with other stages, is
    drafted again: the scorecard is of the bundle that it names.
    """
    model = CHAMPION_MODEL if promotion.promoted else promotion.version
    watch = WatchSettings(degenerate="refuse" if promotion.promoted else "publish")
    return NightlyConfig(
        inbox=inbox,
        model=model,
        settle_s=0,
        device=config.device,
        watch=watch,
        reread_older_than_bundle=int(promotion.version) if promotion.version.isdecimal() else 0,
    )


def score_demo(
    config: DemoConfig,
    training: DatasetRef,
    fresh: DatasetRef,
    bundle: BundleRef,
    night: NightSummary,
    storage: Storage,
) -> str:
    """Score the night's drafts against what was drawn, keep the scorecard, and return its key.

    Where the night had nothing new, its films were drafted on an earlier one, and those drafts are scored.
    """
    date = night.date if night.status == "committed" else ""
    drafter = bundle_pipeline(storage, bundle, config.device)
    scorecard = score_night(date, training, fresh, storage, drafter)
    key = f"models/scorecards/{bundle.bundle_id}/night-{fresh.name}-{fresh.version}.json"
    storage.put_json(key, scorecard.to_dict())
    storage.put(key.removesuffix(".json") + ".md", scorecard.to_markdown().encode())
    return key


def demo_markdown(result: DemoResult, storage: Storage) -> str:
    """Return what the demo did and how good it is, each figure beside its baseline, and where to look."""
    scorecard = Scorecard.from_dict(storage.get_json(result.scorecard_key))
    stages = result.retraining.stages
    again = "Every stage was trained before and was reused." if all(stage.reused for stage in stages) else ""
    review = storage.url(result.night.review_key) if result.night.review_key else "written on an earlier night"
    parts = (
        "# CRRG-CLIP demo",
        stages_markdown(stages),
        again,
        promotion_markdown(result.retraining.promotion),
        night_markdown(result.night),
        f"## Drafts of {scorecard.num_studies} fresh drawn studies against what was drawn",
        scorecard.to_markdown(SHOWN),
        f"All figures: {storage.url(result.scorecard_key.removesuffix('.json') + '.md')}",
        f"Review page: {review}",
    )
    return "\n\n".join(part for part in parts if part)
