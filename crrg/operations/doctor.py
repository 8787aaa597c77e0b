"""Check what a night or a training will need on this machine and this root, before it needs it."""

from __future__ import annotations

import importlib.metadata
import logging
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from crrg.config.base import Settings
from crrg.data.codestream import MAX_PIXELS
from crrg.data.decoder_pool import examine_child
from crrg.data.decoder_process import DecoderLimits
from crrg.data.dicom_codecs import check_syntaxes
from crrg.data.dicom_structure import MAX_DEPTH, MAX_ELEMENTS, MAX_FILE_BYTES
from crrg.errors import Conflict, CrrgError
from crrg.registry.aliases import CHAMPION, recorded_alias, version_ref
from crrg.storage import Storage
from crrg.tracking import ModelRegistry

logger = logging.getLogger(__name__)

NUM_RACERS = 8
_RENEWED = b"renewed"
MAX_CLOCK_SKEW_S = 900.0
"""S3 refuses requests whose time is further off; nights go by the store's clock alone."""
SHOWN_PACKAGES = ("crrg", "prefect", "mlflow", "torch", "transformers", "pydicom", "pyarrow", "s3fs")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: What.
        is_good: Whether it is as it should be.
        detail: What was found, and the way out where it is not good.
    """

    name: str
    is_good: bool
    detail: str


def examine(storage: Storage, settings: Settings) -> list[Finding]:
    """Look at versions, store, secret and registry; nothing is raised and nothing is left behind."""
    versions = ", ".join(f"{name} {_version(name)}" for name in SHOWN_PACKAGES)
    return [
        Finding("versions", True, versions),
        _store(storage),
        _leases(storage),
        _secret(settings),
        _champion(storage, settings),
        *_decoders(),
    ]


def _store(storage: Storage) -> Finding:
    """Race several writers for one object: exactly one may win, or two nights could both commit."""
    key = f"spool/doctor-{uuid.uuid4().hex}"
    try:
        num_winners = _winners(storage, key)
        storage.discard(key)
    except CrrgError as error:
        return Finding("store", False, str(error))
    detail = f"{storage.root}: {num_winners} of {NUM_RACERS} conditional writers won, 1 is right"
    return Finding("store", num_winners == 1, detail)


def _leases(storage: Storage) -> Finding:
    """Do on a lease's own place what a holder does: win it alone, renew it, read it back with the store's time."""
    key = f"leases/clock/doctor-{uuid.uuid4().hex}"
    try:
        num_winners = _winners(storage, key)
        storage.put(key, _RENEWED)
        is_renewed = storage.get(key) == _RENEWED
        stamps = [stored.modified_s for stored in storage.list_objects("leases/clock") if stored.key == key]
        is_gone = storage.discard(key)
    except CrrgError as error:
        return Finding("leases", False, f"no night can be held: {error}")
    if num_winners != 1 or not is_renewed or not stamps:
        return Finding(
            "leases",
            False,
            f"{num_winners} of {NUM_RACERS} took one lease (1 is right), renewed: {is_renewed}, listed: {bool(stamps)};"
            " two nights could run at once: use a store with conditional writes and consistent listings",
        )
    ahead_s = time.time() - stamps[0]
    removed = "removed" if is_gone else "left to crrg gc, since this identity may not delete"
    detail = f"one holder of {NUM_RACERS}, renewed, {removed}; this clock is {ahead_s:+.0f} s beside the store's"
    return Finding("leases", abs(ahead_s) < MAX_CLOCK_SKEW_S, detail)


def _winners(storage: Storage, key: str) -> int:
    """Return how many of several conditional writers wrote an object."""

    def race(number: int) -> bool:
        try:
            storage.put_if_absent(key, str(number).encode())
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(NUM_RACERS) as racers:
        return sum(racers.map(race, range(NUM_RACERS)))


def _secret(settings: Settings) -> Finding:
    try:
        num_bytes = len(settings.pseudonym_key())
    except CrrgError as error:
        return Finding("pseudonym key", False, str(error))
    return Finding("pseudonym key", True, f"{num_bytes} bytes")


def _champion(storage: Storage, settings: Settings) -> Finding:
    try:
        registry = ModelRegistry(settings, storage)
        version = registry.aliases().get(CHAMPION) if registry.exists() else None
        recorded = recorded_alias(storage, CHAMPION)
        if version is None:
            return Finding(
                "champion", recorded is None, "no version has the alias; crrg retrain or crrg promote sets it"
            )
        agrees = recorded is not None and recorded.bundle_id == version_ref(registry, version).bundle_id
    except CrrgError as error:
        return Finding("champion", False, str(error))
    detail = f"version {version}" + ("" if agrees else "; the record under models/aliases/ names another bundle")
    return Finding("champion", agrees, detail)


def _decoders() -> list[Finding]:
    """Start a decoding process as a run does, and decode a sample of every transfer syntax in it."""
    limits = DecoderLimits()
    report = examine_child(limits)
    if report.isolation is None:
        return [Finding("decoder process", False, "it does not start; films could not be read")]
    allowed = (
        f"{limits.max_memory_bytes // 2**20} MiB, {limits.cpu_limit_s} s of processor and {limits.timeout_s:g} s per "
        f"file, new after {limits.files_per_child} files; files up to {MAX_FILE_BYTES // 2**20} MiB, {MAX_PIXELS:,} "
        f"pixels, 1 frame, depth {MAX_DEPTH}, {MAX_ELEMENTS:,} elements"
    )
    findings = [
        Finding("decoder process", report.isolation.has_no_network, report.isolation.describe()),
        Finding("decoder limits", report.isolation.limits, allowed),
    ]
    for check in check_syntaxes():
        problem = report.problems.get(check.syntax.uid, "not tried")
        detail = f"{check.syntax.uid}: {check.library}" + (f"; {problem}" if problem else "")
        findings.append(Finding(f"decoder of {check.syntax.name}", not problem, detail))
    return findings


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
