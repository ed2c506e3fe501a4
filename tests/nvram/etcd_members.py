"""Real members of an etcd cluster on loopback, each a process of Debian's etcd-server."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from hcall_server.nvram.etcd.chain import EtcdKeys
from hcall_server.nvram.etcd.lease import Lease
from hcall_server.nvram.etcd.nvram import EtcdNvram
from hcall_server.nvram.etcd.transport import EtcdCluster, connected
from hcall_server.nvram.mark import MemoryMark
from tests.debian.reporting import needed

TTL = 60


class Members:
    """A cluster of `count` members; the data are in `folder`."""

    def __init__(self, folder: Path, count: int, quota: int = 0) -> None:
        ports = free_ports(2 * count)
        self.endpoints = [f"http://127.0.0.1:{port}" for port in ports[:count]]
        self._peers = [f"http://127.0.0.1:{port}" for port in ports[count:]]
        self._folder = folder
        self._quota = quota
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        for number in range(count):
            self.start(number, state="new")

    def start(self, number: int, state: str = "existing") -> None:
        """Start a member."""
        name, client, peer = f"n{number}", self.endpoints[number], self._peers[number]
        cluster = ",".join(f"n{n}={each}" for n, each in enumerate(self._peers))
        self._folder.mkdir(exist_ok=True)
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes[number] = subprocess.Popen(
                [
                    *(
                        needed("etcd", shutil.which("etcd")),
                        "--name",
                        name,
                        "--data-dir",
                        str(self._folder / name),
                    ),
                    *("--listen-client-urls", client, "--advertise-client-urls", client),
                    *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                    *("--initial-cluster", cluster, "--initial-cluster-state", state),
                    *("--heartbeat-interval", "50", "--election-timeout", "500"),
                    *("--quota-backend-bytes", str(self._quota), "--logger", "zap", "--log-level", "error"),
                ],
                stdout=log,
                stderr=log,
            )

    def ready(self) -> None:
        """Wait until every running member is healthy."""
        with httpx.Client(trust_env=False, timeout=1) as client:
            for number, process in self._processes.items():
                if process.poll() is None:
                    self._wait(client, self.endpoints[number])

    def _wait(self, client: httpx.Client, endpoint: str) -> None:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            try:
                if client.get(f"{endpoint}/health").json().get("health") == "true":
                    return
            except (httpx.HTTPError, ValueError):
                pass
            time.sleep(0.02)
        raise AssertionError(f"{endpoint} is not healthy: see the logs in {self._folder}")

    def leader(self) -> int:
        """Return the number of the leader; wait while there is none."""
        until = time.monotonic() + 20
        with httpx.Client(trust_env=False, timeout=1) as client:
            while time.monotonic() < until:
                for number, process in self._processes.items():
                    if process.poll() is None and self._leads(client, number):
                        return number
        raise AssertionError(f"no leader: see the logs in {self._folder}")

    def _leads(self, client: httpx.Client, number: int) -> bool:
        try:
            status = client.post(f"{self.endpoints[number]}/v3/maintenance/status", content="{}").json()
            return bool(status["leader"] == status["header"]["member_id"])
        except (httpx.HTTPError, ValueError, KeyError):
            return False

    def kill(self, number: int) -> None:
        """Kill a member, as a power cut does."""
        self._processes[number].kill()
        self._processes[number].wait()

    def pause(self, number: int) -> None:
        """Stop a member; its sockets still take bytes."""
        self._processes[number].send_signal(signal.SIGSTOP)

    def go_on(self, number: int) -> None:
        """Let a paused member go on."""
        self._processes[number].send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Kill every member."""
        for process in self._processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()


@contextmanager
def running(folder: Path, count: int) -> Iterator[Members]:
    """A cluster in `folder`, healthy at first; it is killed at the end."""
    members = Members(folder, count)
    try:
        members.ready()
        yield members
    finally:
        members.close()


def opened(
    endpoints: list[str], prefix: str, owner: bytes = b"a", ttl: int = TTL, attempt: float = 1.0
) -> EtcdNvram:
    """Return NVRAM in this cluster, owned."""
    cluster = EtcdCluster(endpoints, connected(attempt=attempt))
    lease = Lease(cluster, time.monotonic, ttl)
    nvram = EtcdNvram(cluster, EtcdKeys(prefix), owner, lease, MemoryMark())
    try:
        lease.grant()
        nvram.own()
    except BaseException:
        nvram.close()
        raise
    return nvram


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that are free now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
