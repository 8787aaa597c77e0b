"""A night over the real films in a SeaweedFS bucket, as ``crrg nightly`` would run it."""

from __future__ import annotations

import logging
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from benchmarks.real.inbox import FileEnd, InboxFile, put_files, read_ends
from crrg.config.base import Settings, StorageSettings
from crrg.config.references import BundleRef, NightSummary
from crrg.config.running import NightlyConfig
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.operations.demo import committed_drafts
from crrg.operations.night.steps import run_night
from crrg.storage import Storage
from deployments.services import start_object_store

logger = logging.getLogger(__name__)

BUCKET = "crrg-real"
DATE = "2026-01-01"
"""A fixed night: the films have no date, and a second ``make real`` then compares with the first."""


@dataclass(frozen=True)
class RealNight:
    """A committed night and a second run of it.

    Attributes:
        summary: The night.
        again: The same night once more, which must find nothing new.
        ends: What became of each object.
        review_page: Local copy of its review page.
        leaked_names: Keys of the root in which a source's file name stands; must be empty.
    """

    summary: NightSummary
    again: NightSummary
    ends: list[FileEnd]
    review_page: Path
    leaked_names: list[str]


@contextmanager
def object_store(folder: Path) -> Iterator[StorageSettings]:
    """Run an empty SeaweedFS with one bucket for as long as the block lasts; yield how to reach it."""
    shutil.rmtree(folder, ignore_errors=True)
    access_key, secret_key = secrets.token_hex(8), secrets.token_hex(16)
    service = start_object_store(folder, access_key=access_key, secret_key=secret_key, bucket=BUCKET)
    logger.info("object store: SeaweedFS at %s, bucket %s", service.url, BUCKET)
    try:
        yield StorageSettings(
            endpoint_url=service.url, access_key_id=SecretStr(access_key), secret_access_key=SecretStr(secret_key)
        )
    finally:
        service.stop(0)


def run_real_night(
    files: Sequence[InboxFile], bundle: BundleRef, storage: Storage, settings: Settings, store: StorageSettings
) -> RealNight:
    """Put films and bundle into the bucket, run the night there twice, and copy its results to the local root.

    Args:
        files: The inbox.
        bundle: What drafts; its bytes lie in the local root.
        storage: Local root; receives ``night/`` with documents and review page.
        settings: With the secret of the pseudonyms.
        store: How to reach the bucket.
    """
    inbox, root = Storage(f"s3://{BUCKET}/inbox", store), Storage(f"s3://{BUCKET}/root", store)
    put_files(files, inbox)
    for stored in storage.list_objects(bundle.prefix):
        root.put(stored.key, storage.get(stored.key))
    logger.info("bucket: %d films in the inbox, bundle %s", len(files), bundle.bundle_id)
    form = NightlyConfig(inbox=inbox.root, date=DATE, model=root.url(bundle.prefix), settle_s=0, shard_size=64)
    summary = run_night(form, root, settings)
    again = run_night(form, root, settings)
    pseudonyms = Pseudonyms(settings.pseudonym_key())
    ends = read_ends(files, inbox, root, pseudonyms, committed_drafts(root, DATE))
    names = {file.key.rsplit("/", 1)[-1].rsplit(".", 1)[0] for file in files}
    leaked = [stored.key for stored in root.list_objects() if any(name in stored.key for name in names)]
    return RealNight(summary, again, ends, _copy_results(summary, root, storage), leaked)


def unmet_counts(night: RealNight) -> list[str]:
    """Return one line per number of the night that does not add up; empty if all do."""
    summary, ends = night.summary, night.ends
    num_ended = summary.num_accepted + summary.num_quarantined + summary.num_pending
    checks = {
        "the night is committed": summary.status == "committed",
        f"inputs {summary.num_inputs} = {len(ends)} objects of the inbox": summary.num_inputs == len(ends),
        f"accepted + quarantined + pending = {num_ended}": num_ended == summary.num_inputs,
        "nothing is pending": summary.num_pending == 0,
        "each accepted object has a draft": sum(end.draft is not None for end in ends) == summary.num_accepted,
        "the reasons count each quarantined object once": sum(summary.reasons.values()) == summary.num_quarantined,
        "the share of failures is below the form's limit": not summary.exceeds_failure_rate,
        "a second run finds nothing new": night.again.status == "nothing_new",
        "no source name stands in a key": not night.leaked_names,
    }
    return [f"not so: {what}" for what, holds in checks.items() if not holds]


def _copy_results(summary: NightSummary, root: Storage, storage: Storage) -> Path:
    """Copy what the night published to ``night/`` of the local root; return the review page."""
    folder = Path(storage.url("night"))
    shutil.rmtree(folder, ignore_errors=True)
    run = summary.review_key.split("/review/", 1)[0]
    for stored in root.list_objects(run):
        storage.put(f"night/{stored.key.removeprefix(run).lstrip('/')}", root.get(stored.key))
    return folder / summary.review_key.removeprefix(f"{run}/")
