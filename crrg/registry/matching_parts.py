"""Which finished parts a stage was trained on, as its ``config.json`` notes them, and whether a bundle holds these.

A generator words the features of one selector, and the paper's heads judge those of one detector. Other weights of the
same sizes load just as well, but their numbers mean something else, and the drafts are nonsense. Stages that were
finished before this was noted, and imported ones, note nothing and are taken as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crrg.config.references import StageResult
from crrg.errors import ModelError

TRAINED_ON = "trained_on"
"""Field of a stage's ``config.json``: part to the sha256 of its ``model.safetensors``."""


def noted_parts(parts: Mapping[str, StageResult]) -> dict[str, dict[str, str]]:
    """Return what a stage's ``config.json`` notes of the parts that it was trained on; empty where there are none."""
    return {TRAINED_ON: {name: part.sha256 for name, part in parts.items()}} if parts else {}


def check_matching(parts: Mapping[str, StageResult], configs: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse parts that were trained on others than those beside them.

    An imported detector may take the place of the noted one where the selector judges no features of a detector: then
    only boxes are read of it, and those any detector gives.

    Args:
        parts: Part of a bundle to its stage.
        configs: Part of a bundle to its ``config.json``.

    Raises:
        ModelError: A part was trained on other weights than those given; the message names both, and the way out.
    """
    wrong = [
        f"the {name} {parts[name].prefix} was trained on a {read} with digest {sha256[:16]}, not on "
        f"{parts[read].prefix} ({parts[read].sha256[:16]})"
        for name, config in configs.items()
        for read, sha256 in config.get(TRAINED_ON, {}).items()
        if read in parts and parts[read].sha256 != sha256 and not (read == "detector" and _gives_boxes_alone(configs))
    ]
    if wrong:
        raise ModelError(
            f"{'; '.join(wrong)}; give the parts that were trained together (with the recipe `paper` a stage brings "
            "those before it along, so give its folder after theirs), or train again on the parts given",
            "parts of the bundle",
        )


def _gives_boxes_alone(configs: Mapping[str, Mapping[str, Any]]) -> bool:
    """Tell whether the detector was imported beside a selector that looks at the films itself."""
    return "imported" in configs["detector"] and configs["selector"]["architecture"].get("backbone") != "detector"
