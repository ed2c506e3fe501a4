"""kill -9 of a real server while writers and a console work.

Like `tests/faults/test_kill.py`, with four partitions at once, each with a writer in its own thread, and a
console. The console changes attributes and restarts partitions. A kill may come at any moment, also during a
request of the console.
"""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from random import Random

from hcall_abi.console import SECURE_BOOT_MODES
from hcall_client.blocking import BlockingChannel
from hcall_client.console import ConsoleMisspoken, ConsoleUnreachable, ipl, set_attributes, show_system
from hcall_client.errors import ConnectionLost, OpenRefused, SessionEnded
from swpks.testing import ServerFailed, ServerProcess
from tests.faults import writer
from tests.soak.history import Chronicle, Whole

NAMES = ("a", "b", "c", "d")
KBYTES = 16
ENDS = {"work": 6, "start": 3, "stop": 3, "order": 1}
"""The ends of a life, by their weights: killed at work, at its start or at its stop; or a normal stop."""
ENDLESS = 1 << 30
LOST = (ConnectionLost, SessionEnded, OpenRefused, ConsoleUnreachable, ConsoleMisspoken, OSError)
"""Errors that a client sees when the server was killed."""


class Attack:
    """One system, its writers and its console. `run` kills the server again and again."""

    def __init__(self, folder: Path, chance: Random) -> None:
        folder.mkdir()
        self.server = ServerProcess(folder / "state", [f"{name}:{KBYTES}" for name in NAMES])
        self.chance = chance
        self.chronicles = {name: Chronicle(Random(chance.random()), KBYTES) for name in NAMES}
        self.ends: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self._dead = threading.Event()

    def run(self, kills: int) -> None:
        """Start and kill the server again and again; at the end check it after a regular stop."""
        try:
            while self.counts["kills"] < kills:
                end = self.chance.choices(list(ENDS), list(ENDS.values()))[0]
                self.ends[end] += 1
                self.server.options = ["--flush-delay", str(self.chance.choice((0, 1, 5, 30)))]
                if end == "start":
                    self._killed(0.45, self._start)
                else:
                    self._live(end)
            self._live("order")
        finally:
            self.server.kill()
        assert "Traceback" not in self.server.log

    def _start(self) -> None:
        try:
            self.server.start()
        except ServerFailed:
            assert self._dead.is_set(), self.server.log[-2000:]

    def _live(self, end: str) -> None:
        self._dead.clear()
        self.server.start()
        assert not self.server.ready["refused"]
        self._judge()
        if end == "work":
            self._killed(0.12, lambda: self._work(ENDLESS))
            return
        self._work(self.chance.randint(1, 6))
        if end == "stop":
            self._killed(0.012, self._stop)
        else:
            self._stop()

    def _judge(self) -> None:
        """Compare each partition, as its guest and the console show it, with its chronicle."""
        views = {view.name: view for view in self.server.console.call(show_system()).partitions}
        for name, chronicle in self.chronicles.items():
            assert views[name].ipl_count > chronicle.ipls, "no number names two IPLs"
            chronicle.ipls = views[name].ipl_count
            with self.server.connect_blocking(name) as channel:
                objects = writer.have(channel, writer.look(chronicle))
            lost = chronicle.found_whole(Whole(objects, views[name].secure_boot))
            self.counts["stores judged"] += 1
            self.counts["stores that lost news"] += lost > 0
            chronicle.opened_with(writer.LOOK)

    def _work(self, batches: int) -> None:
        """Run all writers until they have finished or the server has ended."""
        with ThreadPoolExecutor(len(NAMES)) as pool:
            for done in [pool.submit(self._write, name, batches) for name in NAMES]:
                done.result()

    def _write(self, name: str, batches: int) -> None:
        """Run the writer of one partition, with its console requests, so that their order is known."""
        chronicle, chance = self.chronicles[name], Random(self.chance.random())
        with ExitStack() as stack, suppress(*LOST if batches == ENDLESS else ()):
            channel = stack.enter_context(self.server.connect_blocking(name))
            for _ in range(batches):
                if chance.random() < 0.15:
                    channel = self._manage(name, channel, chance, stack)
                writer.work(channel, chronicle, longest=chance.choice((1, 4, 40)))

    def _manage(
        self, name: str, channel: BlockingChannel, chance: Random, stack: ExitStack
    ) -> BlockingChannel:
        """Set the secure-boot mode, or restart the partition and check its whole store."""
        chronicle, console = self.chronicles[name], self.server.console
        if chance.random() < 0.6:
            mode = chance.randrange(len(SECURE_BOOT_MODES))
            chronicle.note()
            chronicle.console_sets(SECURE_BOOT_MODES[mode])
            console.call(set_attributes(name, {"secure_boot": mode}))
            self.counts["attributes set"] += 1
            return channel
        chronicle.ipls = console.call(ipl(name)).ipl_count
        self.counts["IPLs"] += 1
        chronicle.ipl()
        channel = stack.enter_context(self.server.connect_blocking(name))
        assert writer.have(channel, writer.look(chronicle)) == chronicle.memory
        chronicle.opened_with(writer.LOOK)
        return channel

    def _stop(self) -> None:
        """Stop the server by SIGTERM and wait. Unless a kill came first, all changes are flushed."""
        status = self.server.stop()
        assert status in (0, -signal.SIGKILL), self.server.log[-2000:]
        if status == 0:
            for chronicle in self.chronicles.values():
                chronicle.note()
                chronicle.all_flushed()
                chronicle.note()

    def _killed(self, within: float, work: Callable[[], None]) -> None:
        """Run a block, and kill the server at a random moment within `seconds`."""
        self._dead.clear()
        timer = threading.Timer(self.chance.uniform(0, within), self._kill)
        timer.start()
        work()
        timer.join()
        self.server.kill()

    def _kill(self) -> None:
        self._dead.set()
        self.counts["kills"] += self.server.pid is not None
        self.server.kill()
