"""The fake machine as a process that replaces qemu-system-ppc64.

Like QEMU, the process goes on when the other end of its stub or monitor is closed.
"""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from swpks.qemu.elf import load
from tests.qemu.assemble import Kernel
from tests.qemu.fake import FakeMachine, FakeStub, monitor
from tests.qemu.tree import MACHINE, flatten

WARNING = "qemu-system-ppc64: warning: TCG doesn't support requested feature"
"""The start of a line of the real one on its standard error."""
CODE = 64
"""The offset of a kernel's code in a file of `assemble.elf`."""


class _Loaded(Kernel):
    """A kernel whose code comes from a file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._code = path.read_bytes()[CODE:]

    def code(self) -> bytes:
        return self._code


def _stream(name: str, words: list[str]) -> trio.SocketStream:
    (number,) = re.findall(rf"id=swpks-{name},fd=(\d+)", " ".join(words))
    return trio.SocketStream(trio.socket.from_stdlib_socket(socket.socket(fileno=int(number))))


async def _unbroken(serve: Callable[..., Awaitable[None]], *arguments: object) -> None:
    """Serve a connection until its other end is closed or broken."""
    try:
        await serve(*arguments)
    except* trio.BrokenResourceError:
        pass


async def main(words: list[str]) -> None:
    """Run the fake machine with the kernel and the streams of a command line."""
    for name in ("cfpc=workaround", "sbbc=workaround", "ibs=workaround", "ccf-assist=on", "cfpc=fixed"):
        print(f"{WARNING}, cap-{name}", file=sys.stderr)
    kernel = Path(words[words.index("-kernel") + 1])
    start = load(kernel).find("start").address
    machine = FakeMachine(_Loaded(kernel), flatten(MACHINE), start)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_unbroken, FakeStub(machine, _stream("stub", words)).serve)
        nursery.start_soon(_unbroken, monitor, machine, _stream("monitor", words))
        await machine.ended.wait()


if __name__ == "__main__":
    trio.run(main, sys.argv[1:])
