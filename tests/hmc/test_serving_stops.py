"""The server of commands during a stop, and when something fails."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import trio

from hcall_server.console.jobs import Job
from swpks.hmc.serving import CommandServer, WireCaller
from tests.hmc.rig import LINE, done, run, served


@pytest.mark.parametrize("following", [True, False])
def test_a_stop_tells_those_who_wait(tmp_path, following) -> None:
    """At a stop, a follower of a job ends at once, and any other command after the grace."""

    async def work(caller: WireCaller) -> bytes:
        await (caller.progress(Job(1, "recover", "sys1")) if following else caller.say("begun"))
        await trio.sleep_forever()

    async def main() -> None:
        async with served(tmp_path, work) as rig:
            raw = await rig.connect(LINE)
            await raw.next()
            begun = trio.current_time()
            rig.stop()
            assert await raw.rest() == [{"say": "stopped"}, {"exit": 1}]
            assert (trio.current_time() - begun < 1) == following

    run(main)


def test_a_hurried_stop_waits_for_nothing(tmp_path) -> None:
    """After a second signal the server waits for no command."""

    async def work(caller: WireCaller) -> bytes:
        await caller.say("begun")
        await trio.sleep_forever()

    async def main() -> None:
        async with served(tmp_path, work) as rig:
            raw = await rig.connect(LINE)
            await raw.next()
            begun = trio.current_time()
            rig.stop()
            rig.server.hurry()
            assert await raw.rest() == [{"say": "stopped"}, {"exit": 1}]
            assert trio.current_time() - begun < 1

    run(main)


def test_a_bug_in_one_command_harms_no_other(tmp_path) -> None:
    """An unexpected error in one command is answered and logged. Other commands go on."""
    bugs = [True, False]

    async def work(caller: WireCaller) -> bytes:
        if bugs.pop(0):
            raise ValueError("a bug")
        return await done(caller)

    async def main() -> None:
        async with served(tmp_path, work) as rig:
            assert await (await rig.connect(LINE)).rest() == [{"say": "failed"}, {"exit": 1}]
            assert (await (await rig.connect(LINE)).rest())[-1] == {"exit": 0}

    run(main)


def test_when_the_host_gives_no_connection_the_server_tries_again(tmp_path, monkeypatch) -> None:
    """If the host refuses a new connection, the server tries again later."""
    failures = [OSError(24, "Too many open files"), ConnectionAbortedError(), BlockingIOError()]

    class Scarce:
        """A listener whose first calls of `accept` fail."""

        def __init__(self, inner: socket.socket) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

        def accept(self) -> Any:
            """Raise one of the failures, or accept."""
            if failures:
                raise failures.pop(0)
            return self._inner.accept()

    made = CommandServer.__init__

    def scarce(self: Any, listener: Any, handler: Any) -> None:
        made(self, Scarce(listener), handler)  # type: ignore[arg-type]

    monkeypatch.setattr(CommandServer, "__init__", scarce)

    async def main() -> None:
        async with served(tmp_path, done) as rig:
            assert (await (await rig.connect(LINE)).rest())[-1] == {"exit": 0}

    run(main)
    assert failures == []
