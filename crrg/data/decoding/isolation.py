"""What the decoding process gives up before it sees a foreign file: network, new programs, files, memory.

Uses what the kernel offers to an ordinary process and says what of it took effect, so that ``crrg doctor`` can print
it. Where a measure is not allowed here (an old kernel, another system), the others still hold. Knows no film.

Source: Linux prctl(2), seccomp(2), unshare(2), setrlimit(2).
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct
import sys
from dataclasses import dataclass

_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 22, 38
_SECCOMP_MODE_FILTER = 2
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_MAX_OPEN_FILES = 64
_LOAD, _JUMP_IF_EQUAL, _JUMP_IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_OTHER_CALL_TABLE = 0x40000000
_ALLOW, _DENY = 0x7FFF0000, 0x00050001
_OFFSET_NUMBER, _OFFSET_MACHINE = 0, 4
_DENIED_CALLS = {
    "x86_64": (0xC000003E, (41, 53, 59, 101, 322, 425)),
    "aarch64": (0xC00000B7, (198, 199, 221, 117, 281, 425)),
}
"""By machine: its audit number, and socket, socketpair, execve, ptrace, execveat, io_uring_setup."""


@dataclass(frozen=True)
class Isolation:
    """What took effect.

    Attributes:
        no_new_privileges: A program started from here could gain no rights.
        own_network: The process sees an empty network.
        calls_refused: The kernel refuses to open sockets and to start programs.
        limits: Memory, file size, open files, core dumps are limited.
    """

    no_new_privileges: bool
    own_network: bool
    calls_refused: bool
    limits: bool

    def describe(self) -> str:
        """Return one line for people."""
        measures = {
            "no new privileges": self.no_new_privileges,
            "an empty network": self.own_network,
            "sockets and programs refused": self.calls_refused,
            "memory and files limited": self.limits,
        }
        return ", ".join(name if holds else f"NOT {name}" for name, holds in measures.items())

    @property
    def has_no_network(self) -> bool:
        """Whether no connection can be made."""
        return self.own_network or self.calls_refused


def leave_network() -> bool:
    """Move this process into an empty network, if the kernel lets it; must come before any thread is started."""
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None, use_errno=True)
    return any(library.unshare(flags) == 0 for flags in (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET))


def give_up_rights(max_memory_bytes: int, *, own_network: bool) -> Isolation:
    """Limit this process for good, and return what took effect.

    Args:
        max_memory_bytes: Address space it may use.
        own_network: What ``leave_network`` returned.
    """
    os.umask(0o077)
    limits = {
        resource.RLIMIT_AS: max_memory_bytes,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: _MAX_OPEN_FILES,
    }
    for kind, limit in limits.items():
        resource.setrlimit(kind, (limit, limit))
    if not sys.platform.startswith("linux"):
        return Isolation(no_new_privileges=False, own_network=own_network, calls_refused=False, limits=True)
    library = ctypes.CDLL(None, use_errno=True)
    library.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    no_new_privileges = library.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    return Isolation(
        no_new_privileges=no_new_privileges,
        own_network=own_network,
        calls_refused=no_new_privileges and _filter_calls(library),
        limits=True,
    )


def _filter_calls(library: ctypes.CDLL) -> bool:
    machine = _DENIED_CALLS.get(platform.machine())
    if machine is None:
        return False
    audit_number, denied = machine
    # an instruction is: what, steps to skip if so, steps to skip if not, number
    steps = [
        (_LOAD, 0, 0, _OFFSET_MACHINE),
        (_JUMP_IF_EQUAL, 1, 0, audit_number),
        (_RETURN, 0, 0, _DENY),
        (_LOAD, 0, 0, _OFFSET_NUMBER),
        (_JUMP_IF_AT_LEAST, len(denied) + 1, 0, _OTHER_CALL_TABLE),
        *((_JUMP_IF_EQUAL, len(denied) - place, 0, number) for place, number in enumerate(denied)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _DENY),
    ]
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    head = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(program)))
    return bool(library.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(head), 0, 0) == 0)
