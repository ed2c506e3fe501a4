"""A system at work on a recorded disk: several lives of a real server, with guests and a console.

Each life begins with a check of the state that the last one has left, as guests and console see it. It ends
with a regular stop, or the server kills itself in place of one of its changes to the disk.
"""

from __future__ import annotations

import contextlib
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import NamedTuple

from hcall_abi.console import SECURE_BOOT_MODES
from hcall_abi.control_views import PartitionView
from hcall_abi.errors import SwpksError
from hcall_client.blocking import BlockingChannel
from hcall_client.console import (
    ConsoleRefused,
    ConsoleRequest,
    ConsoleUnreachable,
    create_partition,
    ipl,
    power_on,
    set_attributes,
    show_system,
)
from hcall_client.errors import ConnectionLost, SessionEnded
from swpks.testing import ServerFailed, ServerProcess
from tests.faults import writer
from tests.service.folder import old_state
from tests.soak.history import Chronicle, Whole
from tests.soak.recording import Accident, Notes, recorded
from tests.soak.stored import stored

NAMES = ("a", "b", "c")
KBYTES = 8
FIRST_CHANGES = 10
"""Least states that the first life makes, over all partitions: so a power cut can lose some."""
MOST_ROUNDS = 200
"""Rounds of one life; a writer needs about 10 for `FIRST_CHANGES`."""
OLD = "89ecc72", "killed"
"""The state of sealed level 1 with which every other scenario begins (tests/states)."""
GONE = (ConnectionLost, SessionEnded, ConsoleUnreachable, ConnectionError, ServerFailed)
"""Errors that a client sees when the server has killed itself."""


class First(NamedTuple):
    """A file, or with content None a folder, on the disk before the first life. `path` is below the root."""

    path: str
    inode: int
    content: bytes | None


class Scenario:
    """A system whose changes to the disk are all recorded, in the file `folder`/recording.

    In half of the scenarios no new partition starts by itself, so a start commits nothing. Half of the
    scenarios begin with an old state, so their first start is a conversion. `kept` has the partitions of
    the old state with their IPL counts. No guest uses these, so every start must find them unchanged.
    """

    def __init__(self, folder: Path, library: Path, chance: Random, *, old: bool | None = None) -> None:
        """`old` says whether the state is an old one; with None, chance decides."""
        self.chance = chance
        self.root = folder / "disk"
        self.log = folder / "recording"
        self.library = library
        self.automatic, drawn = chance.random() < 0.5, chance.random() < 0.5
        self.server = ServerProcess(self.root / "state", ())
        self.root.mkdir()
        self.chronicles = {name: Chronicle(chance, KBYTES) for name in NAMES}
        self.notes = Notes(self.log)
        self.kept: dict[str, tuple[Whole, int]] = {}
        self.first: list[First] = []
        if drawn if old is None else old:
            self._begin_old(folder / "old")

    def _begin_old(self, copy: Path) -> None:
        """Put the old state on the disk. Read its contents from a copy that is converted without faults."""
        self.kept = stored(old_state(copy, *OLD))
        old_state(self.root / "state", *OLD)
        for path in sorted(self.root.rglob("*")):
            content = path.read_bytes() if path.is_file() else None
            self.first.append(First(str(path.relative_to(self.root)), path.stat().st_ino, content))

    def play(self, lives: int) -> None:
        """Run some lives. The first ends with a regular stop and changes something.

        With an old state, another life comes first, because an accident may strike its conversion.
        """
        try:
            if self.kept:
                self._live(self._accident())
            self._live(Accident(), FIRST_CHANGES)
            for _ in range(2 if self.kept else 1, lives):
                self._live(self._accident())
        finally:
            self.server.kill()
            self.notes.close()

    def _accident(self) -> Accident:
        """Draw the accident of one life. There may be none."""
        random = self.chance.randint
        return self.chance.choice(
            (
                Accident(),
                Accident(kill=random(1, 90)),
                Accident(kill_sync=random(1, 20)),
                Accident(kill_sync=random(1, 6)),
                Accident(fail_sync=random(2, 12)),
                Accident(fail_sync=random(2, 12), kill=random(20, 120)),
                Accident(fail_folder_sync=random(1, 3)),
            )
        )

    def _live(self, accident: Accident, changes: int = 0) -> None:
        self.notes.add(life=accident._asdict())
        self.server.options = ["--flush-delay", str(self.chance.choice((0, 1, 5)))]
        with contextlib.suppress(*GONE if any(accident) else ()):
            with recorded(self.library, self.root, self.log, accident):
                self.server.start()
            self._work(changes)
            if self.server.stop() == 0:
                for chronicle in self.chronicles.values():
                    chronicle.all_flushed()
                self._note()
        self.server.kill()
        for chronicle in self.chronicles.values():
            # The kill may cut a batch of changes. Its first changes may still be in a commit.
            chronicle.note()

    def _work(self, changes: int) -> None:
        """Let the writers and the console work for some rounds, and until there are enough states."""
        self._provide()
        with ExitStack() as stack:
            channels = {name: self._open(stack, name) for name in NAMES}
            rounds = self.chance.randint(1, 6)
            for done in range(MOST_ROUNDS):
                if done >= rounds and self._states() >= changes:
                    return
                self._round(channels, stack)
        raise AssertionError(f"{self._states()} states after {MOST_ROUNDS} rounds: no call changes anything")

    def _round(self, channels: dict[str, BlockingChannel], stack: ExitStack) -> None:
        """Let the writer of one partition work; before that, sometimes let the console work."""
        name = self.chance.choice(NAMES)
        if self.chance.random() < 0.25:
            self._manage(name, channels, stack)
        writer.work(channels[name], self.chronicles[name], longest=self.chance.choice((1, 4, 16)))
        self._note()

    def _states(self) -> int:
        """Return how many states the partitions have had in this life, without their first ones."""
        return sum(len(chronicle.states) - 1 for chronicle in self.chronicles.values())

    def _provide(self) -> None:
        """Create each partition that is missing, and power on each one that does not run.

        AssertionError if a partition is missing although one of its states is confirmed.
        """
        call = self.server.console.call
        views = {view.name: view for view in call(show_system()).partitions}
        assert not self.server.ready["refused"]
        assert self.kept.keys() <= views.keys()
        for name, chronicle in self.chronicles.items():
            assert name in views or not chronicle.floor
            if name not in views:
                self._insist(create_partition(name, KBYTES, auto_start=self.automatic))
            if name not in views or not self.automatic:
                self._insist(power_on(name))

    def _insist(self, request: ConsoleRequest[PartitionView]) -> None:
        """Repeat a request that NVRAM or an access key's file refuses, because only one sync may fail."""
        with contextlib.suppress(ConsoleRefused):
            self.server.console.call(request)
            return
        self.server.console.call(request)

    def _open(self, stack: ExitStack, name: str, *, restarted: bool = False) -> BlockingChannel:
        """Open a session after an IPL, and compare the whole store with the chronicle."""
        channel = stack.enter_context(self.server.connect_blocking(name))
        chronicle = self.chronicles[name]
        assert channel.ipl_count > chronicle.ipls, "no number names two IPLs"
        chronicle.ipls = channel.ipl_count
        objects = writer.have(channel, writer.look(chronicle))
        if restarted:
            assert objects == chronicle.memory
        else:
            chronicle.found_whole(Whole(objects, self._mode(name)))
            chronicle.note()
        chronicle.opened_with(writer.LOOK)
        return channel

    def _mode(self, name: str) -> str:
        views = {view.name: view for view in self.server.console.call(show_system()).partitions}
        return views[name].secure_boot

    def _manage(self, name: str, channels: dict[str, BlockingChannel], stack: ExitStack) -> None:
        """Let the console change an attribute, or restart the partition."""
        chronicle = self.chronicles[name]
        if self.chance.random() < 0.5:
            mode = self.chance.choice(SECURE_BOOT_MODES)
            chronicle.note()
            with contextlib.suppress(SwpksError):
                self.server.console.call(set_attributes(name, {"secure_boot": SECURE_BOOT_MODES.index(mode)}))
            chronicle.console_sets(mode)
            return
        self._insist(ipl(name))
        chronicle.ipl()
        channels[name].close()
        channels[name] = self._open(stack, name, restarted=True)

    def _note(self) -> None:
        """Note in the recording the states that no start may lose from here on."""
        for name, chronicle in self.chronicles.items():
            chronicle.note()
            self.notes.add(name=name, floor=chronicle.floor, ipls=chronicle.ipls)
