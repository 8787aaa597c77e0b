"""What a person reads of commands about what was written before: dry runs change nothing, and a terminal is asked."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from crrg.cli.main import app
from crrg.ledger.ledger import ledger_rows
from crrg.ledger.manifest import read_manifests
from crrg.operations.night import feed as night_feed
from crrg.storage import Storage
from tests.support.drawn_night import StandInDrafter, png_bytes, run_test_night
from tests.support.keys import KEY, NEW_KEY


@pytest.fixture
def places(tmp_path, monkeypatch):
    monkeypatch.setattr(night_feed, "default_num_workers", lambda: 0)
    monkeypatch.setenv("CRRG_HMAC_KEY", KEY)
    inbox, root = Storage(str(tmp_path / "inbox")), Storage(str(tmp_path / "root"))
    for number in range(2):
        inbox.put(f"{number}.png", png_bytes(number))
    run_test_night(inbox, root, StandInDrafter(), date="2020-01-01", num_workers=0)
    return inbox, root


def said(root, *arguments, code=0):
    done = CliRunner().invoke(app, [*arguments, "--root", root.root])
    assert done.exit_code == code, done.output
    return done.output


def test_forget(places):
    _, root = places
    (manifest,) = read_manifests(root)
    first, other = ledger_rows(root, manifest)
    patient = first.patient_id
    before = {stored.key for stored in root.list_objects()}
    assert "1 patients, 1 studies, 1 images would be removed" in said(root, "forget", patient, "--dry-run")
    assert {stored.key for stored in root.list_objects()} == before
    shown = said(root, "forget", patient)
    assert "1 patients, 1 studies, 1 images removed" in shown
    assert "night 2020-01-01 commit 1: 1 drafts" in shown
    for name in (patient, first.study_id, first.key_hmac):
        assert "already forgotten: nothing is left" in said(root, "forget", name)
    assert "1 of these ids were forgotten before" in said(root, "forget", first.study_id, other.study_id, "--dry-run")
    assert "nothing belongs to this id" in said(root, "forget", "abc", code=2)


def test_retention(places):
    _, root = places
    shown = said(root, "gc", "--results-older-than", "30", "--dry-run")
    assert "0 nights, 0 drafts to remove" in shown
    assert "1 old nights are kept: they hold the newest drafts of 2 studies; --with-newest removes them too" in shown
    shown = said(root, "gc", "--results-older-than", "30", "--with-newest")
    assert "1 nights, 2 drafts removed" in shown
    assert "for 2 studies these are the newest drafts" in shown
    assert "1 or more days" in said(root, "gc", "--results-older-than", "0", code=2)


def test_backup_and_restore(places, tmp_path):
    _, root = places
    digest = said(root, "digest")
    assert "copied now" in said(root, "backup", str(tmp_path / "copy"))
    other = Storage(str(tmp_path / "other"))
    assert "copied now" in said(other, "restore", str(tmp_path / "copy"))
    assert said(other, "digest") == digest


def test_rekey(places, monkeypatch):
    inbox, root = places
    assert "CRRG_OLD_HMAC_KEY" in said(root, "rekey", "--inbox", inbox.root, code=2)
    monkeypatch.setenv("CRRG_OLD_HMAC_KEY", KEY)
    monkeypatch.setenv("CRRG_HMAC_KEY", NEW_KEY)
    inbox.delete("1.png")
    shown = said(root, "rekey", "--inbox", inbox.root, "--dry-run")
    assert "1 nights with 2 objects would be rewritten" in shown
    assert "1 objects are not in the inboxes as they were; --drop-missing leaves them out" in shown
    assert "--drop-missing" in said(root, "rekey", "--inbox", inbox.root, code=2)
    assert "rewritten" in said(root, "rekey", "--inbox", inbox.root, "--drop-missing")


@pytest.mark.parametrize(("answer", "code", "num_left"), [("n", 1, 1), ("y", 0, 0)])
def test_a_terminal_is_asked_before_anything_goes(places, answer, code, num_left):
    _, root = places
    left_over = "results/date=2020-01-01/run=gone"
    root.put(f"{left_over}/reports-0.parquet", b"left over")
    asking, answering = pty.openpty()
    os.write(asking, f"{answer}\n".encode())
    script = "from crrg.cli import app; app()"
    command = [sys.executable, "-c", script, "gc", "--min-age-h", "0", "--root", root.root]
    done = subprocess.run(command, stdin=answering, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, len(root.list_objects(left_over))) == (code, num_left), done.stderr
    assert "Remove for good what no commit names" in done.stderr
