"""Phrases to learn from: targets, conditions, and which of them make up the batch of a step.

Knows no network. Letters: ``N`` phrases, ``B`` phrases of a batch, ``L`` tokens, ``F`` region feature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crrg.config.training import GeneratorTraining
from crrg.data.dataset.batches import FilmTable
from crrg.data.tokenizer import PhraseTokenizer
from crrg.domain.labels import LABELS, NO_FINDING, NUM_LABELS, UNCERTAIN
from crrg.domain.regions import NUM_REGIONS, REGION_INDEX
from crrg.domain.report import Report
from crrg.domain.sentences import split_sentences
from crrg.evaluation.labeler import label_report
from crrg.inference.decoding import UNCERTAIN_FLAG

NO_PHRASE = "no training film has a region phrase; run crrg ground, or ingest films with grounded reports"
IGNORED = -100
"""Target of a padding token."""
FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class PhraseTable:
    """Phrases with what each is conditioned on.

    Attributes:
        texts: ``N`` phrases.
        film_index: Row of the film in its table, int64 ``[N]``; -1 for a sentence without a film.
        region_index: 0..28, int64 ``[N]``; 0 where there is no film.
        features: Region features ``[S, F]`` of the ``S`` phrases with a film, in their order.
        reference_flags: Findings and abnormality in the phrase's own words ``[N, 15]``: 1, 1/2 uncertain, 0.
        predicted_flags: The selector's flags ``[N, 15]``: 1 or 0.
    """

    texts: list[str]
    film_index: NDArray[np.int64]
    region_index: NDArray[np.int64]
    features: FloatArray
    reference_flags: FloatArray
    predicted_flags: FloatArray

    def __len__(self) -> int:
        """Return the number of phrases."""
        return len(self.texts)

    @property
    def is_seen(self) -> NDArray[np.bool_]:
        """Whether a phrase has a film, ``[N]``."""
        return self.film_index >= 0

    @property
    def is_abnormal(self) -> NDArray[np.bool_]:
        """Whether a phrase describes anything but the normal, ``[N]``."""
        return self.reference_flags[:, -1] > 0


def phrase_flags(phrase: str, is_abnormal: bool) -> FloatArray:
    """Return the flags ``[15]`` that a phrase's own words stand for.

    Args:
        phrase: One or more sentences.
        is_abnormal: What is known of it otherwise; a phrase that names a finding is abnormal in any case.
    """
    values = label_report(phrase)
    flags = np.zeros(NUM_LABELS + 1, dtype=np.float32)
    for index, label in enumerate(LABELS):
        if label != NO_FINDING and values[label]:
            flags[index] = UNCERTAIN_FLAG if values[label] == UNCERTAIN else 1.0
    flags[-1] = float(is_abnormal or flags.any())
    return flags


def collect_phrases(films: FilmTable, features: FloatArray, flags: FloatArray) -> PhraseTable:
    """Return the phrases of films.

    Args:
        films: ``M`` films; a region without a phrase gives no row.
        features: Region features ``[M, 29, F]``.
        flags: The selector's flags ``[M, 29, 15]``.
    """
    texts, film_index, region_index, reference = [], [], [], []
    for film, phrases in enumerate(films.phrases):
        for region, phrase in phrases.items():
            texts.append(phrase)
            film_index.append(film)
            region_index.append(REGION_INDEX[region])
            reference.append(phrase_flags(phrase, bool(films.is_abnormal[film, REGION_INDEX[region]] == 1)))
    films_of, regions_of = np.array(film_index, dtype=np.int64), np.array(region_index, dtype=np.int64)
    return PhraseTable(
        texts=texts,
        film_index=films_of,
        region_index=regions_of,
        features=features[films_of, regions_of].astype(np.float32, copy=False),
        reference_flags=np.array(reference, dtype=np.float32).reshape(-1, NUM_LABELS + 1),
        predicted_flags=flags[films_of, regions_of].astype(np.float32),
    )


def add_text_only(table: PhraseTable, reports: Sequence[Report], films: FilmTable) -> PhraseTable:
    """Return the table with the findings sentences of reports that have no film appended.

    Args:
        table: Phrases of films.
        reports: Reports of all rows of the split.
        films: The films of the split; their own reports are left out.
    """
    with_film = {report.text for report in films.texts}
    sentences = [
        sentence
        for report in reports
        if report.findings and report.text not in with_film
        for sentence in split_sentences(report.findings)
    ]
    num = len(sentences)
    flags = np.array([phrase_flags(sentence, False) for sentence in sentences], dtype=np.float32)
    nothing = np.zeros((num, NUM_LABELS + 1), dtype=np.float32)
    return PhraseTable(
        texts=table.texts + sentences,
        film_index=np.concatenate([table.film_index, np.full(num, -1)]),
        region_index=np.concatenate([table.region_index, np.zeros(num, dtype=np.int64)]),
        features=table.features,
        reference_flags=np.concatenate([table.reference_flags, flags.reshape(nothing.shape)]),
        predicted_flags=np.concatenate([table.predicted_flags, nothing]),
    )


class ToldReports:
    """What the phrases of each film say together, as a condition of each of them."""

    def __init__(self, table: PhraseTable) -> None:
        """Find the phrases of each film; the table's order does not matter."""
        self._table = table
        self._rows = np.argsort(table.film_index, kind="stable")
        self._films = table.film_index[self._rows]

    def flags(self, index: NDArray[np.int64], is_predicted: NDArray[np.bool_] | None = None) -> FloatArray:
        """Return the flags of all regions that the reports of some phrases speak of.

        Args:
            index: Rows of the table ``[B]``.
            is_predicted: Whether a row sees the selector's flags instead of the phrases' own, ``[B]``; none where not
                given.

        Returns:
            ``[B, 29, 15]``; NaN where a region has no phrase, and everywhere for a sentence without a film.
        """
        table, films = self._table, self._table.film_index[index]
        first, last = (np.searchsorted(self._films, films, side) for side in ("left", "right"))
        counts = np.where(films >= 0, last - first, 0)
        owners = np.repeat(np.arange(len(index)), counts)
        places = np.arange(len(owners)) - np.repeat(counts.cumsum() - counts, counts)
        rows = self._rows[first[owners] + places]
        flags = table.reference_flags[rows]
        if is_predicted is not None:
            flags = np.where(is_predicted[owners, None], table.predicted_flags[rows], flags)
        found = np.full((len(index), NUM_REGIONS, NUM_LABELS + 1), np.nan, dtype=np.float32)
        found[owners, table.region_index[rows]] = flags
        return found


@dataclass(frozen=True)
class PhraseBatch:
    """One batch.

    Attributes:
        token_ids: Begin token and words, int64 ``[B, L]``.
        targets: Words and end token, int64 ``[B, L]``, -100 beyond.
        features: ``[B, F]``.
        region_index: int64 ``[B]``.
        finding_flags: ``[B, 15]``.
        report_flags: What the phrase's whole report says, ``[B, 29, 15]``; NaN where it says nothing.
        is_flagged: Whether the flags are shown, bool ``[B]``.
        is_seen: Whether there is a film, bool ``[B]``.
    """

    token_ids: Tensor
    targets: Tensor
    features: Tensor
    region_index: Tensor
    finding_flags: Tensor
    report_flags: Tensor
    is_flagged: Tensor
    is_seen: Tensor

    def to(self, device: torch.device) -> PhraseBatch:
        """Return the batch on a device."""
        return PhraseBatch(**{name: tensor.to(device) for name, tensor in vars(self).items()})


class PhraseSampler:
    """Makes batches; the batch of a step depends on seed and step alone."""

    def __init__(
        self, table: PhraseTable, tokenizer: PhraseTokenizer, config: GeneratorTraining, seed: int = 0
    ) -> None:
        """Encode the phrases and sort them into buckets of similar length."""
        self._table = table
        self._config = config
        self._seed = seed
        self._end_id = tokenizer.end_id
        self._reports = ToldReports(table)
        self._feature_rows = table.is_seen.cumsum() - 1
        self._rows = tokenizer.encode_phrases(table.texts, config.architecture.max_length)
        weights = _weights(table, config)
        by_length = np.argsort([len(row) for row in self._rows], kind="stable")
        buckets = [part for part in np.array_split(by_length, config.num_length_buckets) if len(part)]
        self._buckets = [(part, weights[part] / weights[part].sum()) for part in buckets]
        self._bucket_shares = np.array([weights[part].sum() for part in buckets])
        self._bucket_shares /= self._bucket_shares.sum()

    def batch(self, step: int) -> PhraseBatch:
        """Return the training batch of a step."""
        rng = np.random.default_rng([self._seed, step])
        part, shares = self._buckets[rng.choice(len(self._buckets), p=self._bucket_shares)]
        index = rng.choice(part, size=self._config.loop.batch_size, p=shares)
        is_predicted = rng.random(len(index)) < self._config.predicted_flag_share
        is_flagged = rng.random(len(index)) >= self._config.flag_dropout
        return self._assemble(index, is_predicted, is_flagged)

    def reference_batches(self) -> list[PhraseBatch]:
        """Return every phrase once, under its own flags, in batches of similar length."""
        size = self._config.loop.batch_size
        ordered = np.concatenate([part for part, _ in self._buckets])
        parts = [ordered[first : first + size] for first in range(0, len(ordered), size)]
        return [self._assemble(part, np.zeros(len(part), dtype=bool), np.ones(len(part), dtype=bool)) for part in parts]

    def _assemble(
        self, index: NDArray[np.int64], is_predicted: NDArray[np.bool_], is_flagged: NDArray[np.bool_]
    ) -> PhraseBatch:
        rows = [self._rows[i] for i in index]
        width = max(len(row) for row in rows) - 1
        token_ids = np.full((len(rows), width), self._end_id, dtype=np.int64)
        targets = np.full((len(rows), width), IGNORED, dtype=np.int64)
        for row, ids in enumerate(rows):
            token_ids[row, : len(ids) - 1] = ids[:-1]
            targets[row, : len(ids) - 1] = ids[1:]
        table = self._table
        flags = np.where(is_predicted[:, None], table.predicted_flags[index], table.reference_flags[index])
        return PhraseBatch(
            token_ids=torch.from_numpy(token_ids),
            targets=torch.from_numpy(targets),
            features=torch.from_numpy(self._features(index)),
            region_index=torch.from_numpy(table.region_index[index]),
            finding_flags=torch.from_numpy(np.ascontiguousarray(flags, dtype=np.float32)),
            report_flags=torch.from_numpy(self._reports.flags(index, is_predicted)),
            is_flagged=torch.from_numpy(is_flagged),
            is_seen=torch.from_numpy(table.is_seen[index]),
        )

    def _features(self, index: NDArray[np.int64]) -> FloatArray:
        """Return region features ``[B, F]`` of rows; zeros where there is no film."""
        is_seen = self._table.is_seen[index]
        features = np.zeros((len(index), self._table.features.shape[1]), dtype=np.float32)
        features[is_seen] = self._table.features[self._feature_rows[index[is_seen]]]
        return features


def _weights(table: PhraseTable, config: GeneratorTraining) -> NDArray[np.float64]:
    """Return sampling weights: abnormal and text-only phrases get their shares, where there are any."""
    weights = np.ones(len(table))
    seen, abnormal = table.is_seen, table.is_abnormal
    film_share = 1.0 if seen.all() else 1.0 - config.text_only_share
    groups = [
        (seen & abnormal, film_share * config.abnormal_share),
        (seen & ~abnormal, film_share * (1 - config.abnormal_share)),
        (~seen, 1.0 - film_share),
    ]
    for members, share in groups:
        if members.any():
            weights[members] = share / members.sum()
    return weights
