"""Replaces the secrets of a frame by zero bytes of the same length (spec/service.md#trace).  Pure."""

# Which bytes a trace shows
#
# A trace is given away: to a colleague, to a bug report.  So it must have no password, no key and no object
# data, and a reader must still see the call.  All lengths and offsets stay, because a blanked byte is a zero.
#
# The rules name the shown bytes.  All other bytes are blanked, also those of an argument that a later release
# adds.  Of guest memory these bytes are shown:
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
# A password counts from its first appearance in the recording, in any connection (`known`): the bytes of a
# label may arrive before the call that sets the password has run.
#
# Registers are shown only if the row of the call has them as an argument, or as a result of its answer.  A
# call without a row may carry anything in registers: H_PUT_TERM_CHAR has 16 characters of a console there.
#
# An answer does not name its call.  So the blanker remembers which results and which memory of each call may
# be shown, under the call's number in its connection.  An answer whose call is not in the trace (it was lost,
# or came before the trace began) has its registers and its written bytes blanked.
#
# A frame that does not decode has no arguments: all behind its header is blanked.  Bytes without the magic
# may be anything, for example object data behind a wrong length.  So they are blanked without an exception.
#
# The proofs of OPEN and OPENED are blanked too, although they are made over fresh nonces: spec/threats.md
# promises that no record of the server has a proof.

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

from hcall_abi.arguments import Arg, Limit
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
from hcall_abi.statuses import REGISTERS
from hcall_abi.structures import AUTH_LAYOUT
from hcall_server.hcalls.call_fields import passwords_in, shown_block, shown_label
from hcall_server.trace.cutting import HEADER_SIZE, CutFrame
from hcall_server.trace.known import KnownPasswords

Memory = tuple[int, int]
"""A piece of guest memory: its address, and the address behind its end."""
Passwords = tuple[bytes, ...]

_KINDS = frozenset(int(kind) for kind in FrameType)
_IN = int(Access.IN)


# A register has eight bytes, and so has the opcode, or the status, before the first one.
_WORD = 8
_FIRST_REGISTER = HEADER_SIZE + _WORD


class ShownParts(NamedTuple):
    """What may be shown of a call or an answer: its registers by their index (0 for r4), and its memory.

    `password` is memory that an answer fills with a password.
    """

    registers: frozenset[int] = frozenset()
    memory: tuple[Memory, ...] = ()
    password: Memory | None = None


_NOTHING = ShownParts()


class Blanker:
    """Blanks the frames of one connection, in their order.

    `known` are the passwords of the recording, for all its blankers.
    """

    def __init__(self, known: KnownPasswords) -> None:
        self._known = known
        self._set: Passwords = ()
        self._answered: dict[int, ShownParts] = {}

    def blanked(self, frame: CutFrame, number: int | None, passwords: Passwords) -> bytes:
        """Return the bytes of a frame without its secrets.

        `number` counts the calls, and the answers, of the connection; None for any other frame.  `passwords`
        are those that are set in the partition.
        """
        data = frame.data
        if len(data) < HEADER_SIZE or data[:4] != MAGIC:
            return bytes(len(data))
        self._learn(passwords)
        found = _decoded(frame)
        if isinstance(found, HCall):
            return _call(data, found, self._note(found, number))
        if isinstance(found, HReturn):
            return self._answer(data, found, self._shown(number))
        if isinstance(found, Open | Opened):
            return encode(found._replace(proof=bytes(PROOF_SIZE)))
        return data if found else data[:HEADER_SIZE] + bytes(len(data) - HEADER_SIZE)

    def _learn(self, passwords: Passwords) -> None:
        if passwords != self._set:
            self._set = passwords
            for password in passwords:
                self._known.add(password)

    def _note(self, call: HCall, number: int | None) -> ShownParts:
        """Return the parts of a call that may be shown; remember the parts of its answer."""
        spec = CALLS.get(Opcode(call.opcode)) if call.opcode in CALLS else None
        if number is not None:
            self._answered[number] = _of_answer(spec, call) if spec else _NOTHING
        if spec is None:
            return _NOTHING
        for password in passwords_in(spec, call):
            self._known.add(password)
        memory = tuple(_read(spec, call, self._known))
        return ShownParts(frozenset(arg.place for arg in spec.args), memory)

    def _shown(self, number: int | None) -> ShownParts:
        if number is None:
            return _NOTHING
        found = self._answered.pop(number, _NOTHING)
        # Answers come in the order of the calls.  So an older call whose answer was lost gets none any more.
        for old in [each for each in self._answered if each < number]:
            del self._answered[old]
        return found

    def _answer(self, data: bytes, answer: HReturn, shown: ShownParts) -> bytes:
        """Return the frame of an answer with only the shown registers, and the shown memory in its writes."""
        for address, content in answer.writes:
            if shown.password and address == shown.password[0]:
                self._known.add(content)
        if any(self._known.suspects(content) for _, content in answer.writes):
            shown = shown._replace(memory=())
        return _kept(data, [(each.address, each.data) for each in answer.writes], shown)


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


def _read(spec: HCallSpec, call: HCall, known: KnownPasswords) -> Iterator[Memory]:
    """Yield the memory of a call that its own frame may show."""
    head = shown_block(spec, call)
    if head is not None:
        yield head, head + AUTH_LAYOUT.size
    for arg in spec.args:
        label = shown_label(spec, call) if arg.public and arg.kind.readable else None
        if label is not None and not known.suspects(label):
            start = call.registers[arg.place]
            yield start, start + len(label)


def _of_answer(spec: HCallSpec, call: HCall) -> ShownParts:
    """Return the registers and places of memory that the answer of a call may show."""
    written = [arg for arg in spec.args if arg.kind.writable]
    memory = tuple(_buffer(spec, call, arg) for arg in written if arg.public)
    passwords = [_buffer(spec, call, arg) for arg in written if _is_password(spec, arg)]
    return ShownParts(frozenset(each.place for each in spec.outputs), memory, next(iter(passwords), None))


def _buffer(spec: HCallSpec, call: HCall, arg: Arg) -> Memory:
    start = call.registers[arg.place]
    return start, start + call.registers[spec.length_of(arg).place]


def _is_password(spec: HCallSpec, arg: Arg) -> bool:
    """Whether a buffer has the bound of passwords: so it is one."""
    bounds = spec.length_of(arg).bounds
    return bounds is not None and bounds.most is Limit.PASSWORD


def _call(data: bytes, call: HCall, shown: ShownParts) -> bytes:
    """Return the frame of a call with only the shown registers, and the shown memory in its segments."""
    pieces = [(address, content) for address, _, access, content in call.segments if access & _IN]
    return _kept(data, pieces, shown)


def _kept(data: bytes, pieces: list[tuple[int, bytes]], shown: ShownParts) -> bytes:
    """Return a frame with zeros for all registers and bytes of these pieces but the shown ones.

    The pieces are the end of the frame.
    """
    sizes = [len(content) for _, content in pieces]
    table = len(data) - sum(sizes)
    kept = bytearray(data[:table]) + bytes(len(data) - table)
    for place in set(range(REGISTERS)) - shown.registers:
        start = _FIRST_REGISTER + _WORD * place
        kept[start : start + _WORD] = bytes(_WORD)
    for (address, content), offset in zip(pieces, accumulate(sizes, initial=table), strict=False):
        for begin, end in shown.memory:
            first, last = max(begin - address, 0), min(end - address, len(content))
            if first < last:
                kept[offset + first : offset + last] = content[first:last]
    return bytes(kept)
