"""Descriptors in reserve for the console: it is reachable even if guests use all other descriptors."""

# How a descriptor of the reserve reaches the console
#
# A closed descriptor goes to the next open or accept of the process, whichever it is. Guests' connections
# wait for one in the queues of their sockets: each failed accept is repeated. So the reserve is given up in
# two ways, and in neither can a guest's connection take it:
#
#   1. For a connection of the console: close and accept without a wait in between, on the event loop.
#   2. For imports, such as that of the HTTP stack. They run in a thread, and open one file after the other
#      for most of a second. `lent` gives the whole reserve up for them. Meanwhile the listeners of the
#      partitions accept nothing: they wait in `wait_whole`. New connections wait in the kernel's queue.
#      Open sessions go on.
#
# We dropped an import on the event loop: it needs no `wait_whole`, but stops every session for that time. We
# dropped a wait only where descriptors are scarce: the process cannot count its free ones without opening
# files, and guests can take the last ones in the middle of an import. An import that fails half-way cannot
# always be repeated: some libraries go on without a module that they could not load.

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator

import trio

SIZE = 2
"""Descriptors in the reserve.  While modules are loaded, one is for their files and one for NVRAM's journal.
At other times, one is for a connection of the console."""

_OUT = (errno.EMFILE, errno.ENFILE)


class Reserve:
    """Open descriptors that nothing uses.  All functions are called on the event loop.

    The reserve is empty until the first `refill`.
    """

    def __init__(self) -> None:
        self._held: list[int] = []
        self._loans = 0
        self._whole = trio.Event()
        self._whole.set()

    def __repr__(self) -> str:
        return f"Reserve({len(self._held)} descriptors{', lent' if self._loans else ''})"

    def accept(self, listener: socket.socket) -> socket.socket:
        """Accept a waiting connection, with a descriptor of the reserve if there is no other.

        Raises the error of `accept`.
        """
        try:
            return listener.accept()[0]
        except OSError as error:
            if error.errno not in _OUT or not self._give_up():
                raise
        return listener.accept()[0]

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Close the whole reserve during the block; meanwhile `wait_whole` waits."""
        self._loans += 1
        if self._loans == 1:
            self._whole = trio.Event()
        self.close()
        try:
            yield
        finally:
            self._loans -= 1
            self.refill()
            if not self._loans:
                self._whole.set()

    async def wait_whole(self) -> None:
        """Wait until nothing is lent.  The caller may then accept, but must not wait before the accept."""
        await self._whole.wait()

    def refill(self) -> None:
        """Open descriptors again, up to `SIZE` or as many as the host has; none while the reserve is lent."""
        with contextlib.suppress(OSError):
            while len(self._held) < SIZE and not self._loans:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def close(self) -> None:
        """Close the whole reserve."""
        while self._give_up():
            pass

    def _give_up(self) -> bool:
        """Close one descriptor of the reserve; return whether there was one."""
        if not self._held:
            return False
        os.close(self._held.pop())
        return True
