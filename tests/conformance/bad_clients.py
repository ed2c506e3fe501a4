"""Clients with one fault each: in one place they send, accept, check or report something wrong."""

from __future__ import annotations

import dataclasses
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hcall_abi.codec import encode
from hcall_abi.errors import PeerError
from hcall_abi.frames import MAX_BODY, Access, FrameType, HReturn, Open, Segment
from hcall_abi.proof import NO_PROOF
from hcall_abi.rules import protocol as rules
from hcall_client.blocking import BlockingChannel
from hcall_client.request import Request
from swpks.conformance.client.blocking_adapter import BlockingAdapter
from swpks.conformance.client.lines import OpenPlace

HEADER = 16
Change = Callable[[bytes], bytes]


def frames_of(data: bytes) -> list[bytes]:
    """Return the whole frames in these bytes; remaining bytes are the last item."""
    found = []
    while len(data) >= HEADER and len(data) >= (size := HEADER + int.from_bytes(data[12:16], "big")):
        found.append(data[:size])
        data = data[size:]
    return [*found, data] if data else found


def on(kind: FrameType, change: Change) -> Change:
    """Return a function that applies a change to each frame of one type."""
    return lambda data: b"".join(
        change(each) if each[5:6] == bytes([kind]) else each for each in frames_of(data)
    )


def every(change: Change) -> Change:
    """Return a function that applies a change to each frame."""
    return lambda data: b"".join(map(change, frames_of(data)))


def put(offset: int, value: bytes) -> Change:
    """Return a change that writes bytes at an offset from the start of the header."""
    return lambda frame: frame[:offset] + value + frame[offset + len(value) :]


def flip(offset: int) -> Change:
    """Return a change that flips one bit at an offset, which may count from the end."""
    return lambda frame: put(offset % len(frame), bytes([frame[offset] ^ 1]))(frame)


def longer(frame: bytes) -> bytes:
    """Return the frame with one more byte after its last field."""
    return put(12, (len(frame) - HEADER + 1).to_bytes(4, "big"))(frame) + b"\0"


class BentSocket(socket.socket):
    """A socket that changes all bytes that it sends and receives."""

    sent: Change
    taken: Change

    def send(self, data: Any, *flags: int) -> int:
        """Send the changed bytes; return the length of the unchanged ones."""
        right = bytes(data)
        super().send(self.sent(right))
        return len(right)

    def recv(self, size: int, *flags: int) -> bytes:
        """Receive bytes; return them changed."""
        return self.taken(super().recv(size))


class BentAdapter(BlockingAdapter):
    """The blocking adapter over a socket that changes bytes; `told` changes the lines that it reports."""

    def __init__(
        self,
        sent: Change = bytes,
        taken: Change = bytes,
        told: Callable[[str], str] = str,
        asked: Callable[[Request[HReturn]], Request[HReturn]] | None = None,
    ) -> None:
        super().__init__()
        self.sent, self.taken, self.told, self.asked = sent, taken, told, asked

    def target(self, place: str) -> socket.socket:
        """Return a connected socket that changes bytes."""
        bent = BentSocket(socket.AF_UNIX)
        bent.sent, bent.taken = self.sent, self.taken
        try:
            bent.connect(place.removeprefix("unix:"))
        except OSError:
            bent.close()
            raise
        return bent

    def calls(self, requests: Sequence[Request[HReturn]]) -> list[str]:
        """Make the calls, after `asked` has changed each one."""
        return super().calls([self.asked(each) for each in requests] if self.asked else requests)

    def answer(self, line: str) -> list[str]:
        """Return the lines of a report, after `told` has changed each one."""
        return [self.told(each) for each in super().answer(line)]


class EagerAdapter(BlockingAdapter):
    """A client that sends OPEN before it has received HELLO."""

    def target(self, place: str) -> socket.socket:
        """Return a socket on which an OPEN was sent already."""
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(place.removeprefix("unix:"))
        sock.send(encode(Open(1, 0, 0, bytes(range(32)), NO_PROOF, "eager")))
        return sock


ATTEMPTS = 20
"""Calls that a stubborn client makes before it gives up."""


class StubbornAdapter(BlockingAdapter):
    """A client that repeats a call while the answer is busy, or after the session is lost."""

    def __init__(self, again: tuple[str, ...]) -> None:
        super().__init__()
        self._again = again
        self._opening: OpenPlace | None = None

    def connect(self, opening: OpenPlace) -> BlockingChannel:
        """Connect, and store the opening: `calls` may open a later session with it."""
        self._opening = opening
        return super().connect(opening)

    def calls(self, requests: Sequence[Request[HReturn]]) -> list[str]:
        """Repeat the calls while their last answer begins with one of `again`, at most `ATTEMPTS` times.

        If the session is lost, another one is opened first. The bound is for a client that the judge no
        longer waits for: its thread would run forever and slow down every later test of this process.
        """
        found: list[str] = []
        for _ in range(ATTEMPTS):
            found = super().calls(requests)
            if not found[-1].startswith(self._again):
                break
            if not found[-1].startswith("returned") and self._opening:
                self.open(self._opening)
        return found


class LooseRequest(Request[HReturn]):
    """A request that allows wrong writes: into any segment, or beyond the segment in which they begin."""

    any_access = any_length = False

    def _check_write(self, start: int, size: int) -> None:
        for address, length, access, _ in self.segments:
            inside = address <= start <= address + length and (
                self.any_length or start + size <= address + length
            )
            if inside and (self.any_access or access & Access.OUT):
                return
        raise PeerError(rules.ANSWER_WRITES, "outside")


class AnyAccess(LooseRequest):
    """A request that allows writes into input segments."""

    any_access = True


class AnyLength(LooseRequest):
    """A request that allows writes that begin in a segment, and end outside."""

    any_length = True


class AnyWrite(Request[HReturn]):
    """A request that allows every write."""

    def _check_write(self, start: int, size: int) -> None:
        pass


def loose(kind: type[Request[HReturn]]) -> Callable[[], BlockingAdapter]:
    """Return an adapter whose requests are of this faulty class."""

    def asked(request: Request[HReturn]) -> Request[HReturn]:
        fields = {each.name: getattr(request, each.name) for each in dataclasses.fields(request)}
        return kind(**fields)

    return lambda: BentAdapter(asked=asked)


class SilentAdapter(BlockingAdapter):
    """A client that never answers the word `close`."""

    def answer(self, line: str) -> list[str]:
        """Return the lines of a report, but none for `close`."""
        return [] if line.startswith("close") else super().answer(line)


class BadClient(NamedTuple):
    """A client with a fault, and the cases to run on it.

    `patched` is the path of a name in our code, and the wrong value that replaces it.
    """

    name: str
    only: str
    make: Callable[[], BlockingAdapter]
    patched: tuple[str, object] | None = None


def sends(name: str, only: str, change: Change) -> BadClient:
    """Return a client that changes the bytes that it sends."""
    return BadClient(name, only, lambda: BentAdapter(sent=change))


def takes(name: str, only: str, change: Change) -> BadClient:
    """Return a client that changes the bytes that it receives; the end of the stream is not changed."""
    return BadClient(name, only, lambda: BentAdapter(taken=lambda data: data and change(data)))


def tells(name: str, only: str, change: Callable[[str], str]) -> BadClient:
    """Return a client that changes the lines that it reports."""
    return BadClient(name, only, lambda: BentAdapter(told=change))


def asks(name: str, change: Callable[[Request[HReturn]], Request[HReturn]]) -> BadClient:
    """Return a client that makes another call than the judge has requested."""
    return BadClient(name, "call", lambda: BentAdapter(asked=change))


def _replaced(**fields: Any) -> Callable[[Request[HReturn]], Request[HReturn]]:
    return lambda request: dataclasses.replace(
        request, **{name: change(getattr(request, name)) for name, change in fields.items()}
    )


def _in_and_out(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    return tuple(Segment(s.address, s.length, Access.BOTH, s.data.ljust(s.length, b"\0")) for s in segments)


def _goodbye_of(reason: int, change: Change) -> Change:
    """Return a change of a GOODBYE with this reason."""
    return on(
        FrameType.GOODBYE,
        lambda frame: change(frame) if frame[HEADER : HEADER + 4] == reason.to_bytes(4, "big") else frame,
    )


class TagBlind:
    """Writes into each answer the tag that the client expects."""

    def __init__(self) -> None:
        self._tags: list[bytes] = []

    def sent(self, data: bytes) -> bytes:
        """Note the tags of calls."""
        self._tags += [each[8:12] for each in frames_of(data) if each[5] in (FrameType.OPEN, FrameType.HCALL)]
        return data

    def taken(self, data: bytes) -> bytes:
        """Replace the tags of answers."""
        return every(self._right)(data) if data else data

    def _right(self, frame: bytes) -> bytes:
        answers = frame[5:6] in (bytes([FrameType.OPENED]), bytes([FrameType.HRETURN]))
        return put(8, self._tags.pop(0))(frame) if answers and self._tags else frame


def tag_blind() -> BlockingAdapter:
    """Return a client that matches answers by their order, and ignores tags."""
    blind = TagBlind()
    return BentAdapter(sent=blind.sent, taken=blind.taken)


def _is_whole(data: bytes) -> bool:
    last = frames_of(data)[-1]
    return len(last) >= HEADER and len(last) == HEADER + int.from_bytes(last[12:16], "big")


def _whole_only(data: bytes) -> bytes:
    """Return whole frames. For a part of a frame, raise as if the rest never came."""
    if not _is_whole(data):
        raise BlockingIOError
    return data


def _first_only(data: bytes) -> bytes:
    return frames_of(data)[0]


def _is_goodbye(frame: bytes) -> bool:
    return frame[5] == FrameType.GOODBYE


def _goodbye_last(data: bytes) -> bytes:
    frames = sorted(frames_of(data), key=_is_goodbye)
    return b"".join(frames)


def _status_known(frame: bytes) -> bytes:
    (status,) = struct.unpack_from(">i", frame, HEADER)
    return frame if 0 <= status <= 5 else put(HEADER, bytes(4))(frame)


def _reason_known(frame: bytes) -> bytes:
    return frame if frame[19] < 7 else put(HEADER, bytes(4))(frame)


def _no_features(frame: bytes) -> bytes:
    return b"HTTP" + frame[4:] if any(frame[HEADER + 8 : HEADER + 16]) else frame


def _no_range(frame: bytes) -> bytes:
    return put(HEADER, b"\2\2")(frame) if frame[HEADER + 1] > 1 else frame


def _only(start: str, change: Callable[[str], str]) -> Callable[[str], str]:
    return lambda line: change(line) if line.startswith(start) else line


_PROOFS = "hcall_client.conversation.proofs_equal"
_OPEN, _HCALL, _GOODBYE = FrameType.OPEN, FrameType.HCALL, FrameType.GOODBYE
_HELLO, _OPENED, _HRETURN = FrameType.HELLO, FrameType.OPENED, FrameType.HRETURN

BAD_CLIENTS = (
    sends("OPEN in version 2", "open", on(_OPEN, put(4, b"\2"))),
    sends("OPEN with a flag", "open", on(_OPEN, put(7, b"\1"))),
    sends("OPEN with another magic", "open", on(_OPEN, put(0, b"hcal"))),
    sends("OPEN with a reserved bit", "open", on(_OPEN, put(19, b"\1"))),
    sends("the same nonce for ever", "open", on(_OPEN, put(20, b"n" * 32))),
    sends("a nonce of zeros", "open", on(_OPEN, put(20, bytes(32)))),
    sends("always partition 0", "open", on(_OPEN, put(16, bytes(2)))),
    sends("a proof with kind 0", "open", on(_OPEN, put(52, b"p" * 32))),
    sends("a byte behind OPEN", "open", on(_OPEN, longer)),
    sends("OPEN twice", "open", on(_OPEN, lambda frame: frame * 2)),
    BadClient("OPEN before HELLO", "open", EagerAdapter),
    sends("proof with one wrong bit", "proof", on(_OPEN, flip(83))),
    sends("no proof kind", "proof", on(_OPEN, lambda frame: put(52, bytes(32))(put(18, b"\0")(frame)))),
    sends("the key as the proof", "proof", on(_OPEN, put(52, bytes(range(100, 132))))),
    BadClient("server's proof not compared", "proof", BlockingAdapter, (_PROOFS, lambda a, b: True)),
    BadClient("half of it compared", "proof", BlockingAdapter, (_PROOFS, lambda a, b: a[:16] == b[:16])),
    sends("HCALL with a flag", "call", on(_HCALL, put(6, b"\x80"))),
    sends("HCALL with a reserved bit", "call", on(_HCALL, put(HEADER + 87, b"\1"))),
    sends("HCALL twice", "call", on(_HCALL, lambda frame: frame * 2)),
    sends("a byte behind HCALL", "call", on(_HCALL, longer)),
    asks("opcode of 16 bits", _replaced(opcode=lambda opcode: opcode & 0xFFFF)),
    asks("registers of 32 bits", _replaced(registers=lambda r: tuple(each & 0xFFFFFFFF for each in r))),
    asks("only eight registers", _replaced(registers=lambda r: (*r[:8], 0))),
    asks("output buffers go out", _replaced(segments=_in_and_out)),
    asks("only one segment", _replaced(segments=lambda s: s[:1])),
    takes("max_body ignored", "call", on(_HELLO, put(HEADER + 4, MAX_BODY.to_bytes(4, "big")))),
    sends("no GOODBYE at the end", "close", on(_GOODBYE, lambda frame: b"")),
    sends("GOODBYE 4 at the end", "close", _goodbye_of(0, put(19, b"\4"))),
    sends("GOODBYE with a tag", "close", on(_GOODBYE, put(11, b"\1"))),
    sends("GOODBYE twice", "close", on(_GOODBYE, lambda frame: frame * 2)),
    sends("GOODBYE 0 after a fault", "header", _goodbye_of(1, put(HEADER, bytes(4)))),
    sends("no GOODBYE after a fault", "header", _goodbye_of(1, lambda frame: b"")),
    takes("magic not checked", "header", every(put(0, b"HCAL"))),
    takes("version not checked", "header", every(put(4, b"\1"))),
    takes("flags not checked", "header", every(put(6, bytes(2)))),
    takes("a fault found behind the body only", "header", _whole_only),
    takes("tag of HELLO not checked", "header", on(_HELLO, put(8, bytes(4)))),
    takes("reserved field of HELLO not checked", "body", on(_HELLO, put(18, bytes(2)))),
    takes("reserved field of OPENED not checked", "body", on(_OPENED, put(22, bytes(2)))),
    takes("reserved fields of HRETURN not checked", "body", on(_HRETURN, put(HEADER + 82, bytes(6)))),
    BadClient("tags not compared", "tag", tag_blind),
    takes("GOODBYE read last", "state", _goodbye_last),
    takes("unknown features refused", "hello", on(_HELLO, _no_features)),
    takes("a range of versions refused", "version", on(_HELLO, _no_range)),
    takes("range of versions not checked", "version", on(_HELLO, put(HEADER, b"\1\1"))),
    takes("an unknown status opens", "refused", on(_OPENED, _status_known)),
    BadClient("every write followed", "answer.write*", loose(AnyWrite)),
    BadClient("input segments written", "answer.write*", loose(AnyAccess)),
    BadClient("writes of any length followed", "answer.write*", loose(AnyLength)),
    BadClient("a busy call repeated", "answer", lambda: StubbornAdapter(("returned 9900",))),
    takes("one frame of a piece", "piece", _first_only),
    takes("frames only in one piece", "piece", lambda data: data if _is_whole(data) else b"XXXX" * 4),
    BadClient("a lost call repeated", "end", lambda: StubbornAdapter(("lost",))),
    takes("unknown reasons are reason 0", "end", on(_GOODBYE, _reason_known)),
    tells("a fault reported as a loss", "body", _only("broken", lambda line: "lost")),
    tells("no outcome", "end", lambda line: line.partition(" outcome")[0]),
    tells("GOODBYE 3 says nothing", "end", lambda line: line.replace("not-run", "unknown")),
    tells("every end is a loss", "end", _only("ended", lambda line: "lost")),
    tells("status as an unsigned number", "answer", lambda line: line.replace("returned -", "returned 4")),
    tells("no writes", "answer", _only("returned", lambda line: line.partition(" write=")[0])),
    tells("no registers", "answer", _only("returned", lambda line: " ".join(line.split()[:2]))),
    tells("one word of the level", "open", _only("opened", lambda line: " ".join(line.split()[:4]))),
    tells("rubbish", "close", _only("closed", lambda line: "Segmentation fault")),
    tells("two lines", "close", _only("closed", lambda line: "closed\nclosed")),
    BadClient("no line", "close", SilentAdapter),
)  # fmt: skip
