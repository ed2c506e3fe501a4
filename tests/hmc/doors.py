"""The SSH doors of a console as processes, and clients that form their commands as people's tools do."""

from __future__ import annotations

import getpass
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import paramiko  # type: ignore[import-untyped]

from swpks.hmc.sshd import layout
from swpks.testing import ConsoleProcess, ServerProcess
from swpks.testing.own_process import OwnProcess

PASSWORD = "abc123"
LOGIN = "hscroot"
NO_HOST_CHECK = ("-q", "-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no")


def own_user() -> list[str]:
    """Return the option that root needs."""
    return ["--user", getpass.getuser()] if os.geteuid() == 0 else []


class DoorProcess(OwnProcess):
    """A `swpks hmc sshd` process over a console's store."""

    def __init__(self, store: Path, *options: str, listen: str = "127.0.0.1:0", name: str = "door") -> None:
        super().__init__(store.with_name(name))
        self.store = store
        self.words = ["hmc", "sshd", "--store", str(store), "--listen", listen, *own_user(), *options]

    @property
    def command(self) -> list[str]:
        """The words of the command line after `swpks`."""
        return self.words

    @property
    def port(self) -> int:
        """The port of the door."""
        return int(self.ready["port"])

    @property
    def host(self) -> str:
        """The address of the door."""
        return str(self.ready["host"])

    def ssh(
        self, *words: str, data: str = "", sshpass: bool = True, options: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run ssh with a password, or with the key of the fixture."""
        login = ["sshpass", "-p", PASSWORD] if sshpass else []
        key = ["-o", "PubkeyAuthentication=no"] if sshpass else ["-i", str(self.store.with_name("key"))]
        user = LOGIN if sshpass else str(self.ready["user"])
        command = [*login, "ssh", *NO_HOST_CHECK, *key, *options, "-p", str(self.port), f"{user}@{self.host}"]
        return subprocess.run(
            [*command, *words], input=data, capture_output=True, text=True, check=False, timeout=30
        )


def password_file(folder: Path, text: str = f"# users\n{LOGIN}:{PASSWORD}\n", mode: int = 0o600) -> Path:
    """Return a new password file."""
    path = folder / "passwords"
    path.write_text(text)
    path.chmod(mode)
    return path


@contextmanager
def connected(door: DoorProcess, password: str = PASSWORD) -> Iterator[paramiko.SSHClient]:
    """Yield a client of paramiko, with a password and nothing else, as op-test makes it."""
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    try:
        client.connect(
            door.host, door.port, LOGIN, password, allow_agent=False, look_for_keys=False, timeout=20
        )
        yield client
    finally:
        client.close()


class Shell:
    """Many commands over one connection."""

    def __init__(self, client: paramiko.SSHClient) -> None:
        self._client = client

    def run(self, command: str, data: bytes = b"") -> tuple[int, str, str]:
        """Return exit status, output and errors of a command."""
        stdin, stdout, stderr = self._client.exec_command(command, timeout=30)
        stdin.write(data)
        stdin.channel.shutdown_write()
        out, err = stdout.read().decode(), stderr.read().decode()
        return stdout.channel.recv_exit_status(), out, err


class Doors:
    """A system, its console, and one door of each kind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.system = ServerProcess(folder / "sys1", ["lpar1:64", "lpar2:16"])
        self.console = ConsoleProcess(folder / "hmc")
        secrets = password_file(folder)
        self.passwords = DoorProcess(self.console.store, "--password-file", str(secrets), name="pw")
        self.keys = DoorProcess(self.console.store, name="keys")

    def start(self) -> None:
        """Start all of them."""
        self.system.start()
        self.console.systems = [f"sys1={self.system.control_socket}"]
        self.console.start().log_lines("system.connected")
        key = self.folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        self.passwords.spawn()
        self.keys.spawn()
        keys = self.console.store / "ssh" / layout.AUTHORIZED
        keys.write_text(key.with_suffix(".pub").read_text())

    def end(self) -> None:
        """Kill all of them."""
        for each in (self.passwords, self.keys, self.console, self.system):
            each.kill()
