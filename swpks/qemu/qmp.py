"""The part of QEMU's monitor protocol (QMP) that a bridge needs: resets, panics, memory size.

QMP is lines of JSON: a greeting, answers to commands, and events.  QEMU sends an event before it answers a
later command.  So when an answer comes, all earlier events have been received.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import trio

from swpks.qemu.errors import StubError

LONGEST_LINE = 1 << 20
"""Longest message in bytes that is received."""

RUNS_ON = "run"
"""QEMU's action at a panic if its user has asked for `-action panic=none`: the guest runs on."""

_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


class Qmp:
    """QEMU's monitor over a stream.  Raises StubError if QEMU is gone.

    `panicked`: whether the guest has reported a panic that stopped the machine.  `powered_off`: whether the
    guest, and not the user, has ended the machine.  Both are up to date after a command, and after `drain`.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self._resets = 0
        self.panicked = False
        self.powered_off = False
        # `drain` and a command may run at once; each must get its own messages.
        self._turn = trio.Lock()

    async def start(self) -> None:
        """Read the greeting, and send `qmp_capabilities`: QEMU refuses every other command before it."""
        if "QMP" not in await self._message():
            raise StubError("QEMU's monitor does not greet")
        await self.command("qmp_capabilities")

    async def memory_size(self) -> int:
        """Return the guest's memory in bytes."""
        sizes = await self.command("query-memory-size-summary")
        return int(sizes["base-memory"]) + int(sizes.get("plugged-memory", 0))

    async def resets(self) -> int:
        """Return how often the machine has been reset so far, by the guest or from outside."""
        # Only the moment of the answer matters: all earlier events have been counted by then.
        await self.command("query-status")
        return self._resets

    async def reset(self) -> None:
        """Reset the machine from outside, without an order of the guest."""
        await self.command("system_reset")

    async def quit(self) -> None:
        """Make QEMU end."""
        await self.command("quit")

    async def drain(self) -> None:
        """Receive all events up to the end of QEMU."""
        async with self._turn:
            with suppress(StubError):
                while True:
                    self._take(await self._message())

    async def command(self, name: str) -> Any:
        """Run a command without arguments and return its answer."""
        async with self._turn:
            return await self._command(name)

    async def _command(self, name: str) -> Any:
        try:
            await self._stream.send_all(json.dumps({"execute": name}).encode() + b"\n")
        except _BROKEN:
            raise StubError("QEMU's monitor is gone") from None
        while True:
            message = await self._message()
            if "return" in message:
                return message["return"]
            if "error" in message:
                raise StubError(f"QEMU refuses {name}: {message['error'].get('desc')}")
            self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        """Count a reset; set or clear `panicked`."""
        if message.get("event") == "RESET":
            self._resets += 1
            self.panicked = False  # the machine runs again
        elif message.get("event") == "GUEST_PANICKED":
            # With `-action panic=none` the guest runs on, so its later end is no panic.
            self.panicked = message["data"]["action"] != RUNS_ON
        elif message.get("event") == "SHUTDOWN":
            self.powered_off = bool(message["data"]["guest"])

    async def _message(self) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            try:
                data = await self._stream.receive_some(65536)
            except _BROKEN:
                data = b""
            if not data or len(self._buffer) > LONGEST_LINE:
                raise StubError("QEMU's monitor is gone" if not data else "an endless line of QEMU's monitor")
            self._buffer += data
        line, _, rest = self._buffer.partition(b"\n")
        self._buffer = rest
        try:
            message = json.loads(line)
        except ValueError:
            raise StubError("QEMU's monitor does not speak JSON") from None
        if not isinstance(message, dict):
            raise StubError("QEMU's monitor sends bytes that are no message")
        return message
