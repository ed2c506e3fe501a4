"""The recorder alone: its queue is bounded, whatever connections do while the disk hangs."""

import os
from pathlib import Path

from hcall_abi.codec import encode
from hcall_abi.frames import Goodbye
from hcall_server.trace.cutting import CutFrame
from hcall_server.trace.recorder import BLANKERS, Recorder, TraceWriter
from tests.writeback.workers import ParkedWorker

DATA = encode(Goodbye(0, "done"))
FRAME = CutFrame(DATA, len(DATA))
ROOM = 4096


def recorder(path: Path, worker: ParkedWorker) -> Recorder:
    """Return a recorder with a small queue; its file is not made before the worker lets go."""

    def made() -> tuple[int, str]:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), str(path)

    writer = TraceWriter(made, b"", limit=1 << 30, secrets=False)
    found = Recorder(writer, worker, date=lambda: 0.0, on_stop=lambda: None, on_done=lambda: None, room=ROOM)
    found.start()
    return found


def test_the_end_of_an_unrecorded_connection_is_not_queued(tmp_path: Path) -> None:
    """Connections that come and go without a recorded frame take no place in the queue."""
    worker = ParkedWorker()
    trace = recorder(tmp_path / "a.pcapng", worker)
    for number in range(1000):
        trace.record(0, number, True, None)
    assert trace.queued == 0


def test_ends_are_bounded_like_frames(tmp_path: Path) -> None:
    """An end that has no room is dropped, and counts as no lost frame; the writer keeps few blankers."""
    worker = ParkedWorker()
    trace = recorder(tmp_path / "a.pcapng", worker)
    worker.let_go()
    count = BLANKERS + 100
    for number in range(count):  # each frame is written; its connection stays open
        trace.record(0, number, True, FRAME)
        worker.let_go()
    for number in range(count):  # the disk hangs, and all connections end
        trace.record(0, number, True, None)
    assert trace.queued * 128 <= ROOM + 128
    assert trace.lost == 0
    assert trace.writer.connections == BLANKERS
    while worker._parked:
        worker.let_go()
    trace.end()
    while worker._parked:
        worker.let_go()
    assert len((tmp_path / "a.pcapng").read_bytes()) > count * len(DATA)


def test_an_end_frees_the_blanker(tmp_path: Path) -> None:
    """The end of a recorded connection is queued once, and the writer forgets the connection."""
    worker = ParkedWorker()
    trace = recorder(tmp_path / "a.pcapng", worker)
    trace.record(0, 1, True, FRAME)
    trace.record(0, 1, True, None)
    trace.record(0, 1, True, None)
    assert trace.queued == 2
    while worker._parked:
        worker.let_go()
    assert (trace.writer.connections, trace.writer.frames) == (0, 1)
