"""Writes the frames of a trace to its file, without a wait for the event loop."""

# From the event loop to the file
#
# A trace must never change the service that it shows.  This module must guarantee:
#
#   1. The event loop never waits for the file.  It appends frames, and ends of connections that have one, to
#      a queue of bounded size.  A frame that does not fit is lost, and counted.
#   2. All else happens in the jobs of a worker, one after the other: blanking, the blocks, and the writes.
#      So the loop pays a copy of the frame, and nothing for its content.
#   3. An error of the file ends the trace, with a line in the log.  No error reaches a connection.
#   4. The file has whole blocks at any time.  After an error, or a full disk, it is cut back to the last
#      whole one.  A kill can cut the last block off; Wireshark reads all blocks before it.
#   5. A secret is in no file, also for a moment: frames are blanked before they are written.
#
# The worker is the seam of `hcall_server.writeback.worker`: a thread of its own in a server, the loop in
# tests.  One job at a time is under way.  Its batch has all frames that came during the job before it, so
# the number of jobs follows the speed of the disk.  Only the loop touches the queue, and only a job touches
# the writer, so neither needs a lock.  The loop reads the counts of the writer when a job has landed.
#
# The bound counts frames until their job has landed, not until it has begun: a job that hangs in a write
# still holds their memory.
#
# The file takes no sync.  A trace is for a person who looks at it next, and not for a time after a power cut.
# We dropped a sync at the end: on a slow disk it delays the stop of the server.

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import outcome
import trio

from hcall_server.trace import pcapng
from hcall_server.trace.blanking import Blanker, Passwords
from hcall_server.trace.cutting import CutFrame
from hcall_server.trace.known import KnownPasswords
from hcall_server.writeback.worker import Worker

ROOM = 8 << 20
"""Bytes of frames that wait at most: 32 of the largest, or about 40,000 calls."""
_ENTRY = 128
"""Bytes that a frame costs in the queue beside its content: a bound for small frames too."""
BLANKERS = 4096
"""Connections that the writer remembers at most: more than a server has at one time by default."""
_PIECE = 256 * 1024
"""Bytes after which blocks are written."""

LIMIT = "the limit was reached"
"""The reason of the end of a trace whose file is full."""

OpenFile = Callable[[], tuple[int, str]]
"""Makes the file, and returns its descriptor and its name; OSError if it can't.  Called in a job."""


class QueuedFrame(NamedTuple):
    """A frame that waits; `frame` is None for the end of a connection.

    `number` counts the calls, and the answers, of the connection.  `dropped` frames were lost before it.
    """

    microseconds: int
    connection: int
    inbound: bool
    frame: CutFrame | None
    number: int | None
    passwords: Passwords
    dropped: int

    def __repr__(self) -> str:
        return f"QueuedFrame(connection {self.connection}, {self.frame.length if self.frame else 0} bytes)"


class TraceWriter:
    """The file of a trace.  All functions block: only the jobs of a worker call them."""

    def __init__(self, make: OpenFile, head: bytes, *, limit: int, secrets: bool) -> None:
        self.file = ""
        """The name of the file, once it is made."""
        self.frames = 0
        """Frames in the file."""
        self.size = 0
        """Bytes of the file, in whole blocks."""
        self.full = False
        """Whether the next frame would exceed the limit."""
        self._make = make
        self._head = head
        self._room = limit - pcapng.STATISTICS_SIZE
        self._secrets = secrets
        self._descriptor: int | None = None
        self._blankers: dict[int, Blanker] = {}
        self._known = KnownPasswords()

    def __repr__(self) -> str:
        return f"TraceWriter({self.frames} frames, {self.size} bytes)"

    @property
    def connections(self) -> int:
        """Connections whose blankers are remembered."""
        return len(self._blankers)

    def begin(self) -> None:
        """Make the file, and write its head."""
        self._descriptor, self.file = self._make()
        self._write(self._head, 0)

    def write(self, entries: Iterable[QueuedFrame]) -> None:
        """Write frames, as many as the limit permits."""
        blocks, size, frames = [], 0, 0
        for entry in entries:
            block = self._block(entry)
            if self.size + size + len(block) > self._room:
                self.full = True
                break
            blocks.append(block)
            size, frames = size + len(block), frames + (entry.frame is not None)
            if size >= _PIECE:
                self._write(b"".join(blocks), frames)
                blocks, size, frames = [], 0, 0
        self._write(b"".join(blocks), frames)

    def close(self, microseconds: int, lost: int) -> None:
        """Write the last block, and close the file; nothing without a file."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        try:
            self._put(descriptor, pcapng.statistics(microseconds, self.frames + lost, lost))
        finally:
            os.close(descriptor)

    def _block(self, entry: QueuedFrame) -> bytes:
        if entry.frame is None:
            self._blankers.pop(entry.connection, None)
            return b""
        data = entry.frame.data
        if not self._secrets:
            data = self._blanker(entry.connection).blanked(entry.frame, entry.number, entry.passwords)
        length = entry.frame.length
        return pcapng.packet(
            pcapng.Packet(entry.microseconds, entry.connection, entry.inbound, data, length, entry.dropped)
        )

    def _blanker(self, connection: int) -> Blanker:
        blanker = self._blankers.get(connection)
        if blanker is None:
            # The end of a connection may be missing, so the oldest one is forgotten.  If it is still open,
            # the answers to its calls under way show nothing.
            if len(self._blankers) >= BLANKERS:
                del self._blankers[next(iter(self._blankers))]
            blanker = self._blankers[connection] = Blanker(self._known)
        return blanker

    def _write(self, blocks: bytes, frames: int) -> None:
        if self._descriptor is None or not blocks:
            return
        try:
            self._put(self._descriptor, blocks)
        except OSError:
            # Closed here: the last block would not fit either, and the next one would follow a gap.
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)
            raise
        self.frames += frames

    def _put(self, descriptor: int, blocks: bytes) -> None:
        """Write blocks, all of them or none."""
        rest = memoryview(blocks)
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, self.size)
            raise
        self.size += len(blocks)


class Recorder:
    """One trace, from the side of the event loop.

    `date` returns seconds since 1970.  `on_stop` is called once if the trace ends by itself; `reason` has
    the reason then, and `error` the exception, if there was one.  `on_done` is called once when the file is
    complete.
    """

    def __init__(
        self,
        writer: TraceWriter,
        worker: Worker,
        *,
        date: Callable[[], float],
        on_stop: Callable[[], None],
        on_done: Callable[[], None],
        room: int = ROOM,
    ) -> None:
        self.lost = 0
        """Frames that did not fit into the queue."""
        self.reason = ""
        """Why the trace has ended by itself; "" if it has not."""
        self.error: BaseException | None = None
        self.writer = writer
        self._worker = worker
        self._date = date
        self._on_stop = on_stop
        self._on_done = on_done
        self._room = room
        self._queue: list[QueuedFrame] = []
        self._recorded: set[int] = set()
        self._waiting = self._under_way = self._dropped = 0
        self._ending = self._closing = False
        self._busy = False
        self._began, self._done = trio.Event(), trio.Event()

    def __repr__(self) -> str:
        return f"Recorder({self.writer!r}, {self.lost} lost)"

    @property
    def runs(self) -> bool:
        """Whether frames are recorded."""
        return not self._ending

    @property
    def queued(self) -> int:
        """Entries of the queue whose job has not begun."""
        return len(self._queue)

    def start(self) -> None:
        """Make the file soon; frames wait in the queue until then."""
        self._run(self.writer.begin)

    def start_made(self) -> None:
        """Make the file now; OSError if that fails.  Blocks, and needs no event loop."""
        self.writer.begin()
        self._began.set()

    async def wait_begun(self) -> None:
        """Return when the file was made, or could not be made: then `error` says why."""
        await self._began.wait()

    def now(self) -> int:
        """Return the time of a frame that comes now, in microseconds since 1970."""
        return int(self._date() * 1_000_000)

    def record(
        self,
        microseconds: int,
        connection: int,
        inbound: bool,
        frame: CutFrame | None,
        number: int | None = None,
        passwords: Passwords = (),
    ) -> None:
        """Queue a frame, or the end of a connection (None); count a frame as lost if there is no room."""
        if self._ending or (frame is None and connection not in self._recorded):
            return
        fits = self._waiting + _size(frame) <= self._room
        if frame is None:
            # An end without room is dropped: the writer remembers few connections anyway.
            self._recorded.discard(connection)
        elif not fits:
            self.lost += 1
            self._dropped += 1
        if not fits:
            return
        dropped = 0
        if frame is not None:
            self._recorded.add(connection)
            dropped, self._dropped = self._dropped, 0
        self._queue.append(QueuedFrame(microseconds, connection, inbound, frame, number, passwords, dropped))
        self._waiting += _size(frame)
        self._go_on()

    def end(self) -> None:
        """Record no more; the frames that wait are written, and the file is completed."""
        self._ending = True
        self._go_on()

    @property
    def is_finished(self) -> bool:
        """Whether the file is complete."""
        return self._done.is_set()

    async def finished(self) -> None:
        """Return when the file is complete, after `end` or an end by itself."""
        await self._done.wait()

    def _run(self, job: Callable[[], None]) -> None:
        self._busy = True
        self._worker.start(job, self._landed)

    def _landed(self, result: outcome.Outcome[None]) -> None:
        self._busy = False
        self._waiting -= self._under_way
        self._under_way = 0
        if isinstance(result, outcome.Error):
            self.error = result.error
            self._stop(_words(result.error))
        elif self.writer.full:
            self._stop(LIMIT)
        self._began.set()
        self._go_on()

    def _stop(self, reason: str) -> None:
        """End the trace by itself, unless it has ended; the frames that wait are dropped."""
        self._queue.clear()
        self._waiting = 0
        if not self.reason:
            self.reason, self._ending = reason, True
            self._on_stop()

    def _go_on(self) -> None:
        """Begin the next job, if there is one and none is under way."""
        if self._busy:
            return
        if self._queue:
            batch, self._queue = self._queue, []
            self._under_way = self._waiting
            self._run(partial(self.writer.write, batch))
        elif self._ending and not self._closing:
            self._closing = True
            self._run(partial(self.writer.close, self.now(), self.lost))
        elif self._closing and not self._done.is_set():
            self._worker.close()
            self._on_done()
            self._done.set()


def _size(frame: CutFrame | None) -> int:
    return _ENTRY + (len(frame.data) if frame else 0)


def _words(error: BaseException) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
