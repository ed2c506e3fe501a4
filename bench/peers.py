"""Compares swpks with Redis and swtpm, in the same rounds and with the same load generator.

Redis and swtpm have other functions, so no goal is a ratio to them. `tools/debian-packages bench` installs
both from Debian. If one is missing, its rows have a note.
"""

from __future__ import annotations

import shutil
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from bench.cases import CALLS, CONFIRMS
from bench.measure import Bench, Rounds
from bench.processes import PATIENCE, Child, Word
from bench.programs import END, LARGE, OBJECT_SIZE, START, Program, Step, Workload, labels, write_workload
from bench.results import Row, compared
from bench.servers import Server
from bench.tpm import nv_define, nv_read, nv_write

GROUP = "beside Redis and swtpm"
CASES = {case.key: case for case in (*CALLS, *CONFIRMS)}


class Peer(Child):
    """A server of another project; it is ready when its socket accepts a connection."""

    def __init__(self, arguments: Iterable[Word], path: Path, log: Path, program: str | None = None) -> None:
        super().__init__(arguments, log, program=program)
        self.socket = path
        deadline = time.monotonic() + PATIENCE
        while not self._connects():
            if not self.runs or time.monotonic() > deadline:
                self.stop()
                raise self.failed()
            time.sleep(0.01)

    def _connects(self) -> bool:
        with socket.socket(socket.AF_UNIX) as sock:
            return sock.connect_ex(str(self.socket)) == 0

    def ask(self, command: bytes) -> bytes:
        """Send a command and return the first piece of its answer."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(str(self.socket))
            sock.sendall(command)
            return sock.recv(1 << 16)


def redis(folder: Path) -> Peer | None:
    """Start a Redis that syncs its log before it answers a write; None if it is not installed."""
    # Debian's redis-server is a link to redis-check-rdb, and depends on the name by which it is called.
    program = shutil.which("redis-server") or shutil.which("redis-check-rdb")
    if program is None:
        return None
    path = folder / "redis.sock"
    # The path is relative to --dir: Redis changes to that folder before it makes the socket.
    words: list[Word] = [
        "redis-server",
        "--port",
        "0",
        "--dir",
        folder,
        "--unixsocket",
        path.name,
        "--save",
        "",
    ]
    words += ["--appendonly", "yes", "--appendfsync", "always"]
    return Peer(words, path, folder / "redis.log", program)


def swtpm(folder: Path) -> Peer | None:
    """Start a swtpm that has an area of 64 bytes; None if it is not installed."""
    program = shutil.which("swtpm")
    if program is None:
        return None
    state, path = folder / "tpm", folder / "tpm.sock"
    state.mkdir()
    words: list[Word] = [program, "socket", "--tpm2", "--tpmstate", f"dir={state}"]
    words += ["--server", f"type=unixio,path={path}", "--ctrl", f"type=unixio,path={path}.control"]
    peer = Peer([*words, "--flags", "startup-clear,not-need-init"], path, folder / "tpm.log")
    for command in (nv_define(64), nv_write(bytes(64))):  # a TPM does not read an unwritten area
        answer = peer.ask(command)
        # Bytes 6 to 9 of a TPM's answer are its response code.
        if answer[6:10] != bytes(4):
            peer.stop()
            raise RuntimeError(f"the TPM refuses a command: {answer.hex()}")
    return peer


PEERS = {"Redis": redis, "swtpm": swtpm}
PROTOCOLS = {"Redis": "redis", "swtpm": "tpm"}


def resp(*words: bytes) -> bytes:
    """Return the bytes of a Redis command."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def redis_gets(depth: int = 1) -> Workload:
    """Return Redis GETs of 4000 bytes, with `depth` of them in flight."""
    value = bytes(OBJECT_SIZE)
    opening = Step(resp(b"SET", LARGE, value), 1)
    answer = b"$%d\r\n%s\r\n" % (len(value), value)
    step = Step(resp(b"GET", LARGE) * depth, depth, (answer,) * depth, START | END, depth)
    return [Program((opening,), (step,))]


def redis_sets(connections: int) -> Workload:
    """Return Redis SETs of 64 bytes; Redis answers each when its log is synced."""
    return [
        Program((), (Step(resp(b"SET", label, bytes(64)), 1, (b"+OK\r\n",), START | END, 1),))
        for label in labels(connections)
    ]


def _tpm(*commands: bytes) -> Workload:
    return [Program((), tuple(Step(command, 1, None, START | END, 1) for command in commands))]


def tpm_writes() -> Workload:
    """Return NV_Writes of 64 bytes.

    The bytes change with each write, because a TPM does not store equal bytes again.
    """
    return _tpm(nv_write(bytes(64)), nv_write(bytes(range(64))))


class Against(NamedTuple):
    """A case of ours, and the nearest operation of a peer."""

    key: str
    peer: str
    what: str
    workload: Callable[[], Workload]


AGAINST = (
    Against("read4000", "Redis", "GET 4000 B", redis_gets),
    Against("read4000-deep", "Redis", "GET 4000 B, 16 in flight", lambda: redis_gets(16)),
    Against("read4000-16", "Redis", "GET 4000 B, 16 connections", redis_gets),
    Against("confirm-1", "Redis", "SET, always fsync, 1 client", lambda: redis_sets(1)),
    Against("confirm-16", "Redis", "SET, always fsync, 16 clients", lambda: redis_sets(16)),
    Against("confirm-64", "Redis", "SET, always fsync, 64 clients", lambda: redis_sets(64)),
    Against("read64", "swtpm", "NV read 64 B", lambda: _tpm(nv_read(64))),
    Against("write-remove", "swtpm", "NV write 64 B, without fsync", tpm_writes),
    Against("confirm-1", "swtpm", "NV write 64 B, without fsync", tpm_writes),
)


def peer_rows(bench: Bench, servers: dict[bool, Server]) -> list[Row]:
    """Measure cases on swpks, Redis and swtpm.

    `servers` are servers of swpks. The key of each says whether its CONFIRM waits for the flush.
    """
    folder = bench.folder / "peers"
    folder.mkdir()
    found: dict[Against, Rounds] = defaultdict(lambda: defaultdict(list))
    with ExitStack() as stack:
        there = {}
        for name, start in PEERS.items():
            if peer := start(folder):
                there[name] = stack.enter_context(peer)
                bench.settle(peer)
        for server in servers.values():
            bench.settle(server)
        # A case of ours is measured again in the rounds of its peer: figures of different rounds can't be
        # compared.
        pairs = [each for each in AGAINST if each.peer in there]
        ours = {each: bench.program(CASES[each.key]) for each in pairs}
        theirs = {each: _program(folder, n, each) for n, each in enumerate(pairs)}
        for _ in bench.rounds("peers"):
            for each in pairs:
                case, peer = CASES[each.key], there[each.peer]
                # A peer answers a write when it is durable, so its client has nothing to poll for.
                server, bare = servers[case.waits], replace(case, nap=0.0)
                protocol = PROTOCOLS[each.peer]
                run = bench.run(bare, peer.socket, theirs[each], peer.pid, protocol)
                found[each][each.peer].append(run)
                found[each]["swpks"].append(bench.run(case, server.socket(), ours[each], server.pid))
    return [peer_row(each, found[each]) for each in AGAINST]


def _program(folder: Path, number: int, each: Against) -> Path:
    path = folder / f"{number}.peer"
    write_workload(path, each.workload())
    return path


def peer_row(each: Against, rounds: Rounds) -> Row:
    """Return the row of a case compared with a peer.

    If there are no rounds, the peer is missing, and the row says so.
    """
    case = CASES[each.key]
    key, title = f"{each.peer.lower()}-{each.what.split()[0].lower()}-{case.key}", case.title
    if not rounds:
        note = f"{each.peer} is not installed: tools/debian-packages bench"
        return Row(key, GROUP, title, None, "/s", case.where, note=note)
    return compared(key, GROUP, title, case.where, rounds, f"{each.peer} {each.what}", each.peer)
