"""SIGTERM during a night."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

from crrg.operations.night.signals import sigterm_noticed
from crrg.termination import EXIT_SIGTERM

SLOW = """
import os, signal, sys, time
from crrg.operations.night.signals import sigterm_noticed
with sigterm_noticed(lambda: print("given back", flush=True), grace_s=0.2):
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(30)
"""


def test_signal_is_noticed_and_the_old_handler_comes_back():
    before = signal.getsignal(signal.SIGTERM)
    given_back = []
    with sigterm_noticed(lambda: given_back.append(1), grace_s=60) as is_terminated:
        assert not is_terminated.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        assert is_terminated.wait(5)
    assert signal.getsignal(signal.SIGTERM) == before
    assert given_back == []


def test_process_that_does_not_come_to_its_next_look_gives_back_and_ends():
    done = subprocess.run([sys.executable, "-c", SLOW], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (EXIT_SIGTERM, "given back\n")


def test_other_threads_change_nothing():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def run() -> None:
        with sigterm_noticed(lambda: None) as is_terminated:
            seen.append((is_terminated.is_set(), signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [(False, before)]
