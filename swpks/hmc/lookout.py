"""Keeps the overview of a console current while it has viewers (spec/console.md#overview).

lookout = Lookout(console)
nursery.start_soon(lookout.run)
with lookout.opened() as viewer:
    overview = await viewer.next()
"""

# Viewers are pages in browsers and commands that watch.  The lookout guarantees:
#
#   1. Without a viewer it does nothing: it asks no system and reads no store.
#   2. A viewer gets the newest overview only.  A slow viewer misses overviews, and delays neither the console
#      nor another viewer.  It never gets the same overview twice.
#   3. One overview is made for all viewers, at most once in TICK_SECONDS, and only if something has changed
#      it gets a new number.  So a rendering can be kept by its number.
#   4. A system that does not answer delays its own facts alone.  They stay, with the reason.
#   5. An error in the overview is logged, and ends neither the console nor the lookout.
#
# A guest's writes are no event of a system: space and generations change without one.  So each connected
# system is asked once in ASK_SECONDS.  Everything else that changes is in the console's memory already: the
# streams of events bring it there (hcall_server/console/watch.py).  So the lookout compares the overview
# with the last one in each tick.  We dropped notes of each change instead: every place that changes a fact
# of the console would have to make them, and a forgotten note would leave the page wrong for a while.
#
# Components change only at a start of their system.  So they are asked for once for each connection.

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from hcall_abi.errors import SwpksError
from hcall_abi.requests import show_components, show_health, show_system
from hcall_server.console.console import ManagementConsole
from hcall_server.console.systems import KnownSystem
from hcall_server.machine.logs import Log
from swpks.hmc.overview import AskedFacts, overview_of
from swpks.hmc.overview_views import Overview

TICK_SECONDS = 0.25
"""Seconds between two overviews, at least."""

ASK_SECONDS = 1.0
"""Seconds between two questions to a system."""

ANSWER_SECONDS = 10.0
"""Seconds after which a system that has not answered counts as silent."""

LOOK_SECONDS = 1.0
"""Seconds that a single look waits for the answers of systems."""

FAILED_SECONDS = 5.0
"""Seconds before the next try after an error in the overview."""

_RUN_SIZE = 8
_log = Log()


@dataclass
class _Inquiry:
    """The questions to one system: its facts, and when it is asked again."""

    facts: AskedFacts = field(default_factory=AskedFacts)
    due: float = 0.0
    asking: bool = False
    components_since: float = -1.0
    """The connection in which the components were shown, by its `since`."""


class Viewer:
    """One viewer; `number` is that of the last overview that it got."""

    def __init__(self, lookout: Lookout) -> None:
        self._lookout = lookout
        self.number = 0

    async def next(self) -> Overview:
        """Wait for an overview that this viewer did not get yet, and return the newest one."""
        lookout = self._lookout
        if not self.number:
            await lookout.settle()
        while lookout.number == self.number:
            await lookout.news.wait()
        self.number = lookout.number
        return lookout.overview


class Lookout:
    """The overview of a console, for any number of viewers; `run` keeps it current."""

    def __init__(self, console: ManagementConsole) -> None:
        self._console = console
        self._inquiries: dict[int, _Inquiry] = {}
        self._viewers: set[Viewer] = set()
        self._wanted = trio.Event()
        self._round = trio.Event()
        self._settled = False
        self.news = trio.Event()
        """Set at the next overview."""
        self.number = 0
        """The number of the last overview, which grows with each change."""
        self.run_id = os.urandom(_RUN_SIZE).hex()
        self.overview = Overview(console=console.name, run=self.run_id, ok=True, systems=[], jobs=[])

    def __repr__(self) -> str:
        return f"Lookout({len(self._viewers)} viewers, overview {self.number})"

    @contextmanager
    def opened(self) -> Iterator[Viewer]:
        """Add a viewer for the block."""
        viewer = Viewer(self)
        if not self._viewers:
            self._wanted.set()
        self._viewers.add(viewer)
        try:
            yield viewer
        finally:
            self._viewers.discard(viewer)
            if not self._viewers:
                self._wanted, self._settled = trio.Event(), False

    async def look(self) -> tuple[int, Overview]:
        """Return number and overview after each connected system was asked, or after LOOK_SECONDS."""
        with self.opened():
            await self.settle()
        return self.number, self.overview

    async def settle(self) -> None:
        """Wait until the overview is no longer the one of an earlier viewer, or LOOK_SECONDS.

        The systems were asked then.
        """
        if not self._settled:
            with trio.move_on_after(LOOK_SECONDS):
                await self._round.wait()

    async def run(self) -> None:
        """Keep the overview current, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                await self._wanted.wait()
                pause = TICK_SECONDS
                try:
                    self._ask(nursery)
                    self._publish()
                except Exception as error:
                    _log.error("overview.failed", exc_info=error)
                    pause = FAILED_SECONDS
                await trio.sleep(pause)

    def _ask(self, nursery: trio.Nursery) -> None:
        """Ask the systems whose time has come."""
        now = trio.current_time()
        systems = self._console.systems
        self._inquiries = {each.key: self._inquiries.get(each.key) or _Inquiry() for each in systems}
        for system in systems:
            inquiry = self._inquiries[system.key]
            if now < inquiry.due or inquiry.asking:
                continue
            inquiry.due = now + ASK_SECONDS
            inquiry.facts.copies = system.copies
            if system.connected:
                inquiry.asking = True
                nursery.start_soon(self._inquire, system, inquiry)

    def _publish(self) -> None:
        """Make the overview, and wake the viewers if it has changed."""
        facts = {key: each.facts for key, each in self._inquiries.items()}
        overview = overview_of(self._console, self.run_id, facts, self._console.date())
        if not self.number or overview != self.overview:
            self.number, self.overview = self.number + 1, overview
            self.news.set()
            self.news = trio.Event()
        # Looks wait for the answers of all systems that were asked.
        if not any(each.asking for each in self._inquiries.values()):
            self._settled = True
            self._round.set()
            self._round = trio.Event()

    async def _inquire(self, system: KnownSystem, inquiry: _Inquiry) -> None:
        """Ask a system for its view and its health, and once for its components."""
        facts = inquiry.facts
        silent = f"no answer within {ANSWER_SECONDS:g} seconds"
        try:
            with trio.move_on_after(ANSWER_SECONDS):
                await system.call(show_system())
                facts.health = await system.call(show_health())
                if inquiry.components_since != system.since or facts.components is None:
                    since = system.since
                    facts.components = (await system.call(show_components())).components
                    inquiry.components_since = since
                silent = ""
        except SwpksError as error:
            silent = error.message
        except Exception as error:  # a bug at one system must not end the console
            silent = f"the console failed at this system ({type(error).__name__})"
            _log.warning("system.failed", system=system.name, exc_info=error)
        finally:
            facts.silent = silent
            inquiry.asking = False
            inquiry.due = trio.current_time() + ASK_SECONDS
