"""The table of all 14 h-calls: opcode, every argument by register, results and statuses.

A fact about an h-call is written once, in this table. The server's dispatch and argument checks, the
client's typed calls, the pages in `spec/hcalls/` and the test matrices read it. Facts: opcodes and argument
order are those of the public Linux driver (spec/hcalls/index.md); SET_PASSWORD's arguments are not public,
so they are our choice (C-1).

The shape of an argument is `hcall_abi.arguments.Arg`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from types import MappingProxyType
from typing import NamedTuple

from hcall_abi.arguments import PAGE, Arg, Bounds, Kind, Limit, Words
from hcall_abi.policies import Policy
from hcall_abi.rules import hcalls as rules
from hcall_abi.statuses import FIRST_ARGUMENT_REGISTER, Status
from hcall_abi.structures import CONFIG_MIN_SIZE
from hcall_abi.wrapping import MAX_WRAP_INPUT, WRAP_OVERHEAD


class Opcode(IntEnum):
    """The number in r3 that selects an h-call."""

    # Numbers of the kernel's asm/hvcall.h. The numbers between them are other h-calls, or are not public.
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


class Output(NamedTuple):
    """A result that comes back in a register."""

    name: str
    register: int

    @property
    def place(self) -> int:
        """The index of the result's register in a frame: 0 for r4."""
        return self.register - FIRST_ARGUMENT_REGISTER

    def of(self, registers: Sequence[int]) -> int:
        """Return the value of this result in an answer, from the registers r4 to r12."""
        return registers[self.place]


class HCallSpec(NamedTuple):
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

    def output(self, name: str) -> Output:
        """Return the result called `name`; KeyError when the call has none of that name."""
        for output in self.outputs:
            if output.name == name:
                return output
        raise KeyError(name)

    def results(self, **values: int) -> tuple[int, ...]:
        """Return the values of r4, r5, ... for results that are given by name.

        The tuple ends with the last given result. If an earlier result is not given, it is 0. KeyError for
        a name that the call does not have.
        """
        places = {self.output(name).place: value for name, value in values.items()}
        return tuple(places.get(place, 0) for place in range(max(places) + 1))

    def kind(self, kind: Kind) -> Arg:
        """Return the first argument of this kind; KeyError when the call has none."""
        for arg in self.args:
            if arg.kind is kind:
                return arg
        raise KeyError(kind)

    def length_of(self, buffer: Arg) -> Arg:
        """Return the argument that is the length of a buffer; KeyError for any other argument."""
        return self.arg(buffer.length or "")


_LABEL_BOUNDS = Bounds(rules.LABEL_LENGTH, 1, Limit.LABEL)
_OBJECT_BOUNDS = Bounds(rules.OBJECT_LENGTH, 1, Limit.OBJECT)
_UNWRAP_BOUNDS = Bounds(rules.UNWRAP_LENGTH, WRAP_OVERHEAD + 1, WRAP_OVERHEAD + MAX_WRAP_INPUT)


def _buffer(
    name: str,
    kind: Kind,
    bounds: Bounds | None = None,
    *,
    one_page: bool = False,
    alignment: int = 1,
    public: bool = False,
) -> tuple[Arg, Arg]:
    length = f"{name}_length"
    address = Arg(name, kind, length=length, one_page=one_page, alignment=alignment, public=public)
    return address, Arg(length, Kind.LENGTH, bounds=bounds)


# Alignment and page rules follow from fixes of the Linux driver (spec/hcalls/index.md#strict-memory).
_AUTH = Arg("authorization", Kind.AUTHORIZATION, one_page=True, alignment=16)
_LABEL = _buffer("label", Kind.LABEL, _LABEL_BOUNDS, one_page=True, public=True)
_PLAIN = Words(rules.POLICY_PLAIN, refused=int(Policy.SIGNEDUPDATE | Policy.WRAPPINGKEY))
_KEY = Words(rules.POLICY_KEY, refused=int(Policy.SIGNEDUPDATE))
_SIGNED = Words(rules.POLICY_SIGNED, refused=int(Policy.WRAPPINGKEY), demanded=int(Policy.SIGNEDUPDATE))


def _policy(words: Words) -> Arg:
    return Arg("policy", Kind.POLICY, bits=32, words=words)


_NO_FLAGS = Arg("flags", Kind.RESERVED)
_TOKEN = Arg("token", Kind.CONTINUE_TOKEN)
_CONSUMER = Arg("consumer", Kind.CONSUMER, bits=8)
_RESERVED = Arg("reserved", Kind.RESERVED)


# Every call may return these. H_FUNCTION and H_STATE precede the check of the arguments. H_ABORTED reports an
# internal error (C-45).
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
    placed = tuple(arg._replace(register=FIRST_ARGUMENT_REGISTER + n) for n, arg in enumerate(args))
    results = tuple(Output(name, FIRST_ARGUMENT_REGISTER + n) for n, name in enumerate(outputs))
    # For some calls the statuses are not public. Our choice: in a frozen partition a call that modifies
    # returns H_R_STATE. A wrong argument returns the status of its position.
    state = {Status.H_R_STATE} if modifies else set()
    retry = {Status.H_BUSY} if busy else set()
    statuses = _COMMON | state | retry | {arg.status for arg in placed} | set(also)
    return HCallSpec(opcode, placed, results, frozenset(statuses), modifies)


_ROWS = (
    _spec(
        Opcode.GET_CONFIG,
        *_buffer(
            "config",
            Kind.OUTPUT,
            Bounds(rules.CONFIG_LENGTH, CONFIG_MIN_SIZE),
            one_page=True,
            public=True,
        ),
    ),
    _spec(
        # The arguments are our choice (C-1), because no public program makes this call. They are modelled on
        # GEN_PASSWORD.
        Opcode.SET_PASSWORD,
        _CONSUMER,
        _RESERVED,
        *_buffer("password", Kind.PASSWORD, Bounds(rules.PASSWORD_LENGTH, 1, Limit.PASSWORD), one_page=True),
        modifies=True,
        also={Status.H_IN_USE},
    ),
    _spec(
        Opcode.GEN_PASSWORD,
        _CONSUMER,
        _RESERVED,
        *_buffer(
            "password",
            Kind.OUTPUT,
            Bounds(rules.PASSWORD_GENERATED, rules.MIN_GENERATED_PASSWORD, Limit.PASSWORD),
            one_page=True,
        ),
        modifies=True,
        also={Status.H_IN_USE},
    ),
    _spec(
        Opcode.GET_OBJECTLABELS,
        _AUTH,
        Arg("token", Kind.LIST_TOKEN),
        # The count is in r4 and the token in r5: both drivers read them so. papr_hcalls.rst lists the token
        # first.
        *_buffer("labels", Kind.OUTPUT, public=True),
        outputs=("count", "token"),
        also={Status.H_AUTHORITY, Status.H_CONTINUE},
    ),
    _spec(
        Opcode.WRITE_OBJECT,
        _AUTH,
        *_LABEL,
        _policy(_PLAIN),
        *_buffer("data", Kind.INPUT, _OBJECT_BOUNDS),
        modifies=True,
        also={Status.H_AUTHORITY, Status.H_NO_MEM, Status.H_RESOURCE},
    ),
    _spec(
        Opcode.GEN_KEY,
        _AUTH,
        *_LABEL,
        _policy(_KEY),
        *_buffer("key", Kind.KEY_OUTPUT, _OBJECT_BOUNDS),
        modifies=True,
        also={Status.H_AUTHORITY, Status.H_NO_MEM, Status.H_RESOURCE},
    ),
    _spec(
        Opcode.READ_OBJECT,
        _AUTH,
        *_LABEL,
        # The length has no bounds, because a buffer that is too small is no wrong argument. H_TOO_BIG returns
        # the size, so a guest may begin with a length of 0.
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
        *_buffer("label", Kind.VARIABLE_LABEL, _LABEL_BOUNDS, one_page=True, public=True),
        _policy(_SIGNED),
        Arg("flags", Kind.UPDATE_FLAGS),
        *_buffer("data", Kind.INPUT, Bounds(rules.UPDATE_LENGTH, 1, Limit.PLAIN_OBJECT)),
        _TOKEN,
        outputs=("token",),
        modifies=True,
        also={Status.H_AUTHORITY, Status.H_NO_MEM, *_LONG_BUSY},
    ),
    _spec(
        Opcode.WRAP_OBJECT,
        _AUTH,
        *_LABEL,
        Arg("flags", Kind.WRAP_FLAGS),
        *_buffer("input", Kind.WRAP_INPUT, Bounds(rules.WRAP_LENGTH, 1, MAX_WRAP_INPUT), alignment=PAGE),
        *_buffer(
            "output",
            Kind.WRAP_OUTPUT,
            Bounds(rules.WRAP_ROOM, WRAP_OVERHEAD, beyond="input_length"),
            alignment=PAGE,
        ),
        _TOKEN,
        outputs=("token", "size"),
        # papr_hcalls.rst lists H_R_STATE, although the call changes nothing in the store.
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
        _NO_FLAGS,
        *_buffer("input", Kind.WRAP_INPUT, _UNWRAP_BOUNDS, alignment=PAGE),
        *_buffer(
            "output",
            Kind.WRAP_OUTPUT,
            # The bound is negative, because the output is smaller than the input by the overhead.
            Bounds(rules.UNWRAP_ROOM, -WRAP_OVERHEAD, beyond="input_length"),
            alignment=PAGE,
        ),
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
        _NO_FLAGS,
        outputs=("policy",),
        modifies=True,
        also={Status.H_AUTHORITY, Status.H_NOT_FOUND},
    ),
    _spec(
        Opcode.UNREVOKE_OBJECT,
        _AUTH,
        *_LABEL,
        _NO_FLAGS,
        outputs=("policy",),
        modifies=True,
        also={Status.H_AUTHORITY, Status.H_NOT_FOUND},
    ),
)

CALLS: Mapping[Opcode, HCallSpec] = MappingProxyType({row.opcode: row for row in _ROWS})
"""Every h-call of the keystore by its opcode."""
