"""What only one h-call demands of one argument: a rule for each, and what rules may look at.

A rule gets the value in the register, the context, and the values of the arguments before it.  It
returns the rule that is broken, as words for the log, or None.  `hcall_server.hcalls.arguments`
applies them where the table of calls has the argument.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hcall_abi.calls import Opcode
from hcall_abi.consumers import Consumer
from hcall_abi.policies import Policy
from hcall_abi.structures import CONFIG_MIN_SIZE
from hcall_abi.wrapping import AES_256_GCM, ALGORITHM_MASK, WRAP_OVERHEAD, WRAPPING_KEY_SIZE, WrapFlag
from hcall_server.keystore.authority import refused_word
from hcall_server.keystore.continuations import Continuations
from hcall_server.keystore.limits import KeystoreLimits
from hcall_server.keystore.listings import Listings
from hcall_server.secvar.names import broken_by_flags

MIN_GENERATED_PASSWORD = 32
"""Shortest password that GEN_PASSWORD makes, in bytes: the least maximum that the ABI allows."""

MAX_WRAP_INPUT = 0xFFFF
"""Most bytes that WRAP takes: as many as the largest plain object has (spec/choices.md#choices)."""

_WRAP_BITS = sum(WrapFlag) | ALGORITHM_MASK
WRAPPING = int(Policy.WRAPPINGKEY)
"""The bit of a policy word that makes a wrapping key."""

LABEL_PLACE = 2
"""Where in the values of a call its label is."""
POLICY_PLACE = 3
"""Where in the values of GEN_KEY its policy word is."""
_WRAP_INPUT_PLACE = 4
_UNWRAP_INPUT_PLACE = 3

CONSUMERS: Mapping[int, Consumer] = {int(consumer): consumer for consumer in Consumer}
"""The consumers by number."""


@dataclass(frozen=True, slots=True)
class Context:
    """What checkers may look at besides the call itself; `page_aligned` is about wrap buffers."""

    limits: KeystoreLimits
    listings: Listings
    strict: bool
    page_aligned: bool
    continuations: Continuations


Values = list[Any]
"""What the checkers of earlier arguments have made of them."""

Rule = Callable[[int, Context, Values], str | None]
"""(value, context, values before it) -> the rule that is broken, or None."""


def no_rule(value: int, context: Context, values: Values) -> str | None:
    """Take any value."""
    return None


def _consumer(value: int, context: Context, values: Values) -> str | None:
    return None if value in CONSUMERS else "the consumer is 1, 2 or 3"


def _zero(value: int, context: Context, values: Values) -> str | None:
    return "the register is 0" if value else None


def _config_length(value: int, context: Context, values: Values) -> str | None:
    return None if value >= CONFIG_MIN_SIZE else f"the buffer has at least {CONFIG_MIN_SIZE} bytes"


def _set_length(value: int, context: Context, values: Values) -> str | None:
    top = context.limits.max_password_size
    return None if 1 <= value <= top else f"a password has 1 to {top} bytes"


def _generated_length(value: int, context: Context, values: Values) -> str | None:
    top = context.limits.max_password_size
    fits = MIN_GENERATED_PASSWORD <= value <= top
    return None if fits else f"a generated password has {MIN_GENERATED_PASSWORD} to {top} bytes"


def _label_length(value: int, context: Context, values: Values) -> str | None:
    top = context.limits.max_label_size
    return None if 1 <= value <= top else f"a label has 1 to {top} bytes"


def _data_length(value: int, context: Context, values: Values) -> str | None:
    top = context.limits.largest_object
    return None if 1 <= value <= top else f"an object has 1 to {top} bytes"


def _key_length(value: int, context: Context, values: Values) -> str | None:
    if values[POLICY_PLACE] & WRAPPING:
        return None if value == WRAPPING_KEY_SIZE else f"a wrapping key has {WRAPPING_KEY_SIZE} bytes"
    return _data_length(value, context, values)


def _wrap_flags(value: int, context: Context, values: Values) -> str | None:
    if value & ~_WRAP_BITS:
        return "no wrap flag has another bit than 1, 2, 3 and the algorithm's"
    if value & ALGORITHM_MASK != AES_256_GCM:
        return f"the wrapping algorithm is {AES_256_GCM}, AES-256-GCM"
    if not value & WrapFlag.PWSET:
        return "every wrapped object demands that the password is set"
    both = WrapFlag.OSSECBOOTAUDIT | WrapFlag.OSSECBOOTENFORCE
    return "audit and enforce exclude each other in wrap flags" if value & both == both else None


def _wrap_length(value: int, context: Context, values: Values) -> str | None:
    return None if 1 <= value <= MAX_WRAP_INPUT else f"what is wrapped has 1 to {MAX_WRAP_INPUT} bytes"


def _wrap_room(value: int, context: Context, values: Values) -> str | None:
    least = len(values[_WRAP_INPUT_PLACE]) + WRAP_OVERHEAD
    return None if value >= least else f"the output has at least {WRAP_OVERHEAD} bytes more than the input"


def _unwrap_length(value: int, context: Context, values: Values) -> str | None:
    least, top = WRAP_OVERHEAD + 1, WRAP_OVERHEAD + MAX_WRAP_INPUT
    return None if least <= value <= top else f"a wrapped object has {least} to {top} bytes"


def _unwrap_room(value: int, context: Context, values: Values) -> str | None:
    least = len(values[_UNWRAP_INPUT_PLACE]) - WRAP_OVERHEAD
    return None if value >= least else f"the output has room for the input without its {WRAP_OVERHEAD} bytes"


def _update_flags(value: int, context: Context, values: Values) -> str | None:
    rule = broken_by_flags(value, values[LABEL_PLACE])
    return rule.sentence if rule else None


def _update_length(value: int, context: Context, values: Values) -> str | None:
    top = context.limits.max_object_size
    return None if 1 <= value <= top else f"a signed update has 1 to {top} bytes"


def _continue_token(call: Opcode) -> Rule:
    def token(value: int, context: Context, values: Values) -> str | None:
        due = not value or (call, value) in context.continuations
        return None if due else "the token is 0 or the one that came with a busy answer to this call"

    return token


def _policy_of(call: Opcode) -> Rule:
    def policy(value: int, context: Context, values: Values) -> str | None:
        return refused_word(call, value, context.limits.supported_policies)

    return policy


def _token(value: int, context: Context, values: Values) -> str | None:
    known = not value or (values[0], value) in context.listings
    return None if known else "the token is 0 or the one that the last call for this consumer returned"


RULES: Mapping[tuple[Opcode, str], Rule] = {
    (Opcode.GET_CONFIG, "config_length"): _config_length,
    (Opcode.SET_PASSWORD, "consumer"): _consumer,
    (Opcode.SET_PASSWORD, "reserved"): _zero,
    (Opcode.SET_PASSWORD, "password_length"): _set_length,
    (Opcode.GEN_PASSWORD, "consumer"): _consumer,
    (Opcode.GEN_PASSWORD, "reserved"): _zero,
    (Opcode.GEN_PASSWORD, "password_length"): _generated_length,
    (Opcode.GET_OBJECTLABELS, "token"): _token,
    (Opcode.WRITE_OBJECT, "policy"): _policy_of(Opcode.WRITE_OBJECT),
    (Opcode.WRITE_OBJECT, "data_length"): _data_length,
    (Opcode.GEN_KEY, "policy"): _policy_of(Opcode.GEN_KEY),
    (Opcode.GEN_KEY, "key_length"): _key_length,
    (Opcode.SIGNED_UPDATE, "policy"): _policy_of(Opcode.SIGNED_UPDATE),
    (Opcode.SIGNED_UPDATE, "flags"): _update_flags,
    (Opcode.SIGNED_UPDATE, "data_length"): _update_length,
    (Opcode.SIGNED_UPDATE, "token"): _continue_token(Opcode.SIGNED_UPDATE),
    (Opcode.WRAP_OBJECT, "flags"): _wrap_flags,
    (Opcode.WRAP_OBJECT, "input_length"): _wrap_length,
    (Opcode.WRAP_OBJECT, "output_length"): _wrap_room,
    (Opcode.WRAP_OBJECT, "token"): _continue_token(Opcode.WRAP_OBJECT),
    (Opcode.UNWRAP_OBJECT, "flags"): _zero,
    (Opcode.UNWRAP_OBJECT, "input_length"): _unwrap_length,
    (Opcode.UNWRAP_OBJECT, "output_length"): _unwrap_room,
    (Opcode.UNWRAP_OBJECT, "token"): _continue_token(Opcode.UNWRAP_OBJECT),
    (Opcode.REVOKE_OBJECT, "flags"): _zero,
    (Opcode.UNREVOKE_OBJECT, "flags"): _zero,
}
"""The rules by call and argument."""

RULES_BY_NAME: Mapping[str, Rule] = {"label_length": _label_length}
"""The rules of arguments that are the same in every call."""
