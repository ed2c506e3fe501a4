"""The signals that make a server stop cleanly (spec/service.md#stopping).

A clean stop stores all changes first.
"""

from __future__ import annotations

import signal

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


def hold_stop_signals() -> None:
    """Block the stop signals for the rest of this process, from its main thread.

    A process that stops at once calls it when its first signal has come.  Signals often come twice: a closed
    terminal and `timeout` do so.  When the event loop is closed, a second one would end the process before
    its files are removed.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _ALWAYS | _UNLESS_IGNORED)
