"""The adapter of the Trio channel: a thread reads the commands, so the channel's tasks can run meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import TextIO

import trio

from hcall_abi.errors import PeerError, SwpksError
from hcall_abi.frames import HReturn
from hcall_client.calls import raw_call
from hcall_client.channel import Channel, open_channel, settled
from hcall_client.conversation import Pending
from hcall_client.errors import CallTooLarge
from hcall_client.request import Request
from hcall_client.results import result_of
from swpks.conformance.client.adapter_words import READY, error_line, target_of
from swpks.conformance.client.lines import OpenPlace, opened_line, read_command, returned_line


class TrioAdapter:
    """An adapter that carries out the commands of the line protocol with `Channel`."""

    def __init__(self) -> None:
        self._channel: Channel | None = None
        self._stack = AsyncExitStack()

    async def answer(self, line: str) -> list[str]:
        """Carry out a command, and return the lines that answer it."""
        match read_command(line):
            case OpenPlace() as opening:
                return [await self.open(opening)]
            case list() as calls:
                return await self.calls([raw_call(*call) for call in calls])
            case "begin":
                return [f"{READY} trio"]
            case "close":
                await self.close()
                return ["closed"]
            case _:
                return ["unsupported"]

    async def open(self, opening: OpenPlace) -> str:
        """Open a session, after closing the earlier session if it is still open; return the report."""
        await self.close()
        target = target_of(opening.place)
        opened = open_channel(target, partition=opening.partition, access_key=opening.key)
        try:
            channel = await self._stack.enter_async_context(opened)
        except (SwpksError, OSError) as error:
            return error_line(error)
        self._channel = channel
        return opened_line(channel.partition, channel.ipl_count, channel.level)

    async def calls(self, requests: Sequence[Request[HReturn]]) -> list[str]:
        """Send all calls without waiting for an answer in between; return the report of each."""
        channel = self._channel
        if channel is None:
            return ["lost"] * len(requests)
        sent: list[tuple[Request[HReturn], Pending]] = []
        try:
            for request in requests:
                await channel.room()
                sent.append((request, channel.submit(request)))
        except CallTooLarge as error:
            return [error_line(error)]
        except PeerError:
            pass  # the session has ended: the calls that were not sent get its error below
        found = [await self._report(channel, *each) for each in sent]
        if channel.ended:
            found += [error_line(channel.ended)] * (len(requests) - len(found))
            # The line protocol demands this order: close the connection, then report.
            await self._stack.aclose()
        return found

    async def _report(self, channel: Channel, request: Request[HReturn], pending: Pending) -> str:
        await settled(pending)
        try:
            answer = result_of(request, pending, channel.complain)
        except PeerError as error:
            return error_line(error)
        return returned_line(answer.status, answer.registers, answer.writes)

    async def close(self) -> None:
        """Close the session, if there is one."""
        await self._stack.aclose()
        self._channel = None


def run_trio_adapter(commands: TextIO, reports: TextIO) -> None:
    """Answer the judge's commands until `quit` or the end of the input."""
    trio.run(_serve, commands, reports)


async def _serve(commands: TextIO, reports: TextIO) -> None:
    adapter = TrioAdapter()
    while (line := await trio.to_thread.run_sync(commands.readline)) not in ("", "quit\n"):
        reports.write("".join(f"{each}\n" for each in await adapter.answer(line)))
        reports.flush()
    await adapter.close()
