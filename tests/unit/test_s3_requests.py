"""How many requests an object takes, each of them a way to the store and back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from crrg.config.base import NUM_CONNECTIONS, StorageSettings
from crrg.s3_requests import LARGE_BYTES
from crrg.storage import Storage
from tests.support.recording_s3 import RecordingStore, recording_store


@pytest.fixture
def store() -> Iterator[RecordingStore]:
    with recording_store(0) as found:
        yield found


@pytest.fixture
def root(store: RecordingStore) -> Storage:
    keys = {"access_key_id": "any", "secret_access_key": "any"}
    return Storage("s3://bucket/root", StorageSettings.model_validate({"endpoint_url": store.endpoint_url, **keys}))


def test_an_object_is_read_without_asking_for_its_size(store: RecordingStore, root: Storage) -> None:
    assert b"ListBucketResult" in root.get("results/manifest.json")
    assert [each.operation for each in store.requests] == ["Get"]


def test_one_question_says_whether_an_object_is_there(store: RecordingStore, root: Storage) -> None:
    assert root.exists("control/STOP")
    store.is_empty = True
    assert not root.exists("control/STOP")
    assert [each.operation for each in store.requests] == ["HeadObject"] * 2


def test_a_name_that_looks_like_a_version_is_a_name(store: RecordingStore, root: Storage) -> None:
    key = "x.dcm?versionId=1.dcm"
    root.get(key)
    root.get_range(key, 0, 1)
    root.exists(key)
    assert [each.path for each in store.requests] == ["/bucket/root/x.dcm%3FversionId%3D1.dcm"] * 3


def test_an_empty_prefix_is_listed_in_one_request(store: RecordingStore, root: Storage) -> None:
    assert root.list_objects("spool/runs") == []
    assert root.list_folder("results/date=2026-11-29") == []
    assert [each.operation for each in store.requests] == ["Get"] * 2


def test_weights_are_asked_for_their_size_since_they_may_come_in_pieces(store: RecordingStore, root: Storage) -> None:
    root.get("models/clip.safetensors")
    assert [each.operation for each in store.requests] == ["HeadObject", "Get"]


def test_requests_of_all_threads_are_on_the_way_at_a_time(store: RecordingStore, root: Storage) -> None:
    store.meeting = threading.Barrier(NUM_CONNECTIONS, timeout=30)
    with ThreadPoolExecutor(NUM_CONNECTIONS) as pool:
        list(pool.map(lambda number: root.put(f"review/{number}.png", b"x"), range(NUM_CONNECTIONS)))
    assert [each.operation for each in store.requests] == ["PutObject"] * NUM_CONNECTIONS


@pytest.mark.parametrize(("num_bytes", "is_asked"), [(100, False), (LARGE_BYTES - 1, False), (LARGE_BYTES, True)])
def test_only_a_large_body_waits_for_leave(
    store: RecordingStore, root: Storage, num_bytes: int, is_asked: bool
) -> None:
    root.put("key", b"x" * num_bytes)
    root.put_if_absent("other", b"x" * num_bytes)
    writes = store.of("PutObject")
    assert len(writes) == 2
    assert [each.headers.get("expect") for each in writes] == (["100-continue"] * 2 if is_asked else [None] * 2)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("review/index.html", "text/html; charset=utf-8"),
        ("review/review.css", "text/css; charset=utf-8"),
        ("review/review.js", "text/javascript; charset=utf-8"),
        ("review/worklist.csv", "text/csv; charset=utf-8"),
        ("documents/report.txt", "text/plain; charset=utf-8"),
        ("evaluation/scorecard.md", "text/markdown; charset=utf-8"),
        ("watch.json", "application/json"),
        ("films/x.png", "image/png"),
        ("films/x.jpg", "image/jpeg"),
        ("control/STOP", None),
        ("results/part-0.parquet", None),
    ],
)
def test_what_people_open_is_written_with_its_type(
    store: RecordingStore, root: Storage, key: str, expected: str | None
) -> None:
    root.put(key, b"x")
    root.put_if_absent(key, b"x")
    root.put(key, b"x" * LARGE_BYTES)
    said = [each.headers.get("content-type") for each in store.of("PutObject")]
    assert said == [expected] * 3


def test_a_client_that_is_forgotten_leaves_its_session(store: RecordingStore, root: Storage) -> None:
    before = root.filesystem.session
    assert Storage("s3://bucket/other", root._settings).filesystem.session is before
    root._forget_client()
    assert root.filesystem.session is not before
    root.put("key", b"x")
    assert store.of("PutObject")[0].headers.get("expect") is None


def test_no_request_waits_for_longer_than_was_promised() -> None:
    """Five seconds for a connection, thirty without a byte; the client itself tries nothing again."""
    client = Storage("s3://bucket/root", StorageSettings()).filesystem
    config = client.config_kwargs
    assert (config["connect_timeout"], config["read_timeout"]) == (5.0, 30.0)
    assert config["retries"]["total_max_attempts"] == 1
    assert client.retries == 1
