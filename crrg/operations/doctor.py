"""Check what a night or a training will need on this machine and this root, before it needs it."""

from __future__ import annotations

import importlib.metadata
import logging
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
        _secret(settings),
        _champion(storage, settings),
        *_decoders(),
    ]


def _store(storage: Storage) -> Finding:
    """Race several writers for one object: exactly one may win, or two nights could both commit."""
    key = f"spool/doctor-{uuid.uuid4().hex}"

    def race(number: int) -> bool:
        try:
            storage.put_if_absent(key, str(number).encode())
        except Conflict:
            return False
        return True

    try:
        with ThreadPoolExecutor(NUM_RACERS) as racers:
            num_winners = sum(racers.map(race, range(NUM_RACERS)))
        storage.discard(key)
    except CrrgError as error:
        return Finding("store", False, str(error))
    detail = f"{storage.root}: {num_winners} of {NUM_RACERS} conditional writers won, 1 is right"
    return Finding("store", num_winners == 1, detail)


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
