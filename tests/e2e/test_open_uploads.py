"""Uploads that were begun and never ended, on a real S3 server: ``crrg gc`` gives up those of its root."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from crrg.errors import StorageError
from crrg.ledger.audit import read_audit
from crrg.operations.upkeep import gc_uploads
from crrg.operations.upkeep.gc import collect_garbage
from crrg.operations.upkeep.gc_uploads import OpenUpload, abort_upload, list_open_uploads
from crrg.storage import Storage
from tests.support.identities import start_guarded_store
from tests.support.platform import S3Store

pytestmark = pytest.mark.e2e
PART = bytes(6 * 2**20)


@pytest.fixture
def client(s3_store: S3Store) -> Any:
    made = botocore.session.get_session().create_client(
        "s3",
        endpoint_url=s3_store.endpoint_url,
        aws_access_key_id=s3_store.access_key,
        aws_secret_access_key=s3_store.secret_key,
        region_name="us-east-1",
    )
    # the server answers a moment before its bucket is there
    made.get_waiter("bucket_exists").wait(Bucket=s3_store.bucket, WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    return made


@pytest.fixture
def root(s3_store: S3Store) -> Storage:
    return Storage(s3_store.new_root())


def begin(client: Any, root: Storage, key: str) -> None:
    """Begin an upload, send a part, and go away."""
    bucket, name = root.url(key).removeprefix("s3://").split("/", 1)
    upload = client.create_multipart_upload(Bucket=bucket, Key=name)
    client.upload_part(Bucket=bucket, Key=name, UploadId=upload["UploadId"], PartNumber=1, Body=PART)


def names(uploads: list[OpenUpload]) -> list[str]:
    return [each.key for each in uploads]


@pytest.mark.parametrize("page_size", [1, 1000])
def test_open_uploads_of_a_root_are_listed_in_pages(client, root, monkeypatch, page_size):
    monkeypatch.setattr(gc_uploads, "PAGE_SIZE", page_size)
    assert list_open_uploads(root) == []
    keys = [f"checkpoints/clip/{number:02d}/model.safetensors" for number in range(3)]
    for key in keys:
        begin(client, root, key)
    begin(client, Storage(f"{root.root}-other"), "models/x")
    found = list_open_uploads(root)
    assert names(found) == keys
    assert all(abs(each.started_s - time.time()) < 300 for each in found)
    for each in found:
        abort_upload(root, each)
        abort_upload(root, each)
    assert list_open_uploads(root) == []
    assert len(list_open_uploads(Storage(f"{root.root}-other"))) == 1


def test_gc_gives_up_what_is_old_enough_and_says_so(client, root):
    key = "models/bundles/abc/clip.safetensors"
    begin(client, root, key)
    root.put("models/bundles/abc/bundle.json", b"{}")
    assert collect_garbage(root, min_age_h=24, remove=True).uploads == []
    found = collect_garbage(root, min_age_h=0)
    assert (names(found.uploads), found.is_removed) == ([key], False)
    assert names(list_open_uploads(root)) == [key]
    removed = collect_garbage(root, min_age_h=0, remove=True)
    assert (names(removed.uploads), removed.is_removed) == ([key], True)
    assert list_open_uploads(root) == []
    assert read_audit(root)[-1].counts["uploads"] == 1
    assert root.exists("models/bundles/abc/bundle.json")


def test_the_identity_of_gc_may_give_uploads_up_and_without_the_right_to_list_them_does_the_rest(tmp_path, caplog):
    """The server takes no policy with that right, so it is as with a policy of before there was this in it."""
    store = start_guarded_store(tmp_path / "guarded", ("gc", "reviewer"))
    try:
        admin = store.storage("admin")
        begin(store.client("admin"), admin, "models/bundles/abc/clip.safetensors")
        admin.put("staging/ingest/x/shard-0.parquet", b"half")
        removed = collect_garbage(store.storage("gc"), min_age_h=0, remove=True)
        assert (len(removed.objects), len(removed.uploads)) == (1, 0)
        assert "are not looked for: ListBucketMultipartUploads on s3://guarded/data is denied" in caplog.text
        (upload,) = list_open_uploads(admin)
        with pytest.raises(StorageError, match="AbortMultipartUpload on"):
            abort_upload(store.storage("reviewer"), upload)
        abort_upload(store.storage("gc"), upload)
        assert list_open_uploads(admin) == []
    finally:
        store.service.stop(0)


def test_a_folder_and_a_bucket_that_is_not_there_have_no_open_uploads(client, tmp_path: Path):
    assert list_open_uploads(Storage(str(tmp_path))) == []
    assert list_open_uploads(Storage("s3://there-is-none/root")) == []
