"""Two systems that move a partition: real drivers and channel, but custodians that have only the tables.

A custodian says who owns a partition. Here it is a `Keeper`: it takes its rows from `platform.custody`, and
makes a record durable when the test allows it.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import trio
import trio.testing

from hcall_abi.control_bodies import ArrivalCheck, AttributeChanges, ExpectedPartition, MigrationOrder
from hcall_server.machine.custodian import CustodyFacts
from hcall_server.machine.noise import Allowance
from hcall_server.mobility.messages import Attempt
from hcall_server.mobility.migrations import LiveMigrations
from hcall_server.mobility.ports import Named, OwnSystem, Packed
from hcall_server.platform import custody
from hcall_server.platform.custody import Custody, Mode, Standing, Word

PARTITION = UUID(int=0x1111)
NAME = "lpar1"
SOURCE, TARGET = bytes([1] * 16), bytes([2] * 16)
TOKEN = bytes(range(100, 132))
GENERATION = 19
OWNED = Standing(Custody.OWN, Mode.SERVING, 0, GENERATION)
STORE = b"a store with secrets" * 20
"""The partition in the form that is sent."""


class Keeper:
    """A custodian without a machine. Until `hold` is set, no record becomes durable."""

    def __init__(self, at: Standing) -> None:
        self.memory: dict[UUID, Standing] = {PARTITION: at}
        self.durable = dict(self.memory)
        self.rows: list[int] = []
        self.trouble = ""
        self.tried = 0
        self.travellers: list[Any] = []
        self.refuses: Exception | None = None
        self.hold: trio.Event | None = None
        self._lock = trio.Lock()
        self._changes: dict[UUID, trio.Event] = defaultdict(trio.Event)

    @property
    def at(self) -> Standing:
        """Return the durable state of the partition."""
        return self.durable[PARTITION]

    def standing(self, uuid: UUID) -> Standing:
        """Return the state of the partition in memory."""
        return self.memory.get(uuid, Standing())

    def facts_of(self, uuid: UUID) -> CustodyFacts | None:
        """Return the durable state of the partition."""
        at = self.durable.get(uuid)
        if at is None:
            return None
        return CustodyFacts(uuid, "x", at.custody, at.mode, at.epoch, at.generation, b"", self.tried)

    async def changed(self, uuid: UUID) -> None:
        """Wait until the state changes."""
        await self._changes[uuid].wait()

    async def settled(self, uuid: UUID) -> None:
        """Wait until the state in memory is durable."""
        while self.memory.get(uuid) != self.durable.get(uuid):
            await self.changed(uuid)

    async def take(
        self,
        uuid: UUID,
        on: Word,
        epoch: int,
        *,
        generation: int = 0,
        peer: bytes = b"",
        traveller: Any = None,
        on_mark: Callable[[], None] = lambda: None,
    ) -> Standing | None:
        """Take the step that the tables have for this word."""
        async with self._lock:
            row = custody.step(self.standing(uuid), on, epoch, generation)
            if row is None:
                return None
            if on is Word.FINAL and self.refuses:
                raise self.refuses
            self.memory[uuid] = custody.after(self.standing(uuid), row, epoch, generation)
            on_mark()
            # The shield copies the real custodian: a step becomes durable even if its caller is cancelled.
            with trio.CancelScope(shield=True):
                if self.hold is not None and row.to:
                    await self.hold.wait()
                await trio.lowlevel.checkpoint()
            self.durable[uuid] = self.memory[uuid]
            self.rows.append(row.number)
            if on is Word.BEGIN:
                self.tried, self.trouble = epoch, ""
            if traveller is not None:
                self.travellers.append(traveller)
            self._changes.pop(uuid, trio.Event()).set()
            return self.durable[uuid]

    def failed(self, uuid: UUID, trouble: str) -> None:
        """Note an error of an attempt."""
        self.trouble = trouble

    async def until(self, wanted: Callable[[Standing], bool]) -> Standing:
        """Wait until `wanted` is true of the durable state; return that state."""
        while not wanted(self.at):
            await self.changed(PARTITION)
        return self.at


class Cut(trio.abc.Stream):
    """A stream that breaks before its n-th frame, or in the middle of it."""

    def __init__(self, inner: trio.abc.Stream, frames: int, *, within: bool) -> None:
        self.inner, self.left, self.within = inner, frames, within

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send a frame, or break if it is the n-th one."""
        if not self.left:
            if self.within:
                await self.inner.send_all(bytes(data)[: len(data) // 2])
            await self.inner.aclose()
            raise trio.BrokenResourceError
        self.left -= 1
        await self.inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Do nothing."""
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive the available bytes."""
        return await self.inner.receive_some(max_bytes)

    async def aclose(self) -> None:
        """Close it."""
        await self.inner.aclose()


@dataclass
class Wires:
    """The network between the systems: the listeners, and the faults planned for the next connections."""

    nursery: trio.Nursery
    listeners: dict[str, LiveMigrations] = field(default_factory=dict)
    spoil: list[Callable[[trio.abc.Stream], trio.abc.Stream]] = field(default_factory=list)
    spoil_answers: list[Callable[[trio.abc.Stream], trio.abc.Stream]] = field(default_factory=list)
    dialled: int = 0
    down: bool = False

    async def dial(self, address: str) -> trio.abc.Stream:
        """Connect; the connection gets the next planned fault."""
        await trio.lowlevel.checkpoint()
        self.dialled += 1
        if self.down or address not in self.listeners:
            raise ConnectionRefusedError(111, "Connection refused")
        ours, theirs = trio.testing.memory_stream_pair()
        near: trio.abc.Stream = self.spoil.pop(0)(ours) if self.spoil else ours
        far: trio.abc.Stream = self.spoil_answers.pop(0)(theirs) if self.spoil_answers else theirs
        self.nursery.start_soon(self.listeners[address].serve, far)
        return near


@dataclass
class Peers:
    """How one system connects to others."""

    wires: Wires
    address: str

    async def dial(self, address: str) -> trio.abc.Stream:
        """Connect."""
        return await self.wires.dial(address)


class System:
    """One system: its keeper, and its driver of migrations."""

    def __init__(self, wires: Wires, system_id: bytes, at: Standing) -> None:
        self.id, self.keeper = system_id, Keeper(at)
        self.address = f"unix:/{system_id[0]}"
        self.peers: Peers | None = Peers(wires, self.address)
        self.running = True
        self.store = STORE
        self.on_pack: Callable[[], None] = lambda: None
        self.checked: list[ArrivalCheck] = []
        self.misfit: Exception | None = None
        self.unpacked: list[bytes] = []
        self.unreadable: Exception | None = None
        wires.listeners[self.address] = self.migrations = LiveMigrations(self._own(wires))

    def _own(self, wires: Wires) -> OwnSystem:
        def run_beside(work: Callable[[], Awaitable[object]]) -> None:
            wires.nursery.start_soon(work)

        return OwnSystem(
            keeper=self.keeper,
            system_id=self.id,
            entropy=entropy,
            peers=lambda: self.peers,
            run_beside=run_beside,
            find=lambda name: Named(PARTITION, self.running),
            runs=lambda uuid: self.running,
            needs=lambda uuid, epoch: NEEDS,
            check=self._check,
            pack=self._pack,
            unpack=self._unpack,
            demand=self._demand,
            allowance=Allowance(trio.current_time),
        )

    def _pack(self, _: UUID) -> Packed:
        self.on_pack()
        return Packed(self.keeper.at.generation, self.store)

    def _unpack(self, packed: Packed, _: UUID) -> Any:
        self.unpacked.append(packed.plaintext)
        if self.unreadable:
            raise self.unreadable
        return packed.plaintext

    def _demand(self, traveller: Any, _: int) -> None:
        """Accept every partition, unless the test has planned a refusal."""

    def _check(self, facts: ArrivalCheck) -> None:
        self.checked.append(facts)
        if self.misfit:
            raise self.misfit


_GIVEN = itertools.count(1000)


def entropy(size: int) -> bytes:
    """Return bytes that differ at each call."""
    return next(_GIVEN).to_bytes(size, "big")


NEEDS = ArrivalCheck(
    uuid=str(PARTITION), name=NAME, epoch=1, level="FW1110", formats=[1], kbytes=64, used_bytes=0, objects=0,
    longest_label=0, largest_object=0, longest_password=0, policies=0, calls=[],
    attributes=AttributeChanges(),
)  # fmt: skip


@dataclass
class Pair:
    """The source and the target of a migration."""

    source: System
    target: System
    wires: Wires

    def order(self, epoch: int = 1, token: bytes = TOKEN) -> MigrationOrder:
        """Send the console's order to the source."""
        return MigrationOrder(
            uuid=str(PARTITION), epoch=epoch, target_id=TARGET.hex(), address=self.target.address, token=token
        )

    async def expect(self, epoch: int = 1, token: bytes = TOKEN) -> str:
        """Send the console's order to the target."""
        expected = ExpectedPartition(uuid=str(PARTITION), epoch=epoch, source_id=SOURCE.hex(), token=token)
        return await self.target.migrations.expect(expected)

    async def begin(self, epoch: int = 1, token: bytes = TOKEN) -> None:
        """Send the console's orders to both."""
        await self.expect(epoch, token)
        await self.source.migrations.begin(NAME, self.order(epoch, token))

    async def moved(self, epoch: int = 1) -> None:
        """Wait until the target serves the partition, and the source has noticed."""
        await self.target.keeper.until(lambda at: at.custody is Custody.ARRIVED and at.epoch == epoch)
        await self.source.keeper.until(lambda at: at.custody is Custody.GONE and at.epoch == epoch)

    async def returned(self) -> str:
        """Wait until the source serves the partition again; return the reason."""
        await self.source.keeper.until(lambda at: at.mode is Mode.SERVING)
        return self.source.keeper.trouble

    def attempt(self, epoch: int = 1, token: bytes = TOKEN) -> Attempt:
        """Return the identity of an attempt, as both systems know it."""
        return Attempt(PARTITION, epoch, SOURCE, TARGET, token)


@asynccontextmanager
async def pair() -> AsyncIterator[Pair]:
    """Run two systems; the first one owns the partition."""
    with trio.fail_after(3600):  # 3600 seconds of the virtual clock
        async with trio.open_nursery() as nursery:
            wires = Wires(nursery)
            yield Pair(System(wires, SOURCE, OWNED), System(wires, TARGET, Standing()), wires)
            nursery.cancel_scope.cancel()
