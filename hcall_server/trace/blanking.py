"""Replaces the secrets of a frame by zero bytes of the same length (spec/service.md#trace).  Pure."""

# Which bytes a trace shows
#
# A trace is given away: to a colleague, to a bug report.  So it must have no password, no key and no object
# data, and a reader must still see the call.  All lengths and offsets stay, because a blanked byte is a zero.
#
# This is a list of what is shown, and not of what is hidden: a new argument, or a byte that belongs to none,
# is blanked until somebody decides otherwise.  Of guest memory these bytes are shown:
#
#   1. of an authorization block that is well formed, the 16 bytes before the password;
#   2. of a buffer with `Arg.public`: labels, the configuration, lists of labels.
#
# Addresses and lengths of the buffers come from the registers of the call, by `hcall_abi.calls`.  No code
# here knows a single call.
#
# The guest has chosen these registers, and may have confused them.  So a label is shown only under the rules
# of the log of calls (`hcall_server.hcalls.call_fields`): not if its memory overlaps another argument, and
# not if it has a part of a password.  A list of labels with a part of a password is blanked as a whole.
#
# An answer does not name its call.  So the blanker remembers which memory of each call may be shown, under
# the call's number in its connection.  An answer whose call is not in the trace (it was lost, or came before
# the trace began) has its written bytes blanked.
#
# A frame that does not decode has no arguments: all behind its header is blanked.  Bytes without the magic
# may be anything, for example object data behind a wrong length.  So they are blanked without an exception.
#
# The proofs of OPEN and OPENED are blanked too, although they are made over fresh nonces: spec/threats.md
# promises that no record of the server has a proof.

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

from hcall_abi.calls import CALLS, HCallSpec, Opcode
from hcall_abi.codec import HEADER_LAYOUT, ProtocolError, decode, encode
from hcall_abi.frames import (
    MAGIC,
    PROOF_SIZE,
    VERSION,
    Access,
    Frame,
    FrameType,
    HCall,
    HReturn,
    Open,
    Opened,
)
from hcall_abi.structures import AUTH_LAYOUT
from hcall_server.hcalls.call_fields import has_part, shown_block, shown_label
from hcall_server.trace.cutting import HEADER_SIZE, CutFrame

Memory = tuple[int, int]
"""A piece of guest memory: its address, and the address behind its end."""
Passwords = tuple[bytes, ...]

_KINDS = frozenset(int(kind) for kind in FrameType)
_IN = int(Access.IN)


class Blanker:
    """Blanks the frames of one connection, in their order."""

    def __init__(self) -> None:
        self._answered: dict[int, tuple[Memory, ...]] = {}

    def blanked(self, frame: CutFrame, number: int | None, passwords: Passwords) -> bytes:
        """Return the bytes of a frame without its secrets.

        `number` counts the calls, and the answers, of the connection; None for any other frame.  `passwords`
        are those that are set in the partition.
        """
        data = frame.data
        if len(data) < HEADER_SIZE or data[:4] != MAGIC:
            return bytes(len(data))
        found = _decoded(frame)
        if isinstance(found, HCall):
            return _call(data, found, self._note(found, number, passwords))
        if isinstance(found, HReturn):
            return _answer(data, found, self._memory(number), passwords)
        if isinstance(found, Open | Opened):
            return encode(found._replace(proof=bytes(PROOF_SIZE)))
        return data if found else data[:HEADER_SIZE] + bytes(len(data) - HEADER_SIZE)

    def _note(self, call: HCall, number: int | None, passwords: Passwords) -> tuple[Memory, ...]:
        """Remember the memory that the answer of a call may show; return that which the call may show."""
        spec = CALLS.get(Opcode(call.opcode)) if call.opcode in CALLS else None
        if number is not None:
            self._answered[number] = tuple(_written(spec, call)) if spec else ()
        return tuple(_read(spec, call, passwords)) if spec else ()

    def _memory(self, number: int | None) -> tuple[Memory, ...]:
        if number is None:
            return ()
        found = self._answered.pop(number, ())
        # Answers come in the order of the calls.  So an older call whose answer was lost gets none any more.
        for old in [each for each in self._answered if each < number]:
            del self._answered[old]
        return found


def _decoded(frame: CutFrame) -> Frame | None:
    """Return a whole and well-formed frame of this version; None for any other."""
    data = frame.data
    _, version, kind, flags, tag, _ = HEADER_LAYOUT.unpack_raw(data, 0)
    if version != VERSION or flags or kind not in _KINDS or len(data) != frame.length:
        return None
    try:
        return decode(kind, tag, data, HEADER_SIZE, len(data))
    except ProtocolError:
        return None


def _read(spec: HCallSpec, call: HCall, passwords: Passwords) -> Iterator[Memory]:
    """Yield the memory of a call that its own frame may show."""
    head = shown_block(spec, call)
    if head is not None:
        yield head, head + AUTH_LAYOUT.size
    for arg in spec.args:
        label = shown_label(spec, call, passwords) if arg.public and arg.kind.readable else None
        if label is not None:
            start = call.registers[arg.place]
            yield start, start + len(label)


def _written(spec: HCallSpec, call: HCall) -> Iterator[Memory]:
    """Yield the memory that the answer of a call may show."""
    for arg in spec.args:
        if arg.public and arg.kind.writable:
            start = call.registers[arg.place]
            yield start, start + call.registers[spec.length_of(arg).place]


def _call(data: bytes, call: HCall, shown: Iterable[Memory]) -> bytes:
    """Return the frame of a call with only the shown memory in its segments."""
    pieces = [(address, content) for address, _, access, content in call.segments if access & _IN]
    return _kept(data, pieces, tuple(shown))


def _answer(data: bytes, answer: HReturn, shown: tuple[Memory, ...], passwords: Passwords) -> bytes:
    """Return the frame of an answer with only the shown memory in its writes."""
    if any(has_part(content, password) for _, content in answer.writes for password in passwords):
        shown = ()
    return _kept(data, [(each.address, each.data) for each in answer.writes], shown)


def _kept(data: bytes, pieces: list[tuple[int, bytes]], shown: tuple[Memory, ...]) -> bytes:
    """Return a frame with zeros for all bytes of these pieces, which are its end, but the shown ones."""
    sizes = [len(content) for _, content in pieces]
    table = len(data) - sum(sizes)
    kept = bytearray(data[:table]) + bytes(len(data) - table)
    for (address, content), offset in zip(pieces, accumulate(sizes, initial=table), strict=False):
        for begin, end in shown:
            first, last = max(begin - address, 0), min(end - address, len(content))
            if first < last:
                kept[offset + first : offset + last] = content[first:last]
    return bytes(kept)
