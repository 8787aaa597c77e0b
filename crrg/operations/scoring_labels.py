"""Label figures of a scorecard beside those given out: label head, probe and zero-shot; retrieval and phrases.

The probe is a logistic regression on the CLIP stage's frozen film features, fitted on the training dataset's validation
films, as the fused classifier is: the network has not seen them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from crrg.config.references import DatasetRef
from crrg.data.pairs import read_pairs
from crrg.domain.film_labels import FilmLabels
from crrg.domain.labels import LABELS
from crrg.domain.study import Film, Pair, Split
from crrg.evaluation.baselines import permuted_rows
from crrg.evaluation.bootstrap import bootstrap_interval, bootstrap_mean
from crrg.evaluation.classification import label_matrix, own_phrase_auc, retrieval_places
from crrg.evaluation.label_figures import classifier_figures
from crrg.evaluation.scorecard import Figure
from crrg.storage import Storage

FloatArray = NDArray[np.float64]
CHUNK_SIZE = 64
PROBE_FILMS = 2000
"""Most validation films that the probe is fitted on."""
PROBE_STRENGTH = 0.003
"""Inverse strength of the probe's L2 penalty (scikit-learn's ``C``)."""
RANKS = (1, 5, 10)


class FilmReader(Protocol):
    """Reads films by the CLIP stage alone; ``crrg.inference.pipeline.ReportPipeline`` is one."""

    def film_labels(self, films: Sequence[Film]) -> FilmLabels:
        """Return what label head and zero-shot say of at least one film, and its features."""

    def text_features(self, texts: Sequence[str]) -> FloatArray:
        """Return features ``[N, D]`` of texts in the films' space."""


@dataclass(frozen=True)
class LabelEvidence:
    """What else is shown of the films of a scorecard.

    Attributes:
        films: As the CLIP stage reads them.
        probe: Probabilities of the linear probe, ``[B, 14]``; ``None`` where there was no film to fit it on.
        encode: Texts to features in the films' space.
    """

    films: FilmLabels
    probe: FloatArray | None
    encode: Callable[[Sequence[str]], FloatArray]


def gather_evidence(reader: FilmReader, films: Sequence[Film], training: DatasetRef, storage: Storage) -> LabelEvidence:
    """Read films with the CLIP stage, and judge them by a probe fitted on the training dataset's validation films.

    Args:
        reader: The bundle's pipeline.
        films: At least one.
        training: Dataset whose validation films the probe learns from.
        storage: Root with it.
    """
    pairs = (pair for pair in read_pairs(storage, training, Split.VALIDATION) if is_frontal(pair))
    known = [(pair, pair.film) for pair in islice(pairs, PROBE_FILMS) if pair.film is not None]
    found = read_films(reader, films)
    probe = None
    if known:
        labels = label_matrix([pair.labels for pair, _ in known])
        seen = read_films(reader, [film for _, film in known]).image_features
        probe = probe_probabilities(seen, labels, found.image_features)
    return LabelEvidence(found, probe, reader.text_features)


def read_films(reader: FilmReader, films: Sequence[Film]) -> FilmLabels:
    """Read at least one film, a chunk at a time."""
    found = reader.film_labels(films[:CHUNK_SIZE])
    for first in range(CHUNK_SIZE, len(films), CHUNK_SIZE):
        found = found.joined(reader.film_labels(films[first : first + CHUNK_SIZE]))
    return found


def probe_probabilities(known: FloatArray, labels: FloatArray, asked: FloatArray) -> FloatArray:
    """Return the probabilities of a linear probe.

    Args:
        known: Features ``[N, D]`` of the films it is fitted on.
        labels: Their labels ``[N, 14]``, NaN where unknown.
        asked: Features ``[B, D]`` of the films to judge.

    Returns:
        ``[B, 14]``; a label's frequency where only one value is known, one half where none is.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    chances = np.full((len(asked), len(LABELS)), 0.5)
    for i in range(len(LABELS)):
        is_known = ~np.isnan(labels[:, i])
        truth = labels[is_known, i]
        if len(np.unique(truth)) < 2:
            chances[:, i] = truth.mean() if len(truth) else 0.5
            continue
        model = make_pipeline(StandardScaler(), LogisticRegression(C=PROBE_STRENGTH, max_iter=500))
        chances[:, i] = model.fit(known[is_known], truth).predict_proba(asked)[:, 1]
    return chances


def evidence_figures(
    evidence: LabelEvidence, references: FloatArray, train_references: FloatArray, patients: Sequence[str]
) -> list[Figure]:
    """Return the figures of label head, probe and zero-shot, each beside the majority's."""
    films = evidence.films
    sources: dict[str, tuple[FloatArray | None, FloatArray | float]] = {
        "head": (films.head, films.head_thresholds),
        "probe": (evidence.probe, 0.5),
        "zero_shot": (films.zero_shot, 0.5),
    }
    return [
        figure
        for name, (chances, limits) in sources.items()
        if chances is not None
        for figure in classifier_figures(
            f"classification/{name}_", chances, chances >= limits, references, patients, train_references
        )
    ]


def retrieval_figures(evidence: LabelEvidence, pairs: Sequence[Pair], patients: Sequence[str]) -> list[Figure]:
    """Return how often a film finds its own report, and prefers its own phrase of a region to another film's.

    Args:
        evidence: The films, in the order of the pairs.
        pairs: What is known of them; films without a report, or without phrases, are left out.
        patients: Patient of each film.
    """
    features = evidence.films.image_features
    rows = [row for row, pair in enumerate(pairs) if pair.report.text.strip()]
    figures = []
    if len(rows) > 1:
        texts = [pairs[row].report.text for row in rows]
        similarities = features[rows] @ evidence.encode(texts).T
        places = retrieval_places(similarities, texts)
        for k in RANKS:
            found = (places <= k).astype(float)
            interval = bootstrap_mean(found, [patients[row] for row in rows])
            chance = min(1.0, k / len(set(texts)))
            figures.append(Figure(f"retrieval/recall_at_{k}", float(found.mean()), *interval, "chance", chance))
    return [*figures, *_phrase_figures(evidence, pairs, patients)]


def _phrase_figures(evidence: LabelEvidence, pairs: Sequence[Pair], patients: Sequence[str]) -> list[Figure]:
    """Return ``region_phrase/auc``, of abnormal phrases: those of normal regions are true of most films."""
    by_region: dict[str, list[tuple[int, str]]] = {}
    for row, pair in enumerate(pairs):
        for region in pair.regions:
            if region.phrase and region.is_abnormal:
                by_region.setdefault(region.region, []).append((row, region.phrase))
    rows, own, other = [], [], []
    for found in by_region.values():
        for (row, phrase), strange in zip(found, permuted_rows(len(found)).tolist(), strict=True):
            if found[strange][1] != phrase:
                rows.append(row)
                own.append(phrase)
                other.append(found[strange][1])
    if not rows:
        return []
    features = evidence.films.image_features[rows]
    likeness = [(features * evidence.encode(texts)).sum(axis=1) for texts in (own, other)]
    interval = bootstrap_interval(
        lambda drawn: own_phrase_auc(likeness[0][drawn], likeness[1][drawn]), [patients[row] for row in rows]
    )
    return [Figure("region_phrase/own_preferred", own_phrase_auc(*likeness), *interval, "chance", 0.5)]


def is_frontal(pair: Pair) -> bool:
    """Return whether a row has a frontal film."""
    return pair.film is not None and pair.film.view_position.is_frontal


def given_labels(labels: Sequence[Mapping[str, int]]) -> NDArray[np.bool_]:
    """Return which labels drafts give, ``[B, 14]``."""
    return np.array([[bool(values[label]) for label in LABELS] for values in labels])
