"""When a store is asked again, and when a run stops asking."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from crrg import retries, storage
from crrg.config.base import Settings
from crrg.errors import Conflict, StorageError
from crrg.retries import ACCESS_DENIED, LONGEST_OBJECT_S, MAX_RETRIES, MAX_TRIES, StoreGuard, guard_of, object_limit_s
from crrg.storage import Storage


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def longest(_: float, most: float) -> float:
    return most


@pytest.fixture
def clock():
    return Clock()


def test_waits_double_up_to_a_limit_and_end_after_eight_tries(clock):
    guard = StoreGuard(clock, longest)
    waits = [guard.next_wait_s(attempt, 0.0) for attempt in range(1, MAX_TRIES + 1)]
    assert waits == [pytest.approx(wait) for wait in (0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 20.0)] + [None]


def test_no_try_of_an_object_begins_after_two_minutes(clock):
    guard = StoreGuard(clock, longest)
    clock.now_s = 119.0
    assert guard.next_wait_s(1, 0.0) == pytest.approx(0.4)
    assert guard.next_wait_s(3, 0.0) is None


def test_retries_share_a_budget_that_successes_refill(clock):
    guard = StoreGuard(clock, longest)
    granted = sum(guard.next_wait_s(1, clock()) is not None for _ in range(1000))
    assert granted == MAX_RETRIES
    guard.note(is_answer=True)
    assert guard.next_wait_s(1, clock()) is None
    guard.note(is_answer=True)
    assert guard.next_wait_s(1, clock()) is not None


def test_breaker_opens_after_a_minute_of_failures_and_closes_again(clock):
    guard = StoreGuard(clock, longest)
    for second in range(61):
        clock.now_s = float(second)
        guard.note(is_answer=second % 3 == 0)
        assert guard.is_open is (second >= 60)
    assert guard.next_wait_s(1, clock()) is None
    for _ in range(40):
        guard.note(is_answer=True)
    assert not guard.is_open


def test_half_of_all_requests_may_fail(clock):
    guard = StoreGuard(clock, longest)
    for second in range(121):
        clock.now_s = float(second)
        guard.note(is_answer=second % 2 == 0)
    assert not guard.is_open


class Answering:
    """A client that answers by a list; an error in it is raised."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)

    def read(self, timeout: float) -> object:
        self.timeout_s = timeout
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def rm_file(self, _: str, *, timeout: float) -> None:
        self.timeout_s = timeout

    @classmethod
    def clear_instance_cache(cls) -> None:
        """Called where a client is forgotten."""


class ReadTimeoutError(Exception):
    """Stands in for the library's error, which is no OSError."""


class NoCredentialsError(Exception):
    """What the client raises where nobody gave it any, by its name and module."""


ReadTimeoutError.__module__ = NoCredentialsError.__module__ = "botocore.exceptions"


def refused(code: str, kind: type[Exception] = PermissionError) -> Exception:
    cause = Exception()
    cause.response = {"Error": {"Code": code}}  # type: ignore[attr-defined]
    cause.operation_name = "PutObject"  # type: ignore[attr-defined]
    error = kind("refused")
    error.__cause__ = cause
    return error


@pytest.fixture(autouse=True)
def _in_one(monkeypatch):
    def read_in_one(
        client: Answering, _url: str, _etag: str, timeout_s: float, _piece: tuple[int, int] | None = None
    ) -> tuple[object, str]:
        return client.read(timeout_s), ""

    monkeypatch.setattr(storage, "read_in_one", read_in_one)


@pytest.fixture
def s3(monkeypatch):
    monkeypatch.setattr(storage.time, "sleep", lambda _: None)
    guard_of.cache_clear()

    def make(*answers: object) -> Storage:
        found = Storage("s3://bucket/root")
        found._fs, found._fs_pid = Answering(*answers), os.getpid()
        return found

    return make


def test_what_may_pass_is_tried_again(s3):
    answers = (ConnectionResetError(), ReadTimeoutError(), TimeoutError(), OSError(5, "SlowDown"), b"data")
    assert s3(*answers).get("key") == b"data"


def test_a_store_out_of_reach_says_so_after_eight_tries(s3):
    said = r"out of reach after 8 tries \(ConnectionResetError\); check CRRG_S3_ENDPOINT and the network, or run again"
    with pytest.raises(StorageError, match=said) as caught:
        s3(*[ConnectionResetError()] * 8, b"too late").get("key")
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (refused("AccessDenied"), "PutObject on s3://bucket/root is denied; check the credentials and the policy"),
        (NoCredentialsError(), "no credentials for s3://bucket/root; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        (refused("RequestTimeTooSkewed", OSError), "clock"),
        (refused("PreconditionFailed", OSError), "another writer"),
    ],
)
def test_what_lasts_is_not_tried_again(s3, error, message):
    with pytest.raises(StorageError, match=message) as caught:
        s3(error, b"never asked").get("key")
    assert not caught.value.retryable


@pytest.mark.parametrize("refusal", [FileNotFoundError(), FileExistsError(), refused("AccessDenied")])
def test_a_refusal_is_an_answer_of_a_store_that_works(s3, monkeypatch, refusal):
    noted: list[bool] = []
    monkeypatch.setattr(StoreGuard, "note", lambda _, *, is_answer: noted.append(is_answer))
    with pytest.raises((StorageError, FileExistsError)):
        s3(ConnectionResetError(), refusal).get("key")
    assert noted == [False, True]


def test_lost_condition_is_a_conflict(s3):
    with pytest.raises(Conflict):
        s3(refused("PreconditionFailed", OSError)).get("key")


def test_faults_of_our_own_pass_unchanged(s3):
    with pytest.raises(ValueError, match="ours"):
        s3(ValueError("ours")).get("key")


def test_no_try_of_a_film_may_trickle_on_for_more_than_two_minutes(s3):
    assert object_limit_s(512 * 2**20) == object_limit_s(1) == LONGEST_OBJECT_S == 120.0
    assert object_limit_s(3 * 2**30) > 600
    store = s3(b"data")
    store.get_range("key", 0, 100)
    assert store._fs.timeout_s == pytest.approx(LONGEST_OBJECT_S, abs=5)
    removed = s3()
    removed.delete("key")
    assert removed._fs.timeout_s == pytest.approx(LONGEST_OBJECT_S, abs=5)


def test_a_later_try_of_an_object_has_what_earlier_ones_left(s3, monkeypatch):
    now_s = [1000.0]
    monkeypatch.setattr(retries, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    store, timeouts_s = s3(ConnectionResetError(), ConnectionResetError(), b"data"), []
    read = store._fs.read

    def read_slowly(timeout):
        timeouts_s.append(timeout)
        now_s[0] += 50
        return read(timeout)

    monkeypatch.setattr(store._fs, "read", read_slowly)
    assert store.get_range("key", 0, 4) == b"data"
    assert timeouts_s == [120.0, 70.0, 20.0]
    assert object_limit_s(1) == 120.0, "the next object has all of it"


@pytest.mark.parametrize("code", ["ExpiredToken", "400"])
def test_expired_credentials_are_read_anew_once(s3, monkeypatch, code):
    store = s3(refused(code, TimeoutError))
    renewed = Answering(b"data")
    monkeypatch.setattr(storage.fsspec, "filesystem", lambda *_, **__: renewed)
    assert store.get("key") == b"data"


def test_given_credentials_that_can_expire_are_given_anew(monkeypatch):
    monkeypatch.setattr(storage.time, "sleep", lambda _: None)
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"):
        monkeypatch.setenv(f"AWS_{name}", f"old-{name}")
    store, asked = Storage("s3://renewed/root", Settings().storage), []

    def client(_protocol, **options):
        asked.append((options["key"], options["secret"], options["token"]))
        return Answering(*[refused("ExpiredToken", TimeoutError)] * (len(asked) == 1), b"data")

    monkeypatch.setattr(storage.fsspec, "filesystem", client)
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"):
        monkeypatch.setenv(f"AWS_{name}", f"new-{name}")
    assert store.get("key") == b"data"
    names = ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN")
    assert asked == [tuple(f"{age}-{name}" for name in names) for age in ("old", "new")]
    assert "new-" not in repr(Settings())
    monkeypatch.delenv("AWS_SESSION_TOKEN")
    assert "token" not in Settings().storage.s3fs_options()


def test_credentials_that_stay_expired_are_named(s3, monkeypatch):
    store = s3(refused("ExpiredToken", TimeoutError))
    monkeypatch.setattr(storage.fsspec, "filesystem", lambda *_, **__: Answering(refused("ExpiredToken", TimeoutError)))
    with pytest.raises(StorageError, match="have expired"):
        store.get("key")


def test_roots_of_a_bucket_share_a_guard():
    assert guard_of("s3://bucket/one") is guard_of("s3://bucket/two")
    assert guard_of("s3://bucket/one") is not guard_of("s3://other/one")
    assert retries.is_transient(EOFError())


@pytest.mark.parametrize("code", ["AccessDenied", "InvalidObjectState", "KMS.DisabledException"])
def test_object_that_is_not_given_out_is_told_at_once_by_a_code(s3, code):
    kind = OSError if code.startswith("KMS") else PermissionError
    store = s3(refused(code, kind))
    store._names_objects = False
    with pytest.raises(StorageError, match="is denied") as caught:
        store.get("key")
    assert (caught.value.code, caught.value.retryable) == (ACCESS_DENIED, False)
