"""The table of all 14 h-calls: opcode, every argument by register, results and statuses.

This table drives dispatch and argument checks in the server, the typed calls of the client, the
pages in `spec/hcalls/` and the test matrices, so that a fact about an h-call is written once.
Facts: opcodes and argument order are those of the public Linux driver (spec/hcalls/index.md);
SET_PASSWORD's arguments are not public, so they are our choice (spec/choices.md).

A buffer argument is an address in one register; the length that belongs to it is another
argument of the same call, named by `Arg.length`.  An authorization block tells its own length.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, IntEnum
from types import MappingProxyType

from hcall_abi.statuses import Status, positional


class Opcode(IntEnum):
    """The number in r3 that selects an h-call."""

    GET_CONFIG = 0x41C
    SET_PASSWORD = 0x420
    GEN_PASSWORD = 0x424
    GET_OBJECTLABELS = 0x428
    WRITE_OBJECT = 0x42C
    GEN_KEY = 0x430
    READ_OBJECT = 0x434
    REMOVE_OBJECT = 0x438
    CONFIRM_OBJECT_FLUSHED = 0x43C
    SIGNED_UPDATE = 0x454
    WRAP_OBJECT = 0x490
    UNWRAP_OBJECT = 0x494
    REVOKE_OBJECT = 0x4AC
    UNREVOKE_OBJECT = 0x4B0


class Kind(Enum):
    """What an argument's register holds."""

    VALUE = "value"
    """A number of `Arg.bits` bits, passed zero-extended."""
    AUTHORIZATION = "authorization block"
    """The address of an authorization block, which tells its own length."""
    LABEL = "label"
    """The address of a label, read by the hypervisor."""
    INPUT = "input buffer"
    """The address of bytes that the hypervisor reads."""
    PASSWORD = "password"  # noqa: S105 - the name of a kind of argument, not a password
    """The address of a password that the hypervisor reads."""
    OUTPUT = "output buffer"
    """The address of bytes that the hypervisor may write."""
    LENGTH = "length"
    """The length in bytes of the buffer whose `Arg.length` names this argument."""


@dataclass(frozen=True)
class Arg:
    """One argument of an h-call.

    `register` is 4 to 12; a row of the table sets it from the argument's place.  `length` names
    the LENGTH argument of a buffer.  `one_page` says that the buffer must not cross a 4 KiB page,
    and `alignment` what its address is a multiple of, where memory is strict (R-76).
    """

    name: str
    kind: Kind
    register: int = 0
    bits: int = 64
    length: str | None = None
    one_page: bool = False
    alignment: int = 1

    @property
    def status(self) -> Status:
        """The status that blames this argument."""
        return positional(self.register)


@dataclass(frozen=True)
class Output:
    """A result that comes back in a register."""

    name: str
    register: int


@dataclass(frozen=True)
class HCallSpec:
    """One row of the table: everything that is fixed about an h-call."""

    opcode: Opcode
    args: tuple[Arg, ...]
    outputs: tuple[Output, ...]
    statuses: frozenset[Status]
    modifies: bool

    @property
    def name(self) -> str:
        """The platform's name of the call, such as H_PKS_READ_OBJECT."""
        return f"H_PKS_{self.opcode.name}"

    def arg(self, name: str) -> Arg:
        """Return the argument called `name`; KeyError when the call has none of that name."""
        for arg in self.args:
            if arg.name == name:
                return arg
        raise KeyError(name)


_PAGE = 4096
_AUTH = Arg("authorization", Kind.AUTHORIZATION, one_page=True, alignment=16)
_LABEL = (
    Arg("label", Kind.LABEL, length="label_length", one_page=True),
    Arg("label_length", Kind.LENGTH),
)
_POLICY = Arg("policy", Kind.VALUE, bits=32)
_FLAGS = Arg("flags", Kind.VALUE)
_TOKEN = Arg("token", Kind.VALUE)
_CONSUMER = Arg("consumer", Kind.VALUE, bits=8)
_RESERVED = Arg("reserved", Kind.VALUE)


def _buffer(name: str, kind: Kind, *, one_page: bool = False, alignment: int = 1) -> tuple[Arg, Arg]:
    length = f"{name}_length"
    return Arg(name, kind, length=length, one_page=one_page, alignment=alignment), Arg(length, Kind.LENGTH)


_COMMON = {Status.H_SUCCESS, Status.H_FUNCTION, Status.H_STATE, Status.H_ABORTED}
_LONG_BUSY = {status for status in Status if status.name.startswith("H_LONG_BUSY")}


def _spec(
    opcode: Opcode,
    *args: Arg,
    outputs: tuple[str, ...] = (),
    modifies: bool = False,
    busy: bool = True,
    also: Iterable[Status] = (),
) -> HCallSpec:
    """Build a row: arguments and results take the registers from r4 on, in order."""
    placed = tuple(replace(arg, register=4 + n) for n, arg in enumerate(args))
    results = tuple(Output(name, 4 + n) for n, name in enumerate(outputs))
    state = {Status.H_R_STATE} if modifies else set()
    retry = {Status.H_BUSY} if busy else set()
    statuses = _COMMON | state | retry | {arg.status for arg in placed} | set(also)
    return HCallSpec(opcode, placed, results, frozenset(statuses), modifies)


_ROWS = (
    _spec(
        Opcode.GET_CONFIG,
        *_buffer("config", Kind.OUTPUT, one_page=True),
    ),
    _spec(
        Opcode.SET_PASSWORD,
        _CONSUMER,
        _RESERVED,
        *_buffer("password", Kind.PASSWORD, one_page=True),
        modifies=True,
        also={Status.H_IN_USE},
    ),
    _spec(
        Opcode.GEN_PASSWORD,
        _CONSUMER,
        _RESERVED,
        *_buffer("password", Kind.OUTPUT, one_page=True),
        modifies=True,
        also={Status.H_IN_USE},
    ),
    _spec(
        Opcode.GET_OBJECTLABELS,
        _AUTH,
        _TOKEN,
        *_buffer("labels", Kind.OUTPUT),
        outputs=("count", "token"),
        also={Status.H_AUTHORITY, Status.H_CONTINUE},
    ),
    _spec(
        Opcode.WRITE_OBJECT,
        _AUTH,
        *_LABEL,
        _POLICY,
        *_buffer("data", Kind.INPUT),
        modifies=True,
        also={Status.H_AUTHORITY, Status.H_NO_MEM, Status.H_RESOURCE},
    ),
    _spec(
        Opcode.GEN_KEY,
        _AUTH,
        *_LABEL,
        _POLICY,
        *_buffer("key", Kind.OUTPUT),
        modifies=True,
        also={Status.H_AUTHORITY, Status.H_NO_MEM, Status.H_RESOURCE},
    ),
    _spec(
        Opcode.READ_OBJECT,
        _AUTH,
        *_LABEL,
        *_buffer("data", Kind.OUTPUT),
        outputs=("size", "policy"),
        also={Status.H_AUTHORITY, Status.H_NOT_FOUND, Status.H_TOO_BIG},
    ),
    _spec(
        Opcode.REMOVE_OBJECT,
        _AUTH,
        *_LABEL,
        modifies=True,
        also={Status.H_AUTHORITY, Status.H_NOT_FOUND},
    ),
    _spec(
        Opcode.CONFIRM_OBJECT_FLUSHED,
        _AUTH,
        *_LABEL,
        outputs=("flushed",),
        busy=False,  # Linux ends its flush poll at the first H_BUSY
        also={Status.H_AUTHORITY, Status.H_NOT_FOUND},
    ),
    _spec(
        Opcode.SIGNED_UPDATE,
        _AUTH,
        *_LABEL,
        _POLICY,
        _FLAGS,
        *_buffer("data", Kind.INPUT),
        _TOKEN,
        outputs=("token",),
        modifies=True,
        also={Status.H_AUTHORITY, Status.H_NO_MEM, *_LONG_BUSY},
    ),
    _spec(
        Opcode.WRAP_OBJECT,
        _AUTH,
        *_LABEL,
        _FLAGS,
        *_buffer("input", Kind.INPUT, alignment=_PAGE),
        *_buffer("output", Kind.OUTPUT, alignment=_PAGE),
        _TOKEN,
        outputs=("token", "size"),
        also={
            Status.H_R_STATE,
            Status.H_AUTHORITY,
            Status.H_INVALID_KEY,
            Status.H_NOT_FOUND,
            *_LONG_BUSY,
        },
    ),
    _spec(
        Opcode.UNWRAP_OBJECT,
        _AUTH,
        _FLAGS,
        *_buffer("input", Kind.INPUT, alignment=_PAGE),
        *_buffer("output", Kind.OUTPUT, alignment=_PAGE),
        _TOKEN,
        outputs=("token", "size"),
        also={
            Status.H_R_STATE,
            Status.H_AUTHORITY,
            Status.H_UNSUPPORTED,
            Status.H_BAD_DATA,
            Status.H_NOT_FOUND,
            Status.H_INVALID_KEY,
            *_LONG_BUSY,
        },
    ),
    _spec(
        Opcode.REVOKE_OBJECT,
        _AUTH,
        *_LABEL,
        _FLAGS,
        outputs=("policy",),
        modifies=True,
        also={Status.H_AUTHORITY, Status.H_NOT_FOUND},
    ),
    _spec(
        Opcode.UNREVOKE_OBJECT,
        _AUTH,
        *_LABEL,
        _FLAGS,
        outputs=("policy",),
        modifies=True,
        also={Status.H_AUTHORITY, Status.H_NOT_FOUND},
    ),
)

CALLS: Mapping[Opcode, HCallSpec] = MappingProxyType({row.opcode: row for row in _ROWS})
"""Every h-call of the keystore by its opcode."""
