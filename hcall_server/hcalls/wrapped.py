"""WRAP and UNWRAP: bytes of the guest, encrypted under a key that it never sees (R-71).

A wrapping is done at once, so neither call is ever busy without a fault plan (spec/faults.md).  Tokens exist
only because such a plan issued them.
"""

from __future__ import annotations

from typing import NamedTuple

from hcall_abi.calls import CALLS, Opcode
from hcall_abi.frames import Write
from hcall_abi.levels import FirmwareLevel
from hcall_server.hcalls.answers import SUCCESS, Outcome
from hcall_server.hcalls.memory import Place
from hcall_server.hcalls.refusals import Refusal
from hcall_server.keystore.access import Credentials
from hcall_server.keystore.store import Keystore
from hcall_server.wrapping import SALT_SIZE, WrappedObjectError, open_wrapped, read_header, wrap

_UNWRAP = Opcode.UNWRAP_OBJECT
_POLICY_SHIFT = 32


class WrapObject(NamedTuple):
    """The arguments of WRAP_OBJECT."""

    authorization: Credentials
    label: bytes
    flags: int
    input: bytes
    output: Place
    token: int

    def __repr__(self) -> str:
        return f"WrapObject({self.authorization}, {self.label!r}, {len(self.input)} bytes)"


class UnwrapObject(NamedTuple):
    """The arguments of UNWRAP_OBJECT."""

    authorization: Credentials
    flags: int
    input: bytes
    output: Place
    token: int

    def __repr__(self) -> str:
        return f"UnwrapObject({self.authorization}, {len(self.input)} bytes)"


def wrap_object(keystore: Keystore, level: FirmwareLevel, args: WrapObject) -> Outcome:
    """Encrypt the caller's bytes under a wrapping key."""
    key = keystore.keys.for_wrapping(args.authorization, args.label)
    wrapped = wrap(key.secret, key.key_id, args.flags, keystore.random(SALT_SIZE), args.input)
    return _written(Opcode.WRAP_OBJECT, keystore, args.token, args.output, wrapped)


def unwrap_object(keystore: Keystore, level: FirmwareLevel, args: UnwrapObject) -> Outcome:
    """Decrypt a wrapped object, if its own policy and that of its key are met."""
    who = args.authorization
    state = keystore.access.enter(_UNWRAP, who)
    # The checks have the order of spec/wrapped.md#order-of-checks.  The policy in the flags is checked
    # last.  Before the object has authenticated, it is not certain that WRAP wrote these flags.
    try:
        header = read_header(args.input)
        key = keystore.keys.for_unwrapping(who, state, header.key_id)
        data = open_wrapped(key.secret, args.input)
    except WrappedObjectError as error:
        raise Refusal(error.rule, error.message, argument="input") from None
    keystore.access.demand(_UNWRAP, state, header.flags >> _POLICY_SHIFT)
    return _written(_UNWRAP, keystore, args.token, args.output, data)


def _written(call: Opcode, keystore: Keystore, token: int, output: Place, data: bytes) -> Outcome:
    # Only a call that succeeds uses up its token.  A refused call changes nothing.
    keystore.continuations.retire(token)
    results = CALLS[call].results(token=0, size=len(data))
    return Outcome(SUCCESS, results, (Write(output.address, data),))
