"""Protection of the keys in memory: no core dump, and no debugger of the same user (spec/threats.md)."""

from __future__ import annotations

import ctypes
import resource

_PR_SET_DUMPABLE = 4


def forbid_dumps() -> bool:
    """Forbid core dumps and debuggers for good; return whether the system has done so.

    Afterwards only root can read the memory of this process.  ptrace, `/proc/PID/mem` and core dumps all need
    that right.
    """
    # The limit alone is not enough.  If kernel.core_pattern is a pipe, the kernel ignores it (core(5)).
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0)
