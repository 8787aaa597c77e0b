"""Move the champion alias: after the gate, by hand, or back."""

from __future__ import annotations

import json
import logging

from crrg.config.base import Settings
from crrg.config.references import EvaluationResult, PromotionResult
from crrg.config.running import EvaluateConfig, PromoteConfig, RetrainConfig
from crrg.domain.study import Split
from crrg.errors import ModelError, NothingHeldOut
from crrg.ledger.audit import write_audit
from crrg.operations.scoring.evaluate import evaluate_bundle
from crrg.operations.stop import check_not_stopped
from crrg.registry.aliases import (
    CHAMPION,
    GATE_FAILED,
    GATE_FAILURES,
    GATE_PASSED,
    GATE_TAG,
    PREVIOUS,
    record_alias,
    version_ref,
)
from crrg.registry.bundle import read_bundle
from crrg.registry.gate import GateOutcome, check_gate
from crrg.storage import Storage
from crrg.tracking.models import ModelRegistry

logger = logging.getLogger(__name__)


def promote(config: PromoteConfig, storage: Storage, settings: Settings) -> PromotionResult:
    """Make a registered version champion, or go back to the previous one.

    An operator's stop does not keep a person from it: going back may be what has to be done before work goes on.

    Raises:
        ModelError: There is no such version, it has not passed its gate, or its bundle is damaged.
        StorageError: The registry is out of reach.
    """
    registry = ModelRegistry(settings, storage)
    version = str(config.version)
    if config.rollback:
        aliases = registry.aliases()
        if PREVIOUS not in aliases:
            raise ModelError(
                "there is no previous champion to go back to; name a version: crrg promote VERSION", f"@{PREVIOUS}"
            )
        version = aliases[PREVIOUS]
    tags = registry.version_tags(version)
    if tags.get(GATE_TAG) != GATE_PASSED:
        found = tags.get(GATE_FAILURES) or f"{GATE_TAG}={tags.get(GATE_TAG, 'unset')}"
        raise ModelError(
            f"it has not passed its gate ({found}); `crrg retrain` and `crrg bundle --register` make a version and ask "
            "the gate about it",
            f"version {version}",
        )
    return _make_champion(version, registry, storage)


def gate_and_promote(
    evaluation: EvaluationResult, config: RetrainConfig, storage: Storage, settings: Settings
) -> PromotionResult:
    """Check a registered bundle against its gate and the champion on the same films; make it champion if it passes.

    Args:
        evaluation: The candidate's figures; its bundle is registered.
        config: Gate, and whether to promote at all.
        storage: Root.
        settings: Name the registry, if it is a server.

    Returns:
        What was decided; a gate that is not met is an answer, not an error.

    Raises:
        CrrgError: An operator wants work to stop; nothing was decided.
    """
    registry, version = ModelRegistry(settings, storage), evaluation.bundle.model_version
    outcome, champion = check_against_champion(evaluation, config, registry, storage)
    check_not_stopped(storage, f"version {version} of crrg-pipeline is a candidate")
    registry.set_tags(
        version,
        {
            GATE_TAG: GATE_PASSED if outcome.passed else GATE_FAILED,
            GATE_FAILURES: "; ".join(outcome.failures)[:4000],
            "gate_conditions": json.dumps(config.gate.model_dump(mode="json"), sort_keys=True),
        },
    )
    write_audit(
        storage,
        "gate",
        subject=version,
        bundle_id=evaluation.bundle.bundle_id,
        counts={"passed": int(outcome.passed), "conditions_failed": len(outcome.failures)},
    )
    if outcome.passed and config.promote == "if_gate_passes":
        return _make_champion(version, registry, storage)
    reasons = outcome.failures or ("the form says never to promote",)
    logger.warning("version %s of crrg-pipeline stays a candidate: %s", version, "; ".join(reasons))
    return PromotionResult(
        promoted=False,
        version=version,
        previous_version=champion,
        bundle_id=evaluation.bundle.bundle_id,
        reasons=reasons,
    )


def check_against_champion(
    evaluation: EvaluationResult, config: RetrainConfig, registry: ModelRegistry, storage: Storage
) -> tuple[GateOutcome, str]:
    """Return the gate's outcome and the champion's version (empty if there is none).

    The champion is scored on the same films where that has not been done: those that neither has seen in training.
    """
    champion = registry.aliases().get(CHAMPION, "")
    is_biased = evaluation.split != Split.TEST
    if is_biased or not champion or champion == evaluation.bundle.model_version:
        return check_gate(config.gate, evaluation.metrics, split=evaluation.split), champion
    form = EvaluateConfig(
        dataset=evaluation.dataset.name,
        dataset_version=evaluation.dataset.version,
        split=evaluation.split,
        limit=config.evaluation_limit,
        device=config.device,
    )
    bundle, rival = evaluation.bundle, version_ref(registry, champion)
    try:
        best = evaluate_bundle(rival, form, storage)
        if evaluation.num_left_out or best.num_left_out:
            evaluation = evaluate_bundle(bundle, form, storage, beside=rival)
            best = evaluate_bundle(rival, form, storage, beside=bundle)
    except NothingHeldOut as error:
        return GateOutcome(False, (f"the champion or the candidate cannot be judged: {error}",)), champion
    return check_gate(config.gate, evaluation.metrics, best.metrics), champion


def _make_champion(version: str, registry: ModelRegistry, storage: Storage) -> PromotionResult:
    """Verify the bundle, move the aliases, and keep the record for runs that meet no registry."""
    ref = version_ref(registry, version)
    read_bundle(storage, ref)
    before = registry.aliases().get(CHAMPION, "")
    if before and before != version:
        registry.set_alias(PREVIOUS, before)
    registry.set_alias(CHAMPION, version)
    record_alias(storage, CHAMPION, ref)
    write_audit(storage, "promote", subject=version, bundle_id=ref.bundle_id, inputs=(before,) if before else ())
    logger.info("version %s of crrg-pipeline is champion, before it was %s", version, before or "none")
    return PromotionResult(promoted=True, version=version, previous_version=before, bundle_id=ref.bundle_id)
