"""Traces of a system: each sees all connections, or those of one partition, and has a recorder."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from hcall_abi.frames import MAGIC, VERSION, FrameType
from hcall_server.machine.logs import Log
from hcall_server.machine.sessions import Link, Sessions
from hcall_server.machine.tracing import TraceFacts
from hcall_server.trace import pcapng
from hcall_server.trace.blanking import Passwords
from hcall_server.trace.cutting import CutFrame, FrameCutter
from hcall_server.trace.recorder import LIMIT, OpenFile, Recorder, TraceWriter
from hcall_server.writeback.worker import Worker

if TYPE_CHECKING:
    from hcall_server.platform.partition import Partition

_HCALL, _HRETURN = int(FrameType.HCALL), int(FrameType.HRETURN)
_START = MAGIC + bytes((VERSION,))
_log = Log()


class Traced(NamedTuple):
    """What a trace is about: its partition (None: all connections), and whether it has secrets."""

    partition: Partition | None
    secrets: bool


class WireTrace:
    """One trace: its recorder, and its taps at the connections of `sessions`."""

    def __init__(
        self,
        traced: Traced,
        sessions: Sessions,
        make: OpenFile,
        worker: Worker,
        *,
        date: Callable[[], float],
        limit: int,
        application: str,
    ) -> None:
        self.traced = traced
        self._sessions = sessions
        blanked = "nothing is blanked" if traced.secrets else "secrets are blanked by zero bytes"
        name = traced.partition.name if traced.partition else "all partitions"
        head = pcapng.section(application, f"data channel of {name}; {blanked}")
        writer = TraceWriter(make, head, limit=limit, secrets=traced.secrets)
        self.recorder = Recorder(writer, worker, date=date, on_stop=self._stopped, on_done=self._done)

    def __repr__(self) -> str:
        return f"WireTrace({self.file}, {self.recorder!r})"

    @property
    def file(self) -> str:
        """The name of its file; "" until that is made."""
        return self.recorder.writer.file

    @property
    def _log(self) -> Log:
        partition = self.traced.partition
        return _log.bind(file=self.file, **({"partition": partition.name} if partition else {}))

    def tap_open(self) -> None:
        """Tap the connections that are open."""
        partition, sessions = self.traced.partition, self._sessions
        for link in [*sessions.unopened, *sessions.of(partition.number)] if partition else list(sessions):
            self.tap(link)

    def tap(self, link: Link) -> None:
        """Tap a connection, at the place that it has reached."""
        # A connection without a session may belong to the partition of the trace; its OPENED tells.
        link.taps = (*link.taps, _ConnectionTap(self, link))

    def log_began(self) -> None:
        """Log the beginning: the file is made."""
        self._log.info("trace.began", secrets=self.traced.secrets)

    def end(self) -> None:
        """Record no more, and complete the file soon."""
        self._untap()
        self.recorder.end()

    def facts(self) -> TraceFacts:
        """Return the present numbers."""
        writer, recorder = self.recorder.writer, self.recorder
        return TraceFacts(
            self.file, self.traced.secrets, writer.frames, recorder.lost, writer.size, recorder.reason
        )

    def _stopped(self) -> None:
        """Take an end by itself: the file is full, or fails."""
        self._untap()
        recorder = self.recorder
        full = recorder.reason == LIMIT
        advice = "begin a new trace, or choose a larger --trace-limit" if full else "free space for a new one"
        self._log.warning(
            "trace.stopped",
            reason=recorder.reason,
            frames=recorder.writer.frames,
            lost=recorder.lost,
            advice=advice,
        )

    def _done(self) -> None:
        """Log the end on demand: the file is complete."""
        if not self.recorder.reason:
            self._log.info("trace.ended", frames=self.recorder.writer.frames, lost=self.recorder.lost)

    def _untap(self) -> None:
        for link in self._sessions:
            link.taps = tuple(
                each for each in link.taps if not (isinstance(each, _ConnectionTap) and each.trace is self)
            )


class _ConnectionTap:
    """The tap of a trace at one connection.

    Until the connection has a session, the tap of one partition's trace keeps its frames: HELLO and OPEN come
    before it is known whose they are.  They are few, because a session begins with its first OPEN or never.
    """

    def __init__(self, trace: WireTrace, link: Link) -> None:
        self.trace = trace
        self._link = link
        self._recorder = trace.recorder
        self._in, self._out = FrameCutter(), FrameCutter()
        self._partition = link.partition
        undecided = trace.traced.partition is not None and link.partition is None
        self._kept: list[tuple[int, bool, CutFrame, int | None]] | None = [] if undecided else None
        unread, self._calls = link.backlog()
        self._answers = 0
        self.received(unread)

    def __repr__(self) -> str:
        return f"_ConnectionTap({self._link})"

    def received(self, data: bytes | bytearray) -> None:
        """Record the frames that these bytes of the client complete."""
        self._take(self._in.cut(data), inbound=True)

    def sent(self, data: bytes) -> None:
        """Record frames of the server."""
        self._take(self._out.cut(data), inbound=False)

    def opened(self, partition: Partition) -> None:
        """Go on with this connection, or leave it: the session is of another partition."""
        self._partition = partition
        kept, self._kept = self._kept, None
        wanted = self.trace.traced.partition
        # A restored partition is another object, with the same UUID.
        if wanted is not None and wanted.profile.uuid != partition.profile.uuid:
            self._link.taps = tuple(each for each in self._link.taps if each is not self)
            return
        passwords = self._passwords()
        for moment, inbound, frame, number in kept or ():
            self._recorder.record(moment, self._link.number, inbound, frame, number, passwords)

    def ended(self) -> None:
        """Record the frame that the end has cut off, and forget the connection."""
        self._take(self._in.rest(), inbound=True)
        if self._kept is None:
            self._recorder.record(self._recorder.now(), self._link.number, True, None)

    def _take(self, frames: list[CutFrame], *, inbound: bool) -> None:
        if not frames:
            return
        now, passwords = self._recorder.now(), self._passwords()
        for frame in frames:
            number = self._number(frame, inbound)
            if self._kept is not None:
                self._kept.append((now, inbound, frame, number))
            else:
                self._recorder.record(now, self._link.number, inbound, frame, number, passwords)

    def _number(self, frame: CutFrame, inbound: bool) -> int | None:
        """Return the number of a call, or of an answer, in this connection; None for any other frame."""
        if not frame.data.startswith(_START):
            return None
        kind = frame.data[5]
        if inbound and kind == _HCALL:
            self._calls += 1
            return self._calls
        if not inbound and kind == _HRETURN:
            self._answers += 1
            return self._answers
        return None

    def _passwords(self) -> Passwords:
        """Return the passwords that are set: a label must not show a part of one."""
        keystore = self._partition.keystore if self._partition else None
        return tuple(password for _, password in keystore.access.passwords.items()) if keystore else ()
