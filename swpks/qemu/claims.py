"""The claim on a partition: one process at a time serves a machine with it."""

# Why a claim, and why a locked file
#
# A second machine on a partition would restart it: the first one's session would end, and its password would
# be forgotten.  The server cannot refuse that, because a reboot of the guest asks for a restart.
#
# A claim is a locked file beside the partition's socket, with the process id of its holder.  The lock ends
# with the process, also if that is killed.  The file is removed at the end; one without a lock is taken over.

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from hcall_abi.rules import service as rules
from swpks.qemu.errors import PartitionUnusable

ENDING = ".qemu"
"""The end of a claim's file name, behind the name of the socket."""


class Claims:
    """The claims of one run: more than one if the partition moves to other systems meanwhile."""

    def __init__(self) -> None:
        self._held: dict[Path, int] = {}

    def take(self, socket: Path) -> None:
        """Claim the partition at a socket; PartitionUnusable if another process serves a machine with it."""
        path = Path(f"{socket.absolute()}{ENDING}")
        if path in self._held:
            return
        try:
            self._held[path] = _locked(path)
        except OSError as error:
            message = f"{path} can't be locked: {error.strerror or error}; the folder has to be writable"
            raise PartitionUnusable(message) from None

    def release(self) -> None:
        """Give up all claims and remove their files."""
        while self._held:
            path, descriptor = self._held.popitem()
            # Removed while the lock is held: a process that opens the file in between sees that it is gone.
            path.unlink(missing_ok=True)
            os.close(descriptor)


def _locked(path: Path) -> int:
    """Return a descriptor with the lock of the file at a path, which names this process."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            # A lock, and no process id alone: the kernel releases it however the process ends, and an id may
            # be reused.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The last holder removes its file. A lock on a removed file would exclude no other process.
            if _is_at(descriptor, path):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
                return descriptor
        except BlockingIOError:
            raise _held(path, descriptor) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its holder has removed the file in between


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _held(path: Path, descriptor: int) -> PartitionUnusable:
    holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
    os.close(descriptor)
    name = path.name.removesuffix(ENDING).removesuffix(".sock")
    message = f"a machine runs on {name}: swpks qemu, process {holder}; end that, or choose another partition"
    return PartitionUnusable(message, rules.PARTITION_MACHINE)
