"""A line on standard error when a server is silent: which wait this is, and how to stop it.

    with noticed("lpar lpar1 read", 10.0):
        ...                                     # requests to a server

A server that is stopped, such as by SIGSTOP or in a debugger, still takes connections and does not answer.
Without the line, a command stands still until its timeout, and its user does not know why.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from swpks.cli import streams

SECONDS = 3.0
"""Seconds without an end of the requests after which the line is printed.  Most take milliseconds."""


class _Watch:
    """The state that the command and the thread of the line share."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.reading = False
        self.since = time.monotonic()


_watches: list[_Watch] = []


@contextmanager
def noticed(words: str, timeout: float) -> Iterator[None]:
    """Print one line if the block takes longer than `SECONDS`; `words` are the command with its verb."""
    watch = _Watch()
    thread = threading.Thread(target=_notice, args=(watch, words, timeout), daemon=True)
    _watches.append(watch)
    try:
        thread.start()
    except RuntimeError:  # no thread is left; the line is only a help
        pass
    try:
        yield
    finally:
        watch.ended.set()
        _watches.remove(watch)


@contextmanager
def reading_input() -> Iterator[None]:
    """Do not count the time of the block: the command waits for its own input, and for no server."""
    before = list(_watches)
    for watch in before:
        watch.reading = True
    try:
        yield
    finally:
        for watch in before:
            watch.since, watch.reading = time.monotonic(), False


def _notice(watch: _Watch, words: str, timeout: float) -> None:
    rest = SECONDS
    while not watch.ended.wait(rest):
        rest = SECONDS if watch.reading else watch.since + SECONDS - time.monotonic()
        if rest <= 0:
            streams.complain(
                f"swpks {words}: waits for the server since {SECONDS:g} s, up to {timeout:g} s in each wait "
                "(--timeout S); Ctrl-C stops waiting; a server that is stopped goes on with `kill -CONT PID`"
            )
            return
