"""The state that the steps of the demo share: the server process, the session, and earlier results."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from hcall_abi.control_views import PartitionView
from hcall_abi.policies import describe
from hcall_abi.statuses import status_name
from hcall_client.channel import Channel
from hcall_client.console import show_partition
from hcall_client.errors import HcallError
from hcall_client.guests.boot import BootedChain
from hcall_client.guests.linux import LinuxError
from swpks.demo.disk import Disk
from swpks.demo.stage import DemoStage
from swpks.testing import ConsoleProcess, ServerProcess

PARTITION = "lpar1"
"""The partition that the demo is about."""
NEIGHBOUR = "lpar2"
"""Another partition of the same system."""
SECURE_BOOT = "enforce"
"""Secure-boot mode of the partition's first IPL."""

_CONFIG = f"""\
firmware = "FW1110"

[[partition]]
name = "{PARTITION}"
keystore_kbytes = 64
secure_boot = "{SECURE_BOOT}"

[[partition]]
name = "{NEIGHBOUR}"
keystore_kbytes = 16
"""


class ConsoleFailed(Exception):
    """A `swpks hmc` command failed."""


class Play:
    """A run of the demo in `folder`, which holds the state, the disk, the console's store, and the logs.

    `channel` is the open session with the partition, `chain` are the booted stages.
    """

    channel: Channel
    chain: BootedChain
    disk: Disk

    def __init__(self, stage: DemoStage, folder: Path) -> None:
        self.stage = stage
        self.folder = folder
        self.server = ServerProcess(folder / "state", (), ("--config", str(self._write_config())))
        self.spare = ServerProcess(folder / "spare", (), ("--name", "spare"))
        self.hmc = ConsoleProcess(folder / "console", (str(self.server.control_socket),))
        self.disk_path = folder / "disk.img"
        # Secrets of the guest.  Later steps search for their bytes in the files of the server and the
        # console.
        self.disk_key = b""
        self.public_key = b""
        self.late_secret = b""
        self.update = b""
        self.trusted_key = b""
        self.trusted_key_id = ""
        self.access_key = b""
        self.system_id = ""
        self.words: list[str] = []
        self.note = f"written before the power cut: {secrets.token_hex(400)}".encode()
        self._session = contextlib.AsyncExitStack()

    @property
    def nvram(self) -> Path:
        """The NVRAM file, in the folder of the service processor (spec/service.md#state)."""
        return self.server.state / "service-processor" / "nvram.sqlite"

    @property
    def locked(self) -> bool:
        """Whether all stages of the boot have set their passwords."""
        firmware, boot_loader, kernel = self.chain
        return firmware.locked and boot_loader.locked and kernel.has_password

    async def connect(self) -> Channel:
        """Open a session with the partition; close the earlier one first."""
        await self.disconnect()
        self.channel = await self._session.enter_async_context(self.server.connect(PARTITION))
        return self.channel

    async def disconnect(self) -> None:
        """Close the session, if there is one."""
        await self._session.aclose()

    async def power_off(self) -> None:
        """Close the session and stop the server; the stop counts as a check."""
        await self.disconnect()
        self.stage.check("SIGTERM: the server flushes and ends with status 0", self.server.stop() == 0)

    def console(self, *command: str) -> None:
        """Run `swpks hmc ...` for the system; ConsoleFailed if the command fails."""
        self.stage.say(f"swpks hmc {' '.join(command)}")
        done = self.server.run("hmc", *command)
        if done.returncode:
            text = done.stderr.decode("utf-8", "replace").strip()
            raise ConsoleFailed(f"swpks hmc {' '.join(command)}: {text}")

    def console_refused(self, claim: str, rule: str, *command: str) -> None:
        """Check that a `swpks hmc ...` is refused by this rule, with exit status 1."""
        self.stage.say(f"swpks hmc {' '.join(command)}")
        done = self.server.run("hmc", *command)
        reason = done.stderr.decode("utf-8", "replace").strip()
        first = reason.partition("\n")[0] or "NOT refused"
        self.stage.check(f"{claim}: {first}", done.returncode == 1 and f"rule {rule}: " in reason)

    def line(self, *words: str, status: int = 0) -> str:
        """Run `swpks hmc ...` for the management console; print and return its output.

        ConsoleFailed if the command ends with another status than `status`.
        """
        self.stage.say(f"swpks hmc {' '.join(words)}")
        done = self.hmc.run(*words)
        output = done.stdout.decode("utf-8", "replace")
        for line in output.splitlines():
            self.stage.quote(line)
        if done.returncode != status:
            text = done.stderr.decode("utf-8", "replace").strip()
            raise ConsoleFailed(f"swpks hmc {' '.join(words)}: status {done.returncode} {text}")
        return output

    def partition(self, name: str) -> PartitionView:
        """Return the view of a partition from the system's control channel (spec/control.md)."""
        return self.server.console.call(show_partition(name))

    async def refused(self, claim: str, attempt: Awaitable[Any], *statuses: int, policy: int = 0) -> None:
        """Check that an attempt is refused with one of `statuses`.

        With `policy`, the answer must also have these bits of the object's policy in r5.
        """
        error = await refusal(attempt)
        found = "NOT refused" if error is None else f"refused with {status_name(error.status)}"
        if policy and error is not None:
            found += f", r5 has the policy: {describe(error.policy or 0)}"
        held = error is not None and error.status in statuses and (error.policy or 0) & policy == policy
        self.stage.check(f"{claim}: {found}", held)

    def _write_config(self) -> Path:
        path = self.folder / "swpks.toml"
        path.write_text(_CONFIG, "utf-8")
        return path


Step = Callable[[Play], Awaitable[None]]
"""One step of the story."""


async def refusal(attempt: Awaitable[Any]) -> HcallError | None:
    """Return the error with which the keystore refused an attempt, None if the attempt succeeded."""
    try:
        await attempt
    except HcallError as error:
        return error
    except LinuxError as error:
        # The emulated kernel raises an errno for a status, as Linux does.  The cause of its error is the
        # h-call's error.
        if isinstance(error.__cause__, HcallError):
            return error.__cause__
        raise
    return None
