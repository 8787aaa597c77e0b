"""Label figures of a scorecard beside those given out: label head, probe and zero-shot; retrieval and phrases.

The probe is a logistic regression on the CLIP stage's frozen film features, fitted on the training dataset's validation
films, as the fused classifier is: the network has not seen them. On the same films slope, bias and threshold of the
probe (out of fold) and of zero-shot are fitted, as the label head's are: no classifier is decided at one half.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from crrg.config.references import DatasetRef
from crrg.data.dataset.batches import UNMENTIONED
from crrg.data.dataset.spaced import sampled_films
from crrg.domain.film_labels import FilmLabels
from crrg.domain.labels import LABELS
from crrg.domain.study import Film, Pair, Split
from crrg.evaluation.baselines import permuted_rows
from crrg.evaluation.bootstrap import bootstrap_interval, bootstrap_mean
from crrg.evaluation.classification import label_matrix, own_phrase_auc, retrieval_places
from crrg.evaluation.label_figures import classifier_figures
from crrg.evaluation.scorecard import Figure
from crrg.inference.calibration import fit_calibration, log_odds
from crrg.inference.fusion_fitting import patient_folds
from crrg.storage import Storage

FloatArray = NDArray[np.float64]
CHUNK_SIZE = 64
PROBE_FILMS = 2000
"""Most validation films that the probe is fitted on."""
PROBE_STRENGTH = 0.003
"""Inverse strength of the probe's L2 penalty (scikit-learn's ``C``)."""
RANKS = (1, 5, 10)
LEAST_PROBABILITY = 1e-6
"""A probability below it, or as near to 1, counts as this where a curve is fitted."""


class FilmReader(Protocol):
    """Reads films by the CLIP stage alone; ``crrg.inference.pipeline.ReportPipeline`` is one."""

    def film_labels(self, films: Sequence[Film]) -> FilmLabels:
        """Return what label head and zero-shot say of at least one film, and its features."""

    def text_features(self, texts: Sequence[str]) -> FloatArray:
        """Return features ``[N, D]`` of texts in the films' space."""


@dataclass(frozen=True)
class Judgement:
    """What a classifier says of films.

    Attributes:
        probabilities: ``[B, 14]``, calibrated.
        thresholds: ``[14]``; a label is given at or above its threshold.
    """

    probabilities: FloatArray
    thresholds: FloatArray

    @property
    def decisions(self) -> NDArray[np.bool_]:
        """Which labels are given, ``[B, 14]``."""
        return np.asarray(self.probabilities >= self.thresholds)


@dataclass(frozen=True)
class LabelEvidence:
    """What else is shown of the films of a scorecard.

    Attributes:
        films: As the CLIP stage reads them.
        probe: The linear probe; ``None`` where there was no film to fit it on.
        zero_shot: Zero-shot, with curve and thresholds of the same films; as it is, and decided at one half, without.
        encode: Texts to features in the films' space.
    """

    films: FilmLabels
    probe: Judgement | None
    zero_shot: Judgement
    encode: Callable[[Sequence[str]], FloatArray]


def gather_evidence(reader: FilmReader, films: Sequence[Film], training: DatasetRef, storage: Storage) -> LabelEvidence:
    """Read films with the CLIP stage, and judge them by a probe fitted on the training dataset's validation films.

    Args:
        reader: The bundle's pipeline.
        films: At least one.
        training: Dataset whose validation films the probe learns from.
        storage: Root with it.
    """
    known = list(sampled_films(storage, training, Split.VALIDATION, PROBE_FILMS))
    found = read_in_chunks(reader, films)
    if not known:
        plain = Judgement(found.zero_shot, np.full(len(LABELS), 0.5))
        return LabelEvidence(found, None, plain, reader.text_features)
    labels = label_matrix([pair.labels for pair, _ in known])
    seen = read_in_chunks(reader, [film for _, film in known])
    probe = judge_by_probe(seen.image_features, labels, [pair.patient_id for pair, _ in known], found.image_features)
    return LabelEvidence(found, probe, calibrated(seen.zero_shot, labels, found.zero_shot), reader.text_features)


def read_in_chunks(reader: FilmReader, films: Sequence[Film]) -> FilmLabels:
    """Read at least one film, a chunk at a time."""
    found = reader.film_labels(films[:CHUNK_SIZE])
    for first in range(CHUNK_SIZE, len(films), CHUNK_SIZE):
        found = found.joined(reader.film_labels(films[first : first + CHUNK_SIZE]))
    return found


def calibrated(known: FloatArray, labels: FloatArray, asked: FloatArray) -> Judgement:
    """Fit slope, bias and threshold of each label of a classifier, and judge films by them.

    Args:
        known: Its probabilities ``[N, 14]`` of films that it was not fitted on.
        labels: Their labels ``[N, 14]``, NaN where unknown.
        asked: Its probabilities ``[B, 14]`` of the films to judge.
    """
    values = np.where(np.isnan(labels), UNMENTIONED, labels).astype(np.int64)
    scores = log_odds(known, LEAST_PROBABILITY)
    # of one spread, since the fit is drawn to a slope of 1 and prompts may differ in little
    middle, width = scores.mean(axis=0), np.maximum(scores.std(axis=0), 1e-6)
    fitted = fit_calibration((scores - middle) / width, values)
    return Judgement(fitted.probabilities((log_odds(asked, LEAST_PROBABILITY) - middle) / width), fitted.thresholds)


def judge_by_probe(known: FloatArray, labels: FloatArray, patients: Sequence[str], asked: FloatArray) -> Judgement:
    """Judge films by a linear probe whose curve and thresholds come from films that it did not see.

    Args:
        known: Features ``[N, D]`` of the films it is fitted on.
        labels: Their labels ``[N, 14]``, NaN where unknown.
        patients: Their patients; those of one are left out together.
        asked: Features ``[B, D]`` of the films to judge.
    """
    folds = patient_folds(patients)
    left_out = np.full(labels.shape, 0.5)
    for fold in np.unique(folds):
        rows = folds == fold
        left_out[rows] = probe_probabilities(known[~rows], labels[~rows], known[rows])
    return calibrated(left_out, labels, probe_probabilities(known, labels, asked))


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
    """Return the figures of label head, probe and zero-shot, each beside the majority's.

    Args:
        evidence: What each says of ``B`` films.
        references: ``[B, 14]`` of the same films: 1 present, 0 absent, NaN unknown.
        train_references: ``[N, 14]`` of the training films, which tell the majority.
        patients: Whose the films are.
    """
    films = evidence.films
    sources = {
        "head": Judgement(films.head, films.head_thresholds),
        "probe": evidence.probe,
        "zero_shot": evidence.zero_shot,
    }
    return [
        figure
        for name, judged in sources.items()
        if judged is not None
        for figure in classifier_figures(
            f"classification/{name}_", judged.probabilities, judged.decisions, references, patients, train_references
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


def given_labels(labels: Sequence[Mapping[str, int]]) -> NDArray[np.bool_]:
    """Return which labels drafts give, ``[B, 14]``."""
    return np.array([[bool(values[label]) for label in LABELS] for values in labels])
