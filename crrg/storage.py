"""One face for every object store: local folders and S3, through fsspec.

A ``Storage`` is a root URL; keys are relative, with forward slashes. It knows no file formats and no layout.
Local writes are atomic (temporary file, fsync, rename); S3 writes are atomic by nature. Transient failures of a whole
object are retried here, since the client's own retries end where an object's body starts.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import fsspec

from crrg.config.base import Settings, StorageSettings
from crrg.errors import Conflict, DigestMismatch, StorageError
from crrg.local_files import DISK_FULL, disk_full, find_files, is_temporary, read_file, read_file_into, write_file
from crrg.object_file import open_object
from crrg.other_stores import check_can_create, create, read_version
from crrg.retries import NO_OBJECT, guard_of, is_expired, lasting_error, object_limit_s, one_object, out_of_reach
from crrg.s3_requests import content_type, forget_clients, lies_there, list_below, open_s3, read_in_one
from crrg.stored_object import StoredObject, local_etag, stored_object

__all__ = ["FOREIGN_OBJECT", "WEIGHTS", "Storage", "StoredObject", "canonical_json", "hash_json"]

logger = logging.getLogger(__name__)
T = TypeVar("T")
_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))

# the libraries' own debug lines name every object, and a source's names are not ours to log
for _library in ("fsspec", "s3fs", "botocore", "aiobotocore"):
    logging.getLogger(_library).setLevel(logging.WARNING)


WEIGHTS = ".safetensors"
"""Objects that may have gigabytes: of them several pieces are on the way at a time."""
FOREIGN_OBJECT = "an object of the archive"
"""Stands in errors for a name that is not ours."""


class Storage:
    """Objects under one root URL: ``file://``, a plain path, ``s3://bucket/prefix``, or another that fsspec opens."""

    def __init__(self, root: str, settings: StorageSettings | None = None) -> None:
        """Open a root; nothing is touched until the first call.

        Args:
            root: Root URL or path.
            settings: How to reach S3, and for whom; how is read from the environment where not given.
        """
        self.is_local = "://" not in root or root.startswith("file://")
        self.is_s3 = root.startswith(("s3://", "s3a://"))
        self.root = os.path.abspath(root.removeprefix("file://")) if self.is_local else root.rstrip("/")
        self.principal = settings.principal if settings else ""
        self._settings = settings
        self._fs: Any = None
        self._fs_pid = -1
        self._names_objects = True

    def __getstate__(self) -> dict[str, Any]:
        """Leave the connection behind: every process opens its own."""
        return {**self.__dict__, "_fs": None, "_fs_pid": -1}

    def __repr__(self) -> str:
        """Show the root only."""
        return f"Storage({self.root!r})"

    def child(self, prefix: str) -> Storage:
        """Return the storage rooted at a prefix of this one."""
        below = Storage(self.url(prefix), self._settings)
        below._names_objects = self._names_objects
        return below

    def at(self, root: str, *, kms_key_id: str = "") -> Storage:
        """Return the storage of another root, with the same settings but for a key of its own where one is given."""
        settings = (self._settings or Settings().storage).with_kms_key(kms_key_id) if kms_key_id else self._settings
        return Storage(root, settings)

    def without_names(self) -> Storage:
        """Return the same root with errors that name no object; keys of archives and inboxes may name people."""
        nameless = Storage(self.root, self._settings)
        nameless._names_objects = False
        return nameless

    def url(self, key: str = "") -> str:
        """Return the full URL or path of a key."""
        return f"{self.root}/{key}" if key else self.root

    @property
    def filesystem(self) -> Any:
        """The fsspec file system of this process."""
        if self._fs is None or self._fs_pid != os.getpid():
            if self.is_local:
                self._fs = fsspec.filesystem("file")
            else:
                settings = self._settings or Settings().storage
                scheme = self.root.split("://", 1)[0]
                self._fs = open_s3(scheme, settings.s3fs_options()) if self.is_s3 else fsspec.filesystem(scheme)
            self._fs_pid = os.getpid()
        return self._fs

    def get(self, key: str) -> bytes:
        """Return an object's bytes.

        Raises:
            StorageError: There is no such object, or the store cannot be reached.
        """
        if self.is_s3 and not key.endswith(WEIGHTS):
            return self.call(key, lambda fs: read_in_one(fs, self.url(key), "", object_limit_s(0)))[0]
        return bytes(self.call(key, lambda fs: fs.cat_file(self.url(key), **self._within())))

    def get_if_there(self, key: str) -> bytes | None:
        """Return an object's bytes, or ``None`` where there is no such object; see ``get``."""
        try:
            return self.get(key)
        except StorageError as error:
            if error.code != NO_OBJECT:
                raise
            return None

    def open_binary(self, key: str) -> BinaryIO:
        """Open an object for reading anywhere in it; pieces are fetched as they are asked for.

        Raises:
            StorageError: There is no such object, or the store cannot be reached; reading from a store raises it, too.
        """
        return open_object(self.url(key), partial(self.call, key), is_local=self.is_local, is_s3=self.is_s3)

    def get_verified(self, key: str, sha256: str) -> bytes:
        """Return an object's bytes if their digest is the recorded one.

        Raises:
            DigestMismatch: The bytes have another digest.
        """
        data = self.get(key)
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            reason = f"sha256 is {found[:12]}…, recorded is {sha256[:12]}…; restore the object"
            raise DigestMismatch(reason, self._subject(key))
        return data

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """Return the bytes of an object from ``start`` up to, not including, ``end``.

        Raises:
            StorageError: There is no such object, or the store cannot be reached.
        """
        url, piece = self.url(key), (start, end)
        if self.is_s3:
            return self.call(key, lambda fs: read_in_one(fs, url, "", object_limit_s(end - start), piece))[0]
        return bytes(self.call(key, lambda fs: fs.cat_file(url, start=start, end=end)))

    def get_unchanged(self, stored: StoredObject) -> bytes:
        """Return the bytes of the very version that a listing showed, of S3 in one request.

        Raises:
            Conflict: The object was replaced since.
            StorageError: There is no such object any more, or the store cannot be reached.
        """
        url, size = self.url(stored.key), stored.size
        if self.is_local:
            data, status = self.call(stored.key, lambda _: read_file(url))
            etag = local_etag(stored.key, status)
        elif self.is_s3:
            data, etag = self.call(stored.key, lambda fs: read_in_one(fs, url, stored.etag, object_limit_s(size)))
        else:
            data, info = self.call(stored.key, lambda fs: read_version(fs, url))
            etag = stored_object(stored.key, info).etag
        self._check_unchanged(stored, len(data), etag)
        return data

    def read_unchanged(self, stored: StoredObject, memory: memoryview) -> None:
        """Read the very version that a listing showed into memory of its size; see ``get_unchanged``.

        Args:
            stored: The version.
            memory: ``stored.size`` writable bytes.
        """
        if not self.is_local:
            memory[:] = self.get_unchanged(stored)
            return
        num_bytes, status = self.call(stored.key, lambda _: read_file_into(self.url(stored.key), memory))
        self._check_unchanged(stored, num_bytes, local_etag(stored.key, status))

    def put(self, key: str, data: bytes) -> None:
        """Write an object, replacing what was there; readers see the old or the new bytes, never a mixture."""
        if self.is_local:
            with self._naming():
                write_file(self.url(key), data, key, replace=True)
        else:
            self.call(key, lambda fs: fs.pipe_file(self.url(key), data, **self._written(key, data)))

    def put_if_absent(self, key: str, data: bytes) -> None:
        """Write an object only where there is none; of several writers exactly one succeeds.

        Raises:
            Conflict: The object exists with other bytes. Equal bytes count as our own earlier write whose answer
                was lost, and as success.
            ConfigError: It is a kind of store in which several might succeed.
        """
        url = self.url(key)
        if not self.is_local and not self.is_s3:
            check_can_create(self.root)
        try:
            if self.is_local:
                with self._naming():
                    write_file(url, data, key, replace=False)
            elif self.is_s3:
                self.call(key, lambda fs: fs.pipe_file(url, data, mode="create", **self._written(key, data)))
            else:
                self.call(key, lambda fs: create(fs, url, data))
        except (FileExistsError, Conflict):
            # who was first may have removed it since, as holders of leases do
            if self.get_if_there(key) == data:
                return
            raise Conflict("another writer was first", self._subject(key)) from None

    def get_json(self, key: str) -> Any:
        """Return an object parsed as JSON."""
        return json.loads(self.get(key))

    def put_json(self, key: str, value: Any) -> None:
        """Write a value as canonical JSON (sorted keys)."""
        self.put(key, canonical_json(value))

    def exists(self, key: str) -> bool:
        """Return whether an object exists."""
        url = self.url(key)
        return bool(self.call(key, lambda fs: lies_there(fs, url, object_limit_s(0)) if self.is_s3 else fs.exists(url)))

    def is_reachable(self) -> bool:
        """Return whether the root's folder, or its bucket, is there; an empty prefix of a bucket is."""
        place = self.root if self.is_local else "/".join(self.root.split("/")[:3])
        return bool(self.call("", lambda fs: fs.exists(place)))

    def delete(self, key: str) -> None:
        """Remove an object; removing what is not there is fine."""
        with contextlib.suppress(FileNotFoundError):
            self.call(key, lambda fs: fs.rm_file(self.url(key), **self._within(0)), missing_is_error=False)

    def discard(self, key: str) -> bool:
        """Remove an object that nobody names, if this process may remove objects; return whether it is gone.

        A policy that lets nights remove nothing leaves it to ``crrg gc``.
        """
        try:
            self.delete(key)
        except StorageError as error:
            if error.retryable:
                raise
            return False
        return True

    def list_objects(self, prefix: str = "") -> list[StoredObject]:
        """Return all objects under a prefix folder, sorted by key; links are not followed.

        Raises:
            StorageError: The store is out of reach, or a folder cannot be read: no part of a listing is left out.
        """
        found = self._list(prefix, is_deep=True)
        start = len(self.root if self.is_local else self.filesystem._strip_protocol(self.root)) + 1
        objects = [stored_object(str(path)[start:], info) for path, info in found.items() if info["type"] == "file"]
        return sorted(objects, key=lambda stored: stored.key)

    def list_folder(self, prefix: str = "") -> list[str]:
        """Return the sorted names directly under a prefix folder, of objects and of folders, without their parents."""
        names = {str(path).rstrip("/").rsplit("/", 1)[-1] for path in self._list(prefix, is_deep=False)}
        return sorted(name for name in names if name and not (self.is_local and is_temporary(name)))

    def sha256(self, key: str) -> str:
        """Return the hex sha256 of an object."""
        return hashlib.sha256(self.get(key)).hexdigest()

    def download(self, keys: Iterable[str], folder: Path) -> list[Path]:
        """Copy objects into a local folder under their base names."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = {folder / key.rsplit("/", 1)[-1]: key for key in keys}
        for path, key in paths.items():
            path.write_bytes(self.get(key))
        return list(paths)

    def _within(self, num_bytes: int | None = None) -> dict[str, float]:
        """Return how long a try that begins now may take, as the client of S3 takes it; no other one is known to."""
        return {"timeout": object_limit_s(num_bytes)} if self.is_s3 else {}

    def _written(self, key: str, data: bytes) -> dict[str, Any]:
        """Return what the client of S3 is told of an object that it writes: the time for it, and what it is."""
        return {**self._within(len(data)), **content_type(key)} if self.is_s3 else {}

    def _list(self, prefix: str, *, is_deep: bool) -> dict[str, Any]:
        """Return what a store says of what lies below a prefix, or directly in it, by its name as the store has it.

        Where there is no such prefix it is empty. Asking first would hide a store's failures.
        """
        base = self.url(prefix.rstrip("/"))

        def find(fs: Any) -> dict[str, Any]:
            if self.is_s3:
                return list_below(fs, base, is_deep=is_deep)
            if not is_deep:
                return {str(name): {} for name in fs.ls(base, detail=False)}
            return find_files(base) if self.is_local else dict(fs.find(base, detail=True))

        try:
            return self.call(prefix, find, missing_is_error=False)
        except FileNotFoundError:
            return {}

    def _check_unchanged(self, stored: StoredObject, num_bytes: int, etag: str) -> None:
        if etag != stored.etag or num_bytes != stored.size:
            raise Conflict("the object was replaced since it was listed", self._subject(stored.key))

    def _subject(self, key: str) -> str:
        """Return what stands for an object in an error."""
        return key if self._names_objects else FOREIGN_OBJECT

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        """Let errors name an object, and the folder that it lies in, only where the names are ours."""
        try:
            yield
        except StorageError as error:
            if self._names_objects:
                raise
            if error.code == DISK_FULL:
                raise disk_full(self.root, FOREIGN_OBJECT) from None
            subject = FOREIGN_OBJECT if error.subject else ""  # of the store as a whole no name would be said
            raise type(error)(error.reason, subject, retryable=error.retryable, code=error.code) from None

    def call(self, key: str, action: Callable[[Any], T], *, missing_is_error: bool = True) -> T:
        """Run one store action; what goes wrong names the object only where its name is ours."""
        with self._naming(), one_object():
            return self._try(key, action, missing_is_error=missing_is_error)

    def _try(self, key: str, action: Callable[[Any], T], *, missing_is_error: bool) -> T:
        """Run one store action; transient failures of the whole object are tried again as the store's guard says."""
        guard = guard_of(self.root)
        started_s, is_refreshed = guard.now_s(), False
        for attempt in itertools.count(1):
            try:
                result = action(self.filesystem)
            except (FileNotFoundError, FileExistsError) as error:
                guard.note(is_answer=True)
                if missing_is_error and isinstance(error, FileNotFoundError):
                    raise StorageError(f"no such object in {self.root}", key, code=NO_OBJECT) from error
                raise
            except Exception as error:
                if is_expired(error) and not is_refreshed:
                    is_refreshed = True
                    self._forget_client()
                    continue
                lasting = lasting_error(error, self.root, key, is_local=self.is_local)
                if lasting is not None:
                    guard.note(is_answer=True)
                    raise lasting from error
                guard.note(is_answer=False)
                wait_s = guard.next_wait_s(attempt, started_s)
                if wait_s is None:
                    raise out_of_reach(error, self.root, key, attempt, is_s3=self.is_s3) from error
                logger.warning("store action failed (%s), try %d in %.1f s", type(error).__name__, attempt + 1, wait_s)
                time.sleep(wait_s)
            else:
                guard.note(is_answer=True)
                return result
        raise AssertionError("unreachable: the guard ends the tries")

    def _forget_client(self) -> None:
        """Make the next call open a new client, which reads renewed credentials.

        Where they were given they are read anew only if they can expire; where none were, the client looks for them.
        """
        if self._fs is not None:
            forget_clients(self._fs)
        self._fs = None
        if self._settings is not None and self._settings.session_token.get_secret_value():
            self._settings = self._settings.with_credentials_of(Settings().storage)


def canonical_json(value: Any) -> bytes:
    """Return a value as JSON bytes with sorted keys, for storing and for hashing."""
    return _CANONICAL.encode(value).encode()


def hash_json(value: Any, length: int = 16) -> str:
    """Return the first hex digits of the sha256 over a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value)).hexdigest()[:length]
