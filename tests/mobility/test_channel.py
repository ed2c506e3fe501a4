"""The channel alone: failed handshakes, wrong frames and messages, and all its limits."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from hcall_abi.bounds import MAX_FINAL
from hcall_abi.errors import PeerError
from hcall_abi.rules import migration as rules
from hcall_abi.rules.rule import Rule
from hcall_server.mobility import channel as channels
from hcall_server.mobility.channel import (
    LineClosed,
    LineLost,
    MobilityChannel,
    answer_channel,
    open_channel,
)
from hcall_server.mobility.messages import (
    MAX_DETAIL,
    Attempt,
    Final,
    Fits,
    Message,
    NeedsMessage,
    RefusedMessage,
    WordMessage,
    decode,
    encode,
)
from hcall_server.mobility.noise import HANDSHAKE_SIZE, MAX_TEXT, Handshake
from hcall_server.platform.custody import Word
from tests.mobility.rig import NEEDS, PARTITION, SOURCE, TARGET, TOKEN, entropy

ATTEMPT = Attempt(PARTITION, 7, SOURCE, TARGET, TOKEN)
SAMPLES: list[Message] = [
    NeedsMessage(NEEDS),
    Fits(),
    RefusedMessage("arrival.size", "64 KiB, and 12 are free"),
    Final(19, 70_000),
    *(WordMessage(word, 7, 19) for word in (Word.PREPARED, Word.ACTIVATE, Word.ACTIVE, Word.ABORTED)),
]


class Tapped(trio.abc.Stream):
    """A stream that records the frames that it sends, after `change` has changed them."""

    def __init__(self, inner: trio.abc.Stream) -> None:
        self.inner = inner
        self.sent: list[bytes] = []
        self.change: Callable[[bytes], bytes] = bytes

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send the bytes that `change` returns."""
        self.sent.append(bytes(data))
        await self.inner.send_all(self.change(bytes(data)))

    async def wait_send_all_might_not_block(self) -> None:
        """Do nothing."""
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive bytes, unchanged."""
        return await self.inner.receive_some(max_bytes)

    async def aclose(self) -> None:
        """Close the stream."""
        await self.inner.aclose()


@asynccontextmanager
async def opened(
    expected: Attempt = ATTEMPT,
) -> AsyncIterator[tuple[MobilityChannel, MobilityChannel, Tapped]]:
    """Return both ends of an open channel, and the stream of the source."""
    near, far = trio.testing.memory_stream_pair()
    tapped, ends = Tapped(near), {}

    async def answer() -> None:
        ends["target"], found = await answer_channel(far, lambda uuid, epoch: expected, entropy)
        assert found is expected

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        ends["source"] = await open_channel(tapped, ATTEMPT, entropy)
    yield ends["source"], ends["target"], tapped
    for each in ends.values():
        await each.aclose()


async def broken(step: Awaitable[object], rule: Rule, text: str = "") -> None:
    """Assert that a step breaks this rule, and that the error does not show the token."""
    with pytest.raises(PeerError) as caught:
        await step
    assert caught.value.rule is rule
    assert text in caught.value.message
    assert TOKEN.hex() not in str(caught.value)


async def test_messages_pass_in_both_directions(autojump_clock: MockClock) -> None:
    """R-51: messages of each kind arrive unchanged and in order, also many at once."""
    async with opened() as (source, target, _):
        for sender, receiver in ((source, target), (target, source)):
            async with trio.open_nursery() as nursery:
                for each in SAMPLES:
                    nursery.start_soon(sender.send, each)
                got = [await receiver.receive() for _ in SAMPLES]
            assert sorted(map(repr, got)) == sorted(map(repr, SAMPLES))


@pytest.mark.parametrize("message", SAMPLES, ids=repr)
def test_messages_are_strict(message: Message) -> None:
    """R-51: each message has exactly one form.

    With a byte more or less, it is another message or an error.
    """
    text = encode(message)
    assert decode(text) == message
    for wrong in (text + b"\0", text[:-1], b"", b"\0" + text[1:], b"\xff" + text[1:]):
        with pytest.raises(PeerError) as caught:
            decode(wrong)
        assert caught.value.rule is rules.MOBILITY_FORM


@given(st.binary(max_size=64))
def test_any_bytes_are_a_message_or_an_error(text: bytes) -> None:
    """R-51: any bytes are read as a message or give an error."""
    found: Message | None = None
    with suppress(PeerError):
        found = decode(text)
    assert found is None or decode(encode(found)) == found


def test_a_long_detail_is_cut() -> None:
    """R-51: the detail of a refusal is cut, so that the refusal fits in one small message."""
    found = decode(encode(RefusedMessage("arrival.name", "ü" * MAX_DETAIL)))
    assert found == RefusedMessage("arrival.name", "ü" * (MAX_DETAIL // 2))


OTHERS = {
    "token": ATTEMPT._replace(token=bytes(32)),
    "epoch": ATTEMPT._replace(epoch=8),
    "source": ATTEMPT._replace(source=TARGET),
    "target": ATTEMPT._replace(target=SOURCE),
}


@pytest.mark.parametrize("expected", [*OTHERS.values(), None], ids=[*OTHERS, "nothing"])
async def test_only_an_end_with_the_token_of_this_attempt_opens_it(
    autojump_clock: MockClock, expected: Attempt | None
) -> None:
    """R-51: a wrong token is refused in the first message, and the target sends nothing back."""
    near, far = trio.testing.memory_stream_pair()
    spoken = Tapped(far)

    async def answer() -> None:
        await broken(answer_channel(spoken, lambda uuid, epoch: expected, entropy), rules.MOBILITY_PROVEN)
        await far.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        await broken(open_channel(near, ATTEMPT, entropy), rules.MOBILITY_PROVEN)
    assert spoken.sent == []


async def test_a_target_without_the_token_is_refused(autojump_clock: MockClock) -> None:
    """R-51: the source refuses a target without the token, even one that answers before it has read."""
    near, far = trio.testing.memory_stream_pair()
    await far.send_all(HANDSHAKE_SIZE.to_bytes(2, "big") + bytes([9]) * HANDSHAKE_SIZE)
    await broken(open_channel(near, ATTEMPT, entropy), rules.MOBILITY_PROVEN, "does not hold the token")


async def test_an_introduction_of_another_version_is_refused(autojump_clock: MockClock) -> None:
    """R-51: an introduction of another version or length is refused before its token is looked up."""
    good = ATTEMPT.introduction()
    for wrong, rule in ((b"\0\2" + good[2:], rules.MOBILITY_FORM), (good + b"\0", rules.MOBILITY_FORM)):
        near, far = trio.testing.memory_stream_pair()
        await near.send_all(len(wrong).to_bytes(2, "big") + wrong)
        await near.send_all(HANDSHAKE_SIZE.to_bytes(2, "big") + bytes(HANDSHAKE_SIZE))
        await broken(answer_channel(far, lambda uuid, epoch: ATTEMPT, entropy), rule)


@pytest.mark.parametrize("size", [0, 1, 26, 27, 28, 50, 77])
async def test_a_stranger_has_little_time(autojump_clock: MockClock, size: int) -> None:
    """R-51: a client without a token is disconnected soon, even if it sends single bytes at times."""
    near, far = trio.testing.memory_stream_pair()
    first = Handshake(True, TOKEN, ATTEMPT.prologue(), entropy(32)).write_first()
    frames = b"".join(len(each).to_bytes(2, "big") + each for each in (ATTEMPT.introduction(), first))

    async def drip() -> None:
        for byte in frames[:size]:
            await near.send_all(bytes([byte]))
            await trio.sleep(0.06)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drip)
        await broken(answer_channel(far, lambda uuid, epoch: ATTEMPT, entropy), rules.MOBILITY_TIME)
        assert trio.current_time() <= channels.OPEN_SECONDS
        nursery.cancel_scope.cancel()


def flipped(frame: bytes) -> bytes:
    """Return the frame with its last byte changed."""
    return frame[:-1] + bytes([frame[-1] ^ 1])


CHANGES: dict[str, tuple[Callable[[bytes], bytes], Rule]] = {
    "forged": (flipped, rules.MOBILITY_PROVEN),
    "twice": (lambda frame: frame + frame, rules.MOBILITY_PROVEN),
    "short": (lambda _: b"\0\x0f" + bytes(15), rules.MOBILITY_FORM),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_changed_message_does_not_open(autojump_clock: MockClock, change: str) -> None:
    """R-51: a forged, repeated or short message is refused."""
    async with opened() as (source, target, stream):
        stream.change, rule = CHANGES[change]
        await source.send(Fits())
        if change == "twice":
            assert await target.receive() == Fits()
        await broken(target.receive(), rule)


async def test_messages_in_another_order_do_not_open(autojump_clock: MockClock) -> None:
    """R-51: swapped messages are refused, and so is the message after an omitted one."""
    async with opened() as (source, target, stream):
        stream.change = lambda _: b""
        await source.send(Fits())
        stream.change = bytes
        await source.send(Fits())
        await broken(target.receive(), rules.MOBILITY_PROVEN, "not in its order")


async def test_a_stream_that_ends_within_a_message(autojump_clock: MockClock) -> None:
    """R-51: a stream that ends within a message is an error. An end between two messages is none."""
    size = 2 + len(encode(Fits())) + 16
    for kept in range(size):
        async with opened() as (source, target, stream):
            stream.change = lambda frame, kept=kept: frame[:kept]  # type: ignore[misc]
            await source.send(Fits())
            await stream.aclose()
            if kept:
                await broken(target.receive(), rules.MOBILITY_FORM, "ends within a message")
            else:
                with pytest.raises(LineClosed):
                    await target.receive()


async def test_a_peer_that_stops_within_a_message_is_not_waited_for(autojump_clock: MockClock) -> None:
    """R-51: a peer may pause between two messages, but not within one."""
    async with opened() as (source, target, stream):
        with trio.move_on_after(1000):
            await target.receive()
        assert trio.current_time() == 1000
        stream.change = lambda frame: frame[:-1]
        await source.send(Fits())
        await broken(target.receive(), rules.MOBILITY_TIME, "longer than 10 seconds")
        assert trio.current_time() == 1010


async def test_a_peer_that_takes_nothing_is_not_waited_for(autojump_clock: MockClock) -> None:
    """R-51: if the peer reads nothing, a send ends after a bounded time."""
    near, far = trio.testing.lockstep_stream_pair()

    async def answer() -> None:
        await answer_channel(far, lambda uuid, epoch: ATTEMPT, entropy)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        source = await open_channel(near, ATTEMPT, entropy)
    await broken(source.send(Fits()), rules.MOBILITY_TIME)


async def test_a_broken_connection_is_no_fault_of_anybody(autojump_clock: MockClock) -> None:
    """R-51: if the connection breaks, the error blames neither side."""
    async with opened() as (source, target, _):
        await target.aclose()
        with pytest.raises(LineLost):
            await source.send(Fits())
        with pytest.raises(LineLost):
            await target.receive()


async def passed(source: MobilityChannel, target: MobilityChannel, store: bytes) -> bytes:
    """Send a partition and receive it; return what was received."""
    got = []

    async def receive() -> None:
        final = await target.receive()
        assert isinstance(final, Final)
        got.append(await target.receive_final(final))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await source.send_final(19, store)
    return got[0]


@pytest.mark.parametrize("size", [0, 1, MAX_TEXT - 1, MAX_TEXT, MAX_TEXT + 1, 128 * 1024, MAX_FINAL])
async def test_partitions_of_every_size_pass(autojump_clock: MockClock, size: int) -> None:
    """R-51: a partition of any size, even an empty one, is sent in as few messages as possible."""
    async with opened() as (source, target, stream):
        before = len(stream.sent)
        store = (bytes(range(251)) * (size // 251 + 1))[:size]
        assert await passed(source, target, store) == store
        assert len(stream.sent) - before == 2 + -(-size // MAX_TEXT)
        assert max(map(len, stream.sent)) <= 2 + 65535


async def test_a_partition_that_is_too_large_is_refused_before_it_comes(autojump_clock: MockClock) -> None:
    """R-51: the sender refuses a partition that is too large.

    The receiver refuses it when it reads the header.
    """
    async with opened() as (source, target, _):
        await broken(source.send_final(19, bytes(MAX_FINAL + 1)), rules.MOBILITY_SIZE)
        await broken(target.receive_final(Final(19, MAX_FINAL + 1)), rules.MOBILITY_SIZE, "262145 bytes")
        await broken(target.receive_final(Final(19, 2**32 - 1)), rules.MOBILITY_SIZE)


@pytest.mark.parametrize("total,text", [(9, "longer"), (11, "shorter")])
async def test_a_partition_of_another_length_is_refused(
    autojump_clock: MockClock, total: int, text: str
) -> None:
    """R-51: a partition is refused if its header and its pieces differ in length."""
    async with opened() as (source, target, _):
        await source.send_final(19, bytes(10))
        assert await target.receive() == Final(19, 10)
        await broken(target.receive_final(Final(19, total)), rules.MOBILITY_FORM, text)


async def test_a_partition_that_comes_slowly_has_a_bound(autojump_clock: MockClock) -> None:
    """R-51: each piece of a partition has a time limit, and all together have thirty seconds."""
    async with opened() as (source, target, _), trio.open_nursery() as nursery:

        async def drip() -> None:
            while True:
                await source.send(Fits())
                await trio.sleep(9)

        nursery.start_soon(drip)
        await broken(target.receive_final(Final(19, MAX_FINAL)), rules.MOBILITY_TIME, "30 seconds")
        nursery.cancel_scope.cancel()


async def test_nothing_secret_is_on_the_wire_or_shown(autojump_clock: MockClock) -> None:
    """R-51: no frame, name or text contains the token or the store."""
    async with opened() as (source, target, stream):
        store = b"canary of a store" * 9000
        await passed(source, target, store)
        wire = b"".join(stream.sent)
        assert TOKEN not in wire
        assert b"canary" not in wire
        shown = f"{ATTEMPT!r} {ATTEMPT} {source!r} {target!r} {ATTEMPT.introduction()!r}"
        assert TOKEN.hex() not in shown
        assert repr(TOKEN)[2:-1] not in shown
