"""Uploads in parts that were begun and never ended: no listing of objects shows them, and their parts take room.

A process that is killed while it writes a large object leaves one behind. Only S3 knows them; what a folder's writers
leave so is found by ``gc_left_behind.py``.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from fsspec.asyn import sync

from crrg.storage import Storage

logger = logging.getLogger(__name__)

PAGE_SIZE = 1000


@dataclass(frozen=True)
class OpenUpload:
    """An upload that was begun and neither ended nor given up.

    Attributes:
        key: Key relative to the root, of the object that it would have become.
        upload_id: The store's name for it.
        started_s: When it was begun by the store's clock, seconds since the epoch.
    """

    key: str
    upload_id: str
    started_s: float


def list_open_uploads(storage: Storage) -> list[OpenUpload]:
    """Return the open uploads under a root, sorted by key; none where the store knows none or does not tell.

    Raises:
        StorageError: The store is out of reach, or does not let uploads be listed.
    """
    if not storage.is_s3:
        return []
    found: list[OpenUpload] = []
    markers: dict[str, str] = {}
    while True:
        uploads, following = storage.call("", partial(_page, root=storage.url(), markers=markers))
        found += uploads
        if not following or following == markers:
            return sorted(found, key=lambda each: (each.key, each.upload_id))
        markers = following


def abort_upload(storage: Storage, upload: OpenUpload) -> None:
    """Give an upload up, so that the store drops its parts; one that ended meanwhile is left as it is.

    Raises:
        StorageError: The store is out of reach, or does not let uploads be given up.
    """

    async def abort(fs: Any) -> None:
        bucket, key, _ = fs.split_path(storage.url(upload.key))
        try:
            await fs._call_s3("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload.upload_id)
        except FileNotFoundError:
            return

    storage.call(upload.key, lambda fs: sync(fs.loop, abort, fs))


def _page(fs: Any, root: str, markers: Mapping[str, str]) -> tuple[list[OpenUpload], dict[str, str]]:
    """Return the next uploads of a listing, and where the one after them begins; empty where it does not."""
    bucket, folder, _ = fs.split_path(root)
    prefix = f"{folder}/" if folder else ""

    async def ask() -> Any:
        try:
            return await fs._call_s3(
                "list_multipart_uploads", Bucket=bucket, Prefix=prefix, MaxUploads=PAGE_SIZE, **markers
            )
        except FileNotFoundError:
            return {}
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise
            logger.warning("the store does not list unfinished uploads; use its own tools")
            return {}

    answer = sync(fs.loop, ask)
    uploads = [
        OpenUpload(each["Key"].removeprefix(prefix), each["UploadId"], each["Initiated"].timestamp())
        for each in answer.get("Uploads", ())
        if each["Key"].startswith(prefix)
    ]
    following = {"KeyMarker": answer.get("NextKeyMarker"), "UploadIdMarker": answer.get("NextUploadIdMarker")}
    is_more = bool(answer.get("IsTruncated"))
    return uploads, {name: value for name, value in following.items() if is_more and value}
