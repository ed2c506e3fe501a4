"""The handler of each h-call, and the named tuple of its arguments.

To add an h-call, add a row to `hcall_abi.calls`, and a row to the table of this module.  Its tuple and its
handler belong into the module of its family.  The tuple has a field for each argument, under the argument's
name.  Lengths have no field.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar, cast

from hcall_abi.calls import CALLS, Opcode
from hcall_abi.levels import FirmwareLevel
from hcall_server.hcalls import config, keys, objects, passwords, updates, wrapped
from hcall_server.hcalls.answers import Outcome
from hcall_server.hcalls.arguments import field_checks
from hcall_server.hcalls.context import Check, Context
from hcall_server.hcalls.memory import Pieces, Registers
from hcall_server.keystore.store import Keystore

A = TypeVar("A", bound=tuple[object, ...])
Answer = Callable[[Keystore, FirmwareLevel, A], Outcome]
"""Runs a call whose arguments have passed; it may raise Refusal or KeystoreRefusal."""


Collect = Callable[[Registers, Pieces, Context], tuple[object, ...]]
"""Runs the checks of a call in order and returns their results; the first that fails raises Refusal."""


class Handler(NamedTuple):
    """The handler of one h-call: `collect` makes the fields of `arguments`, and `answer` takes that tuple."""

    opcode: Opcode
    arguments: type[tuple[object, ...]]
    collect: Collect
    answer: Answer[tuple[object, ...]]


def _handler(opcode: Opcode, arguments: type[A], answer: Answer[A]) -> Handler:
    checks = field_checks(CALLS[opcode])
    collect = _in_order(*[checks[name] for name in arguments.__annotations__])
    # The cast is sound: dispatch calls `answer` only with the `arguments` of the same row.
    return Handler(opcode, arguments, collect, cast(Answer[tuple[object, ...]], answer))


def _in_order(*checks: Check) -> Collect:
    """Return the checks as one function, which runs them in order."""
    # Up to four checks are written out.  A loop over them would cost every READ 3 % of its time.
    match checks:
        case (a,):
            return lambda r, s, x: (a(r, s, x),)
        case (a, b):
            return lambda r, s, x: (a(r, s, x), b(r, s, x))
        case (a, b, c):
            return lambda r, s, x: (a(r, s, x), b(r, s, x), c(r, s, x))
        case (a, b, c, d):
            return lambda r, s, x: (a(r, s, x), b(r, s, x), c(r, s, x), d(r, s, x))
        case _:
            return lambda r, s, x: tuple([check(r, s, x) for check in checks])


HANDLERS: Mapping[Opcode, Handler] = {
    handler.opcode: handler
    for handler in (
        _handler(Opcode.GET_CONFIG, config.GetConfig, config.get_config),
        _handler(Opcode.SET_PASSWORD, passwords.SetPassword, passwords.set_password),
        _handler(Opcode.GEN_PASSWORD, passwords.GenPassword, passwords.gen_password),
        _handler(Opcode.GET_OBJECTLABELS, objects.GetObjectLabels, objects.get_objectlabels),
        _handler(Opcode.WRITE_OBJECT, objects.WriteObject, objects.write_object),
        _handler(Opcode.GEN_KEY, keys.GenKey, keys.gen_key),
        _handler(Opcode.READ_OBJECT, objects.ReadObject, objects.read_object),
        _handler(Opcode.REMOVE_OBJECT, objects.RemoveObject, objects.remove_object),
        _handler(Opcode.CONFIRM_OBJECT_FLUSHED, objects.ConfirmObjectFlushed, objects.confirm_object_flushed),
        _handler(Opcode.SIGNED_UPDATE, updates.SignedUpdate, updates.signed_update),
        _handler(Opcode.WRAP_OBJECT, wrapped.WrapObject, wrapped.wrap_object),
        _handler(Opcode.UNWRAP_OBJECT, wrapped.UnwrapObject, wrapped.unwrap_object),
        _handler(Opcode.REVOKE_OBJECT, keys.RevokeObject, keys.revoke_object),
        _handler(Opcode.UNREVOKE_OBJECT, keys.UnrevokeObject, keys.unrevoke_object),
    )
}
"""The handler of each h-call; a partition has those of its firmware level."""
