"""What the classification benchmark promises of the fresh films, and which promises do not hold or were not judged."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

LEAST_AUC = 0.92
MOST_ECE = 0.05
MOST_LOSS = 0.05
LEAST_CONSISTENCY = 0.85
Found = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Floor:
    """One promise.

    Attributes:
        name: What it is about.
        pieces: Which must be measured to judge it.
        value: The figure, of what the pieces found.
        limit: What it must reach.
        is_met: Whether a figure reaches it.
    """

    name: str
    pieces: tuple[str, ...]
    value: Callable[[Found], float]
    limit: str
    is_met: Callable[[float], bool]


FLOORS = (
    Floor(
        "fused head, mean AUC over findings",
        ("fused",),
        lambda found: found["fused"]["fused"]["auc"],
        f"at least {LEAST_AUC}",
        lambda value: value >= LEAST_AUC,
    ),
    Floor(
        "fused head, mean ECE",
        ("fused",),
        lambda found: found["fused"]["fused"]["ece"],
        f"at most {MOST_ECE}",
        lambda value: value <= MOST_ECE,
    ),
    Floor(
        "zero-shot AUC that drafts in the place of reports cost",
        ("ablation-real", "ablation-generated"),
        lambda found: found["ablation-real"]["zero_shot"]["auc"] - found["ablation-generated"]["zero_shot"]["auc"],
        f"less than {MOST_LOSS}",
        lambda value: value < MOST_LOSS,
    ),
    Floor(
        "consistency, AUC of planted labels, sentences and sides",
        ("consistency",),
        lambda found: found["consistency"]["all_but_omitted"].get("auc", math.nan),
        f"at least {LEAST_CONSISTENCY}",
        lambda value: value >= LEAST_CONSISTENCY,
    ),
)


def unmet(found: Found) -> list[str]:
    """Return the promises that do not hold, of what was measured; a figure that is no number holds none.

    Args:
        found: What each finished piece found.
    """
    judged = [(floor, floor.value(found)) for floor in FLOORS if not _missing(floor, found)]
    return [
        f"{floor.name}: {value:.3f}, {floor.limit} is promised" for floor, value in judged if not floor.is_met(value)
    ]


def partial(found: Found) -> list[str]:
    """Return the promises that are not judged, with the pieces that are missing for it."""
    return [f"{floor.name}: {', '.join(gone)} not measured" for floor in FLOORS if (gone := _missing(floor, found))]


def _missing(floor: Floor, found: Found) -> list[str]:
    return [piece for piece in floor.pieces if piece not in found]
