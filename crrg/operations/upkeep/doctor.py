"""Check what a night or a training will need on this machine and this root, before it needs it."""

from __future__ import annotations

import importlib.metadata
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from crrg.config.base import Settings
from crrg.config.data import DEFAULT_IMAGE_SIZE
from crrg.config.secret_key import is_readable_by_others
from crrg.data.archives.chest_imagenome import MAX_SCENE_GRAPH_BYTES
from crrg.data.archives.openi_xml import MAX_XML_BYTES
from crrg.data.archives.tables import MAX_TABLE_BYTES
from crrg.data.decoding.limits import in_force
from crrg.data.decoding.pool import EXAMINATION_S, examine_child
from crrg.data.dicom.codecs import check_syntaxes
from crrg.device import failures_named, resolve_device
from crrg.errors import Conflict, CrrgError, DeviceError
from crrg.local_files import free_bytes
from crrg.operations.night.checks import ROOM_PER_FILM
from crrg.registry.aliases import CHAMPION, recorded_alias, version_ref
from crrg.storage import Storage
from crrg.tracking.models import ModelRegistry

NUM_RACERS = 8
_RENEWED = b"renewed"
_SEE_STORE = "check the root (CRRG_ROOT, --root), CRRG_S3_ENDPOINT, the credentials and their policy"
_OTHER_STORE = "use a store with conditional writes and consistent listings"
MAX_CLOCK_SKEW_S = 900.0
"""S3 refuses requests whose time is further off; nights go by the store's clock alone."""
CONTROL_GROUP = Path("/sys/fs/cgroup")
ROOM_FOR_FILMS = 1000
"""A disk that has no room for so many drafts at the usual size of pictures is as good as full."""
SHOWN_PACKAGES = ("crrg", "prefect", "mlflow", "torch", "transformers", "pydicom", "pyarrow", "s3fs")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: What.
        is_good: Whether it is as it should be.
        detail: What was found.
        way_out: What to do where it is not good; else empty.
    """

    name: str
    is_good: bool
    detail: str
    way_out: str = ""

    @property
    def said(self) -> str:
        """What a person reads: what was found and, where it is not good, the way out."""
        return f"{self.detail}; {self.way_out}" if self.way_out else self.detail


def examine(storage: Storage, settings: Settings) -> list[Finding]:
    """Look at versions, store, disk, device, memory, secret, registry, decoders; raises nothing, leaves nothing."""
    return [
        _versions(),
        _store(storage),
        _leases(storage),
        _disk(storage),
        _device(),
        _memory(settings),
        _secret(settings),
        _champion(storage, settings),
        *_decoders(),
    ]


def _finding(name: str, is_good: bool, detail: str, way_out: str) -> Finding:
    return Finding(name, is_good, detail, "" if is_good else way_out)


def _versions() -> Finding:
    versions = {name: _version(name) for name in SHOWN_PACKAGES}
    detail = ", ".join(f"{name} {version or 'MISSING'}" for name, version in versions.items())
    return _finding("versions", all(versions.values()), detail, "`make env` installs the locked packages")


def _store(storage: Storage) -> Finding:
    """Race several writers for one object: exactly one may win, or two nights could both commit."""
    key = f"spool/doctor-{uuid.uuid4().hex}"
    try:
        num_winners = _winners(storage, key)
        storage.discard(key)
    except CrrgError as error:
        return Finding("store", False, str(error), _SEE_STORE)
    detail = f"{storage.root}: {num_winners} of {NUM_RACERS} conditional writers won, 1 is right"
    return _finding("store", num_winners == 1, detail, f"two nights could both commit: {_OTHER_STORE}")


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
        return Finding("leases", False, f"no night can be held: {error}", _SEE_STORE)
    if num_winners != 1 or not is_renewed or not stamps:
        return Finding(
            "leases",
            False,
            f"{num_winners} of {NUM_RACERS} took one lease (1 is right), renewed: {is_renewed}, listed: {bool(stamps)}",
            f"two nights could run at once: {_OTHER_STORE}",
        )
    ahead_s = time.time() - stamps[0]
    removed = "removed" if is_gone else "left to crrg gc, since this identity may not delete"
    detail = f"one holder of {NUM_RACERS}, renewed, {removed}; this clock is {ahead_s:+.0f} s beside the store's"
    return _finding("leases", abs(ahead_s) < MAX_CLOCK_SKEW_S, detail, "set the clock of this machine (NTP)")


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


def _disk(storage: Storage) -> Finding:
    """Look for room where results and where temporary files go; a bucket does not say."""
    needed = ROOM_FOR_FILMS * (DEFAULT_IMAGE_SIZE**2 + ROOM_PER_FILM)
    places = (*([storage.root] if storage.is_local else []), tempfile.gettempdir())
    try:
        free = {place: free_bytes(place) for place in places}
    except OSError as error:
        return Finding(
            "disk", False, f"free space is unknown: {error.strerror}", "check the folder of the root and its owner"
        )
    detail = ", ".join(f"{room / 1e9:.1f} GB free in {place}" for place, room in free.items())
    way_out = f"a night of {ROOM_FOR_FILMS} films needs {needed / 1e9:.1f} GB: make room, or set CRRG_ROOT and TMPDIR"
    return _finding("disk", min(free.values()) >= needed, detail, way_out)


def _device() -> Finding:
    """Compute something where `auto` would; a GPU of the machine that torch does not see would be left idle."""
    try:
        device = resolve_device("auto")
        with failures_named("it has no free memory; another program is using it"):
            float(torch.ones(8, 8, device=device).sum())
    except (DeviceError, RuntimeError) as error:
        return Finding(
            "device",
            False,
            str(error).splitlines()[0],
            "check nvidia-smi, stop what is using the GPU, or use --device cpu",
        )
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        name = torch.cuda.get_device_name(device)
        return Finding("device", True, f"cuda: {name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free")
    num_gpus = _num_gpus_of_machine()
    detail = "cpu" + (f", though this machine has {num_gpus} GPUs that torch does not see" if num_gpus else "")
    way_out = "install a driver and a torch that fit each other (python -m torch.utils.collect_env says which)"
    return _finding("device", not num_gpus, detail, way_out)


def _memory(settings: Settings) -> Finding:
    """Compare the budget of a process with what the machine, or the container, has left."""
    free_mib = _free_memory() // 2**20
    if not settings.memory_mib:
        return Finding("memory", True, f"{free_mib:,} MiB free, no budget of a process")
    detail = f"{free_mib:,} MiB free, at most {settings.memory_mib:,} MiB for a process"
    way_out = "set CRRG_MEMORY_MIB lower, or stop what is using the memory"
    return _finding("memory", settings.memory_mib <= free_mib, detail, way_out)


def _free_memory() -> int:
    """Return the bytes that can still be taken on this machine and, where it sets a limit, in this control group."""
    free = int(psutil.virtual_memory().available)
    with suppress(OSError, ValueError):  # no limit is the word max
        limit, used = (int((CONTROL_GROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        return min(free, max(0, limit - used))
    return free


def _num_gpus_of_machine() -> int:
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def _secret(settings: Settings) -> Finding:
    try:
        num_bytes = len(settings.pseudonym_key())
    except CrrgError as error:
        way_out = "without it only crrg demo and crrg phantom run, and commands on a root that crrg demo made"
        return Finding("pseudonym key", False, str(error), way_out)
    if is_readable_by_others(settings.hmac_key_file):
        way_out = "chmod 400 the file, and give it to the account that runs this"
        return Finding("pseudonym key", False, "other accounts can read the file of the secret", way_out)
    return Finding("pseudonym key", True, f"{num_bytes} bytes")


def _champion(storage: Storage, settings: Settings) -> Finding:
    try:
        registry = ModelRegistry(settings, storage)
        version = registry.aliases().get(CHAMPION) if registry.exists() else None
        recorded = recorded_alias(storage, CHAMPION)
        if version is None:
            if recorded is None:
                return Finding("champion", True, "no version has the alias yet; crrg retrain or crrg promote sets it")
            detail = "no version has the alias, though one had it when it was last resolved"
            return Finding("champion", False, detail, "crrg promote VERSION sets it")
        agrees = recorded is not None and recorded.bundle_id == version_ref(registry, version).bundle_id
    except CrrgError as error:
        return Finding("champion", False, str(error), "check MLFLOW_TRACKING_URI and the server that it names")
    detail = f"version {version}" + (
        "" if agrees else "; the record under models/aliases/ is missing or names another bundle"
    )
    way_out = f"crrg promote {version} records it, and so does the next night"
    return _finding("champion", agrees, detail, way_out)


def _decoders() -> list[Finding]:
    """Start a decoding process as a run does, and decode a sample of every transfer syntax in it."""
    limits, inputs = in_force.decoder, in_force.inputs
    report = examine_child(limits)
    if report.is_late:
        detail = f"it does not answer within {EXAMINATION_S:g} s; films would be refused as DECODE.TIMEOUT"
        return [Finding("decoder process", False, detail, "check what keeps this machine busy or short of memory")]
    if report.isolation is None:
        way_out = (
            f"let this account start processes (ulimit -u) with {limits.max_memory_bytes // 2**20} MiB of "
            "address space (ulimit -v, CRRG_DECODER_MEMORY_MIB)"
        )
        return [Finding("decoder process", False, "it does not start; films could not be read", way_out)]
    allowed = (
        f"{limits.max_memory_bytes // 2**20} MiB, {limits.cpu_limit_s} s of processor and {limits.timeout_s:g} s per "
        f"file, new after {limits.files_per_child} files; files up to {inputs.max_file_bytes // 2**20} MiB, "
        f"{inputs.max_pixels:,} pixels, 1 frame, depth {inputs.max_depth}, {inputs.max_elements:,} elements, "
        f"{inputs.max_inflated_bytes // 2**20} MiB inflated; reports up to {inputs.max_report_characters:,} "
        f"characters, as XML {MAX_XML_BYTES // 2**20} MiB, scene graphs {MAX_SCENE_GRAPH_BYTES // 2**20} MiB, tables "
        f"{MAX_TABLE_BYTES // 2**20} MiB"
    )
    findings = [
        _finding(
            "decoder process",
            report.isolation.has_no_network,
            report.isolation.describe(),
            "let the container use seccomp or user namespaces, or give the machine no network but the store's",
        ),
        _finding("decoder limits", report.isolation.limits, allowed, "run on a system with setrlimit, such as Linux"),
    ]
    for check in check_syntaxes():
        problem = report.problems.get(check.syntax.uid, "not tried")
        detail = f"{check.syntax.uid}: {check.library}" + (f"; {problem}" if problem else "")
        way_out = "`make env` installs the locked codecs"
        findings.append(_finding(f"decoder of {check.syntax.name}", not problem, detail, way_out))
    return findings


def _version(name: str) -> str:
    """Return the installed version of a package; empty where there is none."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
