"""Objects of an inbox, fetched and decoded ahead of who uses them.

Fetching runs in threads, decoding in child processes, and both ahead of the caller by a bounded number of films, so
that neither the store nor the models wait for each other and memory stays flat. An object that cannot be used comes out
with its reason; only a store that is out of reach ends the reading.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from crrg.data.archives.givers import Givers, gone, read_given
from crrg.data.decoding.limits import in_force
from crrg.data.decoding.pool import DecodeItem, IdleDecoders, decode_many
from crrg.data.dicom.structure import size_refusal
from crrg.data.film import DecodedFilm
from crrg.data.film_ids import Ids, ids_of_content, ids_of_header
from crrg.data.identity import check_identity, find_study_uid
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.data.privacy.forgotten import REASON, SENTENCE, ForgottenPatients
from crrg.domain.study import Film
from crrg.errors import Conflict, DataError
from crrg.ledger.inventory import InboxObject
from crrg.ledger.ledger import Outcome
from crrg.monitoring.quantities import look_at
from crrg.operations.night.records import InputOutcome, ShardInput
from crrg.storage import Storage, StoredObject

T = TypeVar("T")

idle_decoders = IdleDecoders(lambda: replace(in_force.decoder, niceness=5))
"""Kept from shard to shard until the night is given back. They step back behind the models: those run in several
threads that wait for one another, and each time a decoder takes the place of one, all stand."""
FETCHERS = 8
FETCH_AHEAD = 72
MAX_BYTES_AHEAD = 256 * 2**20
"""Objects that are fetched and not yet decoded, at most: while models have the cores a store goes on answering. A disk
answers at once; of it no more is fetched than there are threads, since that would only take from the models."""
FILMS_AHEAD = 64


@dataclass(frozen=True)
class ReadInput:
    """An input after reading: a film that may be drafted, or an outcome that is final.

    Attributes:
        outcome: Accepted where there is a film or where the outcome is carried, else quarantined.
        film: The decoded frontal film, or ``None``.
    """

    outcome: InputOutcome
    film: Film | None


@dataclass(frozen=True)
class _Fetched:
    wanted: ShardInput
    source_digest: str
    item: DecodeItem
    is_carried: bool = False
    study_uid: str = ""


def read_inputs(
    inputs: Sequence[ShardInput],
    located: dict[str, InboxObject],
    inbox: Storage,
    givers: Givers,
    pseudonyms: Pseudonyms,
    forgotten: ForgottenPatients,
    *,
    image_size: int,
    num_workers: int,
) -> ReadAhead[ReadInput]:
    """Begin to read inputs in their order; close it, also where all of it is used.

    Args:
        inputs: What the plan lists.
        located: What lies in the inbox now, by pseudonym of the key.
        inbox: The inbox.
        givers: Its objects, to tell one that is denied from an inbox that is.
        pseudonyms: Makes the ids.
        forgotten: Patients whose films are refused.
        image_size: Longest side of a film, pixels.
        num_workers: Decoder processes.

    Raises:
        StorageError: The inbox is out of reach, or does not let itself be read.
    """
    judge = partial(_judge, pseudonyms=pseudonyms, forgotten=forgotten)
    return ReadAhead(_decoded(inputs, located, inbox, givers, judge, image_size, num_workers), FILMS_AHEAD)


def identify(decoded: DecodedFilm, data_digest: str, pseudonyms: Pseudonyms) -> Ids:
    """Return the pseudonyms of patient, study and instance of a film.

    Args:
        decoded: The film, with a header where it came as DICOM.
        data_digest: Hex sha256 of the file, the identity of films without header.
        pseudonyms: Makes the ids.

    Raises:
        IdentityError: A DICOM identifier is missing or invalid.
    """
    if decoded.header is None:
        return ids_of_content(data_digest, pseudonyms)
    check_identity(decoded.header)
    return ids_of_header(decoded.header, pseudonyms)


def check_view(film: Film) -> None:
    """Check that a film may be drafted: it is frontal, or nothing is known of its view.

    Raises:
        DataError: VIEW.LATERAL.
    """
    if not film.view_position.is_frontal:
        raise DataError("a lateral film; drafts are written for frontal films", code="VIEW.LATERAL")


class ReadAhead(Iterator[T]):
    """Runs a generator in a thread, a bounded number of items ahead; its errors surface at the caller's side."""

    def __init__(self, items: Generator[T, None, None], depth: int) -> None:
        """Start at once.

        Args:
            items: The generator; it is run to its end or closed, in the thread.
            depth: How many items wait at most.
        """
        self._items = items
        self._ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
        self._is_over = threading.Event()
        self._may_read = threading.Event()
        self._may_read.set()
        self._filler = threading.Thread(target=self._fill, name="reading-ahead", daemon=True)
        self._filler.start()

    def __next__(self) -> T:
        """Return the next item, waiting for it."""
        if self._is_over.is_set():
            raise StopIteration
        item, error = self._ready.get()
        if error is not None:
            self.close()
            raise error
        return item  # type: ignore[return-value]

    @contextmanager
    def held(self) -> Iterator[None]:
        """Ask for nothing more while the block runs; the few items under way come to their end."""
        self._may_read.clear()
        try:
            yield
        finally:
            self._may_read.set()

    def close(self) -> None:
        """End the thread and what it runs; nothing happens where it has ended already."""
        self._is_over.set()
        self._may_read.set()
        self._filler.join()

    def _fill(self) -> None:
        end: BaseException = StopIteration()
        try:
            for item in self._items:
                self._offer(item)
                self._may_read.wait()
                if self._is_over.is_set():
                    break
        except BaseException as error:
            end = error
        finally:
            self._items.close()
        self._offer(None, end)

    def _offer(self, item: T | None, error: BaseException | None = None) -> None:
        while not self._is_over.is_set():
            with suppress(queue.Full):
                self._ready.put((item, error), timeout=0.2)
                return


def _decoded(
    inputs: Sequence[ShardInput],
    located: dict[str, InboxObject],
    inbox: Storage,
    givers: Givers,
    judge: Callable[[_Fetched, DecodedFilm | DataError], ReadInput],
    image_size: int,
    num_workers: int,
) -> Generator[ReadInput, None, None]:
    waiting: deque[_Fetched] = deque()

    def items() -> Generator[DecodeItem, None, None]:
        with closing(_fetch_all(inputs, located, inbox, givers)) as everything:
            for fetched in everything:
                waiting.append(fetched)
                yield fetched.item

    with (
        closing(items()) as films,
        closing(decode_many(films, image_size, num_workers, idle=idle_decoders)) as outcomes,
    ):
        for decoded in outcomes:
            yield judge(waiting.popleft(), decoded)


def _fetch_all(
    inputs: Sequence[ShardInput], located: dict[str, InboxObject], inbox: Storage, givers: Givers
) -> Generator[_Fetched, None, None]:
    futures: deque[tuple[Future[_Fetched], int]] = deque()
    ahead = FETCHERS if inbox.is_local else FETCH_AHEAD
    with ThreadPoolExecutor(FETCHERS, thread_name_prefix="fetch") as pool:
        for wanted in inputs:
            found = located.get(wanted.key_hmac)
            num_bytes = found.size if found is not None and size_refusal(found.size) is None else 0
            while futures and (len(futures) >= ahead or num_bytes + sum(size for _, size in futures) > MAX_BYTES_AHEAD):
                yield futures.popleft()[0].result()
            futures.append((pool.submit(_fetch, wanted, found, inbox, givers), num_bytes))
        while futures:
            yield futures.popleft()[0].result()


def _fetch(wanted: ShardInput, found: InboxObject | None, inbox: Storage, givers: Givers) -> _Fetched:
    if found is None:
        return _Fetched(wanted, "", gone())
    if found.etag != wanted.etag:
        return _Fetched(wanted, "", _replaced())
    if (too_large := size_refusal(found.size)) is not None:
        return _Fetched(wanted, "", too_large)
    stored = StoredObject(found.key, found.size, found.modified_s, found.etag)
    try:
        data = read_given(lambda: inbox.get_unchanged(stored), found.key, inbox, givers, wanted.key_hmac)
    except Conflict:
        return _Fetched(wanted, "", _replaced())
    except DataError as reason:
        return _Fetched(wanted, "", reason)
    givers.note(found)
    digest = hashlib.sha256(data).hexdigest()
    if wanted.previous is not None and wanted.previous.source_digest == digest:
        known = DataError("an earlier night read the same bytes", code="DUPLICATE.CARRIED")
        return _Fetched(wanted, digest, known, is_carried=True, study_uid=find_study_uid(data))
    return _Fetched(wanted, digest, data, study_uid=find_study_uid(data))


def _replaced() -> DataError:
    return DataError("the object was replaced since it was listed", code="CHANGED.REPLACED")


def _judge(
    fetched: _Fetched, decoded: DecodedFilm | DataError, pseudonyms: Pseudonyms, forgotten: ForgottenPatients
) -> ReadInput:
    wanted = fetched.wanted
    start = InputOutcome(
        key_hmac=wanted.key_hmac,
        etag=wanted.etag,
        rank=wanted.rank,
        outcome=Outcome.ACCEPTED,
        source_digest=fetched.source_digest,
        is_reread=bool(wanted.replaces_run) and not wanted.is_sent_back,
        counted_study=pseudonyms.counted_study(fetched.study_uid) if fetched.study_uid else "",
    )
    if fetched.is_carried and wanted.previous is not None:
        return ReadInput(replace(start, **dict(wanted.previous), is_carried=True), None)
    if isinstance(decoded, DataError):
        return ReadInput(start.refused(decoded.code, decoded.reason), None)
    film = decoded.film
    seen = replace(
        start,
        pixel_digest=film.pixel_digest.hex(),
        view_position=film.view_position.value,
        width=film.original_width,
        height=film.original_height,
        look=look_at(film, decoded.acquisition.manufacturer),
    )
    try:
        ids_by = partial(identify, decoded, fetched.source_digest)
        patient_id, study_id, instance_id = ids_by(pseudonyms)
        if forgotten.tell(lambda secret: ids_by(secret).patient_id):
            unknown = replace(start, source_digest="", counted_study=REASON)
            return ReadInput(unknown.refused(REASON, SENTENCE), None)
        seen = replace(seen, patient_id=patient_id, study_id=study_id, instance_id=instance_id)
        check_view(film)
    except DataError as error:
        return ReadInput(seen.refused(error.code, error.reason), None)
    return ReadInput(seen, film)
