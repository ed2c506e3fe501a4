"""QEMU's standard error, without its lines about each emulated machine and about an end by this process."""

# QEMU's default machine offers mitigations of Spectre to the guest. Its emulation (TCG) needs none, so QEMU
# warns four times at each start. To a reader, these lines look like faults. Machine options such as
# `cap-cfpc=broken` would silence them too, but they change the guest: Linux then reports a vulnerable
# processor. So the machine stays as it is, and exactly these lines are left out.
#
# QEMU also reports each SIGTERM with the id of its sender. If this process has sent the signal, the line is
# left out: the command itself reports why it ends the machine.

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

_CAPABILITIES = ("cap-cfpc=workaround", "cap-sbbc=workaround", "cap-ibs=workaround", "cap-ccf-assist=on")
_STDERR = 2
LAST_LINES_SECONDS = 1.0
"""Seconds to wait for the end of the stream after that of QEMU."""


def expected(program: str) -> tuple[bytes, ...]:
    """Return the starts of the lines that are left out, if QEMU's program has this name."""
    name = os.path.basename(program)  # noqa: PTH119
    warning = f"{name}: warning: TCG doesn't support requested feature"
    lines = (f"{warning}, {each}" for each in _CAPABILITIES)
    return (*map(str.encode, lines), f"{name}: terminating on signal 15 from pid {os.getpid()} ".encode())


@asynccontextmanager
async def passed_on(stderr: trio.abc.ReceiveStream | None, program: str) -> AsyncIterator[None]:
    """Write QEMU's lines to our standard error, except the expected ones, for the length of a block.

    If `stderr` is None, QEMU writes its lines itself.  QEMU ends within the block: its last lines are written
    before the block is left.
    """
    if stderr is None:
        yield
        return
    failure: BaseException | None = None
    done, scope = (
        trio.Event(),
        trio.CancelScope(shield=True),
    )  # shielded, so that the last lines are written even if the block is cancelled

    async def write() -> None:
        with scope:
            await _pass_on(stderr, program)
        done.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        try:
            yield
        except BaseException as error:  # raised below, because a nursery would put it into a group
            failure = error
        # Another process may have inherited the stream from QEMU.  Then the stream stays open after QEMU, so
        # the wait has a limit.
        with trio.move_on_after(LAST_LINES_SECONDS, shield=True):
            await done.wait()
        scope.cancel()
    if failure is not None:
        raise failure


async def _pass_on(stderr: trio.abc.ReceiveStream, program: str) -> None:
    left_out, rest = expected(program), b""
    async with stderr as stream:
        async for piece in stream:
            *lines, rest = (rest + piece).split(b"\n")
            _write(b"".join(each + b"\n" for each in lines if not each.startswith(left_out)))
        _write(rest)


def _write(data: bytes) -> None:
    try:
        while data:
            data = data[os.write(_STDERR, data) :]
    except OSError:
        pass  # standard error is closed; the guest must go on
