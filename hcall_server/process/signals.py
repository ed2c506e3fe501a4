"""The signals that make a server stop cleanly, with all changes stored (spec/service.md#stopping)."""

from __future__ import annotations

import signal

# The default action of each of these signals ends the process at once, which is a power cut for the guests:
# pending changes may be lost.  So the server stops cleanly, also if the signal had another purpose.
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
    """Return the signals that stop the server; a signal that is ignored at the start stays ignored."""
    # SIGINT is not tested for SIG_DFL: Python has installed a handler of its own for it.
    return _ALWAYS | {each for each in _UNLESS_IGNORED if signal.getsignal(each) is signal.SIG_DFL}
