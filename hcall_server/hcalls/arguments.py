"""Argument checks, made from the table of h-calls: one check for each field of a call's arguments."""

# The guarantees of a check
#
# A check turns registers and guest memory into the value of one field.  If that fails, it raises the status
# of the argument's position.  The order of checks is that of the registers, r4 first, because a guest may
# rely on it (spec/hcalls/index.md#order-of-checks).  Only the call's own segments are memory.  No check looks
# at an object.
#
# A buffer and its length are two registers and one field.  They are neighbours in every call, so one check
# tests both, the address first.  A wrong address and a wrong length have the statuses of their own registers.
#
# Checks are closures, made once from the rows of `hcall_abi.calls`, one for each kind of argument.  Dispatch
# runs the checks of a call in order and puts their results into the call's own named tuple.  A generated
# straight function could fill the same tuple: handlers do not see how it is filled.
#
# Every h-call runs these checks, so they must be fast.  The search for a segment is repeated in each check
# that needs it: a call of a shared function would cost as much as the search itself.

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter

from hcall_abi.arguments import PAGE, Arg, Bounds, Kind, Limit
from hcall_abi.calls import HCallSpec
from hcall_abi.frames import ADDRESS_SPACE, new_tuple
from hcall_abi.policies import Policy
from hcall_abi.rules import hcalls as rules
from hcall_abi.structures import AUTH_LAYOUT, AUTH_RESERVED, AUTH_VERSION
from hcall_abi.wrapping import WRAPPING_KEY_SIZE
from hcall_server.hcalls.context import Check, Context
from hcall_server.hcalls.memory import IN, OUT, Pieces, Place, Registers, readable_at, unreached
from hcall_server.hcalls.numbers import CONSUMERS, number_check
from hcall_server.hcalls.refusals import Refusal, bad_argument
from hcall_server.keystore.access import Credentials
from hcall_server.keystore.limits import KeystoreLimits
from hcall_server.secvar.names import broken_by_label

_WRAPPING = int(Policy.WRAPPINGKEY)
_WRAP_KINDS = (Kind.WRAP_INPUT, Kind.WRAP_OUTPUT)

LengthCheck = Callable[[Registers, KeystoreLimits], None]
"""Raises Refusal for a length that is out of its bounds."""


def field_checks(spec: HCallSpec) -> Mapping[str, Check]:
    """Return the checks of a call's arguments by name, in register order.

    A length has no separate check.  A check returns the value of its argument:

    - an authorization block: `Credentials`
    - an output buffer: a `Place`
    - any other buffer: its bytes
    - a consumer: a `Consumer`
    - a number: the number
    """
    fields = [arg for arg in spec.args if not arg.kind.is_length]
    return {
        arg.name: (number_check if arg.kind.is_number else _BUFFERS[arg.kind])(spec, arg) for arg in fields
    }


def _misplaced(arg: Arg, address: int, length: int) -> Refusal:
    """Return the refusal of a buffer at a wrong place: by its alignment, or by the page that it leaves."""
    found = f"the address 0x{address:X} is no multiple of {arg.alignment}"
    if not address % arg.alignment:
        found = f"its {length} bytes at 0x{address:X} cross the end of a page of {PAGE} bytes"
    return bad_argument(arg, rules.BUFFER_PLACE, found)


def _authorization(spec: HCallSpec, arg: Arg) -> Check:
    index, alignment = arg.place, arg.alignment
    size, unpack = AUTH_LAYOUT.size, AUTH_LAYOUT.unpack_raw

    def check(registers: Registers, segments: Pieces, context: Context) -> Credentials:
        address = registers[index]
        data, offset = readable_at(segments, address)
        if context.strict and address % alignment:
            raise _misplaced(arg, address, size)
        # The head has the length of the password, so it is read first.
        room = len(data) - offset
        if room < size:
            raise bad_argument(arg, rules.AUTHORIZATION_READABLE, unreached(segments, address, size, IN))
        version, consumer, reserved, zero, length = unpack(data, offset)
        if version != AUTH_VERSION or reserved != AUTH_RESERVED or zero:
            raise bad_argument(arg, rules.AUTHORIZATION_LAYOUT)
        owner = CONSUMERS.get(consumer)
        if owner is None:
            raise bad_argument(arg, rules.CONSUMER_KNOWN)
        # A password that is too long makes the block wrong.  So the status is that of the block, not of a
        # wrong password (choice C-F).
        if length > context.limits.max_password_size:
            raise bad_argument(arg, rules.AUTHORIZATION_PASSWORD, f"{length} bytes")
        end = size + length
        if context.strict and address % PAGE + end > PAGE:
            raise _misplaced(arg, address, end)
        if room < end:
            raise bad_argument(arg, rules.AUTHORIZATION_READABLE, unreached(segments, address, end, IN))
        return new_tuple(Credentials, (owner, data[offset + size : offset + end]))

    return check


def _input(spec: HCallSpec, arg: Arg) -> Callable[[Registers, Pieces, Context], bytes]:
    index, length_index = arg.place, spec.length_of(arg).place
    alignment, room = arg.alignment, PAGE if arg.one_page else ADDRESS_SPACE
    placed, relaxable = arg.one_page or alignment > 1, arg.kind in _WRAP_KINDS
    check_length = _length_check(spec, arg)

    def check(registers: Registers, segments: Pieces, context: Context) -> bytes:
        address, length = registers[index], registers[length_index]
        found = b""  # the address of an empty buffer is not checked (choice C-A)
        if length:
            for start, extent, access, data in segments:
                if start <= address and address + length <= start + extent and access & IN:
                    found = data[address - start : address - start + length]
                    break
            else:
                raise bad_argument(arg, rules.BUFFER_READABLE, unreached(segments, address, length, IN))
            misplaced = placed and (address % alignment or address % PAGE + length > room)
            if misplaced and context.strict and (context.page_aligned or not relaxable):
                raise _misplaced(arg, address, length)
        # The address is checked before the length, because its register comes first.  A buffer that ends
        # outside the memory is refused there.
        if check_length:
            check_length(registers, context.limits)
        return found

    return check


def _variable_label(spec: HCallSpec, arg: Arg) -> Check:
    plain = _input(spec, arg)

    def check(registers: Registers, segments: Pieces, context: Context) -> bytes:
        label = plain(registers, segments, context)
        if broken := broken_by_label(label):
            raise bad_argument(arg, broken)
        return label

    return check


def _output(spec: HCallSpec, arg: Arg) -> Callable[[Registers, Pieces, Context], Place]:
    index, length_index = arg.place, spec.length_of(arg).place
    alignment, room = arg.alignment, PAGE if arg.one_page else ADDRESS_SPACE
    placed, relaxable = arg.one_page or alignment > 1, arg.kind in _WRAP_KINDS
    check_length = _length_check(spec, arg)

    def check(registers: Registers, segments: Pieces, context: Context) -> Place:
        address, length = registers[index], registers[length_index]
        if length:
            for start, extent, access, _ in segments:
                if start <= address and address + length <= start + extent and access & OUT:
                    break
            else:
                raise bad_argument(arg, rules.BUFFER_WRITABLE, unreached(segments, address, length, OUT))
            misplaced = placed and (address % alignment or address % PAGE + length > room)
            if misplaced and context.strict and (context.page_aligned or not relaxable):
                raise _misplaced(arg, address, length)
        if check_length:
            check_length(registers, context.limits)
        return new_tuple(Place, (address, length))

    return check


def _key_output(spec: HCallSpec, arg: Arg) -> Check:
    """Return the check of a key's buffer; a wrapping key needs no buffer, because it is never returned."""
    plain, length_arg = _output(spec, arg), spec.length_of(arg)
    index, length_index = arg.place, length_arg.place
    policy = spec.kind(Kind.POLICY).place

    def check(registers: Registers, segments: Pieces, context: Context) -> Place:
        # The register of the policy is earlier, so its own check has passed.
        if not registers[policy] & _WRAPPING:
            return plain(registers, segments, context)
        # For a wrapping key, the Linux driver passes address 0 and length 32.
        if registers[index]:
            raise bad_argument(arg, rules.KEY_ADDRESS)
        if registers[length_index] != WRAPPING_KEY_SIZE:
            raise bad_argument(length_arg, rules.KEY_LENGTH, f"{registers[length_index]} bytes")
        return Place(0, WRAPPING_KEY_SIZE)

    return check


_BUFFERS: Mapping[Kind, Callable[[HCallSpec, Arg], Check]] = {
    Kind.AUTHORIZATION: _authorization,
    Kind.LABEL: _input,
    Kind.VARIABLE_LABEL: _variable_label,
    Kind.INPUT: _input,
    Kind.PASSWORD: _input,
    Kind.WRAP_INPUT: _input,
    Kind.OUTPUT: _output,
    Kind.WRAP_OUTPUT: _output,
    Kind.KEY_OUTPUT: _key_output,
}


def _length_check(spec: HCallSpec, buffer: Arg) -> LengthCheck | None:
    arg = spec.length_of(buffer)
    index, bounds = arg.place, arg.bounds
    if bounds is None:
        return None
    return _beyond(spec, arg, bounds) if bounds.beyond else _within(arg, index, bounds)


def _within(arg: Arg, index: int, bounds: Bounds) -> LengthCheck:
    least, longest = bounds.least, _longest(bounds.most)

    def check(registers: Registers, limits: KeystoreLimits) -> None:
        if not least <= registers[index] <= longest(limits):
            upper = f" to {longest(limits)}" if bounds.most else " or more"
            found = f"{registers[index]} bytes, not {least}{upper}"
            raise bad_argument(arg, bounds.rule, found)

    return check


def _longest(most: int | Limit | None) -> Callable[[KeystoreLimits], int]:
    """Return a function that takes the limits of a partition, and returns the upper bound of a length."""
    if isinstance(most, Limit):
        return attrgetter(most.value)
    fixed = ADDRESS_SPACE if most is None else most
    return lambda limits: fixed


def _beyond(spec: HCallSpec, arg: Arg, bounds: Bounds) -> LengthCheck:
    index, least, rule = arg.place, bounds.least, bounds.rule
    other = spec.arg(bounds.beyond or "").place

    def check(registers: Registers, limits: KeystoreLimits) -> None:
        if registers[index] < registers[other] + least:
            raise bad_argument(arg, rule, f"{registers[index]} bytes, not {registers[other] + least} or more")

    return check
