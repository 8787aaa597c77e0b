"""Settings of a stage as its hash sees them: what decides its outcome, and nothing else."""

from __future__ import annotations

from typing import Any

from crrg.config.stages import ClipTraining, DetectorTraining, GeneratorTraining, LoopConfig, SelectorTraining

SAYS_NOTHING = ("log_every", "checkpoint_every_s")
"""Settings of the loop that change what a training tells and keeps on its way, not what it ends with."""


def hashed_settings(
    settings: DetectorTraining | SelectorTraining | GeneratorTraining | ClipTraining, *, without: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return settings for a stage's hash, JSON values.

    ``SAYS_NOTHING`` stands there with its defaults, so that what was trained with them is found again.

    Args:
        settings: Of the stage.
        without: Fields that its hash sees in another way.
    """
    told = {name: LoopConfig.model_fields[name].default for name in SAYS_NOTHING}
    loop = settings.loop.model_copy(update=told)
    hashed = settings.model_copy(update={"loop": loop}).model_dump(mode="json", exclude=set(without))
    return {**hashed, "last_step": "scored"} if _ends_between_scores(settings) else hashed


def _ends_between_scores(
    settings: DetectorTraining | SelectorTraining | GeneratorTraining | ClipTraining,
) -> bool:
    """Return whether the last step may be none of the scored ones, which once left it without a score."""
    loop, counts_epochs = settings.loop, getattr(settings, "num_epochs", 0) > 0
    return loop.validate_every > 0 and (counts_epochs or loop.num_steps % loop.validate_every > 0)
