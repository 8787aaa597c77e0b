from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from crrg.data.decoding.isolation import Isolation
from crrg.data.decoding.limits import DecoderLimits
from crrg.data.decoding.pool import decode_many, examine_child
from crrg.data.decoding.process import Child, Job
from crrg.data.dicom.codecs import TRANSFER_SYNTAXES
from crrg.errors import DicomError

ON_LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="these measures are Linux's")
PROBE = """
import os, resource, socket, sys
from crrg.data.decoding.isolation import give_up_rights, leave_network

def write():
    with open(sys.argv[1], "wb") as file:
        file.write(b"x")

isolation = give_up_rights(2**31, own_network=leave_network())
tried = []
for attempt in (socket.socket, lambda: os.execv("/bin/true", ["true"]), write):
    try:
        attempt()
        tried.append("done")
    except OSError as error:
        tried.append(type(error).__name__)
core = resource.getrlimit(resource.RLIMIT_CORE)
print(isolation.calls_refused, *tried, resource.getrlimit(resource.RLIMIT_NOFILE)[1], *core)
"""


@ON_LINUX
def test_a_process_that_gave_up_its_rights_has_no_socket_no_program_no_file(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(tmp_path / "x")], capture_output=True, text=True, check=True
    )
    words = done.stdout.split()
    if words[0] == "False":
        pytest.skip("this kernel lets no filter be set")
    assert words == ["True", "PermissionError", "PermissionError", "OSError", "64", "0", "0"]


def test_a_file_that_takes_more_processor_time_than_it_may_ends_its_process():
    endless = "from crrg.data.decoding.child import _limit_cpu\n_limit_cpu(1)\nwhile True: pass"
    done = subprocess.run([sys.executable, "-c", endless], check=False, timeout=60)
    assert done.returncode == -signal.SIGXCPU


def test_a_child_says_what_holds_and_decodes_every_syntax():
    report = examine_child()
    assert report.isolation is not None
    assert report.isolation.limits
    assert report.problems == dict.fromkeys(TRANSFER_SYNTAXES, "")
    assert len(TRANSFER_SYNTAXES) == 16


def test_a_child_that_only_takes_long_to_answer_is_called_late():
    report = examine_child(within_s=0.001)
    assert (report.isolation, report.is_late) == (None, True)
    assert not examine_child(DecoderLimits(max_memory_bytes=2**20)).is_late, "one that cannot start is not late"


def test_what_does_not_hold_is_said():
    isolation = Isolation(no_new_privileges=True, own_network=False, calls_refused=True, limits=True)
    assert isolation.has_no_network
    assert "NOT an empty network" in isolation.describe()
    assert not Isolation(no_new_privileges=True, own_network=False, calls_refused=False, limits=True).has_no_network


@pytest.mark.parametrize("answer", [b"\xff" * 64, b"\0\0\0\0\0\0\0\2{}" + bytes(8), b"\0\0\0\0\0\0\0\3!!!" + bytes(8)])
def test_a_child_that_answers_nonsense_costs_its_file(monkeypatch, answer):
    def say_nonsense(self, job, _image_size):
        self.jobs.append(Job(job.index, b"", tries=2))
        self.deadline_s = time.monotonic() + 30
        self.process.kill()
        self.process.wait()

    monkeypatch.setattr(Child, "give", say_nonsense)
    monkeypatch.setattr(Child, "_exactly", _reader_of(answer))
    (outcome,) = decode_many([b"x"], 64, 1, DecoderLimits())
    assert isinstance(outcome, DicomError)
    assert outcome.code == "DECODE.CRASH"


def _reader_of(answer: bytes):
    rest = bytearray(answer)

    def exactly(_child, size):
        taken = bytes(rest[:size])
        del rest[:size]
        return taken if len(taken) == size else None

    return exactly
