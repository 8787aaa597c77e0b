"""What is watched: a few numbers per film and per draft, none of which tells one patient from another.

Films are looked at in a coarse form, so that the same film gives the same numbers in a dataset and in a night that
decode to different sizes. Names, dates and places are no quantities: the reader's allow-list lets none of them out of a
header, and of the device only its maker, as a word of a list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crrg.data.images import resize
from crrg.data.polarity import COARSE_SIDE, chest_likeness, coarse_likeness
from crrg.domain.acquisition import MANUFACTURERS
from crrg.domain.labels import LABELS
from crrg.domain.sentences import split_sentences
from crrg.domain.study import Film, ViewPosition

DECIMALS = 4
VIEW, POLARITY, MAKER = "film/view", "film/polarity", "device/manufacturer"
CHOICES: Mapping[str, tuple[str, ...]] = {
    VIEW: tuple(view.value for view in ViewPosition),
    POLARITY: ("as stored", "inverted"),
    MAKER: MANUFACTURERS,
    **{f"draft/label/{label}": ("negative", "positive") for label in LABELS},
}
"""Quantities that are one of a few; every other one is a number. A label is positive at or above its threshold."""
POSITIVE = 1
"""Number of the choice of a label that people ask for."""
ALIKE = "draft/alike"
"""Share of the drafts that read like the most frequent one; its reference is how often each text occurs."""


@dataclass(frozen=True, slots=True)
class FilmLook:
    """How a film looks as a whole.

    Attributes:
        exposure: Mean brightness, 0..1.
        contrast: Spread of brightness, 0..1.
        likeness: How alike it is to a frontal chest with white = dense, -1..1; a negative has the opposite sign.
        megapixels: Original size.
        aspect: Width over height.
        is_inverted: Whether stored values were inverted to make white dense.
        manufacturer: Maker of the device, one of ``MANUFACTURERS``, or ``None`` where unknown.
    """

    exposure: float
    contrast: float
    likeness: float
    megapixels: float
    aspect: float
    is_inverted: bool
    manufacturer: str | None = None


@dataclass(frozen=True, slots=True)
class DraftLook:
    """A draft without its film.

    Attributes:
        text: Findings and impression.
        consistency: 0..1.
        probabilities: ``[14]``.
        labels: ``[14]``, 1 or 0.
    """

    text: str
    consistency: float
    probabilities: Sequence[float]
    labels: tuple[int, ...]


Values = dict[str, NDArray[np.float64]]
"""Quantity to its values; of a choice, the number of the choice."""


def look_at(film: Film, manufacturer: str | None = None) -> FilmLook:
    """Look at a film, whose maker is told beside it."""
    small = resize(film.pixels, COARSE_SIDE, COARSE_SIDE)
    # a film that has to grow is resized in two ways
    likeness = coarse_likeness(small) if min(film.pixels.shape) >= COARSE_SIDE else chest_likeness(film.pixels)
    coarse = np.asarray(small, dtype=np.float64) / 255
    return FilmLook(
        exposure=round(float(coarse.mean()), DECIMALS),
        contrast=round(float(coarse.std()), DECIMALS),
        likeness=round(likeness, DECIMALS),
        megapixels=round(film.original_width * film.original_height / 1e6, DECIMALS),
        aspect=round(film.original_width / film.original_height, DECIMALS),
        is_inverted=film.polarity_inverted,
        manufacturer=manufacturer,
    )


def film_values(looks: Sequence[FilmLook], views: Iterable[str]) -> Values:
    """Return the quantities of films; of the maker those films only of which it is known.

    Args:
        looks: Frontal films.
        views: View of every film that was decoded, of those too that are not drafted.
    """
    names = ("exposure", "contrast", "likeness", "megapixels", "aspect")
    values = {f"film/{name}": np.array([getattr(look, name) for look in looks], dtype=np.float64) for name in names}
    values[POLARITY] = np.array([int(look.is_inverted) for look in looks], dtype=np.float64)
    makers = [look.manufacturer for look in looks if look.manufacturer is not None]
    for name, words in ((VIEW, views), (MAKER, makers)):
        values[name] = np.array([CHOICES[name].index(word) for word in words], dtype=np.float64)
    return values


def draft_values(drafts: Sequence[DraftLook]) -> Values:
    """Return the quantities of drafts."""
    probabilities = np.array([draft.probabilities for draft in drafts], dtype=np.float64).reshape(-1, len(LABELS))
    labels = np.array([draft.labels for draft in drafts], dtype=np.float64).reshape(-1, len(LABELS))
    values: Values = {
        "draft/consistency": np.array([draft.consistency for draft in drafts], dtype=np.float64),
        "draft/words": np.array([len(draft.text.split()) for draft in drafts], dtype=np.float64),
        "draft/sentences": np.array([len(split_sentences(draft.text)) for draft in drafts], dtype=np.float64),
    }
    for place, label in enumerate(LABELS):
        values[f"draft/probability/{label}"] = probabilities[:, place]
        values[f"draft/label/{label}"] = labels[:, place]
    return values
