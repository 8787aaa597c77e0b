"""One pass over all archives of an ingest: what became of every input, and where each row goes.

Rows are made one by one as films come back from the decoder; equal films, near-duplicates and splits are settled when
all are known. Knows no dataset versions (``pairs``) and no earlier ingest beyond what it is handed.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import crrg
from crrg.config.base import default_num_workers
from crrg.config.data import IngestConfig
from crrg.config.references import DatasetRef
from crrg.data.archives.sources import Source, SourceItem
from crrg.data.dataset.data_card import DataCard, write_card
from crrg.data.dataset.near_duplicates import FilmIndex
from crrg.data.dataset.pairs import version_prefix
from crrg.data.dataset.quarantine import Refusal, count_reasons, usual_details, write_quarantine
from crrg.data.dataset.split import LeakReport, SplitShares, SplitWish, settle_splits
from crrg.data.decoding.pool import decode_many
from crrg.data.decoding.shared_films import FilmPlaces
from crrg.data.duplicates import Claim, judge_claims
from crrg.data.film import DecodedFilm
from crrg.data.images import PREPROCESSING_VERSION
from crrg.data.pairing import PairBuilder, PairingRules, text_digest
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.data.privacy.forgotten import ForgottenPatients, read_forgotten
from crrg.domain.acquisition import Acquisition
from crrg.domain.study import Pair, Split
from crrg.errors import CrrgError, DataError, StorageError
from crrg.evaluation.labeler import label_report
from crrg.operations.ingest.earlier_secret import carry_over_met
from crrg.operations.ingest.inputs import EarlierInputs, InputRecord, stale, what_is_said
from crrg.operations.ingest.reading import (
    READ_AHEAD,
    FilmFeed,
    ReadItem,
    archive_named,
    archive_place,
    film_givers,
    keep_freed_memory,
)
from crrg.operations.stop import StopWatch
from crrg.progress import count_progress
from crrg.storage import Storage

logger = logging.getLogger(__name__)

FILMS_PER_CHILD = 16
"""A further decoding child is worth its start for this many films."""
PLACES_PER_WORKER = 3
"""Films that a decoding child holds, and the next one."""
_STAGES = {"IDENTITY": "identity", "REPORT": "report", "DUPLICATE": "duplicate"}


@dataclass(slots=True)
class _Input:
    """An input and what became of it so far.

    Attributes:
        record: What is recorded of it.
        source: Kind of archive.
        has_film: Whether it is an object that can be taken over by the next ingest.
        claim: Its film, where one was decoded or taken over.
        row: Number of its row among those that were made; -1 where there is none.
    """

    record: InputRecord
    source: str
    has_film: bool
    claim: Claim | None = None
    row: int = -1


class IngestRun:
    """Makes the rows of a dataset version and settles what becomes of each; a ``WritePlan``."""

    def __init__(
        self,
        config: IngestConfig,
        storage: Storage,
        pseudonyms: Pseudonyms,
        sources: list[Source],
        known: EarlierInputs,
        shaping: Mapping[str, Any],
        num_expected: int,
    ) -> None:
        """Prepare a pass; nothing is read yet.

        Args:
            config: The form.
            storage: Root to write to.
            pseudonyms: Turns identifiers into pseudonyms.
            sources: The archives.
            known: What an earlier ingest, or a shard of this one, made of the same objects.
            shaping: What shapes the rows, for the card.
            num_expected: About how many inputs there are.
        """
        self.num_inputs = self.num_read = self.num_taken_over = 0
        self._config, self._storage, self._pseudonyms, self._sources = config, storage, pseudonyms, sources
        self._known, self._shaping = known, shaping
        self._quarantine: dict[str, Any] = {}
        self._inputs: list[_Input] = []
        self._wishes: list[SplitWish] = []
        self._row_of_film: list[int] = []
        self._film_index = FilmIndex()
        self._card = DataCard()
        self._leaks = LeakReport(0, 0, 0)
        self._num_expected = num_expected
        self._say = count_progress(f"ingest of {config.dataset}", "inputs")
        self._forgotten = read_forgotten(storage, pseudonyms)
        self._builder = pair_builder(config, pseudonyms, self._forgotten)

    def pairs(self) -> Generator[Pair, None, None]:
        """Yield a row for every input that has one, in the order of the archives.

        Close it where it is not consumed whole; it holds threads and children.

        Raises:
            CrrgError: An operator wants work to stop.
        """
        stop = StopWatch(self._storage)
        wanted = self._config.num_workers or default_num_workers()
        num_workers = max(1, min(wanted, self._num_expected // FILMS_PER_CHILD))
        keep_freed_memory()
        with closing(FilmPlaces(READ_AHEAD + PLACES_PER_WORKER * num_workers)) as places:
            for number, source in enumerate(self._sources):
                look_up = partial(self._look_up, source)
                feed = FilmFeed(source, self._config.limit, look_up, film_givers(source), places)
                with (
                    archive_named(number, len(self._sources)),
                    closing(feed.films()) as films,
                    closing(decode_many(films, self._config.image_size, num_workers, places=places)) as outcomes,
                ):
                    for outcome in outcomes:
                        yield from self._row(feed.waiting.popleft(), outcome, source, number)
                        self._say(len(self._inputs), max(len(self._inputs), self._num_expected))
                        stop.check("nothing of this pass is kept")
                self.num_inputs += feed.num_handed_over
                if not feed.num_handed_over and len(self._sources) > 1:
                    logger.warning("%s has no input of its kind", archive_place(number, len(self._sources)))
        self._forgotten = carry_over_met(self._storage, self._forgotten)

    def splits(self) -> Sequence[Split | None]:
        """Settle which rows stay and in which split; see ``WritePlan``."""
        self._judge_equal_films()
        kept = sorted(entry.row for entry in self._inputs if entry.row >= 0)
        place = {row: index for index, row in enumerate(kept)}
        pairs = ((self._row_of_film[a], self._row_of_film[b]) for a, b in self._film_index.find_pairs())
        same_exposure = [(place[a], place[b]) for a, b in pairs if a in place and b in place]
        settled, self._leaks = settle_splits([self._wishes[row] for row in kept], same_exposure)
        splits: list[Split | None] = [None] * len(self._wishes)
        for row, split in zip(kept, settled, strict=True):
            splits[row] = split
        self._number_rows(splits)
        self._check_counts()
        return splits

    def see(self, row: Mapping[str, Any], split: Split, acquisition: Acquisition) -> None:
        """Count a row for the card; see ``WritePlan``."""
        self._card.add(row, split, acquisition)

    def record(self, dataset: DatasetRef) -> Mapping[str, Any]:
        """Write quarantine and data card; see ``WritePlan``.

        Raises:
            StorageError: A patient was forgotten meanwhile; nothing was committed.
        """
        if read_forgotten(self._storage, self._pseudonyms) != self._forgotten:
            raise StorageError("a patient was forgotten while this ran; run it again", dataset.name, retryable=True)
        self.write_quarantine()
        counts = self.counts()
        about = {
            "name": dataset.name,
            "version": dataset.version,
            "image_size": self._config.image_size,
            "settings": dict(self._shaping),
            "leaks": asdict(self._leaks),
            **{name: counts[name] for name in ("num_inputs", "num_accepted", "num_quarantined", "reasons")},
        }
        logger.info("dataset %s: %s", dataset.name, ", ".join(f"{name} {n}" for name, n in self._card.joins().items()))
        card = write_card(self._storage, version_prefix(dataset), self._card, about)
        return {**counts, "quarantine": self._quarantine, "leaks": asdict(self._leaks), "card": card}

    def counts(self) -> dict[str, Any]:
        """Return what the manifest and the summary say of this run, whose quarantine is written."""
        refusals = self._refusals()
        return {
            "num_inputs": self.num_inputs,
            "num_accepted": self.num_inputs - len(refusals),
            "num_quarantined": len(refusals),
            "num_failures": sum(refusal.is_failure for refusal in refusals),
            "reasons": count_reasons(refusals),
            "quarantine_key": self._quarantine["key"],
        }

    def details(self) -> dict[str, str]:
        """Return in words why inputs were refused, by reason."""
        return usual_details(self._refusals())

    def records(self) -> Iterator[InputRecord]:
        """Yield what the next ingest may take over."""
        return (entry.record for entry in self._inputs if entry.has_film)

    def write_quarantine(self) -> None:
        """Write the record of refused inputs; the same refusals give the same bytes."""
        version = f"{crrg.__version__}+{PREPROCESSING_VERSION}"
        self._quarantine = write_quarantine(self._storage, self._config.dataset, self._refusals(), version)

    def close(self) -> None:
        """Close local files."""
        self._film_index.close()

    def _look_up(self, source: Source, item: SourceItem) -> tuple[str, InputRecord | None]:
        film = item.film
        if film is None:
            raise AssertionError("unreachable: only films are looked up")
        said = what_is_said(item, self._pseudonyms, source.site)
        name = self._pseudonyms.object_key(item.name, source.site)
        return said, self._known.find(name, film.etag, film.size, said)

    def _row(
        self, read: ReadItem, outcome: DecodedFilm | DataError, source: Source, source_number: int
    ) -> Iterator[Pair]:
        """Make the row of one input, or note why there is none."""
        item, film = read.item, read.item.film
        name = self._pseudonyms.object_key(item.name, source.site)
        start = InputRecord(name, film.etag if film else "", film.size if film else 0, read.said)
        entry = _Input(read.known or start, source.kind.value, read.has_film)
        self._inputs.append(entry)
        try:
            pair = self._pair(read, outcome, source)
        except DataError as error:
            was_decoded = isinstance(outcome, DecodedFilm)
            entry.record = refused(start, error, stage_of(error, was_decoded=was_decoded, has_film=film is not None))
            return
        if pair is not None and pair.film is not None:
            entry.record = replace(start, instance_id=pair.instance_id, pixel_digest=pair.film.pixel_digest)
        if entry.record.pixel_digest and film is not None:
            record = entry.record
            whose = (pair.patient_id, pair.study_id) if pair is not None else ("", "")
            place = (source_number, film.key)
            entry.claim = Claim(film.modified_s, place, record.instance_id, record.pixel_digest, *whose)
        if pair is None:
            return
        entry.row = len(self._wishes)
        self._wishes.append(self._builder.split_wish(item, source.site, pair.patient_id))
        if pair.film is not None:
            self._row_of_film.append(entry.row)
            self._film_index.add(pair.film.pixels)
        yield pair

    def _pair(self, read: ReadItem, outcome: DecodedFilm | DataError, source: Source) -> Pair | None:
        """Return the row; ``None`` where an earlier ingest refused the object and nothing changed.

        Raises:
            DataError: There is no row.
        """
        if read.known is not None:
            self.num_taken_over += 1
            pair = self._known.pair(read.known) if read.known.split else None
            if pair is not None:
                self._forgotten.check(pair.patient_id)
            return pair
        if read.item.problem is not None:
            raise read.item.problem
        if read.item.film is None:
            return self._builder.build(read.item, source.kind.value, source.site, None, text_digest(read.item))
        self.num_read += 1
        if isinstance(outcome, DataError):
            raise outcome
        return self._builder.build(read.item, source.kind.value, source.site, outcome, read.digest)

    def _judge_equal_films(self) -> None:
        """Refuse all but the oldest of equal films, and films of studies that are another patient's.

        Raises:
            StorageError: A film that an earlier ingest refused for another's sake would count now; read it.
        """
        claimants = [entry for entry in self._inputs if entry.claim is not None]
        losses = judge_claims([entry.claim for entry in claimants if entry.claim is not None])
        for number, entry in enumerate(claimants):
            loss = losses.get(number)
            if loss is not None:
                winner = claimants[loss.winner].record.object_id
                entry.record = replace(refused(entry.record, loss.error, stage_of(loss.error)), winner=winner)
                entry.row, entry.has_film = -1, not loss.is_of_study
            elif entry.row < 0:
                raise stale(entry.record)

    def _number_rows(self, splits: Sequence[Split | None]) -> None:
        """Note in which split and at which place every row will lie."""
        places: dict[int, tuple[str, int]] = {}
        num_rows = dict.fromkeys(Split, 0)
        for row, split in enumerate(splits):
            if split is not None:
                places[row] = (split.value, num_rows[split])
                num_rows[split] += 1
        for entry in self._inputs:
            if entry.row >= 0:
                split_name, place = places[entry.row]
                entry.record = replace(entry.record, split=split_name, row=place)

    def _check_counts(self) -> None:
        """Fail if an input was lost or counted twice."""
        num_accepted = sum(entry.row >= 0 for entry in self._inputs)
        num_refused = sum(bool(entry.record.reason) for entry in self._inputs)
        if num_accepted + num_refused != self.num_inputs:
            counts = f"{num_accepted} accepted and {num_refused} refused"
            raise CrrgError(f"{self.num_inputs} inputs, {counts}: an input is lost; nothing was committed", "ingest")

    def _refusals(self) -> list[Refusal]:
        return [
            Refusal(
                key_hmac=entry.record.object_id,
                source=entry.source,
                etag=entry.record.etag,
                num_bytes=entry.record.num_bytes,
                reason=entry.record.reason,
                detail=entry.record.sentence,
                stage=entry.record.stage,
            )
            for entry in self._inputs
            if entry.record.reason
        ]


def pair_builder(config: IngestConfig, pseudonyms: Pseudonyms, forgotten: ForgottenPatients) -> PairBuilder:
    """Return what makes a row of an input, by the form's rules."""
    return PairBuilder(
        PairingRules(
            pseudonyms=pseudonyms,
            label=label_report,
            seed=config.seed,
            shares=SplitShares(config.train_share, config.validation_share),
            use_published_split=config.use_published_split,
            grounding=config.grounding,
            languages=config.languages,
            forgotten=forgotten,
        )
    )


def refused(record: InputRecord, error: DataError, stage: str) -> InputRecord:
    """Return the record of an input with the reason why it has no row."""
    return replace(record, split="", row=-1, reason=error.code, sentence=error.reason, stage=stage)


def stage_of(error: DataError, *, was_decoded: bool = True, has_film: bool = True) -> str:
    """Return where an input was refused: ``identity``, ``report``, ``duplicate``, ``pairing``, ``decode``, ``source``.

    Args:
        error: Why.
        was_decoded: Whether its film was decoded by then.
        has_film: Whether it has a film at all.
    """
    family = error.code.split(".", 1)[0]
    return _STAGES.get(family, "pairing" if was_decoded else "decode" if has_film else "source")
