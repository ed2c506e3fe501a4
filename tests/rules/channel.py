"""Rules of the data channel, broken by raw bytes of a client or a server, and by an OPEN."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import trio

from hcall_abi.frames import FrameType, Goodbye, Hello, OpenStatus
from hcall_abi.proof import NO_PROOF
from hcall_abi.rules.rule import Rule
from hcall_client.channel import open_channel
from hcall_client.errors import OpenRefused, SessionEnded
from hcall_server.machine.limits import Limits
from tests.client.peer import HELLO, READ, Peer, against, refusing
from tests.data_channel import support
from tests.data_channel.support import Service, make_machine
from tests.rules.breaking import Break, Breaks, logged, refused_late, row_of, run

TAG = 9
REGISTERS = bytes(80)


def frame(
    kind: int,
    body: bytes = b"",
    *,
    tag: int = TAG,
    magic: bytes = b"HCAL",
    version: int = 1,
    flags: int = 0,
    length: int | None = None,
) -> bytes:
    """Return the bytes of a frame; arguments can make it wrong."""
    size = len(body) if length is None else length
    return struct.pack(">4sBBHII", magic, version, kind, flags, tag, size) + body


def hcall(
    *segments: tuple[int, int, int], data: bytes = b"", count: int | None = None, zero: int = 0
) -> bytes:
    """Return an HCALL. A segment is given as its address, length and access."""
    head = REGISTERS + struct.pack(">HHI", len(segments) if count is None else count, zero, 0)
    return frame(FrameType.HCALL, head + b"".join(struct.pack(">QII", *each) for each in segments) + data)


def hreturn(*writes: tuple[int, int], data: bytes = b"", count: int | None = None, zero: int = 0) -> bytes:
    """Return the body of an HRETURN. A write is given as its address and length."""
    head = REGISTERS + struct.pack(">HHI", len(writes) if count is None else count, zero, 0)
    return head + b"".join(struct.pack(">QII", *each, 0) for each in writes) + data


# A client at fault


def from_client(*pieces: bytes, opened: bool = True) -> Break:
    """Return a function that breaks a rule: a client sends exactly these bytes.

    The server must answer with GOODBYE 1 and the rule's sentence; its log has the rule's id.
    """

    async def talk() -> Goodbye:
        async with trio.open_nursery() as nursery:
            service = await Service.start(nursery, make_machine())
            peer = await service.session() if opened else service.connect()
            if not opened:
                await peer.expect(Hello)
            for piece in pieces:
                await peer.stream.send_all(piece)
            await peer.stream.send_stream.aclose()  # type: ignore[attr-defined]  # both are in one staple
            goodbye = await peer.expect(Goodbye)
            nursery.cancel_scope.cancel()
        assert isinstance(goodbye, Goodbye)
        return goodbye

    def broken(_: Path) -> Rule:
        with logged("protocol.error") as lines:
            goodbye = trio.run(talk)
        assert goodbye.reason == 1
        rule = row_of(lines[0])
        assert rule.sentence in goodbye.text
        return rule

    return broken


# A server at fault


def from_server(kind: int, body: bytes, *, tag: int | None = None) -> Break:
    """Return a function that breaks a rule: a server answers a call in an open session with this frame."""

    async def talk() -> Rule:
        async def script(peer: Peer) -> None:
            await peer.greet()
            call = await peer.call()
            await peer.raw(frame(kind, body, tag=call.tag if tag is None else tag))
            await peer.next()

        async with against(_until_closed(script)) as channel:
            return await refused_late(channel.call(READ))

    return lambda _: run(talk)


def greeting(*frames: bytes) -> Break:
    """Return a function that breaks a rule: a server sends these frames in place of HELLO and OPENED."""

    async def script(peer: Peer) -> None:
        for each in frames:
            await peer.raw(each)
        await peer.next()

    async def talk() -> Rule:
        return (await refusing(_until_closed(script))).rule

    return lambda _: run(talk)


def _until_closed(script):
    """Return the script with a change: it ends if the client closes the connection."""

    async def guarded(peer: Peer) -> None:
        try:
            await script(peer)
        # The client has closed the connection, so any error may come.
        except Exception:
            await peer.aclose()

    return guarded


GREETED = frame(FrameType.HELLO, struct.pack(">BBHIQ32sB", 1, 1, 0, 1 << 20, 0, HELLO.nonce, 0), tag=0)


async def _wrong_tag() -> Rule:
    async def script(peer: Peer) -> None:
        await peer.greet()
        call = await peer.call()
        await peer.raw(frame(FrameType.HRETURN, hreturn(), tag=call.tag + 1))

    async with against(_until_closed(script)) as channel:
        return await refused_late(channel.call(READ))


async def _after_goodbye() -> Rule:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.send(Goodbye(2, "power off"))

    async with against(_until_closed(script)) as channel:
        await channel.wait_ended()
        rule = await refused_late(channel.call(READ))
        assert isinstance(channel.ended, SessionEnded)
        return rule


async def _no_goodbye() -> Rule:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.call()
        await peer.aclose()

    async with against(_until_closed(script)) as channel:
        return await refused_late(channel.call(READ))


# OPEN


def opening(
    status: OpenStatus, *, partition: int = 0, sessions: int = 64, off: bool = False, common: bool = False
) -> Break:
    """Return a function that breaks a rule: a real client sends an OPEN that the server refuses.

    Both ends must name the same rule.
    """

    async def talk() -> Rule:
        machine = make_machine("alpha", "beta", limits=Limits(max_sessions=sessions))
        if off:
            machine.power_off("alpha")
        async with trio.open_nursery() as nursery:
            service = await Service.start(nursery, machine)
            for _ in range(sessions if sessions == 1 else 0):
                await service.session()
            stream = service.connect(None if common else "alpha", demand_proof=common).stream
            with pytest.raises(OpenRefused) as caught:
                async with open_channel(stream, partition=partition):
                    pass
            nursery.cancel_scope.cancel()
        assert caught.value.status == status
        return caught.value.rule

    def broken(_: Path) -> Rule:
        with logged("session.refused") as lines:
            rule = run(talk)
        assert row_of(lines[0]) is rule
        return rule

    return broken


def _other_version(_: Path) -> Rule:
    async def talk() -> None:
        async with trio.open_nursery() as nursery:
            service = await Service.start(nursery, make_machine())
            peer = service.connect()
            await peer.stream.send_all(frame(FrameType.OPEN, b"of another version", version=2))
            await peer.stream.send_stream.aclose()  # type: ignore[attr-defined]
            while await peer.stream.receive_some():
                pass
            nursery.cancel_scope.cancel()

    with logged("session.refused") as lines:
        trio.run(talk)
    return row_of(lines[0])


def greeted_by(**opened: object) -> Break:
    """Return a function that breaks a rule: a server sends an OPENED with a wrong field."""

    async def script(peer: Peer) -> None:
        await peer.greet(**opened)  # type: ignore[arg-type]

    async def talk() -> Rule:
        return (await refusing(script, access_key=support.KEY if "proof" in opened else None)).rule

    return lambda _: run(talk)


HELLO_BODY = struct.pack(">BBHIQ32sB1s", 1, 1, 0, 1 << 18, 0, bytes(32), 1, b"s")
OPEN_BODY = struct.pack(">HBB32s32sB1s", 0, 0, 0, bytes(32), NO_PROOF, 1, b"c")
OPENED_BODY = struct.pack(">iHHI32sB1s", 0, 1, 0, 1, NO_PROOF, 1, b"L")
"""Good bodies, each with a text of one character at its end."""


def hello_body(body: bytes) -> Break:
    """Return a function that breaks a rule: a server sends a HELLO with this body."""
    return greeting(frame(FrameType.HELLO, body, tag=0))


def open_body(body: bytes) -> Break:
    """Return a function that breaks a rule: a client sends an OPEN with this body."""
    return from_client(frame(FrameType.OPEN, body), opened=False)


def opened_body(body: bytes) -> Break:
    """Return a function that breaks a rule: a server answers OPEN with an OPENED that has this body."""
    return greeting(GREETED, frame(FrameType.OPENED, body, tag=1))


BREAKS: Breaks = {
    "frame.magic": from_client(frame(FrameType.HCALL, magic=b"LACH")),
    "frame.version": from_client(frame(FrameType.HCALL, version=2)),
    "frame.flags": from_client(frame(FrameType.HCALL, flags=1)),
    "frame.type": from_client(frame(7)),
    "frame.tag": from_client(frame(FrameType.GOODBYE, tag=1)),
    "frame.length": from_client(frame(FrameType.HCALL, length=1 << 31)),
    "frame.whole": from_client(frame(FrameType.HCALL)[:7]),
    "hello.fields": hello_body(HELLO_BODY[:9]),
    "hello.reserved": hello_body(HELLO_BODY[:3] + b"\1" + HELLO_BODY[4:]),
    "hello.versions": hello_body(b"\2\1" + HELLO_BODY[2:]),
    "hello.name": hello_body(HELLO_BODY[:-1] + b"\xff"),
    "hello.end": hello_body(HELLO_BODY + b"x"),
    "open.fields": open_body(OPEN_BODY[:9]),
    "open.reserved": open_body(OPEN_BODY[:3] + b"\1" + OPEN_BODY[4:]),
    "open.proof-kind": open_body(OPEN_BODY[:2] + b"\2" + OPEN_BODY[3:]),
    "open.proof-zero": open_body(OPEN_BODY[:36] + b"\1" + OPEN_BODY[37:]),
    "open.name": open_body(OPEN_BODY[:-1] + b"\xff"),
    "open.end": open_body(OPEN_BODY + b"x"),
    "opened.fields": opened_body(OPENED_BODY[:9]),
    "opened.reserved": opened_body(OPENED_BODY[:7] + b"\1" + OPENED_BODY[8:]),
    "opened.level": opened_body(OPENED_BODY[:-1] + b"\xff"),
    "opened.end": opened_body(OPENED_BODY + b"x"),
    "goodbye.fields": from_client(frame(FrameType.GOODBYE, b"no", tag=0)),
    "goodbye.text": from_client(frame(FrameType.GOODBYE, bytes(4) + b"\1\xff", tag=0)),
    "goodbye.end": from_client(frame(FrameType.GOODBYE, bytes(5) + b"x", tag=0)),
    "hcall.head": from_client(frame(FrameType.HCALL, REGISTERS)),
    "hcall.reserved": from_client(hcall(zero=1)),
    "hcall.segments": from_client(hcall(count=1)),
    "hcall.access": from_client(hcall((0, 8, 4))),
    "hcall.bytes": from_client(hcall((0, 8, 1), data=b"7 bytes")),
    "hcall.overlap": from_client(hcall((0, 8, 2), (7, 8, 2))),
    "hreturn.head": from_server(FrameType.HRETURN, REGISTERS),
    "hreturn.reserved": from_server(FrameType.HRETURN, hreturn(zero=1)),
    "hreturn.writes": from_server(FrameType.HRETURN, hreturn(count=1)),
    "hreturn.bytes": from_server(FrameType.HRETURN, hreturn((0, 8), data=b"7 bytes")),
    "session.state": from_client(frame(FrameType.HRETURN, hreturn())),
    "session.tag": lambda _: run(_wrong_tag),
    "session.over": lambda _: run(_after_goodbye),
    "session.goodbye": lambda _: run(_no_goodbye),
    "open.partition": opening(OpenStatus.NO_SUCH_PARTITION, partition=99),
    "open.proof": opening(OpenStatus.NOT_AUTHORISED, partition=1, common=True),
    "open.power": opening(OpenStatus.NOT_ACTIVATED, off=True),
    "open.version": _other_version,
    "open.sessions": opening(OpenStatus.TOO_MANY_SESSIONS, sessions=1),
    "opened.status": greeted_by(status=6),
    "opened.proof": greeted_by(proof=NO_PROOF),
}
