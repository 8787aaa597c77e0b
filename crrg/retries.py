"""When a store is asked again, how long to wait before, and when a run stops asking.

One guard per store and process: its retries share a budget, so that a store in trouble is not asked ever more often,
and a breaker stops a run early where most requests have failed for a minute. Knows no store and no client library but
the names of their errors.
"""

from __future__ import annotations

import functools
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from crrg.errors import ConfigError, Conflict, StorageError

MAX_TRIES = 8
FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 20.0
LONGEST_OBJECT_S = 120.0
"""All tries of one object of up to half a gigabyte together end by then, and no new try of any begins after it."""
SHORTEST_TRY_S = 1.0
"""What the last try of an object has at least."""
LARGEST_FILM = 512 * 2**20
SLOWEST_BYTES_S = 4 * 2**20
"""What is larger than any film, which only parts of bundles are, may take as long as this rate needs."""
LARGEST_OBJECT = 4 * 2**30
MAX_RETRIES = 200.0
"""What a full budget holds."""
REFILL = 0.5
"""What a success gives back: a store that fails a quarter of all requests can be used for ever."""
BREAKER_WINDOW_S = 60.0
BREAKER_SHARE = 0.5
BREAKER_LEAST = 20
"""Requests in the window from which its share of failures means something."""

ACCESS_DENIED = "ACCESS.DENIED"
"""Code of the error of a store that does not allow an action, or does not give out an object."""
NO_OBJECT = "STORE.NO_OBJECT"
"""Code of the error of a store that answers, and has no such object."""
_SEALED = frozenset(
    {"KMS.DisabledException", "KMS.InvalidKeyUsageException", "KMS.KMSInvalidStateException", "KMS.NotFoundException"}
)
"""An object's key is not ours to use, or is no more."""
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired", "400"})
"""A question for an object's head has an answer without body: then only the status says that a token is too old."""
_SKEWED = frozenset({"RequestTimeTooSkewed", "RequestInTheFuture"})
_NOT_TRANSIENT = frozenset({"ParamValidationError", "UnknownServiceError", "InvalidRegionError"})
_POLICY_NAMES = {
    "HeadObject": "GetObject",
    "HeadBucket": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "ListMultipartUploads": "ListBucketMultipartUploads",
}
"""Requests that a policy allows under the name of another action."""
_began_s: ContextVar[float] = ContextVar("began_s")
_CLIENT_LIBRARIES = ("botocore.", "aiobotocore.", "aiohttp.")


class StoreGuard:
    """Counts what a store answers and decides whether it is asked again."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, jitter: Callable[[float, float], float] = random.uniform
    ) -> None:
        """Start with a full budget.

        Args:
            clock: Seconds from any start.
            jitter: Draws a number between two others.
        """
        self._clock = clock
        self._jitter = jitter
        self._budget = MAX_RETRIES
        self._since_s = clock()
        self._answers: deque[tuple[float, bool]] = deque()
        self._lock = threading.Lock()

    def note(self, *, is_answer: bool) -> None:
        """Count one request: an answer, be it a refusal, or a failure of the store or of the way to it."""
        with self._lock:
            now_s = self._clock()
            self._answers.append((now_s, is_answer))
            while self._answers and self._answers[0][0] < now_s - BREAKER_WINDOW_S:
                self._answers.popleft()
            if is_answer:
                self._budget = min(MAX_RETRIES, self._budget + REFILL)

    @property
    def is_open(self) -> bool:
        """Whether most requests of the last minute failed, and a minute has been watched."""
        with self._lock:
            now_s = self._clock()
            recent = [is_answer for at_s, is_answer in self._answers if at_s >= now_s - BREAKER_WINDOW_S]
            if now_s - self._since_s < BREAKER_WINDOW_S or len(recent) < BREAKER_LEAST:
                return False
            return recent.count(False) > BREAKER_SHARE * len(recent)

    def next_wait_s(self, attempt: int, started_s: float) -> float | None:
        """Return how long to wait before the next try of an object; ``None`` to give up.

        Args:
            attempt: The try that failed, from 1.
            started_s: When the first try began, by this guard's clock.
        """
        if attempt >= MAX_TRIES or self.is_open:
            return None
        wait_s = self._jitter(0.0, min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0**attempt))
        with self._lock:
            if self._budget < 1 or self._clock() + wait_s - started_s > LONGEST_OBJECT_S:
                return None
            self._budget -= 1
        return wait_s

    def now_s(self) -> float:
        """Return the time by this guard's clock."""
        return self._clock()


@contextmanager
def one_object() -> Iterator[None]:
    """Count the time of what is done with one object, from here on and in this thread; see ``object_limit_s``."""
    token = _began_s.set(time.monotonic())
    try:
        yield
    finally:
        _began_s.reset(token)


def object_limit_s(num_bytes: int | None = None) -> float:
    """Return how long a try of an object may take that begins now, however many bytes trickle in, seconds.

    Within ``one_object`` that is what earlier tries left of it.

    Args:
        num_bytes: Its size; ``None`` where only the store knows it.
    """
    size = LARGEST_OBJECT if num_bytes is None else num_bytes
    now_s = time.monotonic()
    used_s = now_s - _began_s.get(now_s)
    return max(SHORTEST_TRY_S, max(LONGEST_OBJECT_S, (size - LARGEST_FILM) / SLOWEST_BYTES_S) - used_s)


@functools.cache
def guard_of(root: str) -> StoreGuard:
    """Return this process's guard of the store that a root lies in."""
    store = "/".join(root.split("/")[:3]) if "://" in root else ""
    return StoreGuard() if store == root or not store else guard_of(store)


def lasting_error(error: Exception, root: str, key: str, *, is_local: bool) -> Exception | None:
    """Return what to raise where trying again cannot mend an error; ``None`` for one that may pass.

    Args:
        error: What a client raised.
        root: Root of the store, for the message.
        key: The object, for the message.
        is_local: Whether the store is a folder: its errors do not pass by themselves.
    """
    if is_lost_condition(error):
        return Conflict("another writer was first", key)
    if is_skewed(error):
        return StorageError(f"{root} rejects this machine's time; set the clock of this machine, then run again", key)
    if is_expired(error):
        reason = f"{root} says that the credentials have expired; renew them and run again: finished work is kept"
        return StorageError(reason, key)
    if type(error).__name__ == "NoCredentialsError":
        reason = f"no credentials for {root}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        return StorageError(reason, key, code=ACCESS_DENIED)
    if isinstance(error, PermissionError) or _code(error) in _SEALED:
        what = "owner and permissions of its folders" if is_local else "credentials and the policy of this prefix"
        return StorageError(f"{_action(error)} {root} is denied; check the {what}", key, code=ACCESS_DENIED)
    if not is_transient(error):
        return _unusable(error, root) or error
    if is_local:
        said = getattr(error, "strerror", None) or type(error).__name__
        return StorageError(f"{root} cannot be used: {said}; check the disk, then run again", key, retryable=True)
    return None


def out_of_reach(error: Exception, root: str, key: str, num_tries: int, *, is_s3: bool) -> StorageError:
    """Return what to raise where a store did not answer, or not as it should, in any of several tries.

    Args:
        error: What the client raised at last.
        root: Root of the store, for the message.
        key: The object, for the message.
        num_tries: How often it was asked.
        is_s3: Whether a setting of ours says where the store is.
    """
    way_out = "check CRRG_S3_ENDPOINT and the network, or run again later" if is_s3 else "run again later"
    reason = f"{root} is out of reach after {num_tries} tries ({type(error).__name__}); {way_out}"
    return StorageError(reason, key, retryable=True)


def _unusable(error: Exception, root: str) -> ConfigError | None:
    """Return what is wrong with the kind of store that a URL names, where that is the cause of an error."""
    scheme, other = f"{root.partition('://')[0]}://", "give a folder or s3://bucket/prefix"
    if isinstance(error, ImportError):
        return ConfigError(f"no client for {scheme} is installed ({error}); install it, or {other}", root)
    if str(error).startswith("Protocol not known"):
        return ConfigError(f"nothing opens {scheme} addresses; {other}", root)
    if isinstance(error, NotImplementedError):
        return ConfigError(f"{scheme} addresses can only be read; {other}", root)
    return None


def is_transient(error: BaseException) -> bool:
    """Return whether an error of a store's client may pass by itself: cut, late or refused for the moment."""
    if isinstance(error, (OSError, TimeoutError, EOFError)):
        return True
    kind = type(error)
    return kind.__module__.startswith(_CLIENT_LIBRARIES) and kind.__name__ not in _NOT_TRANSIENT


def is_expired(error: BaseException) -> bool:
    """Return whether a store refused credentials because they are too old."""
    return _code(error) in _EXPIRED


def is_skewed(error: BaseException) -> bool:
    """Return whether a store refused a request because this machine's clock is off."""
    return _code(error) in _SKEWED


def is_lost_condition(error: BaseException) -> bool:
    """Return whether a store refused a conditional request because the condition does not hold."""
    text = str(error).lower()
    return _code(error) == "PreconditionFailed" or "pre-condition" in text or "precondition" in text


def _action(error: BaseException) -> str:
    """Return which action on a store an error is about, as policies name it; ``access to`` where nobody says."""
    for each in (error, error.__cause__):
        name = getattr(each, "operation_name", "")
        if name:
            return f"{_POLICY_NAMES.get(name, name)} on"
    return "access to"


def _code(error: BaseException) -> str:
    """Return the code in a store's answer, wherever the client library has put it."""
    for each in (error, error.__cause__):
        response = getattr(each, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
    return ""
