"""A holder is dead where its process has surely ended, or where that process itself gave the lease up."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from crrg.ledger import lease_owner
from crrg.ledger.lease_owner import Owner, _process_tick, give_up, this_process


def test_owner_is_dead_only_if_its_process_surely_is(monkeypatch):
    monkeypatch.setattr(lease_owner, "_held_tokens", {"t"})
    now = psutil.Process()
    host = socket.gethostname()
    assert not Owner(host=host, pid=os.getpid(), process_start_s=now.create_time(), token="t").is_dead()
    assert Owner(host=host, pid=os.getpid(), process_start_s=now.create_time(), token="of no lease").is_dead()
    assert Owner(host=host, pid=os.getpid(), process_start_s=now.create_time() - 100, token="t").is_dead()
    assert not Owner(host="elsewhere", pid=1, process_start_s=0.0, token="t").is_dead()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux says since when a process runs")
def test_a_holder_is_dead_once_its_process_ended_and_only_on_this_boot():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        owner = this_process().model_copy(update={"pid": process.pid, "process_tick": _process_tick(process.pid)})
        assert not owner.is_dead()
        process.kill()
        while process.poll() is None and _process_tick(process.pid):
            time.sleep(0.01)
        assert owner.is_dead()
    assert owner.is_dead()
    # a machine of the same name, or this one before it was started anew
    assert not owner.model_copy(update={"process_space": "elsewhere"}).is_dead()
    assert this_process().model_copy(update={"process_tick": "1"}).is_dead()


def test_what_this_process_gave_up_is_dead_although_it_lives(monkeypatch):
    held, given_up = this_process(), this_process()
    give_up(given_up)
    give_up(given_up)
    assert (held.is_dead(), given_up.is_dead()) == (False, True)
    # of a process of the same number on another machine, or in another container, nothing is known
    assert not given_up.model_copy(update={"host": "elsewhere"}).is_dead()
    if given_up.process_space:
        assert not given_up.model_copy(update={"process_space": "elsewhere"}).is_dead()
    give_up(held)
