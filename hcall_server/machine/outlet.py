"""Writes lines to a descriptor without a wait for the caller: the destination of a server's log."""

# Why a thread
#
# Standard error is inherited: a pipe, a terminal, a socket or a file. Its reader can stop reading at any
# time. Then a write blocks, and a write on the event loop stops every partition. Three ways were considered:
#
#   1. O_NONBLOCK. It belongs to the open file description. So it would also change the terminal or pipe of
#      the other processes that share it.
#   2. poll() before write(). For a pipe, POLLOUT promises room for PIPE_BUF bytes, but another writer of the
#      same pipe can take that room first. Lines can be longer. A terminal or a socket promises less.
#   3. One thread that writes, behind a bounded queue. It may block for as long as the reader does not read.
#
# This is the third. The event loop never waits. Measured for a line of 250 bytes and a pipe that is read, the
# rendering included: a line costs the loop 9 us (mean 10) by the thread, 1 us of it for the queue. By a write
# on the loop it costs 15 us (mean 48, because each write wakes the reader).
#
# The queue holds lines and, between them, numbers of lines that were dropped at that place. So the reader of
# the log finds a gap where it is. If the notice of a gap cannot be made, the lines after it are still
# written, and a later notice counts the gap too. The thread writes whole lines, at most PIPE_BUF bytes at
# once, or one longer line. A pipe takes PIPE_BUF bytes in one piece, so lines of servers that share a pipe
# are not mixed.

from __future__ import annotations

import io
import os
import select
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from itertools import accumulate

ROOM = 1 << 20
"""Bytes of lines that wait at most: about 4,000 lines, a second or more of the busiest log."""

PIECE = select.PIPE_BUF
"""Bytes that are written at once, unless a single line is longer."""


class Outlet:
    """Writes lines to `descriptor` in order, from a daemon thread that starts with the first line.

    `notice` returns the line that reports a number of dropped lines; it is called in the thread.  `room` is
    the largest number of bytes that wait.  The caller owns the descriptor, and closes it.
    """

    def __init__(self, descriptor: int, notice: Callable[[int], bytes], room: int = ROOM) -> None:
        self.dropped = 0
        """Lines that were dropped since the start."""
        self._descriptor = descriptor
        self._notice = notice
        self._room = room
        self._size = 0
        self._queue: deque[bytes | int] = deque()
        self._changed = threading.Condition(threading.Lock())
        self._thread: threading.Thread | None = None
        self._idle = True
        self._failing = False
        self._torn = False

    def __repr__(self) -> str:
        return f"Outlet({self._descriptor}, {self._size} bytes wait, {self.dropped} lines dropped)"

    def write(self, line: bytes) -> None:
        """Queue a line that ends with a newline.

        If the queue has no room, the line is dropped and counted.  Never blocks.
        """
        with self._changed:
            if self._size + len(line) > self._room or not self._has_thread():
                self._gap_at_end()
                return
            self._queue.append(line)
            self._size += len(line)
            if self._idle:
                self._changed.notify_all()

    def drop(self) -> None:
        """Count a line that could not be made, such as for lack of memory."""
        with self._changed:
            self._gap_at_end()
            if self._idle and self._has_thread():
                self._changed.notify_all()

    def flush(self, seconds: float) -> bool:
        """Wait for some seconds at most; return whether every queued line is written or dropped."""
        with self._changed:
            return self._changed.wait_for(lambda: self._idle and not self._size, seconds)

    def _has_thread(self) -> bool:
        """Start the thread if needed; return whether it runs.  False if the host has no thread left."""
        if self._thread is None:
            thread = threading.Thread(target=self._work, name="swpks-log", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return False
            self._thread = thread
        return True

    def _gap_at_end(self) -> None:
        self.dropped += 1
        last = self._queue.pop() if self._queue and isinstance(self._queue[-1], int) else 0
        self._queue.append(1 + int(last))

    def _work(self) -> None:
        while True:
            gap, lines = self._next()
            notices = self._notices(gap)
            written = self._written([*notices, *lines])
            lost = len(lines) - max(0, written - len(notices))
            self._count_lost(0 if notices and written else gap, lost)

    def _notices(self, gap: int) -> list[bytes]:
        """Return the line that reports a gap; none if there is no gap, or if the line cannot be made.

        If the line cannot be made, a later one has the number of this gap too.
        """
        try:
            return [self._notice(gap)] if gap else []
        except Exception:
            return []

    def _next(self) -> tuple[int, list[bytes]]:
        """Wait for work; return the next lines, and how many lines were dropped before them."""
        with self._changed:
            while not self._due():
                self._idle = True
                self._changed.notify_all()
                self._changed.wait()
            self._idle = False
            gap = self._gap_at_start()
            return gap, self._take_lines()

    def _due(self) -> bool:
        """Return whether the thread has work.  While the descriptor fails, only a queued line is work."""
        # If a gap alone were work, the thread would retry its notice without a pause.
        return bool(self._size) or bool(self._queue and not self._failing)

    def _gap_at_start(self) -> int:
        if self._queue and isinstance(first := self._queue[0], int):
            self._queue.popleft()
            return first
        return 0

    def _take_lines(self) -> list[bytes]:
        lines: list[bytes] = []
        size = 0
        while self._queue and isinstance(line := self._queue[0], bytes):
            if lines and size + len(line) > PIECE:
                break
            lines.append(line)
            size += len(line)
            self._queue.popleft()
        self._size -= size
        return lines

    def _count_lost(self, unreported: int, lost: int) -> None:
        """Count `lost` lines as dropped; queue the sum of `unreported` and `lost` as the next gap."""
        with self._changed:
            self._failing = unreported + lost > 0
            self.dropped += lost
            if self._failing:
                self._queue.appendleft(unreported + lost + self._gap_at_start())

    def _written(self, items: list[bytes]) -> int:
        """Write items; return how many items were written whole before an error."""
        # The last write may have ended in the middle of a line.  This newline ends that line.
        start = b"\n" if self._torn else b""
        try:
            done = write_all(self._descriptor, start + b"".join(items))
        except MemoryError:  # a lack of memory must not end the thread
            done = 0
        if not done:
            return 0
        ends = list(accumulate(map(len, items), initial=len(start)))
        self._torn = done not in ends
        return bisect_right(ends, done) - 1


class OutletText(io.TextIOBase):
    """An outlet as a text stream: each `write` is a whole line, and none raises or blocks.

    Characters that `encoding` does not have are written as escapes.
    """

    def __init__(self, outlet: Outlet, *, encoding: str, terminal: bool) -> None:
        self._outlet = outlet
        self._encoding = encoding
        self._terminal = terminal

    def write(self, text: str) -> int:
        """Queue a line."""
        self._outlet.write(text.encode(self._encoding, "backslashreplace"))
        return len(text)

    def isatty(self) -> bool:
        """Return whether a person looks at the lines."""
        return self._terminal


def give(descriptor: int, data: bytes, seconds: float, *, close: bool = False) -> str | None:
    """Write bytes once, in a new thread; wait for that thread at most `seconds`.

    Returns None if all was written, else the reason.  With `close` the thread closes the descriptor after the
    last byte, however late that is.
    """
    taken: list[int] = []

    def work(write: Callable[[int, bytes], int]) -> None:
        taken.append(write(descriptor, data))
        if close:
            os.close(descriptor)

    thread = threading.Thread(target=work, args=(write_all,), name="swpks-give", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # the system has no thread left
        work(_write_unblocked)
    else:
        thread.join(seconds)
    if thread.is_alive():
        return f"nothing was read within {seconds:g} s"
    return None if taken == [len(data)] else "it takes no more"


def _write_unblocked(descriptor: int, data: bytes) -> int:
    """Write bytes if that needs no wait; return how many were written."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    ready = len(data) <= PIECE and poll.poll(0)
    return write_all(descriptor, data) if ready else 0


def write_all(descriptor: int, data: bytes) -> int:
    """Write bytes, however long it takes; return how many were written before an error."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:  # another owner of this pipe or terminal has set O_NONBLOCK
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            poll.poll()
        except OSError:
            break
    return len(data) - len(rest)
