"""A server process that is stopped and continued, as a debugger or the freezer of a container does it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from pathlib import Path

import pytest

from hcall_client.calls import get_config
from swpks.testing import ServerProcess
from tests.faults import raw
from tests.faults.conftest import Serve
from tests.faults.damage import ended_by

pytestmark = pytest.mark.process

OPEN_SECONDS = 1.0
LOOKS = 0.25
"""Seconds in which the reaper checks the sessions twice."""


@pytest.fixture
def server(serve: Serve, tmp_path: Path) -> ServerProcess:
    """A server that waits one second for an OPEN."""
    config = tmp_path / "swpks.toml"
    config.write_text(f"[limits]\nopen_seconds = {OPEN_SECONDS}\nidle_seconds = 1.0\n")
    return serve(tmp_path / "state", ["lpar1:64"], ["--config", str(config)])


def stop_for(server: ServerProcess, seconds: float) -> None:
    """Stop the process for this number of seconds, then continue it."""
    assert server.pid
    os.kill(server.pid, signal.SIGSTOP)
    select.select([], [], [], seconds)
    os.kill(server.pid, signal.SIGCONT)


def test_a_stopped_server_blames_nobody(server: ServerProcess) -> None:
    """Waiting clients and silent sessions stay connected, because the time of the stop is not counted."""
    with contextlib.ExitStack() as stack:
        waiting, queued = (stack.enter_context(raw.connect(server.socket())) for _ in range(2))
        raw.read_frames(waiting, 1)
        raw.read_frames(queued, 1)
        idle = stack.enter_context(server.connect_blocking())
        busy = stack.enter_context(server.connect_blocking())
        queued.sendall(raw.open_frame()[:20])
        stop_for(server, OPEN_SECONDS + 0.3)
        begin = time.monotonic()
        while time.monotonic() - begin < LOOKS:
            busy.call(get_config())
        waiting.sendall(raw.open_frame())
        queued.sendall(raw.open_frame()[20:])
        for sock in (waiting, queued):
            (frame,) = raw.read_frames(sock, 1)
            assert (frame.kind, frame.body[:4]) == (raw.OPENED, bytes(4))
        idle.call(get_config())
    assert not ended_by(server)
