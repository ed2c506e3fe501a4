"""One trial of a client: the line protocol, the scripted server, and the first steps of most cases."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterable
from pathlib import Path

from hcall_abi.frames import GoodbyeReason, HCall, Hello, Open, Write
from swpks.conformance.case import Deviation, NotRun
from swpks.conformance.client.compare import demand_call, demand_returned, line_of, opened_text
from swpks.conformance.client.dialogue import LineClient, Watched
from swpks.conformance.client.lines import OpenPlace, Report, call_line, open_line, pipeline_line
from swpks.conformance.client.usual import IPL_COUNT, LEVEL, PARTITION, AskedSession, hello, opened
from swpks.conformance.client.wire import ServedConnection


class Trial:
    """The client and the scripted server of one case; `folder` has room for the server's sockets."""

    def __init__(self, client: LineClient, folder: Path) -> None:
        self.client = client
        self._folder = folder
        self._listeners: list[socket.socket] = []
        self._connections: list[ServedConnection] = []

    # The steps up to an open session

    def dial(self, *, partition: int = 0, key: bytes | None = None, tcp: bool = False) -> ServedConnection:
        """Ask the client to open a session, and accept its connection."""
        # The server listens before the command is sent.  Otherwise a quick client would find no server.
        listener, place = self._listen_tcp() if tcp else self._listen_unix()
        self.client.command(open_line(OpenPlace(place, partition, key)))
        listener.settimeout(self.client.patience)
        self._await(listener.fileno(), "a connection")
        sock, _ = listener.accept()
        connection = ServedConnection(sock, self.client.log, self.client.patience)
        self._connections.append(connection)
        return connection

    def greet(
        self,
        *,
        greeting: Hello | None = None,
        partition: int = 0,
        key: bytes | None = None,
        tcp: bool = False,
    ) -> AskedSession:
        """Ask the client to open a session, send HELLO, and take its OPEN; the session is not open yet."""
        connection = self.dial(partition=partition, key=key, tcp=tcp)
        said = greeting or hello()
        connection.say(said)
        connection.max_body = said.max_body
        return AskedSession(connection, said, connection.take(Open))

    def open(
        self,
        *,
        greeting: Hello | None = None,
        partition: int = 0,
        key: bytes | None = None,
        tcp: bool = False,
    ) -> ServedConnection:
        """Open a session, and demand that the client reports it as open."""
        opening = self.greet(greeting=greeting, partition=partition, key=key, tcp=tcp)
        self.admit(opening, key=key)
        return opening.connection

    def admit(self, opening: AskedSession, *, key: bytes | None = None) -> None:
        """Answer OPEN with the right OPENED, and demand that the client reports an open session."""
        opening.connection.say(opened(opening, key=key))
        self.opened(PARTITION, IPL_COUNT, LEVEL)

    def call(self, connection: ServedConnection, made: HCall) -> HCall:
        """Ask the client for a call; return its HCALL.  Deviation if it is another call."""
        self.client.command(call_line(made))
        return self.taken(connection, made)

    def pipeline(self, connection: ServedConnection, made: list[HCall]) -> list[HCall]:
        """Ask the client for calls that it sends without waiting for answers; return the HCALLs."""
        self.client.command(pipeline_line(made))
        return [self.taken(connection, each) for each in made]

    def taken(self, connection: ServedConnection, made: HCall) -> HCall:
        """Take an HCALL and return it.  Deviation if it is not the call that the judge asked for."""
        if connection.descriptor is not None and not connection.buffered:
            self._await(connection.descriptor, "HCALL")
        came = connection.take(HCall)
        demand_call(made, came)
        return came

    # Reports

    def report(self, *kinds: str) -> Report:
        """Return the next line of the client; Deviation for another kind, NotRun for `unsupported`.

        A connection or a frame that comes before the line is a Deviation too.
        """
        report = self.client.report(*self._watched())
        if report.kind == "unsupported":
            raise NotRun(f"the client does not support this: {report.text or 'no reason given'}")
        if report.kind not in kinds:
            raise Deviation(" or ".join(f"`{kind}`" for kind in kinds), line_of(report))
        return report

    def either(self, *kinds: str) -> str:
        """Return the kind of the next line; Deviation if `kinds` lacks it.

        Frames may come before the line.
        """
        report = self.client.report()
        if report.kind not in kinds:
            raise Deviation(" or ".join(f"`{kind}`" for kind in kinds), line_of(report))
        return report.kind

    def opened(self, partition: int, ipl_count: int, level: str) -> None:
        """Demand the report `opened` with these fields."""
        came = self.report("opened")
        expected = Report("opened", partition, ipl_count=ipl_count, text=level)
        if came != expected:
            raise Deviation(opened_text(expected), opened_text(came))

    def returned(self, status: int, *registers: int, writes: Iterable[Write] = ()) -> None:
        """Demand the report `returned` with these values."""
        demand_returned(self.report("returned"), status, registers, writes)

    def numbered(self, kind: str, number: int) -> Report:
        """Demand the report `refused` or `ended` with a number."""
        came = self.report(kind)
        if came.number != number:
            raise Deviation(f"`{kind} {number}`", line_of(came))
        return came

    def broken(self, connection: ServedConnection) -> None:
        """Demand GOODBYE 1 with a text, the end of the stream, and the report `broken`."""
        connection.goodbye(GoodbyeReason.PROTOCOL_ERROR, text=True)
        self.report("broken")

    def close(self, connection: ServedConnection) -> None:
        """Ask the client to close the session.

        The client must send GOODBYE 0, end the stream, and print `closed`.
        """
        self.client.command("close")
        connection.goodbye(GoodbyeReason.DONE)
        self.report("closed")

    def leave(self) -> None:
        """Close every connection and listener of this trial."""
        for connection in self._connections:
            connection.close()
        for listener in self._listeners:
            listener.close()

    # The listening sockets

    def _listen_unix(self) -> tuple[socket.socket, str]:
        path = self._folder / f"{len(self._listeners)}-{secrets.token_hex(4)}.sock"
        listener = socket.socket(socket.AF_UNIX)
        self._listeners.append(listener)
        listener.bind(str(path))
        listener.listen()
        return listener, f"unix:{path}"

    def _listen_tcp(self) -> tuple[socket.socket, str]:
        listener = socket.create_server(("127.0.0.1", 0))
        self._listeners.append(listener)
        return listener, f"tcp:127.0.0.1:{listener.getsockname()[1]}"

    def deserted(self) -> str:
        """Return a place where no server listens."""
        listener, place = self._listen_unix()
        listener.close()
        self._listeners.remove(listener)
        return place

    def _await(self, descriptor: int, what: str) -> None:
        """Wait until a descriptor is readable; Deviation if a line comes first."""
        try:
            report = self.client.report(Watched(descriptor, _CameFirst))
        except _CameFirst:
            return
        if report.kind == "unsupported":
            raise NotRun(f"the client does not support this: {report.text or 'no reason given'}")
        raise Deviation(what, line_of(report))

    def _watched(self) -> list[Watched]:
        again = Deviation("the line of the client", "a connection that no command asked for")
        # The listeners stay open.  So the judge sees a client that opens a second connection without a
        # command.
        listening = [Watched(each.fileno(), lambda: again) for each in self._listeners]
        connected = [
            Watched(each.descriptor, each.unasked)
            for each in self._connections
            if each.descriptor is not None
        ]
        return listening + connected


class _CameFirst(Deviation):
    """The descriptor became readable before a line came."""

    def __init__(self) -> None:
        super().__init__("a line", "something else first")
