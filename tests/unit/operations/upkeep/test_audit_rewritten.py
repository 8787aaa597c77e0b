"""The audit knows what nights name that were written again: other bytes are found, whoever wrote them again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from crrg.config.base import Settings
from crrg.data.privacy.deidentify import Pseudonyms
from crrg.ledger.audit import read_audit
from crrg.ledger.manifest import manifest_key, read_manifests
from crrg.operations.night import feed as night_feed
from crrg.operations.privacy.forget import forget
from crrg.operations.privacy.rekey import rekey
from crrg.operations.privacy.retention import expire_results
from crrg.operations.upkeep.audit import verify_audit
from crrg.storage import Storage
from tests.support.drawn_night import PSEUDONYMS, StandInDrafter, dicom_bytes, run_test_night
from tests.support.keys import KEY, NEW_KEY

FIRST, SECOND = "2026-11-20", "2026-11-21"
SETTINGS = Settings(hmac_key=KEY)  # type: ignore[arg-type]


@pytest.fixture
def inbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """An inbox of which a first night has read two patients."""
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)
    inbox, root = Storage(str(tmp_path / "inbox")), Storage(str(tmp_path / "root"))
    for number in (1, 2):
        inbox.put(f"{number}.dcm", dicom_bytes(number, study=f"{number}", instance=f"{number}", patient=f"P{number}"))
    run_test_night(inbox, root, StandInDrafter(), num_workers=0, date=FIRST)
    return inbox


def superseded(inbox: Storage, root: Storage) -> None:
    inbox.put("3.dcm", dicom_bytes(3, study="1", instance="3", patient="P1"))
    run_test_night(inbox, root, StandInDrafter(), num_workers=0, date=SECOND)


def forgotten(_inbox: Storage, root: Storage) -> None:
    forget([PSEUDONYMS.patient("P1")], root, SETTINGS, remove=True)


def expired(_inbox: Storage, root: Storage) -> None:
    expire_results(root, 1, with_newest=True, remove=True, today=date(2026, 11, 30))


def rekeyed(inbox: Storage, root: Storage) -> None:
    rekey(inbox.root, root, PSEUDONYMS, Pseudonyms(NEW_KEY.encode()), do=True)


@pytest.mark.parametrize("again", [superseded, forgotten, expired, rekeyed])
@pytest.mark.parametrize("kind", ["reports", "regions", "ledger", "quarantine", "index"])
def test_other_bytes_under_a_night_that_was_written_again_are_found(
    inbox: Storage, tmp_path: Path, again: Callable[[Storage, Storage], None], kind: str
):
    root = Storage(str(tmp_path / "root"))
    again(inbox, root)
    assert verify_audit(root).problems == ()
    manifest = read_manifests(root)[0]
    key, written = manifest_key(manifest.date, manifest.fencing), manifest.model_dump(mode="json")
    assert manifest.fencing > 1
    other = hashlib.sha256(b"other").hexdigest()
    if kind == "index":
        written["index_sha256"], named = other, manifest.index_key
    else:
        (file,) = [file for file in written["files"] if file["kind"] == kind]
        file["sha256"], named = other, file["key"]
    root.put_json(key, written)
    (problem,) = verify_audit(root).problems
    assert problem == f"night {FIRST}, commit {manifest.fencing}: {named} is not what was audited"


def test_a_night_that_was_written_again_has_an_entry_without_anybodys_id(inbox: Storage, tmp_path: Path):
    root = Storage(str(tmp_path / "root"))
    run = read_manifests(root)[0].run_id
    forgotten(inbox, root)
    entries = [entry for entry in read_audit(root) if entry.action == "rewrite"]
    assert [(entry.subject, entry.counts) for entry in entries] == [(f"{FIRST}/{run}", {"drafts": 1})]
    ids = {PSEUDONYMS.patient("P1"), PSEUDONYMS.study("2.25.8.1"), PSEUDONYMS.instance("2.25.9.1")}
    assert not any(each in entries[0].model_dump_json() for each in ids)
