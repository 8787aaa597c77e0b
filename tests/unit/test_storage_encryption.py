"""Every way in which bytes reach a bucket asks for the encryption that is set; connections are always verified."""

from __future__ import annotations

import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from crrg.config.base import Settings, StorageSettings
from crrg.errors import ConfigError, StorageError
from crrg.operations.delivery.deliver import identified_zone
from crrg.storage import Storage
from tests.support.certificates import self_signed
from tests.support.recording_s3 import RecordingStore, recording_store

MIB = 2**20
KMS_KEY = "x-amz-server-side-encryption-aws-kms-key-id"
WRITES = ("PutObject", "CreateMultipartUpload", "CopyObject")


def settings_of(store: RecordingStore, **changes: str) -> StorageSettings:
    given = {"endpoint_url": store.endpoint_url, "access_key_id": "k", "secret_access_key": "s", **changes}
    return StorageSettings.model_validate(given)


def write_in_every_way(storage: Storage) -> None:
    fs = storage.filesystem
    storage.put("a", b"1")
    storage.put_json("b", {})
    storage.put_if_absent("c", b"1")
    fs.pipe_file(storage.url("large"), bytes(11 * MIB), chunksize=5 * MIB)
    fs.pipe_file(storage.url("large-if-absent"), bytes(11 * MIB), chunksize=5 * MIB, mode="create")
    with fs.open(storage.url("stream"), "wb", block_size=5 * MIB) as file:
        file.write(bytes(11 * MIB))
    with fs.open(storage.url("small-stream"), "wb") as file:
        file.write(b"1")
    fs.cp_file(storage.url("a"), storage.url("copy"))
    fs.invalidate_cache()


@pytest.mark.parametrize(
    ("encryption", "key", "expected"),
    [
        ("AES256", "", {"x-amz-server-side-encryption": "AES256"}),
        (
            "aws:kms",
            "key-1",
            {"x-amz-server-side-encryption": "aws:kms", "x-amz-server-side-encryption-aws-kms-key-id": "key-1"},
        ),
    ],
)
def test_every_put_copy_and_multipart_upload_asks_for_encryption(
    encryption: str, key: str, expected: dict[str, str]
) -> None:
    with recording_store() as store:
        write_in_every_way(Storage("s3://bucket/root", settings_of(store, encryption=encryption, kms_key_id=key)))
    writes = store.of(*WRITES)
    assert {each.operation for each in writes} == set(WRITES)
    assert len(writes) >= 8
    for each in writes:
        said = {name: value for name, value in each.headers.items() if name.startswith("x-amz-server-side-encryption")}
        assert said == expected, each.operation


def test_a_large_copy_asks_for_encryption_too() -> None:
    with recording_store(object_bytes=6 * 2**30) as store:
        storage = Storage("s3://bucket/root", settings_of(store, encryption="AES256"))
        storage.filesystem.cp_file(storage.url("a"), storage.url("copy"))
    (begun,) = store.of("CreateMultipartUpload")
    assert begun.headers["x-amz-server-side-encryption"] == "AES256"


def test_nothing_is_asked_for_where_nothing_is_set() -> None:
    with recording_store() as store:
        write_in_every_way(Storage("s3://bucket/root", settings_of(store)))
    assert not [each for each in store.requests if "x-amz-server-side-encryption" in each.headers]


def test_the_environment_sets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRRG_S3_SSE", "aws:kms")
    monkeypatch.setenv("CRRG_S3_KMS_KEY_ID", "key-2")
    assert Settings().storage.write_arguments() == {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "key-2"}


def test_a_key_without_kms_is_refused() -> None:
    with pytest.raises(ConfigError, match="CRRG_S3_SSE"):
        StorageSettings(encryption="AES256", kms_key_id="key-1")


def test_a_server_whose_certificate_nobody_vouches_for_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    reached = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            reached.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = StorageSettings.model_validate(
        {"endpoint_url": f"https://localhost:{server.server_port}", "access_key_id": "k", "secret_access_key": "s"}
    )
    monkeypatch.setattr("crrg.retries.MAX_TRIES", 1)
    try:
        with pytest.raises(StorageError):
            Storage("s3://bucket/root", settings).get("a")
    finally:
        server.shutdown()
        server.server_close()
    assert reached == []


def test_each_zone_is_written_with_its_own_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRRG_S3_SSE", "aws:kms")
    monkeypatch.setenv("CRRG_S3_KMS_KEY_ID", "key-of-the-root")
    monkeypatch.setenv("CRRG_IDENTIFIED_ROOT", "s3://identified/drafts")
    monkeypatch.setenv("CRRG_IDENTIFIED_KMS_KEY_ID", "key-of-the-zone")
    with recording_store() as store:
        for name, value in {"CRRG_S3_ENDPOINT": store.endpoint_url, "AWS_ACCESS_KEY_ID": "k"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
        for root in (Storage("s3://bucket/root"), Storage("s3://bucket/root", Settings().storage)):
            root.put("a", b"1")
            identified_zone(root, Settings()).put("b", b"1")
            root.put("c", b"1")
    assert [each.headers[KMS_KEY] for each in store.of("PutObject")] == [
        "key-of-the-root", "key-of-the-zone", "key-of-the-root",
    ] * 2  # fmt: skip
    monkeypatch.delenv("CRRG_IDENTIFIED_KMS_KEY_ID")
    assert identified_zone(root, Settings()).filesystem is root.filesystem, "without one the zone has the root's key"
    monkeypatch.setenv("CRRG_IDENTIFIED_KMS_KEY_ID", "key-of-the-zone")
    plain = Storage("s3://bucket/root", settings_of(store, encryption="AES256"))
    with pytest.raises(ConfigError, match="CRRG_IDENTIFIED_KMS_KEY_ID: a KMS key encrypts nothing"):
        identified_zone(plain, Settings())
