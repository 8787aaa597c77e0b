"""Archives in, one dataset version out: read, decode, de-identify, label, write, commit.

Streams: a bounded number of films is in memory, however large the archive. Every input ends as a row or as a refusal
with a reason, and the counts are asserted. Knows no orchestrator.
"""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import crrg
from crrg.config.base import StorageSettings, default_num_workers
from crrg.config.data import IngestConfig
from crrg.config.references import DatasetRef, IngestSummary
from crrg.data.decoder_pool import DecodeItem, decode_many
from crrg.data.deidentify import Pseudonyms
from crrg.data.dicom_structure import MAX_FILE_BYTES
from crrg.data.film import DecodedFilm
from crrg.data.images import PREPROCESSING_VERSION
from crrg.data.pair_schema import SCHEMA_VERSION
from crrg.data.pairing import PairBuilder, PairingRules
from crrg.data.pairs import check_dataset_name, list_versions, point_to, read_manifest, resolve_dataset, write_dataset
from crrg.data.quarantine import Refusal, count_reasons, quarantine_key, write_quarantine
from crrg.data.source_kinds import open_source
from crrg.data.sources import Source, SourceItem
from crrg.data.split import SplitShares
from crrg.domain.study import Pair
from crrg.errors import ConfigError, DataError, StorageError
from crrg.evaluation.labeler import label_report
from crrg.storage import Storage, hash_json

logger = logging.getLogger(__name__)

READ_AHEAD = 16
FILMS_PER_CHILD = 16
"""A further decoding child is worth its start for this many films."""
_STAGES = {"IDENTITY": "identity", "REPORT": "report", "DUPLICATE": "duplicate"}

Progress = Callable[[int, int], None]
"""Called with the number of inputs done and, where it is known, their total (0 = unknown)."""


def ingest(
    config: IngestConfig,
    storage: Storage,
    pseudonyms: Pseudonyms,
    progress: Progress | None = None,
    settings: StorageSettings | None = None,
) -> IngestSummary:
    """Turn archives into one version of a dataset.

    The same archives with the same settings are not read a second time.

    Args:
        config: The form.
        storage: Root to write to.
        pseudonyms: Turns identifiers into pseudonyms.
        progress: Told after every input.
        settings: How to reach archives on S3.

    Raises:
        ConfigError: A source is not there, the dataset's name cannot be used, or nothing at all was accepted.
        StorageError: A store cannot be reached.
        DataError: A table as a whole cannot be read.
    """
    check_dataset_name(config.dataset)
    sources = [open_source(text, config.source_kind, settings) for text in config.source]
    shaping = _shaping_settings(config, sources, pseudonyms)
    inventories = [source.inventory() for source in sources]
    inputs_digest = hash_json(
        {
            "settings": shaping,
            "inputs": [
                [[pseudonyms.object_key(stored.key, source.site), stored.etag, stored.size] for stored in inventory]
                for source, inventory in zip(sources, inventories, strict=True)
            ],
        }
    )
    earlier = _earlier_version(storage, config.dataset, inputs_digest)
    if earlier is not None:
        logger.info("dataset %s: version %s holds these inputs already, reused", config.dataset, earlier.version)
        return _reused_summary(storage, config, earlier)
    num_films = sum(len(inventory) for inventory in inventories)
    run = _Run(config, sources, pseudonyms, progress, num_films)
    key = quarantine_key(config.dataset, inputs_digest)

    def record() -> Mapping[str, Any]:
        run.check_counts()
        write_quarantine(storage, key, run.refusals, f"{crrg.__version__}+{PREPROCESSING_VERSION}")
        return {"inputs_digest": inputs_digest, "quarantine_key": key, **run.counts()}

    try:
        dataset = write_dataset(storage, config.dataset, run.pairs(), shaping, before_commit=record)
    except ConfigError:
        # nothing was accepted: why stands in the quarantine, which would otherwise be lost
        record()
        raise
    summary = _summary(config, dataset, run.counts(), key, reused=False)
    _log(summary)
    return summary


class _Run:
    """One pass over all sources and what it counted."""

    def __init__(
        self,
        config: IngestConfig,
        sources: list[Source],
        pseudonyms: Pseudonyms,
        progress: Progress | None,
        num_films: int,
    ) -> None:
        self.config = config
        self.sources = sources
        self.pseudonyms = pseudonyms
        self.refusals: list[Refusal] = []
        self.num_inputs = 0
        self.num_accepted = 0
        self._progress = progress
        self._num_films = num_films
        wanted = config.num_workers or default_num_workers()
        self._num_workers = max(1, min(wanted, num_films // FILMS_PER_CHILD))
        self._builder = PairBuilder(
            PairingRules(
                pseudonyms=pseudonyms,
                label=label_report,
                seed=config.seed,
                shares=SplitShares(config.train_share, config.validation_share),
                use_published_split=config.use_published_split,
            )
        )

    def pairs(self) -> Iterator[Pair]:
        """Yield the accepted rows of every source; refusals are collected beside."""
        for source in self.sources:
            yield from self._pairs_of(source)

    def counts(self) -> dict[str, Any]:
        """Return what the manifest and the summary say of this run."""
        return {
            "num_inputs": self.num_inputs,
            "num_accepted": self.num_accepted,
            "num_quarantined": len(self.refusals),
            "num_failures": sum(refusal.is_failure for refusal in self.refusals),
            "reasons": count_reasons(self.refusals),
        }

    def check_counts(self) -> None:
        """Fail if an input was lost or counted twice."""
        if self.num_accepted + len(self.refusals) != self.num_inputs:
            counts = f"{self.num_accepted} accepted and {len(self.refusals)} refused"
            raise AssertionError(f"{self.num_inputs} inputs, {counts}: an input is lost")

    def _pairs_of(self, source: Source) -> Iterator[Pair]:
        feed = _Feed(source, self.config.limit)
        for outcome in decode_many(feed.films(), self.config.image_size, self._num_workers):
            read = feed.waiting.popleft()
            yield from self._pair(source, read.item, outcome, read.digest)
        for item in feed.without_film:
            yield from self._pair(source, item, item.problem, _text_digest(item))

    def _pair(
        self, source: Source, item: SourceItem, outcome: DecodedFilm | DataError | None, digest: bytes
    ) -> Iterator[Pair]:
        self.num_inputs += 1
        pair = None
        try:
            if isinstance(outcome, DataError):
                raise outcome
            pair = self._builder.build(item, source.kind.value, source.site, outcome, digest)
        except DataError as error:
            was_decoded = isinstance(outcome, DecodedFilm)
            self.refusals.append(self._refusal(source, item, error, was_decoded))
        if pair is not None:
            self.num_accepted += 1
            yield pair
        if self._progress is not None:
            self._progress(self.num_inputs, max(self.num_inputs, self._num_films))

    def _refusal(self, source: Source, item: SourceItem, error: DataError, was_decoded: bool) -> Refusal:
        family = error.code.split(".", 1)[0]
        stage = _STAGES.get(family, "pairing" if was_decoded else "source" if item.film is None else "decode")
        return Refusal(
            object_id=self.pseudonyms.object_key(item.name, source.site),
            source=source.kind.value,
            etag=item.film.etag if item.film else "",
            num_bytes=item.film.size if item.film else 0,
            reason=error.code,
            sentence=error.reason,
            stage=stage,
        )


@dataclass(frozen=True)
class _Read:
    item: SourceItem
    digest: bytes


@dataclass
class _Feed:
    """The films of a source on their way into the decoder, read ahead by threads.

    Attributes:
        source: The archive.
        limit: Most inputs to take; 0 = all.
        waiting: What was handed to the decoder and has not come back, in order.
        without_film: Items that need no decoder, collected on the way.
    """

    source: Source
    limit: int
    waiting: deque[_Read] = field(default_factory=deque)
    without_film: list[SourceItem] = field(default_factory=list)

    def films(self) -> Iterator[DecodeItem]:
        """Yield the bytes of every film, or the reason why there are none."""
        items = islice(self.source.items(), self.limit or None)
        ahead: deque[tuple[SourceItem, Future[DecodeItem]]] = deque()
        with ThreadPoolExecutor(max_workers=4, thread_name_prefix="crrg-read") as readers:
            for item in items:
                if item.film is None or item.problem is not None:
                    self.without_film.append(item)
                    continue
                ahead.append((item, readers.submit(_read, self.source.storage, item)))
                if len(ahead) >= READ_AHEAD:
                    yield self._hand_over(*ahead.popleft())
            while ahead:
                yield self._hand_over(*ahead.popleft())

    def _hand_over(self, item: SourceItem, future: Future[DecodeItem]) -> DecodeItem:
        data = future.result()
        digest = b"" if isinstance(data, DataError) else hashlib.sha256(data).digest()
        self.waiting.append(_Read(item, digest))
        return data


def _read(storage: Storage, item: SourceItem) -> DecodeItem:
    """Return an object's bytes, unless it is too large or went away since it was listed."""
    if item.film is None:
        raise AssertionError("unreachable: only films are read")
    if item.film.size > MAX_FILE_BYTES:
        return DataError(f"{item.film.size} bytes, at most {MAX_FILE_BYTES} are read", code="LIMIT.FILE_SIZE")
    try:
        data = storage.get(item.film.key)
    except StorageError as error:
        if error.retryable or storage.exists(item.film.key):
            raise
        return DataError("the object went away while the archive was read", code="CHANGED.GONE")
    if len(data) != item.film.size:
        return DataError("the object changed while the archive was read", code="CHANGED.SIZE")
    return data


def _text_digest(item: SourceItem) -> bytes:
    report = item.report
    text = "\0".join((report.findings or "", report.impression or "", report.indication or "", item.notes))
    return hashlib.sha256(text.encode()).digest()


def _shaping_settings(config: IngestConfig, sources: list[Source], pseudonyms: Pseudonyms) -> dict[str, Any]:
    """Return what shapes the rows, as it stands in the manifest and in the fingerprint."""
    return {
        "schema_version": SCHEMA_VERSION,
        "preprocessing_version": PREPROCESSING_VERSION,
        "crrg_version": crrg.__version__,
        "image_size": config.image_size,
        "split": {
            "seed": config.seed,
            "train_share": config.train_share,
            "validation_share": config.validation_share,
            "use_published_split": config.use_published_split,
        },
        "sources": [source.kind.value for source in sources],
        "limit": config.limit,
        "pseudonym_key_id": pseudonyms.key_id,
    }


def _earlier_version(storage: Storage, name: str, inputs_digest: str) -> DatasetRef | None:
    for version in reversed(list_versions(storage, name)):
        ref = resolve_dataset(storage, name, version)
        if read_manifest(storage, ref).get("ingest", {}).get("inputs_digest") == inputs_digest:
            return ref
    return None


def _reused_summary(storage: Storage, config: IngestConfig, dataset: DatasetRef) -> IngestSummary:
    point_to(storage, dataset)
    record = read_manifest(storage, dataset)["ingest"]
    return _summary(config, dataset, record, record["quarantine_key"], reused=True)


def _summary(
    config: IngestConfig, dataset: DatasetRef, counts: Mapping[str, Any], key: str, *, reused: bool
) -> IngestSummary:
    failure_rate = counts["num_failures"] / max(1, counts["num_inputs"])
    return IngestSummary(
        dataset=dataset,
        num_inputs=counts["num_inputs"],
        num_accepted=counts["num_accepted"],
        num_quarantined=counts["num_quarantined"],
        reasons=counts["reasons"],
        reused=reused,
        failure_rate=failure_rate,
        is_over_limit=failure_rate > config.max_failure_rate,
        quarantine_key=key,
    )


def _log(summary: IngestSummary) -> None:
    logger.info(
        "dataset %s version %s: %d inputs, %d accepted, %d quarantined",
        summary.dataset.name,
        summary.dataset.version,
        summary.num_inputs,
        summary.num_accepted,
        summary.num_quarantined,
    )
    if summary.is_over_limit:
        logger.warning("%.1f %% of the inputs were refused, more than the form allows", 100 * summary.failure_rate)
