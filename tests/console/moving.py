"""Sites between which partitions move: the rig of the console, with a network of memory streams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio
import trio.lowlevel
import trio.testing

from hcall_abi.control_views import CustodyView, SystemView
from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.requests import ConsoleRequest, set_trusted_key, show_system
from hcall_abi.rules import console as rules
from hcall_abi.rules import migration as moves
from hcall_server.console.entries import Entry
from hcall_server.console.jobs import Job
from hcall_server.console.systems import KnownSystem
from hcall_server.machine.machine import Machine
from hcall_server.service.settings import Settings
from tests.console.rig import Rig, Site, running

KEY = bytes(range(32))


class Network:
    """Connections between sites; `cut` refuses new ones, and a `silent` site gets no answer."""

    def __init__(self) -> None:
        self.listeners: dict[str, Callable[[trio.abc.Stream], None]] = {}
        self.cut = False
        self.silent = False
        self.deaf: dict[str, Callable[[], bool]] = {}
        """For the end `source` or `target`: the function that returns whether no bytes arrive there now."""

    def connect(self, address: str) -> trio.abc.Stream:
        """Return a connection; OSError without a listener."""
        accept = self.listeners.get(address)
        if accept is None or self.cut:
            raise OSError("no listener")
        ours, theirs = trio.testing.memory_stream_pair()
        if not self.silent:
            accept(Wire(theirs, partial(self._is_deaf, "source")))
        return Wire(ours, partial(self._is_deaf, "target"))

    def _is_deaf(self, end: str) -> bool:
        return self.deaf.get(end, bool)()


class Wire(trio.abc.Stream):
    """One end of a connection; while the other end is deaf, a send waits forever."""

    def __init__(self, stream: trio.abc.Stream, deaf: Callable[[], bool]) -> None:
        self._stream = stream
        self._deaf = deaf

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all data; wait forever if the other end is deaf."""
        if self._deaf():
            await trio.sleep_forever()
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Return at once, because a send only blocks at a deaf end."""
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive."""
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        """Close it."""
        await self._stream.aclose()


class Peers:
    """The connections of one site to the others."""

    def __init__(self, network: Network, name: str) -> None:
        self._network = network
        self.address = f"unix:/{name}"

    async def dial(self, address: str) -> trio.abc.Stream:
        """Return a connection; OSError without a listener."""
        await trio.lowlevel.checkpoint()
        return self._network.connect(address)


class MovingSite(Site):
    """A site that partitions move to and from."""

    def __init__(self, name: str, partitions: str = "", *, network: Network) -> None:
        super().__init__(name, partitions)
        self.network = network
        self.mobile = True
        self._served: list[trio.CancelScope] = []

    async def start(self, nursery: trio.Nursery, settings: Settings | None = None) -> None:
        """Start the site, and let it listen for the others."""
        await super().start(nursery, settings)
        self.machine.peers = Peers(self.network, self.name) if self.mobile else None
        self.network.listeners[f"unix:/{self.name}"] = self._accept
        self._nursery = nursery

    def _accept(self, stream: trio.abc.Stream) -> None:
        if self.link.machine is not None:
            self._nursery.start_soon(self._serve, self.link.machine, stream)

    async def _serve(self, machine: Machine, stream: trio.abc.Stream) -> None:
        scope = trio.CancelScope()
        self._served.append(scope)
        with scope:
            await machine.migrations.serve(stream)

    def kill(self) -> None:
        """End the site at once."""
        self.network.listeners.pop(f"unix:/{self.name}", None)
        for scope in self._served:
            scope.cancel()
        super().kill()


class Moving:
    """The rig with two or three sites a, b, c; partition x starts at a."""

    def __init__(self, rig: Rig, sites: list[MovingSite]) -> None:
        self.rig = rig
        self.sites = {each.name: each for each in sites}
        self.network = sites[0].network
        self.uuid = rig.uuid("x", sites[0])

    @property
    def migrations(self) -> Any:
        """Return the console's object for migration orders."""
        return self.rig.console.migrations

    @property
    def entry(self) -> Entry:
        """Return the console's entry of x."""
        entry = self.rig.console.registry.of(self.uuid)
        assert entry
        return entry

    def known(self, name: str) -> KnownSystem:
        """Return the console's entry of a site."""
        return self.rig.console.find(name)

    def site(self, name: str) -> MovingSite:
        """Return a site."""
        return self.sites[name]

    async def view(self, name: str) -> SystemView:
        """Return the present view of a site, read without the console."""
        return await self.rig.ask(show_system(), self.sites[name])

    async def custody(self, name: str) -> tuple[str, int]:
        """Return custody and epoch of x at a site."""
        view = await self.view(name)
        found = next((each for each in view.custody if each.uuid == self.uuid), None)
        if found is None:
            there = any(each.uuid == self.uuid for each in view.partitions)
            return ("own" if there else "none", 0)
        return found.custody, found.epoch

    async def fact(self, name: str) -> CustodyView:
        """Return the custody of x at a site."""
        return next(each for each in (await self.view(name)).custody if each.uuid == self.uuid)

    def serving(self) -> list[str]:
        """Return the sites that serve x now."""
        found = []
        for site in self.sites.values():
            if site.link.machine is None:
                continue
            for each in site.machine.system.partitions.values():
                serves = each.mode.value in ("serving", "copying") and each.profile.custody.name in (
                    "OWN",
                    "ARRIVED",
                )
                if str(each.profile.uuid) == self.uuid and serves:
                    found.append(site.name)
        return found

    def data(self, name: str) -> bytes | None:
        """Return the guest's object in x at a site."""
        return self.rig.data("x", self.sites[name])

    def power(self, name: str, *, on: bool) -> None:
        """Power x on or off at a site."""
        machine = self.sites[name].machine
        (machine.power_on if on else machine.power_off)("x")

    async def migrate(self, source: str = "a", target: str = "b") -> Job:
        """Begin a migration of x."""
        job: Job = await self.migrations.migrate(self.known(source), self.known(target), "x")
        return job

    def refuse(self, name: str, operation: str, error: SwpksError | None = None) -> set[str]:
        """Let a site refuse a request of the console, until the test clears the returned set."""
        reason = error or OperatorError(moves.ARRIVAL_SIZE, "there is no room")
        site, refused = self.sites[name], {operation}
        perform = site.link.call

        async def call(request: ConsoleRequest[Any]) -> Any:
            if request.verb.operation in refused:
                raise reason
            return await perform(request)

        site.link.call = call  # type: ignore[method-assign]
        return refused

    def deafen(self, name: str, word: str) -> set[str]:
        """Lose one kind of word that the console sends to a site, until the test clears the returned set."""
        site, missed = self.sites[name], {word}
        perform = site.link.call

        async def call(request: ConsoleRequest[Any]) -> Any:
            if getattr(request.body, "word", "") in missed:
                raise OperatorError(rules.CONSOLE_SERVED, "the word was lost")
            return await perform(request)

        site.link.call = call  # type: ignore[method-assign]
        return missed

    async def ended(self, job: Job | None = None, seconds: float = 600) -> Job:
        """Follow a job to its end; by default it is the last one.

        If the console restarts meanwhile, find the job again by its number.
        """
        number = (job or self.rig.console.jobs.all[-1]).number
        with trio.fail_after(seconds):
            while True:
                found = self.rig.console.jobs.find(number)
                if found.state != "running":
                    return found
                await trio.sleep(0.2)

    async def kill(self, name: str) -> None:
        """End a site at once, and wait until the console has noticed it."""
        self.sites[name].kill()
        await self.rig.until(lambda: not self.known(name).connected)

    async def start(self, name: str) -> None:
        """Start a site, and wait until the console has a stream to it."""
        await self.sites[name].start(self.rig.nursery)
        await self.rig.until(lambda: self.known(name).connected)

    async def demand_here(self, name: str, data: bytes) -> None:
        """Assert that x is served at this site only, with its data."""
        await self.rig.until(lambda: self.serving() == [name])
        assert self.data(name) == data

    async def demand_at(self, name: str, data: bytes) -> None:
        """Assert that x is served at this site only, with its data.

        No other site may have x.
        """
        await self.demand_here(name, data)
        assert self.rig.console.registry.name_of(self.entry.owner) == name


class Trouble:
    """A fault at one request of the console: a `lost` answer, a kill or a crash."""

    def __init__(self, world: Moving, number: int, act: str, *names: str) -> None:
        self._world = world
        self._left = number
        # "lost" loses the answer, "before" and "after" kill the console, "crash a" kills site a.
        self._act = act
        self.hit = ""
        for name in names or world.sites:
            link = world.site(name).link
            link.call = partial(self._call, link.call)  # type: ignore[method-assign]

    async def _call(self, perform: Callable[[Any], Any], request: ConsoleRequest[Any]) -> Any:
        self._left -= 1
        if self._left:
            return await perform(request)
        self.hit = request.verb.operation
        if self._act == "before":
            self._world.rig.kill_console()
        if self._act.startswith("crash"):
            self._world.site(self._act[-1]).kill()
        answer = await perform(request)
        if self._act == "after":
            self._world.rig.kill_console()
            # The task of the killed console ends at this checkpoint and gets no answer.
            await trio.lowlevel.checkpoint()
        if self._act == "lost":
            raise OperatorError(rules.CONSOLE_SERVED, "the answer was lost")
        return answer

    async def over(self) -> None:
        """Wait until the fault is over, at most some seconds; start a killed console again."""
        with trio.move_on_after(20):
            while not self.hit:  # noqa: ASYNC110 - any request may be the one
                await trio.sleep(0.05)
        if self._act.startswith("crash") and self.hit:
            await trio.sleep(3)
            await self._world.start(self._act[-1])
        elif self._act != "lost":
            await self._world.rig.restart_console()


@asynccontextmanager
async def moving(
    *names: str, path: Path | None = None, one_key: bool = True, **settings: Any
) -> AsyncIterator[Moving]:
    """Sites a, b and more, with a partition x at a; the console has a copy of each store."""
    network = Network()
    sites = [MovingSite(name, "x" if name == "a" else "", network=network) for name in names or ("a", "b")]
    async with running(*sites, path=path, **settings) as rig:
        if one_key:
            for site in sites:
                await rig.ask(set_trusted_key("change", key=KEY), site)
        await rig.write("x", b"first", sites[0])
        await rig.copied()
        yield Moving(rig, sites)
