"""An h-call before it is sent: registers, guest memory, and how to read the answer.

`build` makes the guest memory of a call from its row of the table (`hcall_abi.calls.CALLS`).  It gives every
buffer pages of its own in a made-up memory.  So no buffer breaks a rule on alignment or page crossing.
"""

# A made-up guest memory
#
# An h-call takes addresses, so a client without a guest needs a memory to point into. `build` makes one for
# each call: every buffer begins a page of its own, from `FIRST_ADDRESS` on. A buffer at the start of a page
# satisfies every rule of strict memory. So a program need not know these rules. Tests that break them use
# `raw_call`.
#
# The answer is checked before it is read. A client must not trust a server with its memory: each write has to
# lie within one writable segment of this call. Then the bytes from the start of the output buffer are joined.
# A gap ends them: the result could not state the position of bytes after a gap.

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from operator import index
from typing import Generic, NamedTuple, Self, TypeVar

from hcall_abi.arguments import PAGE, Arg, Kind
from hcall_abi.calls import CALLS, HCallSpec, Opcode
from hcall_abi.errors import PeerError
from hcall_abi.frames import Access, HCall, HReturn, Segment, Write
from hcall_abi.mistakes import Mistake, WrongType, WrongValue, kind_of, of_caller
from hcall_abi.policies import Policy
from hcall_abi.rules import protocol as rules
from hcall_abi.rules.rule import Rule
from hcall_abi.statuses import REGISTERS, Status
from hcall_abi.structures import build_auth
from hcall_client.errors import HcallError
from hcall_client.mistakes import Place, no_authorization, no_bytes, no_consumer, no_number

T = TypeVar("T")

__tracebackhide__ = of_caller

FIRST_ADDRESS = 0x0010_0000
"""Where the made-up guest memory of a call begins."""

_ADDRESSES = 1 << 64
_SUCCESS = frozenset({int(Status.H_SUCCESS)})


class _Who(NamedTuple):
    consumer: int
    password: bytes


class Authorization(_Who):
    """The consumer that a call names, and its password (empty: none is given).

    WrongType for a consumer that is no number, and for a password that is no bytes.
    """

    __slots__ = ()

    def __new__(cls, consumer: int, password: bytes = b"") -> Self:
        """Check the types: values that firmware checks go to the server, such as an unknown consumer."""
        if not hasattr(consumer, "__index__"):
            raise no_consumer(consumer)
        as_bytes(("password", "Authorization"), password)
        return super().__new__(cls, consumer, password)

    def __repr__(self) -> str:
        given = "given" if self.password else "none"
        return f"Authorization(consumer={int(self.consumer)}, password {given})"


Value = int | bytes | Authorization
"""An argument of `build`: a number, the length of an output buffer, input bytes, or an authorization."""

Reader = Callable[[HReturn, bytes], T]
"""Makes the result out of an answer and the bytes written from the start of the output buffer."""


@dataclass(frozen=True, slots=True)
class Request(Generic[T]):
    """One h-call, ready to be sent: `registers` are r4 to r12.

    `accepts` are the statuses that count as a result (None: all of them).  `output` is the address of the
    buffer whose bytes are passed to `reader`.
    """

    opcode: int
    registers: tuple[int, ...] = field(repr=False)
    segments: tuple[Segment, ...]
    reader: Reader[T] = field(repr=False)
    accepts: frozenset[int] | None = field(default=_SUCCESS, repr=False)
    output: int = field(default=0, repr=False)

    def frame(self, tag: int) -> HCall:
        """Return the HCALL frame that carries this call."""
        return HCall(tag, self.opcode, self.registers, self.segments)

    def parse(self, answer: HReturn) -> T:
        """Return the result in an answer.

        Raises HcallError for a refusal. Raises PeerError for an answer that breaks a rule, for instance by
        writes outside the call's output buffers.
        """
        for address, data in answer.writes:
            self._check_write(address, len(data))
        if self.accepts is not None and answer.status not in self.accepts:
            raise refused(self.opcode, answer)
        return self.reader(answer, self._written(answer.writes))

    def _check_write(self, start: int, size: int) -> None:
        for address, length, access, _ in self.segments:
            # One segment has to hold the whole write. Two neighbouring segments are two buffers.
            if access & Access.OUT and address <= start and start + size <= address + length:
                return
        message = f"a write of {size} bytes at 0x{start:X}"
        raise untrue(rules.ANSWER_WRITES, message)

    def _written(self, writes: Iterable[Write]) -> bytes:
        """Return the bytes written from the start of the output buffer up to the first gap."""
        parts, end = [], self.output
        # The server may send writes in any order.
        for address, data in sorted(writes):
            if address == end:
                parts.append(data)
                end += len(data)
        return b"".join(parts)


def refused(opcode: int, answer: HReturn) -> HcallError:
    """Return the exception for an answer that refuses a call."""
    return HcallError(answer.status, opcode, answer.registers)


def untrue(rule: Rule, message: str) -> PeerError:
    """Return the exception for an answer that breaks `rule`."""
    return PeerError(rule, f"an answer that cannot be: {message}")


def nothing(_: HReturn, __: bytes) -> None:
    """Read an answer without results: its status is all that it has."""
    return


def read_policy(word: int) -> Policy:
    """Return the policy word in a register; PeerError for more than 32 bits."""
    if word >> 32:
        raise untrue(rules.ANSWER_POLICY, f"a policy word of 0x{word:X}")
    return Policy(word)


class _Memory:
    """The made-up guest memory of one call: every buffer starts a page of its own."""

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self._free = FIRST_ADDRESS

    def place(self, value: int | bytes) -> int:
        """Return the address of a new buffer: bytes to be read, or room for that number of bytes."""
        address = self._free
        if isinstance(value, int):
            segment = Segment.written(address, value)
        else:
            segment = Segment.read(address, bytes(value))
        self.segments.append(segment)
        # Each buffer gets at least one page: a buffer of length 0 needs an address that no other buffer has.
        self._free += max(1, -(-segment.length // PAGE)) * PAGE
        return address


def build(opcode: Opcode, reader: Reader[T], *, also: Iterable[int] = (), **values: Value) -> Request[T]:
    """Return the request for an h-call of the table.

    `values` has each argument by its name.  Lengths are left out: they follow from their buffers.  `also` are
    statuses that the reader accepts beside H_SUCCESS.  ValueError for a value that fits no register,
    TypeError for a value of another type, KeyError for a missing one.
    """
    try:
        return _built(opcode, reader, also, values)
    except Mistake as error:
        raise error.with_traceback(None) from None  # shows the caller's line, not one of this module


def _built(opcode: Opcode, reader: Reader[T], also: Iterable[int], values: Mapping[str, Value]) -> Request[T]:
    spec = CALLS[opcode]
    memory = _Memory()
    registers = [0] * REGISTERS
    output = 0
    for arg in spec.args:
        if arg.kind.is_length:
            continue
        number = _place((arg.name, spec.name), arg, values[arg.name], memory)
        registers[arg.place] = number
        # No call has two output buffers.
        output = number if arg.kind.writable else output
        _set_length(spec, arg, memory, registers)
    # Most calls have no further statuses, and share one set. So a request makes no new set.
    accepts = _SUCCESS.union(map(int, also)) if also else _SUCCESS
    checked = check_registers(registers)
    return Request(int(opcode), checked, tuple(memory.segments), reader, accepts, output)


def _place(place: Place, arg: Arg, value: Value, memory: _Memory) -> int:
    """Return the value of the argument's register; a buffer is first placed into memory."""
    if arg.kind.is_number:
        return _unsigned(place, value)
    if isinstance(value, Authorization) and arg.kind is Kind.AUTHORIZATION:
        value = _auth_block(value)
    elif arg.kind is Kind.AUTHORIZATION and not isinstance(value, bytes):
        raise no_authorization(place, value)
    if arg.kind.writable and not isinstance(value, bytes):
        return memory.place(_unsigned(("the size", *place), value))
    return memory.place(as_bytes(place, value))


def _unsigned(place: Place, value: object) -> int:
    """Return a whole number that a register can hold."""
    number = as_number(place, value)
    if not 0 <= number < _ADDRESSES:
        raise WrongValue(f"{' of '.join(place)} is 0 to 2**64 - 1, not {number}")
    return number


def as_number(place: Place, value: object) -> int:
    """Return a whole number; TypeError that names the place for any other value."""
    try:
        # `int` would accept a text with digits, and cut a float. `index` refuses both.
        return index(value)  # type: ignore[arg-type]
    except TypeError:
        raise no_number(place, value) from None


def as_bytes(place: Place, value: object) -> bytes:
    """Return the bytes of a buffer.

    If the value is not bytes, raise TypeError.  The message names the place, and never shows the value.
    """
    try:
        # `memoryview` refuses numbers and lists. bytes(5) would be five zeros, and bytes([1, 2]) two bytes.
        return bytes(memoryview(value))  # type: ignore[arg-type]
    except TypeError:
        raise no_bytes(place, value) from None


def _auth_block(who: Authorization) -> bytes:
    consumer = as_number(("consumer", "Authorization"), who.consumer)
    password = as_bytes(("password", "Authorization"), who.password)
    try:
        return build_auth(consumer, password)
    except struct.error:
        raise WrongValue("a consumer is a byte, a password has at most 65535 bytes") from None


def _set_length(spec: HCallSpec, arg: Arg, memory: _Memory, registers: list[int]) -> None:
    if arg.length:
        place = spec.arg(arg.length).place
        registers[place] = memory.segments[-1].length


def check_registers(registers: Iterable[int]) -> tuple[int, ...]:
    """Return r4 to r12, filled up with zeros; ValueError for values that registers cannot hold."""
    if not isinstance(registers, Iterable):
        raise WrongType(f"registers are a list, not {kind_of(registers)}: write raw_call(opcode, [r4, r5])")
    given = tuple(as_number(("a register",), each) for each in registers)
    if len(given) > REGISTERS or any(not 0 <= value < _ADDRESSES for value in given):
        raise WrongValue("at most nine unsigned 64-bit numbers go into r4 to r12")
    return given + (0,) * (REGISTERS - len(given))
