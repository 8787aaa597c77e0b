"""One shard of a night: read, judge, draft, write; its record last.

A finished shard is known by its record and is not done again. A shard that was cut off left objects that its next run
finds to be the same, or writes beside. What is written per study waits for the end of the night (``commit.py``).
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from crrg.config.evidence import EvidenceSettings
from crrg.config.references import NightPlan, ShardRef, ShardResult
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.data.privacy.forgotten import read_forgotten
from crrg.domain.evidence import SentenceEvidence
from crrg.domain.study import DraftReport, Film
from crrg.errors import DeviceMemoryError, ModelError, StorageError
from crrg.exports.documents import attention_flags
from crrg.exports.page_pictures import evidence_name, picture_name
from crrg.exports.parquet import DraftedFilm, check_draft, regions_table, reports_table
from crrg.exports.pictures import evidence_png, film_png
from crrg.ledger.beside import put_beside
from crrg.ledger.manifest import run_prefix
from crrg.ledger.tables import TableFile, write_table
from crrg.operations.drafter import Drafter
from crrg.operations.night.duplicates import FirstImages
from crrg.operations.night.feed import ShardFeed
from crrg.operations.night.records import (
    InputOutcome,
    ShardRecord,
    primary_images,
    put_value,
    read_record,
    record_key,
    table_key,
)
from crrg.operations.stop import is_stopped
from crrg.progress import StageClock, count_progress
from crrg.storage import Storage

logger = logging.getLogger(__name__)

DRAFT_WINDOW = 72
"""Films drafted in one go at most; bounds memory, does not change a draft."""
GPU_WINDOW = 64
"""The same on a GPU: whole tiles (``crrg.inference.tiles``), as what is left of one is filled up with copies."""
WRITERS = 24
"""Objects written at a time: a store in another building is mostly waited for."""


class NightDrafter(Drafter, Protocol):
    """Drafts reports and explains them; ``crrg.inference.pipeline.ReportPipeline`` is one."""

    @property
    def bundle_id(self) -> str:
        """Bundle the models come from."""

    @property
    def image_size(self) -> int:
        """Longer side of the films that the models were trained on, pixels."""

    @property
    def label_thresholds(self) -> Mapping[str, float]:
        """Probability from which each label counts as positive."""

    @property
    def abnormal_threshold(self) -> float:
        """Probability from which a region reads abnormal."""

    @property
    def takes_all_cores(self) -> bool:
        """Whether it drafts on the processor: in threads that wait for one another, so that other work halts them."""

    def explain(
        self, films: Sequence[Film], drafts: Sequence[DraftReport], settings: EvidenceSettings
    ) -> list[list[SentenceEvidence]]:
        """Return per film what sentences of its draft rest on; asked only where the form wants it."""


def run_shard(
    plan: NightPlan,
    shard: ShardRef,
    storage: Storage,
    pseudonyms: Pseudonyms,
    drafter: NightDrafter,
    *,
    cpu_drafter: Callable[[], NightDrafter] | None = None,
    feed: ShardFeed | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> ShardResult:
    """Draft what a shard lists, unless an earlier run of the same night did.

    Args:
        plan: The night.
        shard: One of its shards.
        storage: The root.
        pseudonyms: Makes the ids; the key the plan was made with.
        drafter: The plan's bundle.
        cpu_drafter: Builds the same bundle on the CPU, which drafts the rest of the shard where the device's memory
            does not suffice for one film; called only then, and only where the form leaves the device open (``auto``).
        feed: Opens shards, where the caller runs several: the next one is then read ahead.
        should_stop: Asked between windows of films; a stopped shard leaves no record and is done again.

    Raises:
        ModelError: The drafter is another bundle, or a draft is not whole.
        DeviceError: The device failed, or its memory does not suffice and nothing else may draft.
        StorageError: Inbox or root is out of reach.
    """
    if drafter.bundle_id != plan.bundle.bundle_id:
        raise ModelError(f"planned is bundle {plan.bundle.bundle_id[:12]}; give its pipeline", drafter.bundle_id[:12])
    stopped = ShardResult(index=shard.index, key="", num_accepted=0, num_quarantined=0, stopped=True)
    if should_stop() or is_stopped(storage):
        return stopped
    is_open = feed is not None and feed.has_opened(shard)
    if not is_open and (finished := _finished(plan, shard, storage, pseudonyms)) is not None:
        return _result(plan, finished, reused=True)
    what = f"night {plan.date}, shard {shard.index + 1} of {len(plan.shards)}"
    say = count_progress(what, "inputs")
    with ExitStack() as stack:
        own = feed or stack.enter_context(ShardFeed(plan, storage, pseudonyms))
        opened = own.open(shard)
        stack.callback(opened.readings.close)
        writer = stack.enter_context(_ShardWriter(plan, shard, storage, drafter, cpu_drafter, opened.readings.held))
        while True:
            with writer.clock.stage("reading"):
                reading = next(opened.readings, None)
            if reading is None:
                break
            if should_stop():
                return stopped
            writer.take(reading.outcome, reading.film)
            say(len(writer.outcomes), len(opened.inputs))
        record = writer.finish(lambda: feed.open_after(shard.index) if feed is not None else None)
    say(len(opened.inputs), len(opened.inputs))
    result = _result(plan, record, reused=False).model_copy(update={"times_s": writer.clock.times_s})
    logger.info("%s: %d drafted or known, %d refused", what, result.num_accepted, result.num_quarantined)
    return result


def even_window(num_inputs: int) -> int:
    """Return how many films to draft in one go, so that no small rest is left: each go takes as long to begin."""
    num_windows = max(1, math.ceil(num_inputs / DRAFT_WINDOW))
    return max(1, math.ceil(num_inputs / num_windows))


def window_size(num_inputs: int, drafter: NightDrafter) -> int:
    """Return how many films a drafter is given in one go: evenly many, or, on a GPU, whole tiles of them."""
    return even_window(num_inputs) if drafter.takes_all_cores else GPU_WINDOW


def _finished(plan: NightPlan, shard: ShardRef, storage: Storage, pseudonyms: Pseudonyms) -> ShardRecord | None:
    """Return the record of a finished shard.

    One that drafted a patient who was forgotten since, or of which record or tables are damaged, is done again.
    """
    if not storage.exists(record_key(plan, shard.index)):
        return None
    try:
        record = read_record(storage, plan, shard.index)
        for file in record.tables:
            storage.get_verified(file.key, file.sha256)
    except StorageError as error:
        if error.retryable:
            raise
        logger.warning("shard %d of night %s is damaged and is redone", shard.index + 1, plan.date)
        return None
    forgotten = read_forgotten(storage, pseudonyms)
    return None if any(each.patient_id in forgotten for each in record.outcomes) else record


def _result(plan: NightPlan, record: ShardRecord, *, reused: bool) -> ShardResult:
    num_accepted = sum(1 for each in record.outcomes if each.outcome == "accepted")
    return ShardResult(
        index=record.index,
        key=record_key(plan, record.index),
        num_accepted=num_accepted,
        num_quarantined=len(record.outcomes) - num_accepted,
        reused=reused,
    )


class _ShardWriter:
    """Collects a shard's outcomes, drafts film windows and writes what people and systems read."""

    def __init__(
        self,
        plan: NightPlan,
        shard: ShardRef,
        storage: Storage,
        drafter: NightDrafter,
        cpu_drafter: Callable[[], NightDrafter] | None,
        hold_reading: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.plan = plan
        self.shard = shard
        self.storage = storage
        self.drafter = drafter
        self.spare = cpu_drafter if plan.config.device == "auto" else None
        self.is_on_cpu = False
        self.hold_reading = hold_reading
        self.prefix = run_prefix(plan.date, plan.run_id)
        self.first_images = FirstImages()
        self.outcomes: list[InputOutcome] = []
        self.films: list[DraftedFilm] = []
        self.window: list[tuple[InputOutcome, Film]] = []
        self.window_size = window_size(shard.num_inputs, drafter)
        self.objects: dict[str, str] = {}
        self.pictures: list[Future[tuple[str, str]]] = []
        self.pool = ThreadPoolExecutor(WRITERS, thread_name_prefix="write")
        self.clock = StageClock()

    def __enter__(self) -> _ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(cancel_futures=True)

    def take(self, outcome: InputOutcome, film: Film | None) -> None:
        """Take one input after the other; a full window is drafted when the film after it comes."""
        if film is None:
            self.outcomes.append(outcome)
            return
        comes_again = self.first_images.has_seen(outcome.instance_id)
        refusal = self.first_images.refusal(outcome)
        if comes_again and refusal is not None:
            self.outcomes.append(outcome.refused(*refusal))
            return
        if len(self.window) == self.window_size:
            self._draft_window()
        self.window.append((outcome, film))

    def finish(self, open_next: Callable[[], None]) -> ShardRecord:
        """Draft what is left, write the tables, then the record.

        Args:
            open_next: Begins to read the next shard; called as early as that does not halt the models.
        """
        steps = [open_next, self._draft_window]
        for step in reversed(steps) if self.drafter.takes_all_cores else steps:
            step()
        with self.clock.stage("writing"):
            return self._write()

    def _write(self) -> ShardRecord:
        outcomes = tuple(sorted(self.outcomes, key=lambda each: each.rank))
        reports = reports_table(self.films, primary_images(outcomes))
        regions = regions_table(self.films)
        tables = [self.pool.submit(self._table, *each) for each in (("reports", reports), ("regions", regions))]
        self._await_pictures()
        record = ShardRecord(
            index=self.shard.index,
            tables=tuple(table.result() for table in tables),
            objects=self.objects,
            outcomes=outcomes,
            thresholds=dict(self.drafter.label_thresholds),
            abnormal_threshold=self.drafter.abnormal_threshold,
            is_on_cpu=self.is_on_cpu,
        )
        put_value(self.storage, record_key(self.plan, self.shard.index), record)
        return record

    def _table(self, kind: Any, table: Any) -> TableFile:
        return write_table(self.storage, table_key(self.plan, kind, self.shard.index), table, kind)

    def _draft_window(self) -> None:
        """Draft the films that were gathered; on the processor nothing else of the night runs meanwhile."""
        if self.drafter.takes_all_cores:
            with self.clock.stage("writing"):
                self._await_pictures()
        with self.clock.stage("drafting"):
            drafts = self._draft([film for _, film in self.window]) if self.window else []
        pictures: list[Future[tuple[str, str]]] = []
        for (outcome, film), (draft, evidence) in zip(self.window, drafts, strict=True):
            check_draft(draft, outcome.instance_id)
            drafted = DraftedFilm(
                study_id=outcome.study_id,
                instance_id=outcome.instance_id,
                source_digest=bytes.fromhex(outcome.source_digest),
                view_position=film.view_position,
                original_width=film.original_width,
                original_height=film.original_height,
                film_flags=film.flags,
                draft=draft,
                bundle_id=self.plan.bundle.bundle_id,
            )
            self.films.append(drafted)
            self.outcomes.append(replace(outcome, num_flags=len(attention_flags(drafted.flags))))
            folder = f"{self.prefix}/review"
            key = f"{folder}/{picture_name(outcome.instance_id)}"
            pictures.append(self.pool.submit(self._put_picture, key, partial(film_png, film.pixels)))
            if evidence:
                key = f"{folder}/{evidence_name(outcome.instance_id)}"
                pictures.append(self.pool.submit(self._put_picture, key, partial(evidence_png, evidence)))
        # written while the next window is read, and on a GPU drafted
        with self.clock.stage("writing"):
            self._await_pictures()
        self.pictures = pictures
        self.window = []

    def _draft(self, films: Sequence[Film]) -> list[tuple[DraftReport, list[SentenceEvidence]]]:
        """Draft films; where the device's memory does not suffice for one, on the CPU from here to the shard's end."""
        try:
            return self._explained(films)
        except DeviceMemoryError as error:
            if self.spare is None:
                raise
            logger.warning("shard %d continues on the CPU: %s", self.shard.index + 1, error.reason)
            self.drafter, self.spare, self.is_on_cpu = self.spare(), None, True
        return self._explained(films)

    def _explained(self, films: Sequence[Film]) -> list[tuple[DraftReport, list[SentenceEvidence]]]:
        """Draft films and, where the form wants it, map what their sentences rest on."""
        settings = self.plan.config.evidence
        with self.hold_reading() if self.drafter.takes_all_cores else nullcontext():
            drafts = self.drafter.draft(films)
            if not settings.is_on:
                return [(draft, []) for draft in drafts]
            return list(zip(drafts, self.drafter.explain(films, drafts, settings), strict=True))

    def _put_picture(self, key: str, draw: Callable[[], bytes]) -> tuple[str, str]:
        data = draw()
        return put_beside(self.storage, key, data), hashlib.sha256(data).hexdigest()

    def _await_pictures(self) -> None:
        self.objects |= dict(future.result() for future in self.pictures)
        self.pictures = []
