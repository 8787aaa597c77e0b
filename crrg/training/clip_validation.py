"""What the CLIP stage learns about itself on validation films: calibration, thresholds, similarity curve, metrics.

Metrics are computed here on arrays of one split; the scorecard of a whole bundle is the evaluation room's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from crrg.config.training import ClipTraining
from crrg.data.dataset.batches import FilmTable
from crrg.data.tokenizer import TextTokenizer
from crrg.domain.labels import FINDINGS, LABELS, label_column
from crrg.domain.report import Report
from crrg.domain.sentences import split_sentences
from crrg.evaluation.classification import expected_calibration_error, known_values, roc_auc
from crrg.inference.calibration import Calibration, fit_calibration, fit_platt
from crrg.inference.consistency import SimilarityCurve
from crrg.inference.zero_shot import encode_texts, zero_shot_labels
from crrg.models.clip import ClipModel
from crrg.training.contrastive import StudyFeatures, study_loss
from crrg.training.study_sampling import fixed_texts, identify, study_numbers

FloatArray = NDArray[np.float64]
FILMS_AT_ONCE = 64
TEXT_SPREAD = "classification/text_spread"
"""How far the features of texts lie apart: one less the length of their mean, 0 where all are the same."""
NUM_STRANGERS = 4
"""Other films' texts per film when the similarity curve is fitted."""


@dataclass(frozen=True)
class ClipValidation:
    """Everything that is fitted or measured on validation films.

    Attributes:
        calibration: Curves and thresholds of the label head.
        similarity: Curve of the film-text cosine.
        metrics: By ``classification/name``; a label without both kinds of films has none.
        labels: ``[N, 14]`` truth (1, 0, below 0 unknown).
        probabilities: ``[N, 14]``, each film calibrated without its own label (out of fold).
    """

    calibration: Calibration
    similarity: SimilarityCurve
    metrics: dict[str, float]
    labels: NDArray[np.int8]
    probabilities: FloatArray


@dataclass(frozen=True)
class FilmOutputs:
    """A model's outputs on a table of films.

    Attributes:
        logits: ``[N, 14]``.
        image_features: ``[N, D]`` of length 1.
    """

    logits: FloatArray
    image_features: torch.Tensor


@torch.inference_mode()
def film_outputs(model: ClipModel, films: FilmTable) -> FilmOutputs:
    """Run the image tower over a table of films, in ``eval`` mode; the model's mode is left as ``eval``."""
    model.eval()
    device = model.logit_scale.device
    logits = [torch.zeros(0, model.architecture.num_labels)]
    features = [torch.zeros(0, model.architecture.projection_size)]
    for first in range(0, len(films), FILMS_AT_ONCE):
        images = torch.from_numpy(films.images[first : first + FILMS_AT_ONCE])[:, None]
        reading = model.read_films(images.to(device))
        logits.append(reading.label_logits.cpu())
        features.append(reading.image_features.cpu())
    return FilmOutputs(torch.cat(logits).numpy().astype(np.float64), torch.cat(features))


def findings_auc(model: ClipModel, films: FilmTable) -> float:
    """Return the label head's mean AUC over findings; NaN where no finding is known both ways."""
    references = known_values(films.labels)
    return _auc_metrics("{}auc", film_outputs(model, films).logits, references).get("mean_auc", float("nan"))


def selection_score(model: ClipModel, tokenizer: TextTokenizer, films: FilmTable, training: ClipTraining) -> float:
    """Return what the best weights are chosen by, higher is better; NaN where it cannot be told."""
    if training.select_by == "findings_auc":
        return findings_auc(model, films)
    if not len(films):
        return float("nan")
    return -validation_loss(model, tokenizer, film_outputs(model, films).image_features, films, training)


def validate(model: ClipModel, tokenizer: TextTokenizer, films: FilmTable, training: ClipTraining) -> ClipValidation:
    """Fit calibration, thresholds and similarity curve on validation films and measure the model there.

    Args:
        model: Trained; left in ``eval`` mode.
        tokenizer: The model's.
        films: Validation films; with none of them the calibration is the identity and there are no metrics.
        training: Its contrastive loss is measured, in batches of its loop.
    """
    outputs = film_outputs(model, films)
    labels = films.labels
    probabilities = _out_of_fold(outputs.logits, labels, films.patient_ids)
    table = zero_shot_labels(model, tokenizer, outputs.image_features, LABELS)
    zero_shot = torch.stack([table[label] for label in LABELS], dim=1).numpy().astype(np.float64)
    references = known_values(labels)
    metrics = _auc_metrics("classification/{}auc", outputs.logits, references)
    metrics |= _auc_metrics("classification/zero_shot_{}auc", zero_shot, references)
    if len(films):
        metrics["classification/ece"] = expected_calibration_error(probabilities, references)
        metrics["classification/contrastive_loss"] = validation_loss(
            model, tokenizer, outputs.image_features, films, training
        )
    told, ids, features = _film_texts(model, tokenizer, films.texts)
    similarity = fit_similarity(outputs.image_features[told], features, ids)
    if len(np.unique(ids)) > 1:
        metrics[TEXT_SPREAD] = float(1 - features.mean(dim=0).norm())
    return ClipValidation(fit_calibration(outputs.logits, labels), similarity, metrics, labels, probabilities)


@torch.inference_mode()
def validation_loss(
    model: ClipModel,
    tokenizer: TextTokenizer,
    image_features: torch.Tensor,
    films: FilmTable,
    training: ClipTraining,
) -> float:
    """Return MVS of films and the texts ``fixed_texts`` gives them: the same number each time, nothing is drawn.

    Args:
        model: In ``eval`` mode.
        tokenizer: The model's.
        image_features: ``[N, D]`` of the films, in dataset order.
        films: Their reports and studies.
        training: Kind of loss, texts, and batch size; what is left after the last whole batch counts only where there
            is no whole one. The two views of one film would be the same picture, so ICL and TCL are left out. Targets
            are smoothed in training alone.
    """
    versions = list(zip(*(fixed_texts(report, training.sampling) for report in films.texts), strict=True))
    texts = [encode_texts(model, tokenizer, version) for version in versions]
    ids = torch.tensor([[identify(split_sentences(text)) for text in version] for version in versions])
    sources = torch.tensor([identify(split_sentences(report.text)) for report in films.texts]).expand_as(ids)
    studies = torch.from_numpy(study_numbers(films))
    told = torch.tensor([bool(text) for text in versions[0]])
    contrast = training.contrast.model_copy(
        update={"view_weight": 0.0, "text_weight": 0.0, "label_smoothing": 0.0, "across_ranks": False}
    )
    scale, bias = model.scale.cpu(), None if model.logit_bias is None else model.logit_bias.cpu()
    losses: list[float] = []
    for rows in torch.arange(len(films)).split(min(training.loop.batch_size, len(films))):
        if len(rows) < training.loop.batch_size and losses:
            break
        features = StudyFeatures(
            (image_features[rows],), tuple(text[rows] for text in texts), studies[rows], ids[:, rows], sources[:, rows],
            told[rows],
        )  # fmt: skip
        losses.append(float(study_loss(features, scale, bias, contrast)))
    return float(np.mean(losses))


def _film_texts(
    model: ClipModel, tokenizer: TextTokenizer, reports: Sequence[Report]
) -> tuple[list[int], NDArray[np.int64], torch.Tensor]:
    """Return which films have a text, which of those are the same, and the features of each.

    It is the text that a draft will be compared by: findings, or the impression of a report without them.
    """
    texts = [report.findings or report.impression or "" for report in reports]
    told = [row for row, text in enumerate(texts) if text.strip()]
    kept = [texts[row] for row in told]
    ids = np.array([identify(split_sentences(text)) for text in kept], dtype=np.int64)
    return told, ids, encode_texts(model, tokenizer, kept)


def fit_similarity(
    image_features: torch.Tensor, text_features: torch.Tensor, text_ids: NDArray[np.int64]
) -> SimilarityCurve:
    """Fit how a cosine tells a film's own text from other films' texts.

    Args:
        image_features: ``[N, D]``, of films that have a text.
        text_features: ``[N, D]``, row i is the text of film i.
        text_ids: ``[N]``, equal where texts are the same; another film's equal text is no stranger.

    Returns:
        The curve, balanced between own and strange texts; the identity where no two texts differ.
    """
    num = len(image_features)
    films = np.tile(np.arange(num), NUM_STRANGERS)
    others = (films + np.repeat(_steps(num), num)) % max(1, num)
    is_strange = text_ids[films] != text_ids[others]
    films, others = films[is_strange], others[is_strange]
    if not len(films):
        return SimilarityCurve(slope=1.0, bias=0.0)
    own, strange = ((image_features[films] * text_features[rows]).sum(dim=1) for rows in (films, others))
    values = torch.cat([own, strange]).numpy().astype(np.float64)
    truth = np.repeat([1.0, 0.0], len(films))
    middle, width = values.mean(), max(values.std(), 1e-6)
    slope, bias = fit_platt((values - middle) / width, truth)
    return SimilarityCurve(slope=slope / width, bias=bias - slope * middle / width)


def _steps(num: int) -> list[int]:
    """Return how far down the table each of a film's strangers lies."""
    return [max(1, (k * num) // (NUM_STRANGERS + 1)) for k in range(1, NUM_STRANGERS + 1)]


def _auc_metrics(name: str, scores: FloatArray, references: FloatArray) -> dict[str, float]:
    """Return one area per label, their mean over the 13 findings, and "No Finding" on its own."""
    areas = {label: roc_auc(scores[:, i], references[:, i]) for i, label in enumerate(LABELS)}
    known = {label: area for label, area in areas.items() if not np.isnan(area)}
    metrics = {name.format(f"{label_column(label)}_"): area for label, area in known.items()}
    findings = [area for label, area in known.items() if label in FINDINGS]
    if findings:
        metrics[name.format("mean_")] = float(np.mean(findings))
    return metrics


def _out_of_fold(logits: FloatArray, labels: NDArray[np.int8], patient_ids: list[str]) -> FloatArray:
    """Return probabilities by curves fitted on the other half of the patients, so that the error shown is honest."""
    order = {patient: number for number, patient in enumerate(sorted(set(patient_ids)))}
    fold = np.array([order[patient] % 2 for patient in patient_ids], dtype=np.int64)
    probabilities = np.zeros_like(logits)
    for number in (0, 1):
        here = fold == number
        probabilities[here] = fit_calibration(logits[~here], labels[~here]).probabilities(logits[here])
    return probabilities
