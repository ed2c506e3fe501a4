"""Checks of arguments that are numbers: consumers, policy words, flags, tokens."""

# Some checks depend on an earlier argument, such as flags on the label.  They read its register and memory
# again, but do not check them again: checks run in register order, so that argument is right.

from __future__ import annotations

from collections.abc import Callable, Mapping

from hcall_abi.arguments import Arg, Kind, Words
from hcall_abi.calls import HCallSpec
from hcall_abi.consumers import Consumer
from hcall_abi.policies import STATUS_BITS, Policy
from hcall_abi.rules import hcalls as rules
from hcall_abi.rules.rule import Rule
from hcall_abi.structures import AUTH_LAYOUT
from hcall_abi.wrapping import AES_256_GCM, ALGORITHM_MASK, WrapFlag
from hcall_server.hcalls.context import Check, Context
from hcall_server.hcalls.memory import Pieces, Registers, readable_at
from hcall_server.hcalls.refusals import bad_argument
from hcall_server.secvar.names import broken_by_flags

CONSUMERS: Mapping[int, Consumer] = {int(consumer): consumer for consumer in Consumer}
"""The consumers by number."""

_KEY_OF_ALL = int(Policy.WRAPPINGKEY | Policy.WORLDREADABLE)
_ANY_WORD = Words(rules.POLICY_SUPPORTED)
"""The words of a call without refused words of its own."""
_WRAP_BITS = sum(WrapFlag) | ALGORITHM_MASK
_BOTH_MODES = int(WrapFlag.OSSECBOOTAUDIT | WrapFlag.OSSECBOOTENFORCE)

FindBroken = Callable[[int, Registers, Pieces, Context], Rule | None]
"""Returns the rule that a number breaks, or None."""


def number_check(spec: HCallSpec, arg: Arg) -> Check:
    """Return the function that checks a numeric argument.

    That function returns the number; for an argument that names a consumer, it returns the `Consumer`.
    """
    index, top = arg.place, 1 << arg.bits
    find_broken = _FINDERS[arg.kind](spec, arg)
    is_consumer = arg.kind is Kind.CONSUMER

    def check(registers: Registers, segments: Pieces, context: Context) -> object:
        value = registers[index]
        # A register has 64 bits.  A value that is too wide for its argument is refused, not cut (choice C-M).
        if value >= top:
            raise bad_argument(arg, rules.ARGUMENT_BITS, f"{value:#x} has more than {arg.bits} bits")
        if broken := find_broken(value, registers, segments, context):
            raise bad_argument(arg, broken, f"{value:#x}")
        return CONSUMERS[value] if is_consumer else value

    return check


def refused_word(words: Words, policy: int, supported: int) -> Rule | None:
    """Return the rule that a policy word breaks in a call that makes objects, None for a good word.

    `words` are those of the call, `supported` the bits that the firmware level offers
    (spec/policies.md#words-that-are-refused).
    """
    # The log names the first broken rule, so the order is that of spec/policies.md#words-that-are-refused.
    if policy & STATUS_BITS:
        return rules.POLICY_STATUS_BITS
    if policy & ~supported:
        return rules.POLICY_SUPPORTED
    if policy & words.refused or ~policy & words.demanded:
        return words.rule
    return rules.POLICY_WORLD_KEY if policy & _KEY_OF_ALL == _KEY_OF_ALL else None


def _consumer(spec: HCallSpec, arg: Arg) -> FindBroken:
    return lambda value, *_: None if value in CONSUMERS else rules.CONSUMER_KNOWN


def _reserved(spec: HCallSpec, arg: Arg) -> FindBroken:
    return lambda value, *_: rules.ARGUMENT_ZERO if value else None


def _policy(spec: HCallSpec, arg: Arg) -> FindBroken:
    words = arg.words or _ANY_WORD

    def find_broken(value: int, registers: Registers, segments: Pieces, context: Context) -> Rule | None:
        return refused_word(words, value, context.limits.supported_policies)

    return find_broken


def _update_flags(spec: HCallSpec, arg: Arg) -> FindBroken:
    label = spec.kind(Kind.VARIABLE_LABEL)
    address, length = label.place, spec.length_of(label).place

    def find_broken(value: int, registers: Registers, segments: Pieces, context: Context) -> Rule | None:
        data, start = readable_at(segments, registers[address])
        return broken_by_flags(value, data[start : start + registers[length]])

    return find_broken


def _wrap_flags(spec: HCallSpec, arg: Arg) -> FindBroken:
    return lambda value, *_: _broken_by_wrap_flags(value)


def _broken_by_wrap_flags(value: int) -> Rule | None:
    if value & ~_WRAP_BITS:
        return rules.WRAP_BITS
    if value & ALGORITHM_MASK != AES_256_GCM:
        return rules.WRAP_ALGORITHM
    if not value & WrapFlag.PWSET:
        return rules.WRAP_PWSET  # the driver's comment says that it is mandatory (choice C-26)
    # Linux refuses both modes together in wrap flags.  A policy word may have both.
    return rules.WRAP_MODES if value & _BOTH_MODES == _BOTH_MODES else None


def _list_token(spec: HCallSpec, arg: Arg) -> FindBroken:
    block = spec.kind(Kind.AUTHORIZATION).place

    def find_broken(value: int, registers: Registers, segments: Pieces, context: Context) -> Rule | None:
        if not value:
            return None
        consumer, _ = AUTH_LAYOUT.unpack(*readable_at(segments, registers[block]))
        return None if (CONSUMERS[consumer], value) in context.listings else rules.LIST_TOKEN

    return find_broken


def _continue_token(spec: HCallSpec, arg: Arg) -> FindBroken:
    call = spec.opcode

    def find_broken(value: int, registers: Registers, segments: Pieces, context: Context) -> Rule | None:
        return None if not value or (call, value) in context.continuations else rules.CONTINUE_TOKEN

    return find_broken


_FINDERS: Mapping[Kind, Callable[[HCallSpec, Arg], FindBroken]] = {
    Kind.CONSUMER: _consumer,
    Kind.RESERVED: _reserved,
    Kind.POLICY: _policy,
    Kind.UPDATE_FLAGS: _update_flags,
    Kind.WRAP_FLAGS: _wrap_flags,
    Kind.LIST_TOKEN: _list_token,
    Kind.CONTINUE_TOKEN: _continue_token,
}
