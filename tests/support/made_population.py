"""A made population of films and drafts whose every quantity is drawn independently: the hardest case for false alarms.

With quantities that hang together, as real ones do, chance raises fewer flags.
"""

from __future__ import annotations

import numpy as np

from crrg.domain.labels import LABELS
from crrg.monitoring.degenerate import Habits
from crrg.monitoring.quantities import Values
from crrg.monitoring.reference import Reference, histograms, repeats

MAKERS = [0.3, 0.0, 0.005, 0.12, 0.25, 0.0, 0.03, 0.15, 0.0, 0.04, 0.1, 0.0, 0.002, 0.003]
VIEWS = [0.5, 0.25, 0.2, 0.02, 0.03]
NORMAL = "The heart is normal in size. The lungs are clear. There is no effusion."
NORMAL_LABELS_DIFFER = 0.1


def films_of(rng: np.random.Generator, num: int) -> Values:
    names = ("exposure", "contrast", "likeness", "megapixels", "aspect")
    films = {f"film/{name}": rng.normal(0.5, 0.1, num) for name in names}
    films["film/view"] = rng.choice(5, num, p=VIEWS).astype(float)
    films["film/polarity"] = (rng.random(num) < 0.2).astype(float)
    # of every fifth film the maker is unknown
    films["device/manufacturer"] = rng.choice(len(MAKERS), num - num // 5, p=MAKERS).astype(float)
    return films


def drafts_of(rng: np.random.Generator, num: int) -> tuple[Values, list[str]]:
    drafts = {
        "draft/consistency": rng.beta(5, 2, num),
        "draft/words": rng.integers(5, 60, num).astype(float),
        "draft/sentences": rng.integers(1, 9, num).astype(float),
    }
    for label in LABELS:
        drafts[f"draft/probability/{label}"] = rng.beta(0.3, 2, num)
        drafts[f"draft/label/{label}"] = (drafts[f"draft/probability/{label}"] > 0.5).astype(float)
    return drafts, [f"text {kind}" for kind in rng.zipf(1.6, num)]


def texts_of(rng: np.random.Generator, num: int, share_normal: float) -> tuple[list[str], list[tuple[int, ...]]]:
    """Return drafts and labels: normal films have one text, others one each; labels err on some of the normal films."""
    is_normal = rng.random(num) < share_normal
    texts = [NORMAL if normal else f"There is opacity number {place}." for place, normal in enumerate(is_normal)]
    labels = [
        (
            int(not normal or rng.random() < NORMAL_LABELS_DIFFER),
            *(rng.random(3) < 0.3 * (not normal)).astype(int).tolist(),
        )
        for normal in is_normal
    ]
    return texts, labels


def reference_of(rng: np.random.Generator, num_films: int, num_drafts: int) -> Reference:
    drafts, texts = drafts_of(rng, num_drafts)
    return Reference(
        num_film_patients=num_films,
        num_draft_patients=num_drafts,
        num_device_patients=num_films - num_films // 5,
        histograms=histograms(films_of(rng, num_films), num_films) | histograms(drafts, num_drafts),
        repeats=repeats(texts),
        num_drafts=num_drafts,
        reports=Habits(),
        drafts=Habits(),
    )
