"""Open the root of this process, with the secret of its pseudonyms.

A demo root keeps a secret of its own in ``demo.key``; a secret of the environment wins over it, and no other root ever
uses it.
"""

from __future__ import annotations

import logging
import os
import resource
import secrets
from pathlib import Path

from pydantic import SecretStr

from crrg.config.base import Settings
from crrg.config.redaction import keep_out_of_logs
from crrg.data.decoding.limits import DecoderLimits, InputLimits, in_force
from crrg.errors import ConfigError, Conflict, StorageError
from crrg.local_files import check_access, check_disk, check_folder
from crrg.retries import ACCESS_DENIED
from crrg.storage import Storage

logger = logging.getLogger(__name__)

DEMO_KEY = "demo.key"
PREFECT_HOME = ".prefect"
"""Where the private orchestrator of commands on a root in a folder keeps its records."""
ROOM_FOR_ORCHESTRATOR = 16 * 2**20
"""Bytes that its records take at first, with room to spare: on a full disk it would not start, nor say why."""


def open_root(*, must_exist: bool = False) -> tuple[Storage, Settings]:
    """Return the root's storage and the settings of this process; on a demo root they carry the demo's secret.

    What this process writes from now on is its account's alone, temporary files included: films are patients' data.
    What it reads keeps to the limits of its settings.

    Args:
        must_exist: Whether a root that is not there is refused, as one that is mistyped; else it is made when it is
            written to.

    Raises:
        ConfigError: The root is a file, may not be read, or is not there though it must be.
        StorageError: It must be there, and its store is out of reach.
    """
    keep_to_owner()
    settings = Settings()
    put_in_force(settings)
    storage = Storage(settings.root, settings.storage)
    check_folder(storage.root, "root")
    if storage.is_local:
        check_access(storage.root, "root")
    if must_exist and not _is_there(storage):
        raise _no_root(storage)
    if has_secret(settings) or not storage.is_local or not Path(storage.url(DEMO_KEY)).exists():
        return storage, settings
    key = Path(storage.url(DEMO_KEY)).read_text().strip()
    keep_out_of_logs((key,))
    return storage, settings.model_copy(update={"hmac_key": SecretStr(key)})


def check_ready(*, needs_root: bool, needs_secret: bool) -> None:
    """Check what a run needs of its root before an orchestrator is started for it, and leave nothing behind.

    Args:
        needs_root: Whether it can do nothing in a root where nothing lies.
        needs_secret: Whether it makes pseudonyms.

    Raises:
        ConfigError: A setting is wrong, the root may not be written, holds nothing, or there is no secret.
        StorageError: The root's store is out of reach, or its disk is full (code ``DISK.FULL``).
    """
    storage, settings = open_root(must_exist=needs_root)
    if storage.is_local:
        check_access(storage.root, "root", write=True)
        if needs_root and set(storage.list_folder()) <= {PREFECT_HOME}:
            raise _no_root(storage)
        if not settings.prefect_api_url:
            check_disk(storage.root, "", ROOM_FOR_ORCHESTRATOR)
    if needs_secret:
        settings.pseudonym_key()


def _is_there(storage: Storage) -> bool:
    """Return whether a root is there: a folder, or in a bucket anything below its prefix."""
    if storage.is_local:
        return os.path.isdir(storage.root)
    try:
        return bool(storage.list_folder())
    except StorageError as error:
        if error.code != ACCESS_DENIED:
            raise
        return True  # the identity of a job may list folders of the root only


def _no_root(storage: Storage) -> ConfigError:
    reason = f"there is no root at {storage.root}; check --root and CRRG_ROOT (crrg demo and crrg ingest make one)"
    return ConfigError(reason, "root")


def keep_to_owner() -> None:
    """Let what this process and its children write from now on be their account's alone, and their memory nobody's.

    What a crash leaves behind goes where the machine says, which may be a folder that others read.
    """
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def put_in_force(settings: Settings) -> None:
    """Let what this process and its decoders read and take be within the limits of its settings from now on."""
    inputs = InputLimits(
        max_file_bytes=settings.max_file_mib * 2**20,
        max_pixels=settings.max_pixels,
        max_depth=settings.max_sequence_depth,
        max_elements=settings.max_elements,
        max_report_characters=settings.max_report_characters,
    )
    in_force.decoder = DecoderLimits(
        max_memory_bytes=settings.decoder_memory_mib * 2**20,
        cpu_limit_s=settings.decoder_cpu_s,
        timeout_s=settings.decoder_timeout_s,
        inputs=inputs,
    )
    if settings.memory_mib:
        # not the address space, of which a GPU's libraries take much without using it
        resource.setrlimit(
            resource.RLIMIT_DATA, (settings.memory_mib * 2**20, resource.getrlimit(resource.RLIMIT_DATA)[1])
        )


def make_demo_root() -> None:
    """Give the root a demo secret, readable by its owner only, unless it or the environment has one.

    Raises:
        ConfigError: The root is a file, may not be written, or lies in a bucket, and what a demo there needs is not
            set.
        StorageError: Its disk is full (code ``DISK.FULL``).
    """
    keep_to_owner()
    settings = Settings()
    storage = Storage(settings.root, settings.storage)
    check_folder(storage.root, "root")
    if storage.is_local:
        check_access(storage.root, "root", write=True)
    else:
        needed = {"CRRG_HMAC_KEY": has_secret(settings), "MLFLOW_TRACKING_URI": bool(settings.mlflow_tracking_uri)}
        if missing := " and ".join(name for name, is_set in needed.items() if not is_set):
            raise ConfigError(f"a demo on a bucket needs {missing}; set that, or give a folder (--root)", "root")
    if has_secret(settings) or not storage.is_local or storage.exists(DEMO_KEY):
        return
    try:
        storage.put_if_absent(DEMO_KEY, secrets.token_hex(32).encode())
    except Conflict:
        return
    logger.info("demo root: its pseudonyms use a secret of their own in %s", storage.url(DEMO_KEY))


def overlap(one: Storage, other: Storage) -> bool:
    """Return whether one of two places is the other or lies within it, links followed."""
    return _lies_within(one, other) or _lies_within(other, one)


def check_outside(root: Storage, place: Storage, subject: str) -> None:
    """Refuse to read a place that holds the root: what is written there would be read as an input.

    Raises:
        ConfigError: It does.
    """
    if _lies_within(root, place):
        raise ConfigError(
            "it contains the root, so that the program's own output would be read as films; "
            "give another --root, or a folder that contains only the films",
            subject,
        )


def check_not_in_root(root: Storage, out: Storage, subject: str) -> None:
    """Refuse to write what names files of a source into the root, which holds pseudonyms alone.

    Raises:
        ConfigError: The place is the root or lies within it.
    """
    if _lies_within(out, root):
        raise ConfigError(
            "it lies within the root, which holds pseudonyms alone, while results here go by the names of the files; "
            "give a folder elsewhere",
            subject,
        )


def _lies_within(inner: Storage, outer: Storage) -> bool:
    """Return whether a place is another one or lies within it, links followed."""
    first, second = (os.path.realpath(each.root) if each.is_local else each.root for each in (inner, outer))
    return f"{first.rstrip('/')}/".startswith(f"{second.rstrip('/')}/")


def has_secret(settings: Settings) -> bool:
    """Return whether the environment or a file gives a secret."""
    return settings.hmac_key_file is not None or bool(settings.hmac_key.get_secret_value())
