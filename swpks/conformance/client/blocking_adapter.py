"""The adapter of the blocking channel."""

# An adapter has three tasks: it reads a command, calls the client's library, and writes the library's result
# or error.  It adds nothing: no retry, no check, no timeout.  Otherwise the judge would see the
# adapter and not the client.

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TextIO

from hcall_abi.errors import PeerError, SwpksError
from hcall_abi.frames import HReturn
from hcall_client.blocking import BlockingChannel, Target
from hcall_client.calls import raw_call
from hcall_client.errors import CallTooLarge, ConnectionLost
from hcall_client.request import Request
from hcall_client.results import result_of
from swpks.conformance.client.adapter_words import READY, error_line, target_of
from swpks.conformance.client.lines import OpenPlace, opened_line, read_command, returned_line

_NO_SESSION = ConnectionLost("no session was opened")


class BlockingAdapter:
    """An adapter that carries out the commands of the line protocol with `BlockingChannel`."""

    def __init__(self) -> None:
        self._channel: BlockingChannel | None = None

    def answer(self, line: str) -> list[str]:
        """Carry out a command, and return the lines that answer it."""
        match read_command(line):
            case OpenPlace() as opening:
                return [self.open(opening)]
            case list() as calls:
                return self.calls([raw_call(*call) for call in calls])
            case "begin":
                return [f"{READY} blocking"]
            case "close":
                self.close()
                return ["closed"]
            case _:
                return ["unsupported"]

    def open(self, opening: OpenPlace) -> str:
        """Open a session, after closing the earlier session if it is still open; return the report."""
        self.close()
        try:
            channel = self.connect(opening)
        except (SwpksError, OSError) as error:
            return error_line(error)
        self._channel = channel
        return opened_line(channel.partition, channel.ipl_count, channel.level)

    def connect(self, opening: OpenPlace) -> BlockingChannel:
        """Return a channel to the place that the command `open` names."""
        return BlockingChannel.connect(
            self.target(opening.place), partition=opening.partition, access_key=opening.key
        )

    def target(self, place: str) -> Target:
        """Return the address that the client's library takes for a place."""
        return target_of(place)

    def calls(self, requests: Sequence[Request[HReturn]]) -> list[str]:
        """Send all calls at once; return the report of each."""
        channel = self._channel
        if channel is None:
            return [error_line(_NO_SESSION)] * len(requests)
        try:
            sent = channel.run(requests)
        except CallTooLarge as error:
            return [error_line(error)]
        found = []
        for request, pending in zip(requests, sent, strict=False):
            try:
                answer = result_of(request, pending, channel.complain)
                found.append(returned_line(answer.status, answer.registers, answer.writes))
            except PeerError as error:
                found.append(error_line(error))
        found += [error_line(channel.ended or _NO_SESSION)] * (len(requests) - len(found))
        # The line protocol demands this order: close the connection, then report.
        if channel.ended:
            channel.close()
        return found

    def close(self) -> None:
        """Close the session, if there is one."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None


def serve_lines(adapter: BlockingAdapter, commands: Iterable[str], reports: TextIO) -> None:
    """Answer the judge's commands until `quit` or the end of the input."""
    for line in commands:
        if line.strip() == "quit":
            return
        reports.write("".join(f"{each}\n" for each in adapter.answer(line)))
        reports.flush()
