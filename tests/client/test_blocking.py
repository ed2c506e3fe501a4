"""The blocking channel and its deadlines, against a scripted server in another thread."""

import contextlib
import socket
import threading

import pytest
import trio

from hcall_abi.errors import PeerError
from hcall_abi.frames import Goodbye, GoodbyeReason, HCall, OpenStatus, Write
from hcall_abi.structures import build_config
from hcall_client.blocking import BlockingChannel
from hcall_client.calls import Authorization, HcallError, raw_call, read_object, write_object
from hcall_client.errors import ConnectionLost, OpenRefused, ServerNotProven, SessionEnded
from tests.client.peer import KEY, READ, Closed, answer, out, read_answer, scripted, write_and_read
from tests.client.test_labels_and_linux import CONFIG


@contextlib.contextmanager
def against(script, **options):
    with scripted(script) as sock, BlockingChannel.connect(sock, timeout=10, **options) as channel:
        yield channel


def test_a_session_from_hello_to_goodbye():
    async def script(peer):
        await peer.greet(key=KEY)
        for _ in range(2):
            await peer.send(read_answer(await peer.call()))
        call = await peer.call()
        await peer.send(answer(call, writes=(Write(out(call).address, build_config(CONFIG)),)))
        assert await peer.goodbye() == Goodbye(GoodbyeReason.DONE, "")

    with against(script, access_key=KEY) as channel:
        assert (channel.partition, channel.ipl_count, channel.level) == (7, 3, "FW1110")
        assert channel.call(READ).data == b"data"
        assert channel.pipeline([READ])[0] == (b"data", 0)
        assert channel.limits() == channel.limits() == CONFIG
        assert repr(channel) == "BlockingChannel(partition 7, open)"
        assert channel.ended is None
    with pytest.raises(SessionEnded):
        channel.call(READ)
    channel.close()


def test_a_server_without_the_key_is_refused():
    async def script(peer):
        await peer.greet(key=b"another key")
        assert (await peer.goodbye()).reason == GoodbyeReason.PROTOCOL_ERROR

    with scripted(script) as sock, pytest.raises(ServerNotProven):
        BlockingChannel.connect(sock, access_key=KEY, timeout=10)


def test_a_refused_open_tells_why():
    async def script(peer):
        await peer.greet(status=OpenStatus.NOT_ACTIVATED)

    with scripted(script) as sock, pytest.raises(OpenRefused, match="NOT_ACTIVATED"):
        BlockingChannel.connect(sock)


def test_a_pipeline_keeps_order_and_refusals():
    async def script(peer):
        await peer.greet()
        for status in (0, -7):
            call = await peer.call()
            await peer.send(read_answer(call) if status == 0 else answer(call, status))
        await peer.goodbye()

    with against(script) as channel:
        first, second = channel.pipeline([READ, READ])
        assert channel.pipeline([]) == []
    assert first.data == b"data"
    assert isinstance(second, HcallError)


def test_a_pipeline_larger_than_every_buffer_does_not_deadlock():
    """The client receives while it sends: 8 MiB of calls and answers pass through buffers of a few KiB."""
    data = bytes(4000)

    async def script(peer):
        await peer.greet()
        while isinstance(call := await peer.next(), HCall):
            await peer.send(answer(call, writes=(Write(out(call).address, data),)))

    with scripted(script, size=4096) as sock, BlockingChannel.connect(sock, timeout=30) as channel:
        assert len(channel.pipeline([write_and_read(data)] * 1000)) == 1000


def test_a_timeout_leaves_the_channel_usable():
    """A late answer of a call that timed out is dropped; the next call gets its own answer."""

    async def script(peer):
        await peer.greet()
        first = await peer.call()
        second = await peer.call()
        await peer.send(answer(first, 0, 1), answer(second, 0, 2))
        await peer.goodbye()

    with scripted(script) as sock, BlockingChannel.connect(sock, timeout=10) as channel:
        channel.timeout = 0.0
        with pytest.raises(TimeoutError, match="in time"):
            channel.call(raw_call(1))
        channel.timeout = 10
        assert channel.call(raw_call(2)).registers[0] == 2


class Clock:
    """A stand-in for the module `time`: each call of `monotonic` takes `step` seconds."""

    def __init__(self, step: float = 0) -> None:
        self.now = 0.0
        self.step = step

    def monotonic(self) -> float:
        self.now += self.step
        return self.now


@pytest.mark.parametrize("calls,piece", [(1, 1), (30, 104)])
def test_the_timeout_is_a_deadline(monkeypatch, calls, piece):
    """A call ends at its timeout. Pieces of its answer, or other answers, do not extend it."""

    async def script(peer):
        await peer.greet()
        while isinstance(call := await peer.next(), HCall):
            await peer.send(answer(call, 0, call.opcode))

    with against(script) as channel:
        with monkeypatch.context() as slow:
            slow.setattr("hcall_client.blocking.time", Clock(1))
            slow.setattr("hcall_client.blocking.RECEIVE_SIZE", piece)
            with pytest.raises(TimeoutError, match="in time"):
                channel.pipeline([raw_call(1)] * calls)
        assert channel.call(raw_call(2)).registers[0] == 2
        assert channel.ended is None


def test_an_answer_that_is_there_counts(monkeypatch):
    """If the deadline passes while the last bytes are received, the call still succeeds."""

    async def script(peer):
        await peer.greet()
        await peer.send(read_answer(await peer.call()))
        await peer.goodbye()

    def receive_late():
        receive()
        clock.now = 1000

    with against(script) as channel:
        receive, clock = channel._receive, Clock()
        monkeypatch.setattr("hcall_client.blocking.time", clock)
        monkeypatch.setattr(channel, "_receive", receive_late)
        assert channel.call(READ).data == b"data"


def test_nobody_says_hello():
    """If the server sends no HELLO, the opening of the session ends at the timeout."""
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(TimeoutError):
        BlockingChannel.connect(ours, timeout=0.001)


def test_goodbye_in_the_middle():
    """R-04: an IPL ends the session, also while calls wait."""

    async def script(peer):
        await peer.greet()
        await peer.call()
        await peer.send(Goodbye(GoodbyeReason.IPL_OR_POWER_OFF, ""))

    with against(script) as channel, pytest.raises(SessionEnded, match="IPL or power-off"):
        channel.pipeline([READ] * 3)


def test_the_last_words_are_heard_after_a_broken_send():
    """If the server sent GOODBYE before the connection broke, the error has the reason of the GOODBYE.

    It is not the EPIPE of the failed send.
    """
    opened, closed = threading.Event(), threading.Event()

    async def script(peer):
        await peer.greet()
        await trio.to_thread.run_sync(opened.wait)
        await peer.send(Goodbye(GoodbyeReason.SERVER_STOPPING, "bye"))
        await peer.stream.aclose()
        closed.set()

    with against(script) as channel:
        opened.set()
        assert closed.wait(10)
        with pytest.raises(SessionEnded, match=r"stopping \(bye\)"):
            channel.pipeline([write_object(Authorization(3), b"x", bytes(100_000))] * 9)


@pytest.mark.parametrize("sent", [0, 8, 40])
def test_a_stream_cut_short_is_no_answer(sent):
    async def script(peer):
        await peer.greet()
        call = await peer.call()
        await peer.raw(peer.session.send(answer(call))[:sent])

    with against(script) as channel:
        with pytest.raises(PeerError) as caught:
            channel.call(READ)
        assert isinstance(caught.value, ConnectionLost) == (sent == 0)


def test_a_lying_server_is_left():
    async def script(peer):
        await peer.greet()
        await peer.send(answer(await peer.call(), writes=(Write(0, b"x"),)))
        assert (await peer.goodbye()).reason == GoodbyeReason.PROTOCOL_ERROR
        with pytest.raises(Closed):
            await peer.next()

    with against(script) as channel:
        for _ in range(2):
            with pytest.raises(PeerError, match="a write of 1 bytes"):
                channel.call(read_object(Authorization(3), b"x"))


def test_unix_and_tcp_targets(tmp_path):
    path = tmp_path / "x.sock"
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(path))
    tcp = socket.create_server(("127.0.0.1", 0))
    with unix, tcp:
        unix.listen(1)
        for listener, target in ((unix, path), (tcp, tcp.getsockname())):
            with pytest.raises(TimeoutError):
                BlockingChannel.connect(target, timeout=0.001)
            listener.accept()[0].close()
    with pytest.raises(ConnectionRefusedError, match="no server listens there"):
        BlockingChannel.connect(path)
