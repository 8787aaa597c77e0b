"""ROC and reliability pictures of the label head, as PNG bytes. matplotlib is imported only when one is drawn."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crrg.domain.labels import LABELS
from crrg.evaluation.classification import known_values, roc_points

NUM_BINS = 10


def roc_picture(probabilities: NDArray[np.float64], labels: NDArray[np.integer[Any]]) -> bytes:
    """Draw one ROC curve per label.

    Args:
        probabilities: ``[N, 14]``.
        labels: ``[N, 14]``: 1, 0, below 0 unknown.

    Returns:
        A PNG; a label without both kinds of films has no curve.
    """
    figure, axes = _figure()
    for index, label in enumerate(LABELS):
        alarms, hits = roc_points(probabilities[:, index], known_values(labels[:, index]))
        if len(hits):
            axes.plot(alarms, hits, linewidth=1, label=label)
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
    axes.set_xlabel("1 - specificity")
    axes.set_ylabel("sensitivity")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=6, loc="lower right")
    return _png(figure)


def reliability_picture(probabilities: NDArray[np.float64], labels: NDArray[np.integer[Any]]) -> bytes:
    """Draw said against true frequency over all labels, in ten bins, with the number of films in each.

    Args:
        probabilities: ``[N, 14]``.
        labels: ``[N, 14]``: 1, 0, below 0 unknown.
    """
    figure, axes = _figure()
    is_known = labels >= 0
    said, truth = probabilities[is_known], labels[is_known]
    bins = np.minimum((said * NUM_BINS).astype(int), NUM_BINS - 1)
    for number in np.unique(bins):
        here = bins == number
        axes.plot(said[here].mean(), truth[here].mean(), "o", color="tab:blue")
        axes.annotate(str(int(here.sum())), (said[here].mean(), truth[here].mean()), fontsize=6)
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
    axes.set_xlabel("probability given")
    axes.set_ylabel("share that has the label")
    return _png(figure)


def _figure() -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.01)
    return figure, axes


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
