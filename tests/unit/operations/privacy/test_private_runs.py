"""Runs that a private orchestrator recorded with ids of a patient go, with what hangs on them; all others stay."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from crrg.errors import StorageError
from crrg.operations.privacy import private_runs
from crrg.operations.privacy.private_runs import DATABASE, forget_private_runs
from crrg.storage import Storage
from tests.support.drawn_night import PSEUDONYMS

STUDY, OTHER = PSEUDONYMS.study("2.25.8.1"), PSEUDONYMS.study("2.25.8.2")
TABLES = """
pragma journal_mode = wal;
create table flow_run (id char(36) primary key, parameters json not null, run_count integer);
create table task_run (id char(36) primary key, flow_run_id char(36) references flow_run (id) on delete cascade);
create table log (id char(36) primary key, message text);
"""


@pytest.fixture
def root(tmp_path):
    root = Storage(str(tmp_path))
    (tmp_path / ".prefect").mkdir()
    with closing(sqlite3.connect(root.url(DATABASE), isolation_level=None)) as database:
        database.executescript(TABLES)
        for number, studies in enumerate(([STUDY, OTHER], [OTHER], [])):
            parameters = json.dumps({"config": {"reread_studies": studies}})
            database.execute("insert into flow_run values (?, ?, 1)", (str(number), parameters))
            database.execute("insert into task_run values (?, ?)", (f"t{number}", str(number)))
        database.execute("insert into log values ('1', ?)", (f"study {STUDY} is read again",))
    root.put(".prefect/storage/0", json.dumps([STUDY]).encode())
    root.put(".prefect/storage/1", json.dumps([OTHER]).encode())
    return root


def rows(root, table):
    with closing(sqlite3.connect(root.url(DATABASE))) as database:
        return [row[0] for row in database.execute(f"select id from {table} order by id")]


def test_records_with_an_id_go_and_leave_no_bytes(root):
    assert forget_private_runs(root, {STUDY, PSEUDONYMS.patient("P1")}) == 3
    assert (rows(root, "flow_run"), rows(root, "task_run"), rows(root, "log")) == (["1", "2"], ["t1", "t2"], [])
    held = [stored.key for stored in root.list_objects() if STUDY.encode() in root.get(stored.key)]
    assert held == []
    assert root.exists(".prefect/storage/1")
    assert forget_private_runs(root, {STUDY}) == 0


def test_records_that_somebody_writes_are_left_and_said(root, monkeypatch):
    monkeypatch.setattr(private_runs, "WAIT_S", 0.1)
    with closing(sqlite3.connect(root.url(DATABASE), isolation_level=None)) as database:
        database.execute("begin immediate")
        with pytest.raises(StorageError, match="in use or damaged") as error:
            forget_private_runs(root, {STUDY})
        assert error.value.retryable
        database.execute("rollback")
    assert forget_private_runs(root, {STUDY}) == 2


def test_a_root_without_private_orchestrator_has_none(tmp_path):
    assert forget_private_runs(Storage(str(tmp_path)), {STUDY}) == 0
