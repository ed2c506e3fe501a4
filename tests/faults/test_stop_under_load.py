"""SIGTERM while every partition is being written as fast as possible."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest

from hcall_abi.frames import GoodbyeReason
from hcall_client.calls import get_config
from hcall_client.errors import SessionEnded
from swpks.testing import ServerProcess
from tests.faults import writer
from tests.faults.conftest import Serve
from tests.faults.history import History

pytestmark = pytest.mark.process

NAMES = ("a", "b", "c")
SOON = 8.0
"""Seconds for a stop: less than the 10 that NVRAM in trouble would get."""


class Load:
    """Two threads for each partition, a writer and a reader.

    They run until the server ends their sessions.
    """

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.histories = {name: History(Random(name), 64) for name in NAMES}
        self.at_work = threading.Barrier(2 * len(NAMES) + 1, timeout=20)

    def write(self, name: str) -> int:
        """Write until the GOODBYE; return its reason.

        A change whose answer came before the GOODBYE counts as confirmed.
        """
        history = self.histories[name]
        with self.server.connect_blocking(name) as channel:
            writer.work(channel, history, longest=10)
            self.at_work.wait()
            while True:
                answered = len(history.states) - 1
                try:
                    writer.work(channel, history, longest=10)
                except SessionEnded as ended:
                    history.confirmed = max(answered, history.confirmed)
                    return ended.reason

    def read(self, name: str) -> int:
        """Read until the GOODBYE; return its reason."""
        with self.server.connect_blocking(name) as channel:
            self.at_work.wait()
            while True:
                try:
                    channel.pipeline([get_config()] * 10)
                except SessionEnded as ended:
                    return ended.reason


@pytest.mark.parametrize("delay", [0, 1000])
def test_everything_that_was_answered_is_flushed(serve: Serve, tmp_path: Path, delay: int) -> None:
    """R-20, R-21, R-22: at SIGTERM every session gets GOODBYE 4, and the server soon ends with status 0.

    The next start has every change that was answered.
    """
    server = serve(tmp_path / "state", [f"{name}:64" for name in NAMES], ["--flush-delay", str(delay)])
    load = Load(server)
    with ThreadPoolExecutor(2 * len(NAMES)) as pool:
        peers = [pool.submit(act, name) for name in NAMES for act in (load.write, load.read)]
        load.at_work.wait()
        began = time.monotonic()
        assert server.stop() == 0, server.log
        assert time.monotonic() - began < SOON
        assert {peer.result() for peer in peers} == {GoodbyeReason.SERVER_STOPPING}
    assert not list((server.state / "run").glob("?.sock"))
    server.start()
    for name, history in load.histories.items():
        with server.connect_blocking(name) as channel:
            history.found(writer.have(channel, writer.look(history)))
    assert server.stop() == 0
    assert signal.SIGTERM.name in server.log
