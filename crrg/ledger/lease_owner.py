"""Who holds a lease: a process, told from all others, and whether it is surely gone.

Where a store fails, the object of a lease may stay behind although its process lives, or be written although nothing
answered. Only that process knows: of leases that it took and gave up again it remembers the former alone.
"""

from __future__ import annotations

import os
import socket
import uuid
from pathlib import Path

import psutil

from crrg.config.base import FrozenConfig

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_START_FIELD = 18
"""Place of the start among the fields of ``/proc/<pid>/stat`` that follow the state (proc(5): field 22)."""
_held_tokens: set[str] = set()


class Owner(FrozenConfig):
    """Who holds a lease.

    Attributes:
        host: Host name.
        pid: Process id on that host.
        process_start_s: When the process started, seconds since the epoch by the host's clock.
        process_space: Where its id counts: boot of the machine and space of process ids; empty where the system does
            not say.
        process_tick: When it started by the machine's own count since its boot, which no change of the clock moves.
        token: Drawn once per lease, which tells two holders in one process apart.
    """

    host: str
    pid: int
    process_start_s: float
    token: str
    process_space: str = ""
    process_tick: str = ""

    def is_dead(self) -> bool:
        """Whether the holder is a process of this host that has ended; of other hosts nothing is known.

        Nor is it of another boot or container of a host of this name, which may be another machine. Of what this very
        process holds it is known: a lease that it gave up is dead although the process lives.
        """
        if self.host != socket.gethostname():
            return False
        is_given_up = self.pid == os.getpid() and self.token not in _held_tokens
        if self.process_space:
            has_ended = _process_tick(self.pid) != self.process_tick
            return self.process_space == _process_space() and (has_ended or is_given_up)
        try:
            process = psutil.Process(self.pid)
            is_same = abs(process.create_time() - self.process_start_s) < 1.0
            return not is_same or is_given_up or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True
        except psutil.AccessDenied:
            return False


def this_process() -> Owner:
    """Return this process as the owner of a new lease, until ``give_up``."""
    pid = os.getpid()
    owner = Owner(
        host=socket.gethostname(),
        pid=pid,
        process_start_s=psutil.Process().create_time(),
        process_space=_process_space(),
        process_tick=_process_tick(pid),
        token=uuid.uuid4().hex,
    )
    _held_tokens.add(owner.token)
    return owner


def give_up(owner: Owner) -> None:
    """Note that this process holds a lease no more, whatever became of its object; a second call does nothing."""
    _held_tokens.discard(owner.token)


def _process_space() -> str:
    """Return which boot of which machine, and which space of ids there, this process is in; empty off Linux."""
    try:
        return f"{_BOOT.read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _process_tick(pid: int) -> str:
    """Return the clock tick since boot at which a process started; empty where there is none, or only its remains."""
    try:
        # the name before it may hold spaces and parentheses
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return ""
    return "" if state in "ZX" else fields[_START_FIELD]
