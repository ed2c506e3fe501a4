"""Rules of the console's process and its socket, broken by a command or by another program."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from hcall_abi.control_views import Problem
from hcall_abi.rules import hmc as rules
from hcall_abi.rules.rule import Rule
from hcall_server.console.whereabouts import whereabouts
from swpks.hmc import wire
from swpks.hmc.forward import request_of
from swpks.hmc.links import make_links
from swpks.hmc.orders import MAX_WATCHERS, ConsoleHandler
from swpks.hmc.page.place import PagePlace, demand_host, place_of
from swpks.hmc.page.rendering import Rendering
from swpks.hmc.serving import WireCaller
from swpks.hmc.store_folder import StoreFolder
from tests.console.stand import standing
from tests.hmc.rig import LINE, served
from tests.rules.breaking import Breaks, breaks, refused, refused_late, row_of, run
from tests.rules.process import command


def _other_folder(folder: Path) -> Rule:
    (folder / "letter").touch()
    return refused(StoreFolder, folder)


def _two_ends(folder: Path) -> Rule:
    return command("hmc", "status", "--store", folder, "--state", folder)


def _other_links(folder: Path) -> Rule:
    (folder / "letter").touch()
    return refused(make_links, folder, folder)


def _file_not_sent(folder: Path) -> Rule:
    """Break a rule: the command answers that it does not open the requested file."""
    found: list[Rule] = []

    async def work(caller: WireCaller) -> bytes:
        found.append(await refused_late(caller.read("key", 32)))
        return wire.exit_status(1)

    async def broken() -> Rule:
        async with served(folder, work) as rig:
            raw = await rig.connect(LINE)
            await raw.next()
            await raw.stream.send_all(b'{"error": "key: the command does not name it"}\n')
            await raw.rest()
        return found[0]

    return run(broken)


def _stopped(_: Path) -> Rule:
    """Break a rule: a request waits when the console stops."""

    async def broken() -> Rule:
        async with standing("S") as stand:
            order = wire.request_of(b'{"order": {"verb": "backup"}}')
            last = msgspec.json.decode(ConsoleHandler(stand.console).stopped(order))
        return row_of(msgspec.to_builtins(msgspec.json.decode(last["answer"]["content"], type=Problem)))

    return run(broken)


_WATCH = b'{"order": {"verb": "watch"}}'


def _too_many_watch(_: Path) -> Rule:
    """Break a rule: one command more than MAX_WATCHERS watches the console."""

    async def broken() -> Rule:
        async with standing("S") as stand, trio.open_nursery() as nursery:
            handler, order = ConsoleHandler(stand.console), wire.request_of(_WATCH)
            nobody: Any = None
            for _ in range(MAX_WATCHERS):
                nursery.start_soon(handler.handle, order, nobody)
            await trio.testing.wait_all_tasks_blocked()
            last = msgspec.json.decode(await handler.handle(order, nobody))
            nursery.cancel_scope.cancel()
        return row_of(msgspec.to_builtins(msgspec.json.decode(last["answer"]["content"], type=Problem)))

    return run(broken)


def _without_jinja(_: Path) -> Rule:
    """Break a rule: the page is wanted where jinja2 is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "jinja2", None)
        return refused(Rendering)


BREAKS: Breaks = {
    rules.HMC_WATCHERS.id: _too_many_watch,
    rules.HMC_PAGE_PLACE.id: breaks(partial(place_of, insecure=False), "8080"),
    rules.HMC_PAGE_LOOPBACK.id: breaks(partial(place_of, insecure=False), "192.0.2.1:8080"),
    rules.HMC_PAGE_PACKAGES.id: _without_jinja,
    rules.HMC_PAGE_HOST.id: breaks(demand_host, PagePlace("127.0.0.1", 8080), ["evil.example"]),
    rules.HMC_WHERE.id: breaks(whereabouts, [], "lpar1"),
    rules.HMC_FILE.id: _file_not_sent,
    rules.HMC_WIRE.id: breaks(wire.request_of, b"GET / HTTP/1.1"),
    rules.HMC_OPERATION.id: breaks(request_of, wire.Forwarded(operation="attachConsole")),
    rules.HMC_STORE_FOLDER.id: _other_folder,
    rules.HMC_TARGET.id: _two_ends,
    rules.HMC_LINKS.id: _other_links,
    rules.HMC_STOPPED.id: _stopped,
}
