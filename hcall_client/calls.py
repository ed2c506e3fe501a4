"""Typed h-calls without I/O: each function returns a `Request` for a channel to carry.

    config = await channel.call(get_config())
    read = channel.call(read_object(Authorization(Consumer.OPERATING_SYSTEM, password), label))

Arguments are sent unchecked: the hypervisor refuses those that are too long or not allowed.  `raw_call`
sends calls that these functions cannot make.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from hcall_abi.calls import CALLS, Opcode
from hcall_abi.frames import HReturn, Segment
from hcall_abi.mistakes import WrongValue, all_of, of_caller
from hcall_abi.policies import Policy
from hcall_abi.rules import protocol as rules
from hcall_abi.statuses import Status
from hcall_abi.structures import CONFIG_SIZE, Config, parse_config, parse_label_list
from hcall_client.errors import HcallError
from hcall_client.keys import (
    gen_key,
    gen_wrapping_key,
    revoke_object,
    unrevoke_object,
    unwrap_object,
    wrap_object,
)
from hcall_client.request import (
    Authorization,
    Request,
    as_number,
    build,
    check_registers,
    nothing,
    read_policy,
    refused,
    untrue,
)

__all__ = [
    "Authorization",
    "Confirmation",
    "HcallError",
    "Labels",
    "ObjectRead",
    "Request",
    "confirm_object_flushed",
    "gen_key",
    "gen_password",
    "gen_wrapping_key",
    "get_config",
    "get_object_labels",
    "raw_call",
    "read_object",
    "remove_object",
    "revoke_object",
    "set_password",
    "signed_update",
    "unrevoke_object",
    "unwrap_object",
    "wrap_object",
    "write_object",
]

__tracebackhide__ = of_caller
_LABELS, _READ = CALLS[Opcode.GET_OBJECTLABELS], CALLS[Opcode.READ_OBJECT]
_CONFIRM = CALLS[Opcode.CONFIRM_OBJECT_FLUSHED]

LARGEST_PLAIN_OBJECT = 0xFFFF
"""Length in bytes of the buffer with which Linux usually makes READ: the largest plain object."""
LABEL_LIST_SIZE = 4096
"""Length in bytes of the buffer with which Linux asks for labels."""


class ObjectRead(NamedTuple):
    """The result of READ_OBJECT: the object's data and its policy word."""

    data: bytes
    policy: Policy

    def __repr__(self) -> str:
        return f"ObjectRead({len(self.data)} bytes, {self.policy!r})"


class Labels(NamedTuple):
    """One part of a list of labels; while there is `more`, ask again with `token`."""

    labels: tuple[bytes, ...]
    token: int
    more: bool


class Confirmation(NamedTuple):
    """The result of CONFIRM_OBJECT_FLUSHED: whether the change is durable, and whether the object exists."""

    flushed: bool
    present: bool


def get_config(size: int = CONFIG_SIZE) -> Request[Config]:
    """Ask for features, limits and space of the keystore; `size` is the buffer's length (24 to 520)."""
    return build(Opcode.GET_CONFIG, lambda _, written: parse_config(written), config=size)


def set_password(consumer: int, password: bytes) -> Request[Authorization]:
    """Set a consumer's password for the rest of this IPL; the result is the authorization of later calls."""
    return build(
        Opcode.SET_PASSWORD,
        lambda *_: Authorization(consumer, password),
        consumer=consumer,
        reserved=0,
        password=password,
    )


def gen_password(consumer: int, length: int) -> Request[Authorization]:
    """Order the hypervisor to make and set a random password of `length` bytes."""

    # If the answer had only a part of the password, the caller would use a wrong one. The hypervisor has set
    # the whole password.
    def read(_: HReturn, written: bytes) -> Authorization:
        if len(written) != length:
            raise untrue(rules.ANSWER_WHOLE, f"a password of {len(written)} bytes, not {length}")
        return Authorization(consumer, written)

    return build(Opcode.GEN_PASSWORD, read, consumer=consumer, reserved=0, password=length)


def get_object_labels(
    authorization: Authorization, token: int = 0, size: int = LABEL_LIST_SIZE
) -> Request[Labels]:
    """List a consumer's labels.

    An answer has as many labels as fit into `size` bytes.  Token 0 begins a list, and the token of an answer
    continues it.
    """
    return build(
        Opcode.GET_OBJECTLABELS,
        _read_labels,
        # H_CONTINUE is no error: it means that the list has further parts.
        also={Status.H_CONTINUE},
        authorization=authorization,
        token=token,
        labels=size,
    )


def _read_labels(answer: HReturn, written: bytes) -> Labels:
    count, token = (_LABELS.output(name).of(answer.registers) for name in ("count", "token"))
    more = answer.status == Status.H_CONTINUE
    # If the answer had no token, the caller would begin the list again. If it had no label, the caller might
    # ask for ever.
    if more and not (count and token):
        raise untrue(rules.ANSWER_CONTINUE, "an unfinished list without label or token")
    # Each entry has at least a length of 16 bits. This check precedes the parsing: a false count of a bad
    # server must cost no time.
    if count * 2 > len(written):
        raise untrue(rules.ANSWER_LABELS, f"{count} labels in {len(written)} bytes")
    return Labels(tuple(parse_label_list(written, count)), token, more)


def write_object(authorization: Authorization, label: bytes, data: bytes, policy: int = 0) -> Request[None]:
    """Make a new object; it acts at once and becomes durable later (`confirm_object_flushed`)."""
    return build(
        Opcode.WRITE_OBJECT, nothing, authorization=authorization, label=label, policy=policy, data=data
    )


def read_object(
    authorization: Authorization, label: bytes, size: int = LARGEST_PLAIN_OBJECT
) -> Request[ObjectRead]:
    """Read an object of at most `size` bytes; the authorization names its owner."""
    return build(Opcode.READ_OBJECT, _read_data, authorization=authorization, label=label, data=size)


def _read_data(answer: HReturn, written: bytes) -> ObjectRead:
    size, policy = (_READ.output(name).of(answer.registers) for name in ("size", "policy"))
    if size > len(written):
        raise untrue(rules.ANSWER_SIZE, f"{size} bytes, of which {len(written)} came")
    return ObjectRead(written[:size], read_policy(policy))


def remove_object(authorization: Authorization, label: bytes) -> Request[None]:
    """Remove an object; like a write, this acts at once and becomes durable later."""
    return build(Opcode.REMOVE_OBJECT, nothing, authorization=authorization, label=label)


def signed_update(
    authorization: Authorization, label: bytes, data: bytes, policy: int, flags: int = 0, token: int = 0
) -> Request[None]:
    """Change a signed-update object by an authenticated payload; flag 1 appends.

    After a busy answer, make the call again with its `token` (`hcall_client.busy`).
    """
    return build(
        Opcode.SIGNED_UPDATE,
        nothing,
        authorization=authorization,
        label=label,
        policy=policy,
        flags=flags,
        data=data,
        token=token,
    )


def confirm_object_flushed(authorization: Authorization, label: bytes) -> Request[Confirmation]:
    """Ask whether the newest change to a label is durable.

    A durable removal is `Confirmation(flushed=True, present=False)`.
    """
    return build(
        Opcode.CONFIRM_OBJECT_FLUSHED,
        _read_flushed,
        # r4 has a meaning with H_NOT_FOUND too: 1 says that the removal is durable.
        also={Status.H_NOT_FOUND},
        authorization=authorization,
        label=label,
    )


def _read_flushed(answer: HReturn, _: bytes) -> Confirmation:
    """Return the confirmation: the low byte of r4 says "flushed" (spec/hcalls/confirm_object_flushed.md)."""
    flushed = _CONFIRM.output("flushed").of(answer.registers) & 0xFF == 1
    if answer.status == Status.H_SUCCESS:
        return Confirmation(flushed, present=True)
    if flushed:
        return Confirmation(flushed, present=False)
    raise refused(Opcode.CONFIRM_OBJECT_FLUSHED, answer)


def raw_call(
    opcode: int, registers: Iterable[int] = (), segments: Iterable[Segment] = ()
) -> Request[HReturn]:
    """Return a request for any call, right or wrong: up to nine registers from r4 on, and guest memory.

    The result is the whole answer, with any status. PeerError if the server writes outside the writable
    segments, ValueError for numbers that a frame cannot hold.
    """
    example = 'raw_call(opcode, [r4], [Segment.read(r4, b"...")])'
    memory = all_of(Segment, "segments", segments, example)
    # Only the sizes of the frame's fields are checked. The hypervisor refuses everything else, because tests
    # send wrong calls with this function.
    if not 0 <= as_number(("an opcode",), opcode) < 1 << 64 or len(memory) > 0xFFFF:
        raise WrongValue("an opcode has 64 bits, and a call at most 65535 segments")
    if any(
        not (0 <= s.address < 1 << 64 and 0 <= s.length < 1 << 32 and 0 <= s.access < 1 << 32) for s in memory
    ):
        raise WrongValue("a segment has an address of 64 bits, a length and an access of 32")
    return Request(opcode, check_registers(registers), memory, lambda answer, _: answer, accepts=None)
