"""The members of an etcd cluster on loopback, for the benchmark of NVRAM."""

from __future__ import annotations

import shutil
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import httpx

from bench.processes import PATIENCE, Child, Word
from hcall_server.nvram.etcd.chain import EtcdKeys
from hcall_server.nvram.etcd.lease import Lease, LeaseKeeper
from hcall_server.nvram.etcd.nvram import EtcdNvram
from hcall_server.nvram.etcd.transport import EtcdCluster, connected
from hcall_server.nvram.mark import MemoryMark

ATTEMPT = 10.0
"""Seconds that a member gets for an answer: on a slow disk a commit may take longer than a server waits."""


def installed() -> bool:
    """Whether there is a program of etcd."""
    return shutil.which("etcd") is not None


class EtcdMembers:
    """A cluster of `count` members with etcd's default settings; their data are below `folder`."""

    def __init__(self, folder: Path, count: int) -> None:
        ports = _free_ports(2 * count)
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        self.endpoints, peers = urls[:count], urls[count:]
        cluster = ",".join(f"n{n}={peer}" for n, peer in enumerate(peers))
        folder.mkdir()
        self._stack = ExitStack()
        members = []
        for n, (client, peer) in enumerate(zip(self.endpoints, peers, strict=True)):
            words: list[Word] = ["etcd", "--name", f"n{n}", "--data-dir", folder / f"n{n}"]
            words += ["--listen-client-urls", client, "--advertise-client-urls", client]
            words += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
            words += ["--initial-cluster", cluster, "--logger", "zap", "--log-level", "error"]
            members.append(self._stack.enter_context(Child(words, folder / f"n{n}.log")))
        try:
            for endpoint, member in zip(self.endpoints, members, strict=True):
                _await_health(endpoint, member)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the members."""
        self._stack.close()


class OwnedNvram:
    """NVRAM in a cluster, with its lease kept as in a server."""

    def __init__(self, endpoints: list[str], prefix: str) -> None:
        clusters = [EtcdCluster(endpoints, connected(attempt=ATTEMPT)) for _ in range(2)]
        lease = Lease(clusters[1], time.monotonic)
        self.nvram = EtcdNvram(clusters[0], EtcdKeys(prefix), b"bench", lease, MemoryMark())
        self._keeper = LeaseKeeper(lease, lambda error: None)
        lease.grant()
        self.nvram.own()
        self._keeper.start()

    def close(self) -> None:
        """Stop the keeper, and give the ownership up."""
        self._keeper.stop(PATIENCE)
        self.nvram.close()


def _await_health(endpoint: str, member: Child) -> None:
    until = time.monotonic() + PATIENCE
    with httpx.Client(trust_env=False, timeout=1) as client:
        while member.runs and time.monotonic() < until:
            try:
                if client.get(f"{endpoint}/health").json().get("health") == "true":
                    return
            except (httpx.HTTPError, ValueError):
                pass
            time.sleep(0.02)
    raise member.failed()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]
