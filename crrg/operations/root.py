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
from crrg.errors import ConfigError
from crrg.local_files import check_folder
from crrg.storage import Storage

logger = logging.getLogger(__name__)

DEMO_KEY = "demo.key"
PREFECT_HOME = ".prefect"
"""Where the private orchestrator of commands on a root in a folder keeps its records."""


def open_root() -> tuple[Storage, Settings]:
    """Return the root's storage and the settings of this process; on a demo root they carry the demo's secret.

    What this process writes from now on is its account's alone, temporary files included: films are patients' data.
    What it reads keeps to the limits of its settings.

    Raises:
        ConfigError: The root is a file.
    """
    keep_to_owner()
    settings = Settings()
    put_in_force(settings)
    storage = Storage(settings.root, settings.storage)
    check_folder(storage.root, "root")
    if has_secret(settings) or not storage.is_local or not Path(storage.url(DEMO_KEY)).exists():
        return storage, settings
    key = Path(storage.url(DEMO_KEY)).read_text().strip()
    keep_out_of_logs((key,))
    return storage, settings.model_copy(update={"hmac_key": SecretStr(key)})


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
        ConfigError: The root is a file, or lies in a bucket, and what a demo there needs is not set.
    """
    keep_to_owner()
    settings = Settings()
    storage = Storage(settings.root, settings.storage)
    check_folder(storage.root, "root")
    if not storage.is_local:
        needed = {"CRRG_HMAC_KEY": has_secret(settings), "MLFLOW_TRACKING_URI": bool(settings.mlflow_tracking_uri)}
        if missing := " and ".join(name for name, is_set in needed.items() if not is_set):
            raise ConfigError(f"a demo on a bucket needs {missing}; set that, or give a folder (--root)", "root")
    if has_secret(settings) or not storage.is_local:
        return
    path = Path(storage.url(DEMO_KEY))
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))
    logger.info("demo root: its pseudonyms use a secret of their own in %s", path)


def overlap(one: Storage, other: Storage) -> bool:
    """Return whether one of two places is the other or lies within it."""
    first, second = (f"{place.root.rstrip('/')}/" for place in (one, other))
    return first.startswith(second) or second.startswith(first)


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
