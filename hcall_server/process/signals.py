"""The signals that stop a server in order (spec/service.md#stopping)."""

from __future__ import annotations

import signal

_ALWAYS = {signal.SIGTERM, signal.SIGINT}
_UNLESS_IGNORED = {
    signal.SIGHUP,  # the terminal was closed
    signal.SIGQUIT,  # Ctrl-\ is easily typed by accident; its core dump is forbidden anyway
    signal.SIGUSR1,  # log rotation sends it to programs that reopen their log
    signal.SIGUSR2,
    signal.SIGPWR,
    signal.SIGXCPU,
}
HURRY_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})
"""Signals that hurry a stop.  Others can repeat by themselves: SIGHUP of a terminal, SIGXCPU of a limit."""


def stop_signals() -> set[signal.Signals]:
    """Return the signals that stop the server; one that is ignored at start, as by nohup, stays ignored."""
    return _ALWAYS | {each for each in _UNLESS_IGNORED if signal.getsignal(each) is signal.SIG_DFL}
