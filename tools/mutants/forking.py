"""Runs work in a forked process, and returns its outcome."""

import json
import os
import signal
import time
from collections.abc import Callable
from typing import NamedTuple

TIMED_OUT = {signal.SIGPROF, signal.SIGALRM, signal.SIGXCPU}
BROKEN = "broken"
"""The killer of a trial that a fault of this tool ended."""


class Result(NamedTuple):
    """The outcome of a trial: `killer` is the test that failed, None for a survivor."""

    killer: str | None
    seconds: float
    timed_out: bool = False


def in_child(work: Callable[[], object]) -> tuple[int, str]:
    """Run `work` in a forked process; return its wait status, and its result as JSON."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        # Any status but 0 means that this tool has failed, not a test (EX_SOFTWARE of sysexits.h).
        status = 70
        try:
            os.close(reading)
            _be_silent()
            answer = json.dumps(work())
            with os.fdopen(writing, "w") as pipe:
                pipe.write(answer)
            status = 0
        finally:
            # os._exit ends the child at once. sys.exit would run exit handlers and write buffers that belong
            # to the parent.
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        # The parent reads before it waits: a child whose answer fills the pipe would never end.
        output = pipe.read()
    return os.waitpid(child, 0)[1], output


def _be_silent() -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)


def outcome_of(work: Callable[[], str | None]) -> Result:
    """Try a mutant in a fork; `work` returns the test that fails, None if there is none."""
    started = time.monotonic()
    status, output = in_child(work)
    seconds = time.monotonic() - started
    if os.WIFSIGNALED(status):
        return Result(f"signal {os.WTERMSIG(status)}", seconds, os.WTERMSIG(status) in TIMED_OUT)
    return Result(BROKEN if status else json.loads(output), seconds)
