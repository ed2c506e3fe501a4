"""Thousands of damaged conversations with a real server, while a client without errors is served too."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

from hcall_client.console import show_health
from swpks.testing import ServerProcess
from tests.faults import raw, writer
from tests.faults.conftest import Serve
from tests.faults.damage import logged
from tests.faults.history import History

pytestmark = pytest.mark.process

SEED = os.environ.get("SWPKS_FAULT_SEED") or str(int.from_bytes(os.urandom(4), "big"))
CONNECTIONS = 2500
WARM = 500
"""Connections after which the server has loaded all modules and allocated all buffers."""
GROWTH = 6 << 20
"""Bytes by which its memory may grow with five times as many connections."""


def memory_of(server: ServerProcess) -> int:
    """Return the resident memory of the server in bytes."""
    pages = Path(f"/proc/{server.pid}/statm").read_text("ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def judge(frames: list[raw.Raw]) -> str:
    """Return how a conversation ended; fail if the server itself broke the protocol."""
    kinds = [each.kind for each in frames]
    assert kinds[0] == raw.HELLO
    goodbyes = [each for each in frames if each.kind == raw.GOODBYE]
    assert goodbyes in ([], frames[-1:]), "GOODBYE is the last frame"
    talk = kinds[1 : len(kinds) - len(goodbyes)]
    assert not talk or talk == [raw.OPENED] + [raw.HRETURN] * (len(talk) - 1)
    assert all(each.reason == raw.PROTOCOL_ERROR for each in goodbyes)
    return "goodbye" if goodbyes else "answers" if len(talk) > 1 else "closed"


def test_damaged_conversations_hurt_nobody_else(serve: Serve, tmp_path: Path) -> None:
    """R-01: each conversation ends in answers, GOODBYE 1 or a close.

    The memory stays bounded, and the other client is not disturbed.
    """
    print(f"SWPKS_FAULT_SEED={SEED}")
    chance = Random(SEED)
    server = serve(tmp_path / "state", ["bad:16", "good:16"], ["--log-level", "error"])
    neighbour = History(chance, 16)
    ends = dict.fromkeys(("goodbye", "answers", "closed"), 0)
    warm = 0
    with server.connect_blocking("good") as channel:
        for n in range(CONNECTIONS):
            ends[judge(raw.converse(server.socket("bad"), [raw.damaged(chance)]))] += 1
            if n % 20 == 0:
                writer.work(channel, neighbour, longest=5)
            if n == WARM:
                warm = memory_of(server)
        assert memory_of(server) - warm < GROWTH
        writer.have(channel, writer.confirm_all(neighbour))
    print(f"{ends}, {warm / 2**20:.1f} MiB after {WARM}, {memory_of(server) / 2**20:.1f} MiB after all")
    assert min(ends["goodbye"], ends["answers"]) > CONNECTIONS / 50
    assert server.console.call(show_health()).ok
    assert server.stop() == 0
    assert not logged(server, "connection.crashed", 0)
    server.start()
    with server.connect_blocking("good") as channel:
        assert neighbour.found(writer.have(channel, writer.look(neighbour))) == 0
