"""What of a study is looked at and read at one step: which of its films, and which of the texts that are true of it.

Every draw comes from the generator that the caller hands over, so that a batch is a pure function of its step. What
validation films are compared with is not drawn at all: ``fixed_texts``.

Source: two views and two texts per study as in CXR-CLIP (You et al., MICCAI 2023), without the faults of its code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crrg.config.contrast import SamplingConfig
from crrg.config.training import ClipTraining
from crrg.data.dataset.batches import FilmTable
from crrg.domain.report import Report
from crrg.domain.sentences import split_sentences
from crrg.training.paraphrase import Paraphraser, keep_meaning

MAX_EXCERPT_SENTENCES = 4


@dataclass(frozen=True)
class DrawnText:
    """A text that is true of a film.

    Attributes:
        text: What is read.
        text_id: Equal where the same sentences are read, in whatever order and case.
        source_id: Equal where the report or draft that it was drawn from has the same sentences: each of two such
            films may be told by any excerpt of either text.
    """

    text: str
    text_id: int
    source_id: int


def identify(sentences: Iterable[str]) -> int:
    """Return a number that texts of the same sentences share, on every machine: 63 bits of a digest.

    Neither the order of the sentences nor their case counts.
    """
    text = "\n".join(sorted(sentence.lower() for sentence in sentences))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


class StudyFilms:
    """Studies, and the pictures of each; a picture is a row of the frontal films, or of the laterals behind them.

    Attributes:
        members: Per study, its pictures; the frontal ones, which are never missing, come first.
        ids: int64, per entry of ``members`` a number of its examination. With one view an examination of two films has
            two entries with the same number.
    """

    def __init__(self, films: FilmTable, laterals: FilmTable | None, num_views: int) -> None:
        """Group the films.

        Args:
            films: Frontal films.
            laterals: Lateral films; those of studies without a frontal film are never drawn.
            num_views: With 1 every frontal film is a study of its own.
        """
        self._num_frontal = len(films)
        self.ids = study_numbers(films)
        if num_views == 1:
            self.members = [np.array([row]) for row in range(len(films))]
            return
        studies: dict[str, list[int]] = {}
        for row, study_id in enumerate(_study_ids(films)):
            studies.setdefault(study_id, []).append(row)
        for row, study_id in enumerate(_study_ids(laterals) if laterals is not None else ()):
            if study_id in studies:
                studies[study_id].append(self._num_frontal + row)
        self.members = [np.array(rows) for rows in studies.values()]
        self.ids = self.ids[[rows[0] for rows in studies.values()]]

    def __len__(self) -> int:
        """Return the number of studies."""
        return len(self.members)

    def draw_two(self, study: int, rng: np.random.Generator) -> tuple[int, int]:
        """Return two different pictures of a study, of any number it has, or its only one twice.

        Where one of the two is frontal it comes first, since labels and boxes are read from the first.
        """
        members = self.members[study]
        if len(members) == 1:
            return int(members[0]), int(members[0])
        first, second = (int(picture) for picture in rng.choice(members, 2, replace=False))
        return (second, first) if second < self._num_frontal <= first else (first, second)


def study_numbers(films: FilmTable) -> NDArray[np.int64]:
    """Return int64 ``[N]``, equal where films belong to one examination: a digest of its pseudonym."""
    return np.array([identify([study_id]) for study_id in _study_ids(films)], dtype=np.int64)


def _study_ids(films: FilmTable) -> Sequence[str]:
    """Return one id per film; a table that knows no studies has one film in each."""
    return films.study_ids or films.instance_ids


class StudyTexts:
    """The texts of films: reports, and drafts where the joint stage mixes them in."""

    def __init__(
        self, films: FilmTable, training: ClipTraining, drafts: Mapping[str, str], paraphraser: Paraphraser
    ) -> None:
        """Cut the texts into sentences.

        Args:
            films: Frontal films.
            training: Says what is drawn.
            drafts: Instance id to generated report.
            paraphraser: Words sentences another way, where that is asked for.
        """
        self._training = training
        self._paraphraser = paraphraser
        self._reports = [_sections(report, training.sampling.text_source) for report in films.texts]
        self._drafts = [_sections(Report(findings=drafts.get(key)), "report") for key in films.instance_ids]

    def draw(self, row: int, rng: np.random.Generator) -> list[DrawnText]:
        """Return ``num_texts`` texts of a film; empty ones where it has neither report nor draft."""
        sections = self._reports[row]
        if self._drafts[row] and rng.random() < self._training.draft_share:
            sections = self._drafts[row]
        by_sections = self._training.sampling.text_source == "sections" and sections
        picked = self._from_sections(sections, rng) if by_sections else self._from_report(sections, rng)
        source_id = identify(sentence for section in sections for sentence in section)
        return [DrawnText(" ".join(sentences), identify(sentences), source_id) for sentences in picked]

    def _from_report(self, sections: Sequence[list[str]], rng: np.random.Generator) -> list[list[str]]:
        """Return all sentences, or a few of them, once for each text."""
        sentences = [sentence for section in sections for sentence in section]
        sampling = self._training.sampling
        texts = []
        for _ in range(sampling.num_texts):
            order = rng.permutation(len(sentences))
            if rng.random() < self._training.excerpt_share:
                order = order[: rng.integers(1, MAX_EXCERPT_SENTENCES + 1)]
            if not sampling.shuffle_sentences:
                order = np.sort(order)
            texts.append(self._perhaps_reworded([sentences[i] for i in order], rng))
        return texts

    def _from_sections(self, sections: Sequence[list[str]], rng: np.random.Generator) -> list[list[str]]:
        """Return one of the sections for each text; of a single one the second text is a new wording."""
        sampling = self._training.sampling
        if len(sections) == 1 and sampling.num_texts == 2 and sampling.paraphrase_share:
            texts = [sections[0], self._reworded(sections[0], rng)]
            if rng.random() < 0.5:
                texts.reverse()
        else:
            drawn = [sections[int(rng.integers(len(sections)))] for _ in range(sampling.num_texts)]
            texts = [self._perhaps_reworded(section, rng) for section in drawn]
        if sampling.shuffle_sentences:
            texts = [[text[i] for i in rng.permutation(len(text))] for text in texts]
        return texts

    def _perhaps_reworded(self, sentences: list[str], rng: np.random.Generator) -> list[str]:
        share = self._training.sampling.paraphrase_share
        return self._reworded(sentences, rng) if share and rng.random() < share else sentences

    def _reworded(self, sentences: list[str], rng: np.random.Generator) -> list[str]:
        return [keep_meaning(self._paraphraser, sentence, rng) for sentence in sentences]


def fixed_texts(report: Report, sampling: SamplingConfig) -> list[str]:
    """Return the texts by which validation judges a film: the same ones each time, in the order of the report.

    Returns:
        ``num_texts`` texts: the whole report, or its sections one after the other; empty ones for an empty report.
    """
    sections = _sections(report, sampling.text_source) or [[]]
    return [" ".join(sections[number % len(sections)]) for number in range(sampling.num_texts)]


def _sections(report: Report, text_source: str) -> list[list[str]]:
    """Return the sentences of each section that has any; the whole report is one where sections are not asked for."""
    texts = (report.text,) if text_source == "report" else (report.findings or "", report.impression or "")
    return [sentences for sentences in map(split_sentences, texts) if sentences]
