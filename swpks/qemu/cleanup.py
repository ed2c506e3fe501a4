"""A small process that cleans up after this one, even if SIGKILL ends this process.

This process registers child processes and folders.  When its socket closes, the cleanup process ends those
processes, waits for them, and removes the folders.  After an orderly end there is nothing left to do.

The program of the cleanup process is this file alone, without the packages around it, so that it starts in
some 20 ms.
"""

# Why a second process
#
# After SIGKILL this process cannot clean up, but QEMU, a server and the temporary state are still there.  So
# a second process holds the other end of a socket.  At every end of this process, the kernel closes the
# socket, and the second process notices it.
#
# PR_SET_PDEATHSIG looks simpler, and was not used.  It signals a child when the *thread* that started it
# ends, and Trio starts processes from threads that end early.  It also removes no folder.
#
# Processes are passed as descriptors (pidfd).  A process id is not safe: after the end of its process,
# another process may get it.

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

END_SECONDS = 20.0
"""Seconds from SIGTERM to SIGKILL.  A server flushes in this time."""
LONGEST_PATH = 4096
_PROCESS, _FOLDER = b"p", b"f"


class Cleanup:
    """The cleanup process, from the constructor to the end of the `with` block.

    At the end of the block, the process cleans up.  The block waits for its end.
    """

    def __init__(self) -> None:
        # Each message is one packet, so that a descriptor arrives with its message.
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # The cleanup process gets a session of its own.  So no signal of the terminal or of a process
            # group reaches it.
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and program
                # -I and -S: without site-packages and variables of Python, the start takes some 20 ms.
                [sys.executable, "-I", "-S", __file__],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )

    def __enter__(self) -> Cleanup:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._socket.close()
        self._process.wait()

    def end_process(self, pid: int) -> None:
        """Register a child process: it is ended if it still runs when this process has ended."""
        descriptor = os.pidfd_open(pid)  # unlike a process id, it can't come to mean another process
        try:
            socket.send_fds(self._socket, [_PROCESS], [descriptor])
        finally:
            os.close(descriptor)

    def remove_folder(self, folder: Path) -> None:
        """Register a folder: it is removed with its content if it still exists after this process."""
        self._socket.sendall(_FOLDER + os.fsencode(folder))


def clean_up(wire: socket.socket) -> None:
    """Wait until the other end closes; then end all received processes, and remove all received folders."""
    processes: list[int] = []
    folders: list[bytes] = []
    while True:
        message, descriptors, _, _ = socket.recv_fds(wire, LONGEST_PATH + 1, 1)
        processes += descriptors
        if not message:
            break
        if message[:1] == _FOLDER:
            folders.append(message[1:])
    _end(processes)
    # Processes end first: a server that still runs would write into a folder that is being removed.
    for folder in folders:
        _remove(folder)


def _end(processes: list[int]) -> None:
    for signum, seconds in ((signal.SIGTERM, END_SECONDS), (signal.SIGKILL, END_SECONDS)):
        for process in processes:
            _send(process, signum)
        processes = _running(processes, seconds)


def _send(process: int, signum: int) -> None:
    try:
        signal.pidfd_send_signal(process, signum)
    except ProcessLookupError:
        pass  # the process has ended already, as after an orderly end


def _running(processes: list[int], seconds: float) -> list[int]:
    """Wait for the end of processes; return those that still run after `seconds`."""
    deadline = time.monotonic() + seconds
    while processes and (left := deadline - time.monotonic()) > 0:
        ended = select.select(processes, [], [], left)[0]
        processes = [each for each in processes if each not in ended]
    return processes


def _remove(folder: bytes) -> None:
    import shutil  # imported here, because it is slow to load and seldom needed

    shutil.rmtree(os.fsdecode(folder), ignore_errors=True)


if __name__ == "__main__":
    clean_up(socket.socket(fileno=0))
