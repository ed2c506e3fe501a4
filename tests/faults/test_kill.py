"""A real server gets kill -9 at random moments, at least sixty times. Each state is checked.

Each round starts the server on the state of the last round, and compares the whole store of both partitions
with the history. Then the round makes calls. The server is killed during calls, during the start or during
the stop, or it is stopped in good order.

`SWPKS_FAULT_SEED` repeats the choices of a run, `SWPKS_KILLS` makes it longer. `make soak` has the long
run, with four partitions and a console.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest

from hcall_client.blocking import BlockingChannel
from hcall_client.errors import ConnectionLost, SessionEnded
from swpks.testing import ServerFailed, ServerProcess
from tests.faults import writer
from tests.faults.history import History

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.usefixtures("not_measured")]

SEED = os.environ.get("SWPKS_FAULT_SEED") or str(int.from_bytes(os.urandom(4), "big"))
KILLS = int(os.environ.get("SWPKS_KILLS") or 60)
MACHINES = 2
"""Machines that are tested at once, to use two processors."""
KBYTES = 16
ENDS = {"work": 6, "start": 4, "drain": 3, "stop": 0.6}
"""The ends of a round, and their weights."""


class Torment:
    """A managed system of two partitions, in a server process that the test kills often."""

    def __init__(self, folder: Path, chance: Random) -> None:
        self.server = ServerProcess(folder / "state", [f"{name}:{KBYTES}" for name in ("a", "b")])
        self.chance = chance
        self.histories = {name: History(chance, KBYTES) for name in ("a", "b")}
        self.ipls = dict.fromkeys(self.histories, 0)
        self.kills = 0
        self.rounds: Counter[str] = Counter()
        self.lost: Counter[bool] = Counter()

    def run(self, kills: int) -> None:
        while self.kills < kills:
            end = self.chance.choices(list(ENDS), list(ENDS.values()))[0]
            self.server.options = ["--flush-delay", str(self.chance.choice((0, 1, 5, 30)))]
            self.rounds[end] += 1
            if end == "start":
                self.die_while_starting()
            else:
                self.live(end)
        self.server.start()
        with ExitStack() as stack:
            self.open(stack)
        self.terminate()
        assert "swpks serve: " not in self.server.log, "it never refused to start"
        assert "Traceback" not in self.server.log

    def die_while_starting(self) -> None:
        """Kill the server before it is ready, or right after that."""
        with self.killed_within(0.45):
            try:
                self.server.start()
            except ServerFailed:
                pass
        self.server.kill()
        self.kills += 1

    def live(self, end: str) -> None:
        """Run one round: start, check the stores that the last round left, make calls, and end."""
        self.server.start()
        with ExitStack() as stack:
            channels = self.open(stack)
            facts = {name: history.facts for name, history in self.histories.items()}
            match end:
                case "work":
                    with self.killed_within(0.06):
                        self.work(channels)
                    self.kills += 1
                case "drain":
                    self.work(channels, self.chance.randint(1, 8))
                    with self.killed_within(0.012):
                        self.terminate()
                case _:
                    self.work(channels, self.chance.randint(1, 8))
                    self.terminate()
                    assert all(history.all_confirmed for history in self.histories.values())
            for name, history in self.histories.items():
                if history.facts > facts[name]:
                    self.ipls[name] = channels[name].ipl_count

    def open(self, stack: ExitStack) -> dict[str, BlockingChannel]:
        """Open a session with each partition, and check the partition's store."""
        assert not self.server.ready["refused"]
        channels = {}
        for name, history in self.histories.items():
            channel = channels[name] = stack.enter_context(self.server.connect_blocking(name))
            assert channel.ipl_count > self.ipls[name], "an IPL with a confirmed change is counted"
            self.lost[history.found(writer.have(channel, writer.look(history))) > 0] += 1
            history.opened_with(writer.LOOK)
        return channels

    def work(self, channels: dict[str, BlockingChannel], batches: int = 1 << 30) -> None:
        """Make calls on both partitions in turn: `batches` batches, or until the server is killed."""
        try:
            for _ in range(batches):
                for name, channel in channels.items():
                    writer.work(channel, self.histories[name], longest=self.chance.choice((1, 4, 40)))
        except (ConnectionLost, SessionEnded, OSError):
            assert batches == 1 << 30, "the server died too soon"

    def terminate(self) -> None:
        """Send SIGTERM and wait for the end. Unless a kill came in between, everything is flushed then."""
        status = self.server.stop()
        assert status in (0, -signal.SIGKILL), self.server.log
        self.kills += status != 0
        if status == 0:
            for history in self.histories.values():
                history.all_flushed()

    def killed_within(self, seconds: float) -> _Killing:
        return _Killing(self.server, self.chance.uniform(0, seconds))


class _Killing:
    """Kills the server after some time, while a block runs. The exit waits for the kill."""

    def __init__(self, server: ServerProcess, after: float) -> None:
        self._timer = threading.Timer(after, server.kill)

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.join()


def test_what_was_confirmed_survives_every_kill(tmp_path: Path) -> None:
    """R-01, R-04, R-14, R-20, R-21, R-22: after a kill, the store equals a state of the history.

    It is not older than the last confirmed state.
    """
    print(f"SWPKS_FAULT_SEED={SEED}")
    machines = [Torment(tmp_path / str(n), Random(f"{SEED} {n}")) for n in range(MACHINES)]
    for n in range(MACHINES):
        (tmp_path / str(n)).mkdir()
    with ThreadPoolExecutor(MACHINES) as pool:
        for done in [pool.submit(machine.run, KILLS // MACHINES) for machine in machines]:
            done.result()
    rounds = sum((machine.rounds for machine in machines), Counter[str]())
    lost = sum((machine.lost for machine in machines), Counter[bool]())
    facts = sum(history.facts for machine in machines for history in machine.histories.values())
    print(f"{dict(rounds)}, {facts} facts confirmed, {lost[True]} of {lost.total()} stores lost news")
    assert facts > KILLS
    assert lost[True], "no kill ever came between a change and its flush: the test proves nothing"
