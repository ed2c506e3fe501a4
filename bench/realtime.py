"""SCHED_FIFO: measured processes run before all others on their core, if the user may use it."""

# Why SCHED_FIFO, and why the machine stays usable
#
# Without it, another process takes the core in the middle of a call, and the caches are cold afterwards. Then
# a ratio falls by a quarter or more. With it, two processes of the same priority on one core alternate only
# when one of them waits. That fits every case that runs so: the client waits for its answers, the server for
# its next call.
#
# The machine stays usable. The load ends by itself (load.c has an alarm). The parent has no such priority
# while it waits. The kernel keeps a twentieth of each second for all other processes. An administrator may
# have switched off this share. Then Ctrl-C would wait for the end of each run, so the benchmark runs without
# priority.

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_FIRST = os.sched_param(1)
_RUNTIME = Path("/proc/sys/kernel/sched_rt_runtime_us")


def each_thread(pid: int, act: Callable[[int], None]) -> None:
    """Call `act` for each thread of a process.

    Threads that start meanwhile are included, and ended threads are skipped.
    """
    done: set[int] = set()
    while new := {int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()} - done:
        for thread in new:
            with suppress(ProcessLookupError):
                act(thread)
        done |= new


class RealTime:
    """SCHED_FIFO for processes.

    `active` says whether it is permitted and used.  If it is not, `text` has the reason.
    """

    def __init__(self, *, wanted: bool = True) -> None:
        self.text = _obstacle() if wanted else "no: switched off by --no-fifo"
        self.active = self.text == "yes"

    def give(self, pid: int) -> None:
        """Put all threads of a process under SCHED_FIFO; threads that it starts later inherit it."""
        if self.active:
            each_thread(pid, lambda thread: os.sched_setscheduler(thread, os.SCHED_FIFO, _FIRST))

    def give_thread(self) -> None:
        """Put this thread under SCHED_FIFO, on any core."""
        if self.active:
            os.sched_setscheduler(0, os.SCHED_FIFO, _FIRST)

    @contextmanager
    def here(self, core: int) -> Iterator[None]:
        """Run this thread on one core during the block, and under SCHED_FIFO if `self.active`.

        Child processes that start in the block inherit the core and the scheduler.
        """
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, [core])
        try:
            if self.active:
                os.sched_setscheduler(0, os.SCHED_FIFO, _FIRST)
            yield
        finally:
            os.sched_setaffinity(0, cores)
            if self.active:
                os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _obstacle() -> str:
    """Return "yes" if this process may use SCHED_FIFO, otherwise "no" and the reason."""
    if _RUNTIME.exists() and int(_RUNTIME.read_text()) < 0:
        return "no: sched_rt_runtime_us is -1, so no other process could run"
    before = os.sched_getscheduler(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, _FIRST)
    except PermissionError:
        return "no: not permitted (it needs root, CAP_SYS_NICE or a limit `rtprio`)"
    os.sched_setscheduler(0, before, os.sched_param(0))
    return "yes"
