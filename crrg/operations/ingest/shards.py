"""An ingest cut into shards, so that several processes or machines decode: each stages what it made of its films.

``plan_shards`` counts what must be read, ``decode_shard`` decodes a slice of it, and ``ingest`` takes what was staged
instead of decoding; the dataset is the same to its fingerprint, however many shards there were and whichever of them
are missing. Between them travel references only: every process opens archives and root with its own settings. Knows no
orchestrator.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice

from crrg.config.base import StorageSettings
from crrg.config.data import IngestConfig
from crrg.config.references import IngestShard, StagedShard
from crrg.data.archives.source_kinds import open_sources
from crrg.data.archives.sources import Source, SourceItem
from crrg.data.dataset.pairs import check_dataset_name
from crrg.data.decoding.pool import decode_many
from crrg.data.film import DecodedFilm
from crrg.data.pairing import PairBuilder
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.data.privacy.forgotten import read_forgotten
from crrg.domain.source_kind import SourceKind
from crrg.errors import ConfigError, Conflict, DataError
from crrg.operations.ingest.earlier_secret import carry_over_met, check_all_told, check_has_earlier
from crrg.operations.ingest.inputs import InputRecord, KnownInputs, read_known_inputs, read_summary, what_is_said
from crrg.operations.ingest.plan import row_key, shaping_settings, survey
from crrg.operations.ingest.reading import FilmFeed, ReadItem, archive_named, film_givers, keep_freed_memory
from crrg.operations.ingest.run import pair_builder, refused, stage_of
from crrg.operations.ingest.staged import StagedShardWriter, staging_prefix
from crrg.operations.stop import check_not_stopped
from crrg.storage import Storage, StoredObject

logger = logging.getLogger(__name__)


def plan_shards(
    config: IngestConfig, storage: Storage, pseudonyms: Pseudonyms, settings: StorageSettings | None = None
) -> tuple[IngestShard, ...]:
    """Cut what an ingest must read into shards.

    A second plan of the same inputs has the same shards, so that those which an earlier run finished are kept.

    Args:
        config: The form.
        storage: Root to write to.
        pseudonyms: Turns identifiers into pseudonyms.
        settings: How to reach archives on S3.

    Returns:
        The shards; none where nothing must be read.

    Raises:
        ConfigError: A source is not there, the dataset's name cannot be used, or patients were forgotten under a secret
            that is not given.
        StorageError: A store cannot be reached.
    """
    check_dataset_name(config.dataset)
    earlier_key_id = check_all_told(config, storage, pseudonyms)
    sources = open_sources(config, settings)
    plan = survey(config, sources, pseudonyms)
    if read_summary(storage, config.dataset, plan.row_key, plan.inputs_digest) is not None:
        return ()
    known = read_known_inputs(storage, config.dataset, plan.row_key)
    digest, num_pending = hashlib.sha256(str(config.shard_size).encode()), 0
    for number, film, _ in _pending(config, sources, known, pseudonyms):
        name = pseudonyms.object_key(film.key, sources[number].site)
        digest.update(f"{name} {film.etag} {film.size}\n".encode())
        num_pending += 1
    prefix = f"{staging_prefix(config.dataset, plan.row_key)}/{digest.hexdigest()[:16]}"
    shards = tuple(
        IngestShard(
            index=index,
            key=f"{prefix}/shard-{index:05d}.parquet",
            plan_key=f"{prefix}/plan.json",
            row_key=plan.row_key,
            first=first,
            num_inputs=min(config.shard_size, num_pending - first),
        )
        for index, first in enumerate(range(0, num_pending, config.shard_size))
    )
    if shards:
        told = {"num_inputs": num_pending, "num_shards": len(shards), "earlier_key_id": earlier_key_id}
        storage.put_json(shards[0].plan_key, told)
    logger.info("dataset %s: %d films to decode in %d shards", config.dataset, num_pending, len(shards))
    return shards


def decode_shard(
    config: IngestConfig,
    shard: IngestShard,
    storage: Storage,
    pseudonyms: Pseudonyms,
    settings: StorageSettings | None = None,
) -> StagedShard:
    """Decode the films of a shard and stage what became of them, unless an earlier run did.

    Args:
        config: The form that the shard was planned with.
        shard: Which films.
        storage: Root to stage into.
        pseudonyms: Turns identifiers into pseudonyms.
        settings: How to reach archives on S3.

    Raises:
        ConfigError: This process would make other rows than the one that planned, or has another root, or patients were
            forgotten under the secret before, which that one had.
        CrrgError: An operator wants work to stop.
        StorageError: A store cannot be reached.
    """
    if storage.exists(shard.key):
        return StagedShard(index=shard.index, num_inputs=shard.num_inputs, reused=True)
    check_not_stopped(storage, "finished shards are kept")
    sources = open_sources(config, settings)
    _check_place(config, shard, storage, sources, pseudonyms)
    known = read_known_inputs(storage, config.dataset, shard.row_key)
    pending = islice(_pending(config, sources, known, pseudonyms), shard.first, shard.first + shard.num_inputs)
    forgotten = read_forgotten(storage, pseudonyms)
    builder, writer = pair_builder(config, pseudonyms, forgotten), StagedShardWriter()
    keep_freed_memory()
    for number, entries in groupby(pending, key=lambda entry: entry[0]):
        source = _Slice(sources[number], [item for _, _, item in entries])
        feed = FilmFeed(source, 0, partial(_nothing_known, source, pseudonyms), film_givers(sources[number]))
        with (
            closing(feed.films()) as films,
            closing(decode_many(films, config.image_size, max(1, config.num_workers))) as outcomes,
        ):
            for outcome in outcomes:
                _stage(feed.waiting.popleft(), outcome, source, pseudonyms, builder, writer)
    data = writer.data()
    carry_over_met(storage, forgotten)
    try:
        storage.put_if_absent(shard.key, data)
    except Conflict:
        logger.info("shard %d was staged by another process meanwhile", shard.index)
    return StagedShard(index=shard.index, num_inputs=writer.num_inputs, num_refused=writer.num_refused)


@dataclass(frozen=True)
class _Slice:
    """Some items of a source, as a source."""

    whole: Source
    chosen: Sequence[SourceItem]

    @property
    def kind(self) -> SourceKind:
        return self.whole.kind

    @property
    def storage(self) -> Storage:
        return self.whole.storage

    @property
    def site(self) -> str:
        return self.whole.site

    def inventory(self) -> list[StoredObject]:
        return [item.film for item in self.chosen if item.film is not None]

    def items(self) -> Iterator[SourceItem]:
        return iter(self.chosen)


def _pending(
    config: IngestConfig, sources: Sequence[Source], known: KnownInputs, pseudonyms: Pseudonyms
) -> Iterator[tuple[int, StoredObject, SourceItem]]:
    """Yield every film that must be read, with the number of its source, in the order of the archives."""
    for number, source in enumerate(sources):
        with archive_named(number, len(sources)):
            for item in islice(source.items(), config.limit or None):
                film = item.film
                if film is not None and item.problem is None and not _is_known(item, film, source, known, pseudonyms):
                    yield number, film, item


def _is_known(item: SourceItem, film: StoredObject, source: Source, known: KnownInputs, pseudonyms: Pseudonyms) -> bool:
    if not len(known):
        return False
    said = what_is_said(item, pseudonyms, source.site)
    return known.find(pseudonyms.object_key(item.name, source.site), film.etag, film.size, said) is not None


def _nothing_known(source: Source, pseudonyms: Pseudonyms, item: SourceItem) -> tuple[str, InputRecord | None]:
    return what_is_said(item, pseudonyms, source.site), None


def _stage(
    read: ReadItem,
    outcome: DecodedFilm | DataError,
    source: Source,
    pseudonyms: Pseudonyms,
    builder: PairBuilder,
    writer: StagedShardWriter,
) -> None:
    """Make the row of one film, or note why there is none, as the pass over the whole archive would."""
    item, film = read.item, read.item.film
    if film is None:
        raise AssertionError("unreachable: a shard holds films only")
    record = InputRecord(pseudonyms.object_key(item.name, source.site), film.etag, film.size, read.said)
    try:
        if isinstance(outcome, DataError):
            raise outcome
        pair = builder.build(item, source.kind.value, source.site, outcome, read.digest)
    except DataError as error:
        writer.add(refused(record, error, stage_of(error, was_decoded=isinstance(outcome, DecodedFilm))), None)
    else:
        writer.add(record, pair)


def _check_place(
    config: IngestConfig, shard: IngestShard, storage: Storage, sources: Sequence[Source], pseudonyms: Pseudonyms
) -> None:
    """Refuse to work where the rows would be others, or would be staged where nobody looks for them.

    Raises:
        ConfigError: Code, secrets or root are not those of the process that planned.
    """
    if row_key(shaping_settings(config, sources, pseudonyms), pseudonyms) != shard.row_key:
        raise ConfigError(
            "this machine's version of crrg or CRRG_HMAC_KEY is not that of the machine that planned the shards; "
            "use the same on every machine",
            f"shard {shard.index}",
        )
    if (plan := storage.get_if_there(shard.plan_key)) is None:
        raise ConfigError(
            "the plan of the shards is not under this machine's root; give every machine the same CRRG_ROOT, in a "
            "store that all of them can reach",
            f"shard {shard.index}",
        )
    check_has_earlier(json.loads(plan)["earlier_key_id"], pseudonyms, f"shard {shard.index}")
