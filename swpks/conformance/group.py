"""A command of the operator in a process group of its own, so all its programs can be killed at once."""

# Why a group
#
# The shell of a command may have exited while programs that it started run on, as in `program & exit`.  They
# would keep pipes of the judge open, and stay behind after the run.  So each command leads a session of its
# own, and SIGKILL goes to its whole group.
#
# SIGKILL must not reach another group that has got the same id.  The kernel does not reuse the id of a leader
# before `wait`.  So the group is killed before `wait`.  A pidfd shows the end of the leader without a wait.
#
# A program that makes a session of its own, as a daemon does, leaves the group, and is not ended.

from __future__ import annotations

import os
import select
import signal
import subprocess
from contextlib import suppress

NOT_RUN = {
    126: ", by which the shell reports a file that it may not run: chmod +x it, or name its interpreter",
    127: ", by which the shell reports a program that is not found: name its path, such as ./NAME",
}
"""The meaning of the shell's own exit statuses, with the way out."""


class CommandGroup:
    """A command of the shell, and all programs that it starts in its process group."""

    def __init__(self, command: str, *, stdin: int | None = None, stdout: int | None = None) -> None:
        self.process = subprocess.Popen(  # noqa: S603 - the command line of the user
            ["/bin/sh", "-c", command], stdin=stdin, stdout=stdout, start_new_session=True
        )
        self._ended = os.pidfd_open(self.process.pid)

    def status_within(self, seconds: float) -> int | None:
        """Wait for the exit status of the shell, in the form of subprocess; None if it runs on."""
        if self.process.returncode is not None:
            return self.process.returncode
        poll = select.poll()
        poll.register(self._ended, select.POLLIN)
        if not poll.poll(seconds * 1000):
            return None
        ended = os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        if ended is None:  # never without WNOHANG
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def kill(self) -> None:
        """End all programs of the group, also those that have outlived the shell."""
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.release()

    def release(self) -> None:
        """Wait for the end of the shell.  Afterwards `kill` sends no signal to the group."""
        if self.process.returncode is None:
            self.process.wait()
            os.close(self._ended)
