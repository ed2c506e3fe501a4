"""No core dump and no debugger of the same user: keys stay in this process (spec/threats.md)."""

from __future__ import annotations

import ctypes
import resource

_PR_SET_DUMPABLE = 4


def forbid_dumps() -> bool:
    """Forbid core dumps and debuggers, for good; return whether the system has done so.

    Only root can read the memory of a process that is not dumpable: ptrace, `/proc/PID/mem` and core dumps
    need the same right.
    """
    # The limit alone is not enough: if kernel.core_pattern is a pipe, the kernel gives the dump to a program
    # with any limit (core(5)).
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0)
