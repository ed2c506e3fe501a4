"""Claims on partitions: only one process at a time serves a machine with a partition."""

# Why a claim, and why a locked file
#
# A second machine on a partition would restart it: the first machine's session would end, and its password
# would be cleared.  The server cannot refuse that, because a reboot of the guest asks for a restart too.
#
# A claim is a locked file beside the partition's socket, with the process id of its holder.  The kernel
# releases the lock when the process ends, even if it was killed.  An orderly end removes the file.  If a file
# without a lock is left, the next process uses it again.

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from hcall_abi.rules import service as rules
from swpks.qemu.errors import PartitionUnusable

ENDING = ".qemu"
"""The end of a claim's file name, behind the name of the socket."""


class Claims:
    """The claims of one run; there are several if the partition moves to other systems during the run."""

    def __init__(self) -> None:
        self._held: dict[Path, int] = {}

    def take(self, socket: Path) -> None:
        """Claim the partition at a socket; PartitionUnusable if another process has claimed it."""
        path = Path(f"{socket.absolute()}{ENDING}")
        if path in self._held:
            return
        try:
            self._held[path] = _locked(path)
        except OSError as error:
            message = f"{path} can't be locked: {error.strerror or error}; the folder has to be writable"
            raise PartitionUnusable(message) from None

    def release(self) -> None:
        """Remove the files of all claims, and release their locks."""
        while self._held:
            path, descriptor = self._held.popitem()
            # The file is removed before the lock is released.  If another process has opened it already,
            # `_is_at` reports that the file is gone.
            path.unlink(missing_ok=True)
            os.close(descriptor)


def _locked(path: Path) -> int:
    """Lock the file of a claim, and write this process id into it; return its descriptor."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            # The claim is a lock, and not only a process id.  The kernel releases a lock at every end of the
            # process, and an id may be reused.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The last holder may have removed the file meanwhile.  A lock on a removed file would exclude no
            # other process.
            if _is_at(descriptor, path):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
                return descriptor
        except BlockingIOError:
            raise _held(path, descriptor) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the file was removed after this process had opened it: try again


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
