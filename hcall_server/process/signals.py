"""The signals that make a server stop cleanly (spec/service.md#stopping).

A clean stop stores all changes first.
"""

from __future__ import annotations

import signal
from typing import Any, Self

# By default, each of these signals ends the process at once.  For the guests that is a power cut, and pending
# changes may be lost.  So the server stops cleanly instead, whatever the purpose of the signal is.
_ALWAYS = {signal.SIGTERM, signal.SIGINT}
_UNLESS_IGNORED = {
    signal.SIGHUP,  # the terminal was closed
    signal.SIGQUIT,  # Ctrl-\, often typed by accident; the server makes no core dump
    signal.SIGUSR1,  # sent by log rotation, to make programs reopen a log
    signal.SIGUSR2,
    signal.SIGPWR,
    signal.SIGXCPU,
}
HURRY_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})
"""Signals that hurry a stop.  Others can repeat by themselves: SIGHUP of a terminal, SIGXCPU of a limit."""


def stop_signals() -> set[signal.Signals]:
    """Return the signals that stop the server.

    A signal that is ignored at the start stays ignored.
    """
    # SIGINT has no default action to test, because Python has installed its own handler.
    return _ALWAYS | {each for each in _UNLESS_IGNORED if signal.getsignal(each) is signal.SIG_DFL}


class NotedStops:
    """A block of the main thread in which a stop signal is noted and does nothing else.

    A server with NVRAM on etcd starts in two event loops: the wait for its NVRAM, and the service.  A signal
    between them would end the process at once, and its NVRAM would have an owner until the end of the lease.
    So the second loop gets it by `deliver`.
    """

    def __init__(self, *, active: bool = True) -> None:
        self._active = active
        self._noted: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __repr__(self) -> str:
        return f"NotedStops({self._noted.name if self._noted else None})"

    def __enter__(self) -> Self:
        for each in stop_signals() if self._active else ():
            self._before[each] = signal.signal(each, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)

    def deliver(self) -> None:
        """Raise the noted signal again, for the handlers that are set now."""
        if self._noted is not None:
            signal.raise_signal(self._noted)

    def ignore(self) -> None:
        """Ignore all stop signals for the rest of the process, which ends now."""
        # Another thread may wait for a member of etcd.  A signal that is blocked in the main thread alone
        # would reach that thread, and end the process with the wrong status.
        for each in self._before:
            signal.signal(each, signal.SIG_IGN)
        self._before.clear()

    def _note(self, number: int, frame: object) -> None:
        self._noted = signal.Signals(number)


def hold_stop_signals() -> None:
    """Block the stop signals for the rest of this process, from its main thread.

    A process that stops at once calls it when its first signal has come.  Signals often come twice: a closed
    terminal and `timeout` do so.  When the event loop is closed, a second one would end the process before
    its files are removed.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _ALWAYS | _UNLESS_IGNORED)
