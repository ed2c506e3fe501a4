"""The arguments of h-calls as values: the kind of each register, and the bounds of each length.

A buffer argument is an address in one register.  The length that belongs to it is the next
argument of the same call, named by `Arg.length`.  An authorization block contains its own length.

Each argument has a kind, and each kind has one check in the engine.  So engine, client and pages have no code
for single calls: a new h-call is a row of `hcall_abi.calls`, and its handler.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from hcall_abi.rules.rule import Rule
from hcall_abi.statuses import FIRST_ARGUMENT_REGISTER, Status, positional

PAGE = 4096
"""Size in bytes of the page that a buffer of one page may not leave, and at which wrap buffers begin."""


class Kind(Enum):
    """The kind of value in an argument's register."""

    CONSUMER = "consumer"
    """The number of a consumer, 1 to 3."""
    RESERVED = "reserved"
    """0."""
    POLICY = "policy word"
    """The policy word of an object that the call makes, 32 bits."""
    UPDATE_FLAGS = "update flags"
    """The flags of a signed update, which depend on the variable."""
    WRAP_FLAGS = "wrap flags"
    """The policy of a wrapped object, and the algorithm."""
    LIST_TOKEN = "list token"  # noqa: S105 - the name of a kind of argument, not a password
    """0, or the token with which a list of labels continues."""
    CONTINUE_TOKEN = "continue token"  # noqa: S105
    """0, or the token with which a busy call continues."""
    AUTHORIZATION = "authorization block"
    """The address of an authorization block, which contains its own length."""
    LABEL = "label"
    """The address of a label, read by the hypervisor."""
    VARIABLE_LABEL = "label of a variable"
    """The address of a label with the operating systems' header and the name of a variable."""
    INPUT = "input buffer"
    """The address of bytes that the hypervisor reads."""
    PASSWORD = "password"  # noqa: S105
    """The address of a password that the hypervisor reads."""
    # WRAP_INPUT and WRAP_OUTPUT are kinds of their own, because the operator can relax their alignment alone.
    WRAP_INPUT = "page-aligned input buffer"
    """The address of bytes that WRAP or UNWRAP reads; their alignment can be relaxed alone (R-76)."""
    OUTPUT = "output buffer"
    """The address of bytes that the hypervisor may write."""
    WRAP_OUTPUT = "page-aligned output buffer"
    """The address of bytes that WRAP or UNWRAP may write; their alignment can be relaxed alone (R-76)."""
    # The kind OUTPUT does not fit: the policy word of GEN_KEY decides whether the call has an output buffer.
    KEY_OUTPUT = "output buffer of a key"
    """The address of bytes for a new key; 0 for a wrapping key, which no guest gets."""
    LENGTH = "length"
    """The length in bytes of the buffer whose `Arg.length` names this argument."""

    @property
    def readable(self) -> bool:
        """Whether this is the address of bytes that the hypervisor reads."""
        return self in _READABLE

    @property
    def writable(self) -> bool:
        """Whether this is the address of bytes that the hypervisor may write."""
        return self in _WRITABLE

    @property
    def is_length(self) -> bool:
        """Whether this is the length of the buffer before it."""
        return self is Kind.LENGTH

    @property
    def is_number(self) -> bool:
        """Whether the register holds a number that is neither an address nor a length."""
        return not (self.readable or self.writable or self.is_length)


# The facts of the kinds are in sets, because a kind has no room for a flag: its value is the text that the
# pages show.
_READABLE = frozenset(
    {
        Kind.AUTHORIZATION,
        Kind.LABEL,
        Kind.VARIABLE_LABEL,
        Kind.INPUT,
        Kind.PASSWORD,
        Kind.WRAP_INPUT,
    }
)
_WRITABLE = frozenset({Kind.OUTPUT, Kind.WRAP_OUTPUT, Kind.KEY_OUTPUT})


# The table has the name of a limit and not its number: the number depends on the partition's firmware level.
class Limit(Enum):
    """A bound in bytes that depends on the partition.

    The value is the name of the field that has the number, in the limits of the keystore.
    """

    PASSWORD = "max_password_size"  # noqa: S105 - the name of a size
    LABEL = "max_label_size"
    PLAIN_OBJECT = "max_object_size"
    OBJECT = "largest_object"


class Bounds(NamedTuple):
    """The allowed lengths of a buffer: `least` to `most` bytes; any other length breaks `rule`.

    If `beyond` names another length argument, `least` is added to the value of that argument.
    """

    rule: Rule
    least: int = 0
    most: int | Limit | None = None
    # WRAP and UNWRAP need this field: the least length of the output depends on the length of the input.
    beyond: str | None = None


class Words(NamedTuple):
    """Which policy words a call refuses for its new object, besides those that all calls refuse.

    A word with a bit of `refused`, or without one of `demanded`, breaks `rule`.
    """

    rule: Rule
    refused: int = 0
    demanded: int = 0


class Arg(NamedTuple):
    """One argument of an h-call.

    `register` is 4 to 12; a row of the table sets it from the argument's place.  `length` names the length
    argument of a buffer.  `bounds` are the allowed lengths (None: any).  `words` says which policy words
    the call refuses (None: only those that all calls refuse).

    `one_page` and `alignment` count only if memory is strict (R-76).  With `one_page`, the buffer must not
    cross a 4 KiB page.  Its address must be a multiple of `alignment`.

    `public` means that the bytes of the buffer are no secret: a trace shows them (R-82).
    """

    name: str
    kind: Kind
    # `_spec` sets this number from the place in the row. So no two arguments of a call have the same
    # register.
    register: int = 0
    # A number with more bits is not cut off. The call is refused with the status of the argument (choice
    # C-M).
    bits: int = 64
    length: str | None = None
    bounds: Bounds | None = None
    words: Words | None = None
    one_page: bool = False
    alignment: int = 1
    # False for a new buffer: its bytes are secret until a row of the table says otherwise.
    public: bool = False

    @property
    def place(self) -> int:
        """The index of the argument's register in a frame: 0 for r4, up to 8 for r12."""
        return self.register - FIRST_ARGUMENT_REGISTER

    @property
    def status(self) -> Status:
        """The status that the hypervisor returns if it refuses this argument."""
        return positional(self.register)
