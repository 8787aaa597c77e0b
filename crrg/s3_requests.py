"""How S3 is asked: as few requests for an object as can be, since each costs a way to the store and back.

The client asks for an object's size before it reads it, for a folder where there is no object, for an object where a
prefix is empty, and for a store's leave before it sends a body. None of it says what the answer does not.
"""

from __future__ import annotations

import os
from typing import Any

import fsspec
from fsspec.asyn import sync

LARGE_BYTES = 2**20
"""A body from this size on is sent only when the store has said that it would take it."""

CONTENT_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "csv": "text/csv; charset=utf-8",
    "txt": "text/plain; charset=utf-8",
    "md": "text/markdown; charset=utf-8",
    "json": "application/json",
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
}
"""By the ending of a name what a browser is told of an object; of any other one the store says that it is bytes."""

_sessions: dict[int, Any] = {}
"""The session of this process, by its number: a child makes its own."""


def open_s3(scheme: str, options: dict[str, Any]) -> Any:
    """Return a client of S3.

    Args:
        scheme: Of the store's URLs.
        options: Arguments of ``s3fs.S3FileSystem``.
    """
    from aiobotocore.session import AioSession  # a third of a second that a folder does not need

    if (session := _sessions.get(os.getpid())) is None:
        session = AioSession()
        session.register("before-send.s3", _send_at_once)
        _sessions.clear()
        _sessions[os.getpid()] = session
    client = fsspec.filesystem(scheme, session=session, **options)
    # tried again by crrg.storage, as a whole object and within one budget
    client.retries = 1
    return client


def forget_clients(client: Any) -> None:
    """Make the next client read its credentials anew."""
    type(client).clear_instance_cache()
    _sessions.clear()


def content_type(key: str) -> dict[str, str]:
    """Return the argument of a write that lets a browser show an object instead of saving it; empty for mere bytes."""
    found = CONTENT_TYPES.get(key.rpartition(".")[2])
    return {"ContentType": found} if found else {}


def read_in_one(
    client: Any, url: str, etag: str, timeout_s: float, piece: tuple[int, int] | None = None
) -> tuple[bytes, str]:
    """Return an object's bytes and version mark, in one request.

    Args:
        client: Of S3.
        url: The object.
        etag: The version that is asked for; empty for whatever lies there. A store may ignore it.
        timeout_s: Seconds after which it is given up.
        piece: First byte that is asked for and the one after the last; all of them where not given.

    Raises:
        OSError: As ``s3fs`` has it: there is no such object, it has another version, it is denied.
    """
    condition = {"IfMatch": f'"{etag}"'} if etag else {}
    if piece:
        condition["Range"] = f"bytes={piece[0]}-{piece[1] - 1}"

    bucket, key = _bucket_and_key(client, url)

    async def fetch() -> tuple[bytes, str]:
        answer = await client._call_s3("get_object", Bucket=bucket, Key=key, **condition)
        async with answer["Body"] as body:
            return bytes(await body.read()), str(answer["ETag"]).strip('"')

    data, found = sync(client.loop, fetch, timeout=timeout_s)
    return data, found


def lies_there(client: Any, url: str, timeout_s: float) -> bool:
    """Return whether there is an object of this very name, in one request; folders of a bucket are none.

    Args:
        client: Of S3.
        url: The object.
        timeout_s: Seconds after which it is given up.

    Raises:
        OSError: As ``s3fs`` has it: the question is denied.
    """
    bucket, key = _bucket_and_key(client, url)

    async def ask() -> bool:
        try:
            await client._call_s3("head_object", Bucket=bucket, Key=key)
        except FileNotFoundError:
            return False
        return True

    return bool(sync(client.loop, ask, timeout=timeout_s))


def list_below(client: Any, url: str, *, is_deep: bool) -> dict[str, Any]:
    """Return what the client says of everything below a prefix, by full name, in one request for each thousand.

    Args:
        client: Of S3.
        url: The prefix, without a slash at its end.
        is_deep: Whether folders are looked into; else they are named themselves.

    Raises:
        OSError: As ``s3fs`` has it: there is no such bucket, it is denied.
    """
    path = client._strip_protocol(url)
    found = sync(client.loop, client._lsdir, path, refresh=True, delimiter="" if is_deep else "/")
    return {str(info["name"]): info for info in found}


def _bucket_and_key(client: Any, url: str) -> tuple[str, str]:
    """Return what a URL names; the client would end a key where it reads ``?versionId=``, which names may hold."""
    bucket = str(client.split_path(url)[0])
    return bucket, url.partition("://")[2].removeprefix(bucket)[1:]


def _send_at_once(request: Any, **_: object) -> None:
    """Do not ask first whether a small body may be sent."""
    length = request.headers.get("X-Amz-Decoded-Content-Length") or request.headers.get("Content-Length") or 0
    if int(length) < LARGE_BYTES:
        request.headers.pop("Expect", None)
