"""The output of the log: no caller waits for it, and a line reports each gap with its number of lines."""

import fcntl
import io
import json
import os
import select
import threading
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from hcall_server.machine import logs
from hcall_server.machine.outlet import Outlet

LINE = b"x" * 99 + b"\n"
SMALL = 4096
"""Bytes in the smallest pipe."""
PATIENCE = 20.0
"""Seconds to wait for an event that takes milliseconds on an idle machine."""


def notice(lines: int) -> bytes:
    """Return the line that reports dropped lines."""
    return f"dropped {lines}\n".encode()


class Pipe(NamedTuple):
    """The two descriptors of a small pipe."""

    reader: int
    writer: int


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A pipe with room for one page.

    Its ends are closed at the end, the reader first, which frees a writer.
    """
    made = Pipe(*os.pipe())
    fcntl.fcntl(made.writer, fcntl.F_SETPIPE_SZ, SMALL)
    yield made
    for descriptor in made:
        try:
            os.close(descriptor)
        except OSError:
            continue


def read_some(reader: int) -> bytes:
    """Return the next bytes. After a long silence the test fails, so it can't hang."""
    assert select.select([reader], [], [], PATIENCE)[0], "no bytes arrived"
    return os.read(reader, 65536)


def read_until(reader: int, end: bytes) -> bytes:
    """Return the bytes up to `end`."""
    found = b""
    while not found.endswith(end):
        found += read_some(reader)
    return found


def accounted(found: bytes, lines: list[bytes]) -> int:
    """Return how many of the lines are in the output or counted in one of its gaps.

    If the output has another line than the next one, raise AssertionError.
    """
    place = 0
    for line in found.splitlines(keepends=True):
        if line.startswith(b"dropped ") and line.endswith(b"\n"):
            place += int(line.split()[1])
        elif line.endswith(b"\n"):
            assert line == lines[place]
            place += 1
    return place


def test_lines_arrive_in_order_and_whole(pipe: Pipe) -> None:
    """Short lines and a line that is longer than the pipe arrive whole and in order."""
    lines = [b"%d " % n + (b"y" * 9000 if n == 20 else b"") + b"\n" for n in range(40)]
    made = Outlet(pipe.writer, notice)
    for line in lines:
        made.write(line)
    assert read_until(pipe.reader, lines[-1]) == b"".join(lines)
    assert made.flush(20)
    assert made.dropped == 0


def test_a_reader_that_stops_costs_lines_and_no_time(pipe: Pipe) -> None:
    """While a reader stops, lines are dropped and the caller does not wait. Each gap has its own line."""
    lines = [b"%099d\n" % number for number in range(500)]
    made = Outlet(pipe.writer, notice, room=20 * len(LINE))
    for line in lines:
        made.write(line)
    assert not made.flush(0)
    assert made.dropped >= 500 - 20 - 2 * SMALL // len(LINE)
    found = b""
    while accounted(found, lines) < len(lines):
        found += read_some(pipe.reader)
    assert made.dropped == len(lines) - len(set(lines) & set(found.splitlines(keepends=True)))
    made.write(b"last\n")
    assert read_until(pipe.reader, b"last\n") == b"last\n"


def test_a_descriptor_that_refuses_is_tried_with_the_next_line(pipe: Pipe) -> None:
    """While the pipe has no reader, each line is tried and dropped.

    With a reader, the line about the gap comes first.
    """
    made = Outlet(pipe.writer, notice)
    os.close(pipe.reader)
    for _ in range(3):
        made.write(LINE)
        assert made.flush(20)
    assert made.dropped == 3
    reader, writer = os.pipe()
    os.dup2(writer, pipe.writer)
    os.close(writer)
    made.write(LINE)
    made.write(b"end\n")
    assert read_until(reader, b"end\n") == notice(3) + LINE + b"end\n"
    assert made.dropped == 3
    os.close(reader)


def test_a_torn_line_is_ended_before_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a line was cut by a full disk, the next line begins on a new line.

    The cut line counts as dropped.
    """
    taken: list[bytes] = []
    room = [150]
    real = os.write

    def write(descriptor: int, data: memoryview) -> int:
        if descriptor != 99:
            return real(descriptor, data)
        if not room[0]:
            raise OSError(28, "full")
        taken.append(bytes(data[: room[0]]))
        room[0] -= len(taken[-1])
        return len(taken[-1])

    monkeypatch.setattr(os, "write", write)
    made = Outlet(99, notice)
    # While the lock is held, the thread sees no line. Then it finds both at once.
    with made._changed:
        made._queue.extend([LINE, LINE])
        made._size = 2 * len(LINE)
    made.write(LINE)
    assert made.flush(20)
    assert made.dropped == 2
    room[0] = 1000
    made.write(b"end\n")
    assert made.flush(20)
    assert b"".join(taken) == LINE + LINE[:50] + b"\n" + notice(2) + b"end\n"


def test_a_descriptor_that_does_not_block_is_waited_for(pipe: Pipe) -> None:
    """If the descriptor is non-blocking, the thread waits for room, and no line is lost.

    Another process that has the terminal or pipe may have made it non-blocking.
    """
    os.set_blocking(pipe.writer, False)
    made = Outlet(pipe.writer, notice)
    for _ in range(200):
        made.write(LINE)
    made.write(b"end\n")
    assert read_until(pipe.reader, b"end\n") == LINE * 200 + b"end\n"
    assert made.dropped == 0


def test_without_a_thread_lines_are_dropped(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no thread can be started, the line is dropped. The next line tries to start one again."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    made = Outlet(pipe.writer, notice)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        made.write(LINE)
    made.write(b"end\n")
    assert read_until(pipe.reader, b"end\n") == notice(1) + b"end\n"
    assert made.dropped == 1


def test_the_log_tells_the_number_of_dropped_lines(pipe: Pipe) -> None:
    """The line `log.dropped` has the same number as the metric."""
    logs.configure(style="json")
    logs.write_behind(pipe.writer)
    try:
        count = 0
        while not logs.dropped():
            logs.Log().info("event.happened", text="y" * 4000)
            count += 1
        found = b""
        while b"log.dropped" not in found:
            found += read_until(pipe.reader, b"\n")
        lines = [json.loads(line) for line in found.splitlines()]
        assert (lines[-1]["event"], lines[-1]["lines"]) == ("log.dropped", logs.dropped())
        assert len(lines) - 1 + logs.dropped() == count
        assert logs.flush(20)
    finally:
        logs.configure(level="warning")


def test_a_log_on_a_stream_is_written_at_once() -> None:
    """A program that passes its own stream gets each line at once, and no line is dropped."""
    stream = io.StringIO()
    logs.configure(style="console", stream=stream)
    try:
        logs.Log(partition="lpar1").info("event.happened", text="\x1b[2J", data=b"secret")
    finally:
        logs.configure(level="warning")
    assert "event.happened" in stream.getvalue()
    assert "secret" not in stream.getvalue()
    assert "\x1b[2J" not in stream.getvalue()
    assert logs.flush(0)
    assert logs.dropped() == 0


@pytest.mark.parametrize("error", [MemoryError(), ImportError("no renderer"), OSError(24, "full")], ids=repr)
def test_a_notice_that_cannot_be_made_is_told_later(pipe: Pipe, error: Exception) -> None:
    """If the line about a gap can't be made, later lines are written, and the gap is reported later."""
    failing = [True]

    def trouble(lines: int) -> bytes:
        if failing[0]:
            raise error
        return notice(lines)

    made = Outlet(pipe.writer, trouble)
    made.drop()
    made.drop()
    for line in (LINE, b"end\n"):
        made.write(line)
        assert read_until(pipe.reader, line) == line
    assert made.flush(PATIENCE)
    failing[0] = False
    made.drop()
    made.write(b"last\n")
    assert read_until(pipe.reader, b"last\n").splitlines(keepends=True)[-1] == b"last\n"
    assert made.flush(PATIENCE)
    assert made.dropped == 3


def test_no_memory_for_a_piece_costs_its_lines(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """If memory fails for a write, its lines are dropped and counted. Later lines are written."""

    def no_memory(descriptor: int, data: bytes) -> int:
        raise MemoryError

    made = Outlet(pipe.writer, notice)
    with monkeypatch.context() as patch:
        patch.setattr("hcall_server.machine.outlet.write_all", no_memory)
        made.write(LINE)
        assert made.flush(PATIENCE)
    made.write(b"end\n")
    assert read_until(pipe.reader, b"end\n") == notice(1) + b"end\n"
    assert made.dropped == 1


@pytest.mark.parametrize("write_behind", [True, False])
def test_a_line_that_cannot_be_made_is_counted(
    pipe: Pipe, write_behind: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a line can't be made, it is counted as dropped. Neither the caller nor the log fails."""
    stream = io.StringIO()
    logs.configure(style="json", stream=None if write_behind else stream)
    if write_behind:
        logs.write_behind(pipe.writer)

    def no_memory(*_: object) -> str:
        raise MemoryError

    try:
        with monkeypatch.context() as patch:
            patch.setattr("hcall_server.machine.lines.as_json", no_memory)
            for _ in range(3):
                logs.Log().info("event.lost")
            assert logs.dropped() == 3
            assert logs.flush(PATIENCE)
        logs.Log().info("event.happened")
        assert logs.dropped() == 3
        if write_behind:
            found = b""
            while b"event.happened" not in found:
                # The server may write the notice and the line separately.
                found += read_until(pipe.reader, b"\n")
            lines = [json.loads(line) for line in found.splitlines()]
            assert [line["event"] for line in lines] == ["log.dropped", "event.happened"]
            assert lines[0]["lines"] == 3
        else:
            assert json.loads(stream.getvalue())["event"] == "event.happened"
    finally:
        logs.configure(level="warning")
