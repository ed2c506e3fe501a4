"""Two systems of different levels and their console, each a real process, for the tests of literal lines.

reported = estate.line('lssyscfg -r lpar -m old --filter "lpar_names=a" -F name,state')
estate.refused("HSCL3681 ", "chsysstate -r lpar -m old -n a -o on")
with estate.guest("old", "a") as channel: ...

A line runs as in a user's script: bash parses it, and its first word is a link in PATH.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from hcall_abi.calls import CALLS
from hcall_abi.statuses import Status
from hcall_client.blocking import BlockingChannel
from hcall_client.calls import get_config, raw_call
from hcall_client.console import delete_partition, power_off, show_system
from swpks.testing import ConsoleProcess, ServerProcess

LEVELS = {"old": "FW950", "new": "FW1110"}
"""The systems, and their firmware levels."""


class Estate:
    """The processes and the folder of links. Lines run in the folder `work`."""

    def __init__(self, folder: Path) -> None:
        self.systems = {
            name: ServerProcess(folder / name, [], ["--firmware", level]) for name, level in LEVELS.items()
        }
        self.console = ConsoleProcess(folder / "hmc")
        self.links = folder / "links"
        self.work = folder / "work"
        self.work.mkdir()

    def start(self) -> None:
        """Start all processes, and make the links."""
        for system in self.systems.values():
            system.start()
        self.console.systems = [f"{name}={each.control_socket}" for name, each in self.systems.items()]
        self.console.start().log_lines("system.added", least=len(self.systems))
        self.console.log_lines("system.connected", least=len(self.systems))
        self.console.hmc("links", str(self.links))

    def end(self) -> None:
        """Kill all processes."""
        self.console.kill()
        for system in self.systems.values():
            system.kill()

    def clear(self) -> None:
        """Delete every partition, for the next module."""
        for system in self.systems.values():
            for each in system.console.call(show_system()).partitions:
                if each.power == "running":
                    system.console.call(power_off(each.name))
                system.console.call(delete_partition(each.name, destroy=True))

    # Lines

    def run(self, line: str) -> tuple[int, str]:
        """Run a line in bash; return its exit status and its output.  Standard error must stay empty."""
        done = subprocess.run(
            ["/bin/bash", "-c", line],
            cwd=self.work,
            env={"PATH": f"{self.links}:{os.defpath}"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.stderr == "", line
        return done.returncode, done.stdout

    def line(self, line: str) -> str:
        """Run a line that must succeed; return its output without the last newline."""
        status, reported = self.run(line)
        assert status == 0, f"{line}\n{reported}"
        return reported.removesuffix("\n")

    def refused(self, number: str, line: str) -> str:
        """Run a line that must be refused with this number: exit status 1, the reason on standard output."""
        status, reported = self.run(line)
        assert (status, reported[: len(number) + 1]) == (1, f"{number} "), f"{line}\n{reported}"
        return reported.removesuffix("\n")

    def hmc(self, *words: str) -> tuple[int, str]:
        """Run `swpks hmc` with these words; return its exit status and its output."""
        done = self.console.run(*words)
        assert done.stderr == b"", words
        return done.returncode, done.stdout.decode()

    # Partitions

    def make(self, system: str, name: str, kbytes: int = 0) -> None:
        """Make a partition."""
        self.line(f'mksyscfg -r lpar -m {system} -i "name={name},keystore_kbytes={kbytes}"')

    def on(self, system: str, name: str) -> None:
        """Power a partition on."""
        self.line(f"chsysstate -r lpar -m {system} -o on -n {name} -f default_profile")

    def off(self, system: str, name: str) -> None:
        """Power a partition off."""
        self.line(f"chsysstate -r lpar -m {system} -o shutdown -n {name} --immed")

    def shown(self, system: str, name: str, columns: str = "keystore_kbytes") -> str:
        """Return values that lssyscfg shows of a partition."""
        return self.line(f'lssyscfg -r lpar -m {system} --filter "lpar_names={name}" -F {columns}')

    # Guests

    def guest(self, system: str, name: str) -> BlockingChannel:
        """Return a session of a running partition's guest."""
        return self.systems[system].connect_blocking(name)

    def size(self, system: str, name: str) -> int:
        """Return the size of the keystore in KiB that GET_CONFIG reports to the guest."""
        with self.guest(system, name) as channel:
            return channel.call(get_config()).total_size // 1024


def answers(channel: BlockingChannel) -> set[Status | int]:
    """Call each h-call of PKS with all registers zero; return the statuses."""
    return {channel.call(raw_call(opcode)).status for opcode in CALLS}
