"""How a process ends: its exit codes; and SIGTERM ends it with 143 within half a minute, wherever it meets it.

A handler that raises does so wherever the main thread happens to be. Inside the callback of a weak reference or a
``__del__`` Python reports the exception and goes on as if nothing had been asked. That is no rare moment: a long call
into a library ends with the release of what it held. So a termination that was dropped is repeated; and where what is
unwound after it takes too long (a server that does not end, a thread that waits), the process ends all the same, since
everything here may be ended anywhere without loss.

Source: ``sys.unraisablehook`` and ``signal`` of Python's documentation.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from typing import NoReturn

logger = logging.getLogger(__name__)

EXIT_NOT_DONE, EXIT_USAGE, EXIT_TOO_MANY_QUARANTINED, EXIT_SIGTERM = 1, 2, 3, 143
"""How a command ends that is not simply done (``docs/operations.md``)."""
GRACE_S = 25.0
"""Platforms that stop a process kill it after 30 seconds."""
AGAIN_AFTER_S = 0.1
_report = sys.__unraisablehook__
_raised_by_handlers: set[type[BaseException]] = set()


def end_on_sigterm() -> None:
    """Let SIGTERM raise ``SystemExit(143)`` in the main thread of this process, also where Python drops it at first."""
    repeat_dropped_terminations()
    signal.signal(signal.SIGTERM, _exit)


def repeat_dropped_terminations(*raised: type[BaseException]) -> None:
    """Have every termination that Python drops followed by another SIGTERM, shortly after.

    Args:
        raised: What handlers of SIGTERM raise here beside ``SystemExit(143)``.
    """
    _raised_by_handlers.update(raised)
    sys.unraisablehook = _notice_dropped


def end_within(grace_s: float = GRACE_S) -> threading.Timer:
    """End this process and its children with 143 after a grace, whatever they do then; return what calls it off."""
    timer = threading.Timer(grace_s, _end_now)
    timer.daemon = True
    timer.start()
    return timer


def _exit(_number: int, _frame: object) -> NoReturn:
    raise SystemExit(EXIT_SIGTERM)


def _notice_dropped(dropped: sys.UnraisableHookArgs) -> None:
    error = dropped.exc_value
    if isinstance(error, tuple(_raised_by_handlers)) or (isinstance(error, SystemExit) and error.code == EXIT_SIGTERM):
        # from a thread: while this hook runs the signal would be dropped again
        threading.Thread(target=_terminate_again, name="terminate-again", daemon=True).start()
    else:
        _report(dropped)


def _terminate_again() -> None:
    time.sleep(AGAIN_AFTER_S)
    os.kill(os.getpid(), signal.SIGTERM)


def _end_now() -> None:
    import psutil

    logger.warning("stopped before everything had ended by itself; finished work is kept, run it again to continue")
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
    os._exit(EXIT_SIGTERM)
