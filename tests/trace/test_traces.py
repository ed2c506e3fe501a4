"""Traces of a system: which connections they see, their files, their bounds and their ends."""

import stat

import pytest
import trio

from hcall_abi.errors import OperatorError
from hcall_abi.frames import FrameType, Goodbye, Hello, Open, Opened
from hcall_abi.proof import NO_PROOF
from hcall_abi.rules import service as rules
from hcall_abi.rules.rule import Rule
from hcall_server.machine.machine import Machine
from hcall_server.machine.tracing import TraceFacts
from tests.data_channel.support import Peer, Service, read, write
from tests.rules.breaking import logged
from tests.trace.reader import read_capture
from tests.trace.rig import DATE, kinds, of_kind, traced, traces_of
from tests.writeback.workers import ParkedWorker

SESSION = ["HELLO", "OPEN", "OPENED"]
CALL = ["HCALL", "HRETURN"]


async def begin(machine: Machine, name: str = "alpha", *, secrets: bool = False) -> TraceFacts:
    """Begin the trace of a partition."""
    return await traces_of(machine).begin(machine.system.find(name), secrets=secrets)


async def end(machine: Machine, name: str = "alpha") -> TraceFacts:
    """End the trace of a partition."""
    return await traces_of(machine).end(machine.system.find(name))


async def refusal(machine: Machine, action) -> Rule:
    """Return the rule by which a request is refused."""
    with pytest.raises(OperatorError) as caught:
        await action(machine)
    return caught.value.rule


async def test_the_trace_of_all_connections(nursery, tmp_path) -> None:
    """`--trace` records every frame in order: HELLO, a refused OPEN, calls, GOODBYE (R-82)."""
    path = tmp_path / "all.pcapng"
    service = await Service.start(nursery, traced(tmp_path, begin=True, trace=str(path)))
    peer = await service.session()
    await peer.call(write(b"label"))
    refused = service.connect(None, demand_proof=True)
    assert (await refused.open(partition=1)).status == 2
    await peer.send(Goodbye(0, "done"))
    assert await peer.event() is None
    await traces_of(service.machine).close()
    capture = read_capture(path)
    first = [(1, kind) for kind in (*SESSION, *CALL)]
    assert kinds(capture) == [*first, *((2, kind) for kind in SESSION), (1, "GOODBYE")]
    assert {each.seconds for each in capture.frames} == {DATE}
    assert [each.inbound for each in capture.frames[:5]] == [False, True, False, True, False]
    assert capture.frames[0].tags["dissector"] == b"swpks"
    assert (capture.received, capture.dropped) == (len(capture.frames), 0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_the_trace_of_one_partition(nursery, tmp_path) -> None:
    """The trace of a partition has the sessions of that partition alone, from their HELLO on (R-82)."""
    machine = traced(tmp_path)
    service = await Service.start(nursery, machine)
    with logged("trace.ended") as lines:
        facts = await begin(machine)
        for name in ("beta", "alpha"):
            await (await service.session(name)).call(write(name.encode()))
        ended = await end(machine)
    assert facts.file == ended.file == "alpha-1-1.pcapng"
    capture = read_capture(tmp_path / "traces" / facts.file)
    assert kinds(capture) == [(2, kind) for kind in (*SESSION, *CALL)]
    assert ended.frames == 5
    assert [(line["partition"], line["file"], line["frames"]) for line in lines] == [("alpha", facts.file, 5)]
    assert stat.S_IMODE((tmp_path / "traces").stat().st_mode) == 0o700
    assert machine.sessions.tap is None


@pytest.mark.parametrize("lane", [False, True])
async def test_an_open_session_is_traced_from_now_on(nursery, tmp_path, lane) -> None:
    """A trace may begin in the middle of a frame: that frame is recorded as a whole, with its answer."""
    machine = traced(tmp_path)
    service = await Service.start(nursery, machine, lane=lane)
    peer = await service.session()
    await peer.call(write(b"before"))
    frame = peer.session.send(peer.frames([read(b"before")])[0])
    expected = machine.counters.bytes_received + 50
    await peer.stream.send_all(frame[:50])
    while machine.counters.bytes_received < expected:
        await trio.lowlevel.checkpoint()
    facts = await begin(machine)
    await peer.stream.send_all(frame[50:])
    await peer.event()
    await end(machine)
    capture = read_capture(tmp_path / "traces" / facts.file)
    assert [kind for _, kind in kinds(capture)] == CALL
    assert b"before" in capture.frames[0].data
    service.close()


async def test_malformed_frames_are_blanked_behind_their_header(nursery, tmp_path) -> None:
    """Of a malformed frame only the header is shown; bytes without the magic are all blanked (R-82)."""
    path = tmp_path / "all.pcapng"
    service = await Service.start(nursery, traced(tmp_path, begin=True, trace=str(path)))
    canary = b"0123456789abcdef0123456789abcdef"
    header = b"HCAL\x01\x04\x00\x00\x00\x00\x00\x09"
    for sent in (
        header + len(canary).to_bytes(4) + canary,
        header[:6] + b"\x00\x01" + header[8:] + len(canary).to_bytes(4) + canary,
        header + (1 << 30).to_bytes(4) + canary,
        canary,
    ):
        peer = await service.session()
        await peer.stream.send_all(sent)
        assert await peer.goodbye() == 1
    await traces_of(service.machine).close()
    assert canary[:8] not in path.read_bytes()
    sent_frames = [each for each in read_capture(path).frames if each.inbound and each.kind != FrameType.OPEN]
    assert [(each.data[:4], len(each.data), each.length) for each in sent_frames] == [
        (b"HCAL", 48, 48),
        (b"HCAL", 48, 48),
        (b"HCAL", 48, 16 + (1 << 30)),
        (bytes(4), 32, 32),
    ]
    assert all(not any(each.body) for each in sent_frames)
    assert sent_frames[0].data[:16] == header + len(canary).to_bytes(4)


async def test_a_proof_is_blanked(nursery, tmp_path) -> None:
    """The proofs of OPEN and OPENED are zeros; nonces and names stay."""
    path = tmp_path / "all.pcapng"
    service = await Service.start(nursery, traced(tmp_path, begin=True, trace=str(path)))
    peer = service.connect(None, demand_proof=True)
    await peer.expect(Hello)
    await peer.send(Open(7, 1, 1, b"N" * 32, b"P" * 32, "a client"))
    await peer.expect(Opened)
    await traces_of(service.machine).close()
    [frame] = of_kind(path, FrameType.OPEN)
    assert b"N" * 32 + NO_PROOF + b"\x08a client" in frame.data


async def test_the_limit_ends_a_trace(nursery, tmp_path) -> None:
    """A file that has reached its limit ends with a line in the log, and the service goes on (R-82)."""
    path = tmp_path / "all.pcapng"
    machine = traced(tmp_path, begin=True, trace=str(path), trace_limit_mb=0.01)
    service = await Service.start(nursery, machine)
    peer = await service.session()
    with logged("trace.stopped") as lines:
        for number in range(40):
            await peer.call(write(b"%d" % number, bytes(100)))
    assert [line["reason"] for line in lines] == ["the limit was reached"]
    assert 9_000 < path.stat().st_size <= 10_000
    capture = read_capture(path)
    assert capture.received == len(capture.frames) == lines[0]["frames"]
    await service.session()
    assert machine.sessions.tap is None
    assert [link.taps for link in machine.sessions] == [(), ()]


async def test_lost_frames_are_counted(nursery, tmp_path) -> None:
    """While the worker does not write, frames beyond the queue's room are lost, and the file counts them."""
    parked = ParkedWorker()
    machine = traced(tmp_path, worker=lambda: parked, begin=True, trace=str(tmp_path / "all.pcapng"))
    service = await Service.start(nursery, machine)
    peer = await service.session()
    big = bytes(60_000)
    await peer.call(write(b"big", big))
    while traces_of(machine).counts()[1] < 3:
        await peer.call(read(b"big"))
    lost = traces_of(machine).counts()[1]
    parked.let_go()
    parked.let_go()
    await peer.call(write(b"small"))
    async with trio.open_nursery() as inner:
        inner.start_soon(traces_of(machine).close)
        while parked_jobs(parked):
            parked.let_go()
            await trio.lowlevel.checkpoint()
    capture = read_capture(tmp_path / "all.pcapng")
    assert capture.dropped == lost
    assert capture.received == len(capture.frames) + lost
    assert sum(each.dropped for each in capture.frames) == lost


def parked_jobs(worker: ParkedWorker) -> bool:
    """Whether the worker holds a job."""
    return bool(worker._parked)


async def test_a_disk_that_fails_ends_the_trace(nursery, tmp_path) -> None:
    """An error of the file ends the trace with a line in the log, never a connection (R-82)."""
    parked = ParkedWorker()
    machine = traced(tmp_path, worker=lambda: parked, begin=True, trace=str(tmp_path / "all.pcapng"))
    service = await Service.start(nursery, machine)
    peer = await service.session()
    with logged("trace.stopped") as lines:
        parked.fail(OSError(28, "No space left on device"))
    await peer.call(write(b"label"))
    assert [line["reason"] for line in lines] == ["No space left on device"]


async def test_refused_requests(nursery, tmp_path) -> None:
    """A second trace, and the end of none, are refused; a powered-off partition may be traced."""
    machine = traced(tmp_path)
    service = await Service.start(nursery, machine)
    assert await refusal(machine, end) is rules.TRACE_BEGUN
    await begin(machine)
    assert await refusal(machine, begin) is rules.TRACE_ONCE
    machine.power_off("alpha")
    machine.power_on("alpha")
    peer: Peer = await service.session()
    await peer.call(write(b"label"))
    assert (await end(machine)).frames == 5
    assert (await begin(machine)).file == "alpha-2-1.pcapng"


async def test_no_file_is_replaced(nursery, tmp_path) -> None:
    """`--trace` refuses a file that exists, and the trace of a partition takes the next name."""
    (tmp_path / "traces").mkdir(mode=0o700)
    for path in (tmp_path / "all.pcapng", tmp_path / "traces" / "alpha-1-1.pcapng"):
        path.write_bytes(b"kept")
    machine = traced(tmp_path, trace=str(tmp_path / "all.pcapng"))
    with pytest.raises(OperatorError, match="it exists") as caught:
        traces_of(machine).begin_all()
    assert caught.value.rule is rules.TRACE_FILE
    await Service.start(nursery, machine)
    assert (await begin(machine)).file == "alpha-1-2.pcapng"
    assert (tmp_path / "all.pcapng").read_bytes() == b"kept"


async def test_the_end_of_a_partition_ends_its_trace(nursery, tmp_path) -> None:
    """A partition that is deleted has no trace any more, and its file is complete."""
    machine = traced(tmp_path)
    await Service.start(nursery, machine)
    facts = await begin(machine)
    machine.forget(machine.system.find("alpha"))
    await traces_of(machine).close()
    assert read_capture(tmp_path / "traces" / facts.file).received == 0
