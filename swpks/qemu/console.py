"""Power and IPL of one partition; most requests wait for a server that is away.

A reset of the machine is an IPL of the partition; the end of the machine is a power-off.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import trio

from hcall_abi.console import SECURE_BOOT_MODES
from hcall_abi.consumers import SecureBoot
from hcall_abi.control_views import PartitionView
from hcall_abi.rules import service as rules
from hcall_abi.rules.console import POWER_OPENED
from hcall_client import console
from hcall_client.console import (
    Console,
    ConsoleMisspoken,
    ConsoleRefused,
    ConsoleRequest,
    ConsoleUnreachable,
)
from swpks.qemu.errors import PartitionUnusable

PATIENCE = 60.0
"""Seconds to wait for a server that is away, such as one that is being restarted."""
PAUSE = 0.1
"""Seconds between two tries."""
CONTROL_SOCKET = "control.sock"
"""The socket of the control channel, beside the sockets of the partitions."""

Notify = Callable[[str], None]
"""Called with a sentence for the user: the server that is awaited, and the seconds."""


def drop_notice(_sentence: str) -> None:
    """Ignore a sentence for the user."""


class PatientConsole:
    """The management console's requests about one partition; they wait for a server that is away.

    If the system refuses a request, PartitionUnusable has the message of the system.

    `notify` is called before a request waits for a server.
    """

    def __init__(
        self, socket: Path, name: str, patience: float = PATIENCE, notify: Notify = drop_notice
    ) -> None:
        self.name = name
        self.patience = patience
        self.notify = notify
        self._console = Console(socket)

    def __repr__(self) -> str:
        return f"PatientConsole({self._console.target}, {self.name!r})"

    def follow(self, data_channel: Path) -> None:
        """From now on, use the system whose data channel is at this path."""
        control = data_channel.with_name(CONTROL_SOCKET)
        if self._console.target != control:
            self._console = Console(control)

    async def check(self, kbytes: int | None = None) -> int:
        """Check that the partition exists, and has a keystore of `kbytes` KiB if that is given.

        Return the size of its keystore in KiB; 0 if the keystore is off.
        """
        view = await self._view()
        if view.refused:
            raise PartitionUnusable(f"{self.name} is refused: {view.refused.detail}", POWER_OPENED)
        if kbytes not in (None, view.keystore_kbytes):
            raise PartitionUnusable(self._other_size(view.keystore_kbytes, kbytes), rules.PARTITION_SIZE)
        return view.keystore_kbytes

    def _other_size(self, present: int, kbytes: int | None) -> str:
        """Return the message for a keystore of another size, with the remedies."""
        change = "; no command makes it smaller"
        if not kbytes or kbytes > present:
            socket = shlex.quote(str(self._console.target))
            command = f"swpks hmc set {self.name} keystore_kbytes={kbytes} --socket {socket}"
            change = f", or set it while the partition is powered off: {command}"
        found = f"the keystore of {self.name} has {present} KiB, not {kbytes}"
        return f"{found}; leave :{kbytes} out to use it as it is{change}"

    async def ipl(self) -> None:
        """Restart the partition, or start it if it is off."""
        # `ipl` is refused for a partition that is off, and `power_on` for one that runs.
        running = (await self._view()).power == "running"
        await self._call((console.ipl if running else console.power_on)(self.name), self.patience)

    async def secure_boot(self) -> SecureBoot:
        """Return the secure-boot mode of the current IPL."""
        return SecureBoot(SECURE_BOOT_MODES.index((await self._view()).curr_secure_boot))

    async def power_off(self) -> None:
        """Stop the partition if it runs; do not wait for a server that is away."""
        view = await self._call(console.show_partition(self.name), patience=0)
        if view.power == "running":
            await self._call(console.power_off(self.name), patience=0)

    async def is_off(self) -> bool:
        """Return whether the partition is powered off; False if the server is away, without a wait."""
        try:
            view = await self._call(console.show_partition(self.name), patience=0)
        except PartitionUnusable:
            return False
        return view.power == "off"

    async def _view(self) -> PartitionView:
        return await self._call(console.show_partition(self.name), self.patience)

    async def _call(self, request: ConsoleRequest[PartitionView], patience: float) -> PartitionView:
        """Make a request; while the control channel is not served, repeat it for `patience` seconds."""
        deadline = trio.current_time() + patience
        announced = False
        while True:
            try:
                return await self._console.call(request)
            # Only an absent server is worth another try.  A refusal would stay a refusal.
            except (ConsoleRefused, ConsoleMisspoken) as error:
                raise PartitionUnusable(error.message) from None
            except ConsoleUnreachable as error:
                message = f"no server at {self._console.target}: {error.reason}"
                if trio.current_time() >= deadline:
                    raise PartitionUnusable(message) from None
            if not announced:
                self.notify(f"{message}; the machine waits up to {patience:g} s for one")
                announced = True
            await trio.sleep(PAUSE)
