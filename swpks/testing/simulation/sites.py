"""A simulated system: its parts, and the machines that run on them, a new one after each crash."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from hcall_abi.errors import OperatorError
from hcall_abi.rules import console as rules
from hcall_abi.statuses import Status
from hcall_server.components.memory import MemoryCard, MemoryTpm
from hcall_server.data_channel.memory import MemoryTransport
from hcall_server.data_channel.stream import CountedStream
from hcall_server.nvram.seam import NvramError
from hcall_server.service.assembly import assemble
from swpks.testing.seams import simulated_seams
from swpks.testing.simulation.life import Life, OnRecords, SlowWorker
from swpks.testing.simulation.links import ControlLine
from swpks.testing.simulation.pipes import pipes
from swpks.testing.simulation.places import MemoryPlace
from swpks.testing.simulation.plan import SLOW_ANSWERS
from swpks.testing.simulation.records import HeardWord
from swpks.testing.simulation.seeds import Entropy, choices
from swpks.testing.simulation.trace import Tap, Trace
from swpks.testing.simulation.wires import Cable, Network

if TYPE_CHECKING:
    from random import Random
    from uuid import UUID

    from hcall_server.machine.logs import Log
    from hcall_server.machine.machine import Machine
    from hcall_server.nvram.seam import Nvram
    from hcall_server.platform.custody import Standing, Word
    from hcall_server.platform.partition import Partition
    from hcall_server.service.settings import Settings
    from swpks.testing.simulation.places import NvramPlace

EPOCH = 1_800_000_000.0
_PLACES = "unix:/"


def date() -> float:
    """Return the seconds since 1970 by the virtual clock."""
    return EPOCH + trio.current_time()


class Surroundings:
    """The objects that all systems of a simulated world share."""

    def __init__(self, seed: int, nursery: trio.Nursery, *, traced: bool) -> None:
        self.seed = seed
        self.nursery = nursery
        self.trace = Trace(kept=traced)
        self.tap = Tap(self.trace)
        self.network = Network(self.chance("network"), self.tap)
        self.slow_answers = SLOW_ANSWERS
        """The share of the answers to guests that are late, from 0 to 1."""

    def chance(self, purpose: str) -> Random:
        """Return the random generator for one purpose."""
        return choices(self.seed, purpose)


class Neighbours:
    """Connections to the other systems, for one life of a machine."""

    def __init__(self, network: Network, life: Life, name: str) -> None:
        self.address = f"{_PLACES}{name}"
        self._name = name
        self._network = network
        self._life = life

    async def dial(self, address: str) -> trio.abc.Stream:
        """Connect to another system; OSError if it can't be reached."""
        return await self._network.dial(address.removeprefix(_PLACES), self._life, self._name)


class Site:
    """The simulated system `name`: its parts stay when its machine crashes.

    The watch sets the callbacks.
    """

    # NVRAM, anchor card, TPM and access keys stay over all lives; each life assembles a new machine. So a
    # crash loses exactly what a power cut loses: memory, and commits that have not returned.

    def __init__(self, name: str, number: int, settings: Settings, around: Surroundings) -> None:
        self.name = name
        self.settings = settings
        self.nvram: NvramPlace = MemoryPlace()
        self.card, self.tpm = MemoryCard(), MemoryTpm(seed=number)
        self.keys: dict[str, bytes] = {}
        self.line = ControlLine(name, around.chance(f"line {name}"), around.trace, around.tap)
        self.life = Life()
        self.life.end()
        self.lives = 0
        self.system_id = ""
        """The system's id; empty before its first start."""
        self.crashed: Callable[[Site], None] = lambda site: None
        self.offered: OnRecords = lambda changes: None
        """Called with the records of each commit before it begins."""
        self.committed: Callable[[Site, Mapping[str, bytes | None]], None] = lambda site, changes: None
        self.on_change: Callable[[Site], None] = lambda site: None
        """Called at each change that the machine reports to its watchers."""
        self.served: Callable[[Site, Partition], None] = lambda site, partition: None
        self.started: Callable[[Machine], None] = lambda machine: None
        self.sealed: Callable[[Machine], None] = lambda machine: None
        self.heard: Callable[[Site, HeardWord], None] = lambda site, word: None
        """Called with each word of another system or of the console, before it is taken."""
        self.lost: Callable[[Machine, NvramError], None] = lambda machine, error: None
        """Called when the NVRAM of a running machine belongs to another owner, or may do so."""
        self._around = around
        self._answers = around.chance(f"answers {name}")
        self._entropy = Entropy(around.seed, name)
        self._transport = MemoryTransport(self.keys)

    def __repr__(self) -> str:
        return f"Site({self.name!r}, {'alive' if self.life.alive else 'dead'})"

    @property
    def machine(self) -> Machine | None:
        """The machine, None while none runs."""
        return self.line.machine

    @property
    def running(self) -> Machine:
        """The machine; RuntimeError while none runs."""
        if self.line.machine is None:
            raise RuntimeError(f"the system {self.name} is dead")
        return self.line.machine

    async def start(self) -> None:
        """Assemble a machine from the parts, and power it on; do nothing if one runs."""
        if self.life.alive:
            return
        self.lives += 1
        self._around.trace.note(self.name, f"starts life {self.lives}")
        self.life = life = Life()
        await self._around.nursery.start(self._live, life)

    async def _live(self, life: Life, *, task_status: trio.TaskStatus[None]) -> None:
        await self._lived(life, task_status)
        # The life may end before its machine: then its caller must not wait.
        if not life.opened:
            task_status.started()

    async def _lived(self, life: Life, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            life.at_end.append(nursery.cancel_scope.cancel)
            life.at_end.append(self._end)
            machine = await self._assembled_on_nvram(life, nursery)
            self._listen(machine, life, nursery)
            await nursery.start(machine.run)
            self.line.restart(machine)
            # `start` returns here, before the partitions run. So a step may crash the system in the middle of
            # its start.
            life.opened = True
            task_status.started()
            await machine.counted_start()
            await trio.sleep_forever()

    async def _assembled_on_nvram(self, life: Life, nursery: trio.Nursery) -> Machine:
        """Wait for the NVRAM, and assemble a machine.  If NVRAM gives no answer, begin again."""
        while True:
            await self.nvram.take_over()
            nvram = self.nvram.opened(life, self.offered, self._committed)
            try:
                machine = self._assembled(life, nursery, nvram)
            except NvramError as error:
                if error.kind == "corrupt":
                    raise
                self._around.trace.note(self.name, f"can't start: {error.message}")
                await self.nvram.abandon()
            else:
                return machine

    def _assembled(self, life: Life, nursery: trio.Nursery, nvram: Nvram) -> Machine:
        self._transport = MemoryTransport(self.keys)
        worker = SlowWorker(life, nursery, self._around.chance(f"disk {self.name} {self.lives}"))
        seams = simulated_seams(
            nvram=nvram,
            card=self.card,
            tpms=[self.tpm],
            worker=worker,
            transport=self._transport,
            entropy=self._entropy,
        )
        machine = assemble(seams._replace(date=date), self.settings)
        self.system_id = machine.system.system_id.hex()
        self.started(machine)
        worker.sealed, worker.waited = partial(self.sealed, machine), self.nvram.waited
        self._watch(machine, life)
        return machine

    def _watch(self, machine: Machine, life: Life) -> None:
        """Report each batch of calls, each change of custody and each word of custody to the watch."""
        # The methods are wrapped from outside: the product must not have a hook for tests only. After the end
        # of a life, nothing is reported. Tasks that still run then have no effect.
        after_calls, ran = machine.after_calls, 0

        def after(partition: Partition, log: Log) -> None:
            nonlocal ran
            after_calls(partition, log)
            # If a hold refuses a call, the call has not run. So a system that does not own the partition may
            # answer it. A batch with only such calls is not reported.
            before, ran = ran, _run(machine)
            if life.alive and ran > before:
                self.served(self, partition)

        notify_watchers = machine.notify_watchers

        def notify(partition: Partition | None = None) -> None:
            notify_watchers(partition)
            if life.alive:
                self.on_change(self)

        take = machine.custodian.take

        async def taken(
            uuid: UUID, on: Word, epoch: int, *, generation: int = 0, **rest: Any
        ) -> Standing | None:
            if life.alive:
                self.heard(self, HeardWord(uuid, on, epoch, generation))
            try:
                return await take(uuid, on, epoch, generation=generation, **rest)
            except RuntimeError:
                # A call that waited for an earlier step goes on after the crash, and finds no nursery. A
                # real crash ends it with its process.
                if life.alive:
                    raise
                raise OperatorError(rules.CONSOLE_SERVED, "the system went away") from None

        machine.after_calls = after  # type: ignore[method-assign]
        machine.notify_watchers = notify  # type: ignore[method-assign]
        machine.custodian.take = taken  # type: ignore[method-assign]

    def _listen(self, machine: Machine, life: Life, nursery: trio.Nursery) -> None:
        """Connect the machine to the network in both directions, until it crashes."""
        network = self._around.network
        machine.peers = Neighbours(network, life, self.name)

        def accept(stream: Cable) -> None:
            life.at_end.append(stream.cut)
            nursery.start_soon(machine.migrations.serve, stream)

        network.listeners[self.name] = accept

        def leave() -> None:
            network.listeners.pop(self.name, None)

        life.at_end.append(leave)

    def connect(self, name: str) -> tuple[trio.abc.Stream, Served]:
        """Return both ends of a new connection to a partition; OSError if this system does not serve it."""
        if not self.life.alive or self.machine is None or name not in self.machine.system.partitions:
            raise OSError(f"no socket {name} on {self.name}")
        ours, theirs = pipes()
        served = Served(theirs, self._around, self._answers)
        try:
            # A proof is demanded, as over TCP. So each visit checks that the access key has moved with the
            # partition.
            self._transport.serve(served, name, demand_proof=True)
        except RuntimeError as error:
            raise OSError(str(error)) from None
        return ours, served

    def nvram_lost(self, error: NvramError) -> None:
        """Report to the machine that it owns its NVRAM no more, and let a standby take its place."""
        if self.machine:
            self.lost(self.machine, error)
        self._around.nursery.start_soon(self._replaced, self.life)

    def crash_comes(self) -> None:
        """Start a new machine some time after the present one has crashed."""
        self._around.nursery.start_soon(self._restarted, self.life)

    async def _restarted(self, life: Life) -> None:
        await life.over.wait()
        await trio.sleep(self._answers.choice((0.0, 0.3, 2.0)))
        await self.start()

    async def _replaced(self, life: Life) -> None:
        """End a life that has lost its NVRAM, some time before or after a standby owns it."""
        if self._answers.random() < 0.5:
            await self.nvram.take_over()
        await trio.sleep(self._answers.choice((0.0, 0.1, 1.0, 3.0)))
        if life is self.life and life.alive:
            life.end()
            await self.start()

    def _committed(self, changes: Mapping[str, bytes | None]) -> None:
        self._around.trace.note(self.name, f"commit {self.life.steps}: {' '.join(changes)}")
        self.committed(self, changes)

    def _end(self) -> None:
        self._around.trace.note(self.name, f"crashes after {self.life.steps} commits")
        self.crashed(self)
        self.line.restart(None)


def _run(machine: Machine) -> int:
    """Return the number of calls that have run; calls that a hold has refused are not counted."""
    counts = machine.counters.calls.values()
    return sum(n for each in counts for (_, status), n in each.items() if status != Status.H_R_STATE)


class Served(CountedStream):
    """The server's end of a client's connection; `ended` is the moment of its end, None before.

    It sends like a socket with a full buffer: some bytes at once, the rest later.
    """

    # `unsent` has the bytes that must be sent before a GOODBYE. A server that sends GOODBYE first is found
    # only while answers are slow (a mistake of tests/simulation/test_bugs.py). So some answers are slow here.

    def __init__(self, inner: trio.abc.Stream, around: Surroundings, chance: Random) -> None:
        self._inner = inner
        self._chance = chance
        self._around = around
        self.ended: int | None = None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes; some of them may be sent later."""
        self.unsent = data
        if self._chance.random() < self._around.slow_answers:
            await self._send(self._chance.choice((0, 0, self._chance.randint(0, len(data)))))
            await trio.sleep(self._chance.uniform(0, self._chance.choice((0.03, 0.3))))
        await self._send(len(self.unsent))

    async def _send(self, length: int) -> None:
        if length:
            await self._inner.send_all(self.unsent[:length])
            self.unsent = self.unsent[length:]

    async def wait_send_all_might_not_block(self) -> None:
        """Return when `send_all` may be called."""
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Return bytes that have arrived."""
        return await self._inner.receive_some(max_bytes)

    async def aclose(self) -> None:
        """Close this end."""
        if self.ended is None:
            self.ended = self._around.trace.moment()
        await self._inner.aclose()
